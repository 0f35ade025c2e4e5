#include "governance/ledger/dataset_ledger.h"

#include <charconv>

#include "governance/audit/merkle.h"

namespace qw::governance {
namespace {

constexpr std::int64_t kBillion = 1'000'000'000, kTenTrillion = 10'000 * kBillion;
constexpr double kMostIllegal = 0.05;  // of a source's sample (TC260-003: a source beyond that is not used)

constexpr Regime kRegimes[] = {
    {kAnnexXi, "annex-xi", "EU AI Act, Annex XI"},
    {kEuSummary, "eu-summary", "EU, the Commission's template of the summary of training content"},
    {kAb2013, "ab-2013", "California, AB 2013"},
    {kChina, "cn", "China, interim measures Articles 7 and 19, TC260-003 and GB/T 45654"},
};

constexpr DatasetField kFields[] = {
    {"name", "Name", "名称", kAllRegimes, ""},
    {"origin", "Source or owner", "来源或所有者", kAllRegimes, ""},
    {"licence", "Licence", "许可", kAllRegimes, ""},
    {"provenance.kind", "Kind of source", "来源类型", kEuSummary | kChina, ""},
    {"provenance.publisher", "Publisher", "发布者", kAb2013 | kChina, ""},
    {"provenance.contract", "Contract", "合同", kEuSummary | kChina, "licensed"},
    {"provenance.urls", "Addresses", "地址", kEuSummary | kChina, "public"},
    {"provenance.languages", "Languages", "语言", kEuSummary | kChina, ""},
    {"provenance.collection", "How it was collected", "采集方式", kAnnexXi | kEuSummary | kChina, ""},
    {"provenance.collected_from", "Collected from", "采集起始", kEuSummary | kAb2013, ""},
    {"provenance.collected_to", "Collected to", "采集截止", kEuSummary | kAb2013, ""},
    {"provenance.latest_item", "Latest item", "最新条目日期", kEuSummary, ""},
    {"provenance.crawler.name", "Crawler", "爬虫", kEuSummary, "crawled"},
    {"provenance.crawler.purpose", "Crawler's purpose", "爬虫用途", kEuSummary, "crawled"},
    {"provenance.crawler.robots", "Crawler and robots.txt", "robots.txt 遵循情况", kEuSummary, "crawled"},
    {"provenance.crawler.paywalls", "Crawler and paywalls", "付费墙处理", kEuSummary, "crawled"},
    {"provenance.crawler.captchas", "Crawler and captchas", "验证码处理", kEuSummary, "crawled"},
    {"provenance.opt_out_snapshot", "Opt-outs that were respected", "退出声明", kEuSummary, "crawled"},
    {"provenance.ip_status", "Rights in it", "知识产权状况", kAb2013 | kChina, ""},
    {"provenance.purchased", "Bought or licensed", "是否购买或获授权", kAb2013, ""},
    {"provenance.personal_data", "Personal data", "个人信息", kAb2013 | kChina | kAnnexXi, ""},
    {"provenance.legal_basis", "Legal basis", "合法性基础", kChina, "user"},
    {"provenance.consent", "Consent", "同意", kChina, "user"},
    {"provenance.consumer_information", "Aggregate consumer information", "汇总消费者信息", kAb2013, ""},
    {"provenance.minors", "Data of minors", "未成年人信息", kChina, ""},
    {"provenance.generator.model", "Made by the model", "生成模型", kEuSummary | kAb2013, "synthetic"},
    {"provenance.generator.licence", "Licence of that model", "生成模型许可", kChina, "synthetic"},
    {"files", "Files and their SHA-256", "文件及 SHA-256", kAnnexXi | kChina, ""},
    {"documents_read", "Documents", "文档数", kAnnexXi | kAb2013 | kChina, ""},
    {"train.tokens", "Tokens trained on", "训练词元数", kAllRegimes, ""},
    {"heldout.tokens", "Tokens held out", "留出词元数", kAnnexXi, ""},
    {"processing", "Cleaning and processing", "清洗与处理", kAnnexXi | kEuSummary | kAb2013 | kChina, ""},
    {"duplicates_dropped", "Copies dropped", "去重条数", kAnnexXi | kAb2013, ""},
    {"provenance.filters.sampled", "Looked at for illegal content", "违法内容抽样数", kChina | kAnnexXi, ""},
    {"provenance.filters.illegal", "Illegal of those", "其中违法", kChina, ""},
    {"provenance.filters.passed", "Passed of those", "其中合格", kChina, ""},
    {"provenance.annotation.rules", "Rules of annotation", "标注规则", kChina, "annotated"},
    {"provenance.annotation.quality", "Checks of annotation", "标注质检", kChina, "annotated"},
    {"provenance.bias_checks", "Checks for bias", "偏见检查", kAnnexXi, ""},
    {"provenance.purpose", "How it serves the purpose", "与用途的关系", kAnnexXi | kAb2013, ""},
    {"provenance.first_used", "First used", "首次使用", kAb2013, ""},
    {"provenance.responsible", "Who answers for it", "责任人", kChina, ""},
};

// Whether a field is asked of this source at all.
bool concerns(const DatasetField& field, const json::Value& source) {
  const std::string_view only = field.only_for;
  if (only.empty()) return true;
  if (only == "annotated") return member_at(source, "provenance.annotation") != nullptr;
  const json::Value* kind = member_at(source, "provenance.kind");
  return kind != nullptr && kind->is_string() && kind->as_string() == only;
}

std::string list_text(const json::Array& list) {
  std::string out;
  for (const json::Value& one : list) {
    if (!out.empty()) out += "; ";
    if (one.is_string()) {
      out += one.as_string();
    } else if (const json::Value* file = one.find("file"), *sha = one.find("sha256");
               file != nullptr && file->is_string() && sha != nullptr && sha->is_string()) {
      out += file->as_string() + " sha256 " + sha->as_string();
    } else {
      out += json::dump(one);
    }
  }
  return out;
}

std::optional<double> count_at(const json::Value& source, const char* key) {
  const json::Value* found = member_at(source, key);
  return found != nullptr && found->is_number() ? std::optional(found->as_double()) : std::nullopt;
}

}  // namespace

std::span<const Regime> regimes() { return kRegimes; }
std::span<const DatasetField> dataset_fields() { return kFields; }

const json::Value* member_at(const json::Value& value, std::string_view key) {
  const json::Value* at = &value;
  while (at != nullptr) {
    const auto dot = key.find('.');
    const std::string_view name = key.substr(0, dot);
    if (at->is_array()) {
      std::size_t n = 0;
      const auto read = std::from_chars(name.data(), name.data() + name.size(), n);
      const bool whole = read.ec == std::errc() && read.ptr == name.data() + name.size();
      at = whole && n < at->as_array().size() ? &at->as_array()[n] : nullptr;
    } else {
      at = at->find(name);
    }
    if (dot == std::string_view::npos) break;
    key.remove_prefix(dot + 1);
  }
  return at;
}

Result<DatasetLedger> DatasetLedger::parse(std::string_view file) {
  DatasetLedger out;
  QW_ASSIGN(out.document_, json::parse(file));
  const json::Value* format = out.document_.find("format");
  if (format == nullptr || !format->is_string() || format->as_string() != "qianwen-ledger-1")
    return fail(ErrorKind::kBadInput, "not a data ledger of this program");
  const json::Value* sources = out.document_.find("sources");
  if (sources == nullptr || !sources->is_array()) return fail(ErrorKind::kBadInput, "the data ledger has no sources");
  for (const json::Value& one : sources->as_array())
    if (!one.is_object()) return fail(ErrorKind::kBadInput, "the data ledger: a source is not an object");
  out.sha256_ = to_hex(governance::sha256(file));
  return out;
}

std::int64_t DatasetLedger::tokens() const {
  double sum = 0;
  for (const json::Value& one : sources())
    for (const char* key : {"train.tokens", "heldout.tokens"}) sum += count_at(one, key).value_or(0);
  constexpr double kMost = 9e18;
  return sum > 0 && sum < kMost ? static_cast<std::int64_t>(sum) : 0;
}

const char* DatasetLedger::size_band() const {
  const std::int64_t n = tokens();
  return n < kBillion        ? "less than 1 billion tokens"
         : n <= kTenTrillion ? "1 billion to 10 trillion tokens"
                             : "more than 10 trillion tokens";
}

std::optional<std::string> field_text(const json::Value& source, std::string_view key) {
  const json::Value* found = member_at(source, key);
  if (found == nullptr || found->is_null()) return std::nullopt;
  if (found->is_string()) return found->as_string();
  if (found->is_bool()) return found->as_bool() ? "yes" : "no";
  if (found->is_array()) return found->as_array().empty() ? std::nullopt : std::optional(list_text(found->as_array()));
  return json::dump(*found);
}

std::vector<const DatasetField*> missing_fields(const json::Value& source, unsigned regimes) {
  std::vector<const DatasetField*> out;
  for (const DatasetField& field : kFields)
    if ((field.asked_by & regimes) != 0 && concerns(field, source) && !field_text(source, field.key))
      out.push_back(&field);
  return out;
}

std::vector<std::string> warnings_of(const json::Value& source) {
  std::vector<std::string> out;
  const auto sampled = count_at(source, "provenance.filters.sampled"),
             illegal = count_at(source, "provenance.filters.illegal");
  if (sampled && illegal && *sampled > 0 && *illegal > kMostIllegal * *sampled)
    out.emplace_back("more than 5 % of the sampled items are illegal: TC260-003 asks not to use the source");
  const auto personal = field_text(source, "provenance.personal_data");
  if (personal && (*personal == "yes" || *personal == "sensitive") && !field_text(source, "provenance.legal_basis"))
    out.emplace_back("it holds personal data, and no legal basis is stated");
  return out;
}

}  // namespace qw::governance
