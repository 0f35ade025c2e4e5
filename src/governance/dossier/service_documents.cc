// What is told of the service: the Chinese filing outline, the transparency page, the register of incidents, and the
// list of the evidence.
#include <algorithm>

#include "base/utc.h"
#include "governance/dossier/internal/places.h"

namespace qw::governance {
namespace {

// The fields of a public page that a profile may ask for: what the operator states of each.
const char* stated_as(const std::string& field) {
  for (const OperatorField& one : operator_fields())
    if (field == one.key) return one.key;
  return nullptr;
}

Section filing_models(const DossierInput& in, const ModelEvidence& m) {
  const Places at(in);
  return {"三、模型与算法机制：" + m.name,
          "",
          {{"模型结构", at.model(m, "architecture")},
           {"参数量", at.model(m, "parameters")},
           {"上下文长度（词元）", at.model(m, "context")},
           {"基础模型", at.compute(m, "parent.name")},
           {"基础模型权重 SHA-256", at.compute(m, "parent.weights_sha256")},
           {"基础模型备案情况", at.stated("base_model_filing")},
           {"训练方法", at.compute(m, "method")},
           {"训练词元数", at.compute(m, "tokens")},
           {"训练算力（FLOP）", at.compute_rounded(m, "flops.learning", "")},
           {"算法机制说明", at.stated("algorithm")},
           {"模型许可", at.model(m, "licence")}},
          {}};
}

}  // namespace

Document filing_outline(const DossierInput& in) {
  const Places at(in);
  Document out{
      "filing_outline_zh",
      "zh",
      "生成式人工智能服务备案材料提纲",
      "依据系统记录自动生成，供运营者准备算法备案与安全评估材料之用；不构成合规声明，未记录的内容请运营者补充。",
      {}};
  out.sections.push_back({"一、服务提供者",
                          "",
                          {{"名称", at.stated("provider")},
                           {"地址", at.stated("address")},
                           {"联系方式", at.stated("contact")},
                           {"负责人", at.stated("responsible")},
                           {"备案号或登记号", at.stated("filing_number")}},
                          {}});
  out.sections.push_back({"二、服务",
                          "",
                          {{"适用人群与用途", at.stated("purpose")},
                           {"局限", at.stated("limits")},
                           {"服务形式", at.stated("distribution")},
                           {"用户协议", at.stated("agreement")},
                           {"策略文件", at.profile("profile")},
                           {"策略版本", at.profile("version")}},
                          {}});
  for (const ModelEvidence& m : in.models) {
    out.sections.push_back(filing_models(in, m));
    out.sections.push_back(data_table(in, m, "四、训练数据：" + m.name, kChina, true));
  }
  out.sections.push_back({"五、内容标识",
                          "",
                          {{"隐式标识", at.profile("implicit_label")},
                           {"显式标识", at.profile("explicit_labels")},
                           {"水印方案", at.profile("watermark.scheme")},
                           {"显式标识的实施方式", at.stated("labels")}},
                          {}});
  out.sections.push_back({"六、输入输出管控",
                          "",
                          {{"关键词库", at.profile("keyword_packs")},
                           {"输入个人信息处置", at.profile("guard.input.pii")},
                           {"输出个人信息处置", at.profile("guard.output.pii")},
                           {"累计违规处置", at.profile("strikes")},
                           {"未成年人", at.profile("minors")}},
                          {}});
  Section assessed{"七、安全评估", "", {}, {{{"报告", "结论", "时间"}, {}}}};
  for (const std::size_t e : in.assessments)
    assessed.tables[0].rows.push_back(
        {in.evidence.about(e, "", in.evidence.all()[e].what), in.evidence.at(e, "verdict"), in.evidence.at(e, "made")});
  out.sections.push_back(std::move(assessed));
  out.sections.push_back({"八、投诉与申诉",
                          "",
                          {{"渠道", at.stated("complaints")},
                           {"答复时限（天）", at.profile("complaints.answer_days")},
                           {"申诉时限（天）", at.profile("complaints.appeal_days")},
                           {"累计受理", at.complaints("total")},
                           {"已答复", at.complaints("answered")},
                           {"逾期未答复", at.complaints("overdue")}},
                          {}});
  out.sections.push_back({"九、日志与留存",
                          "",
                          {{"日志留存（天）", at.profile("retention.logs_days")},
                           {"审计记录条数", at.audit("records")},
                           {"首条时间", at.audit("first_ts")},
                           {"末条时间", at.audit("last_ts")},
                           {"日志根", at.audit("head.root")}},
                          {}});
  out.sections.push_back(
      {"十、应急处置",
       "",
       {{"事件报告时限", at.profile("incident_clocks")},
        {"已登记事件", in.incident_log ? in.evidence.about(*in.incident_log, "", std::to_string(in.incidents.size()))
                                       : not_recorded()}},
       {}});
  return out;
}

Document transparency_page(const DossierInput& in) {
  const Places at(in);
  Document out{"transparency",
               "en",
               "About this service",
               "Answers of this service are written by a machine (artificial intelligence).",
               {}};
  const std::string language = in.policy != nullptr && in.policy->name.starts_with("cn") ? "zh" : "en";
  const bool chinese = language == "zh";
  if (chinese) {
    out.language = "zh";
    out.title = "服务公示";
    out.intro = "本服务的回答由人工智能生成。";
  }
  Section fields{chinese ? "公示内容" : "What the policy asks to be public", "", {}, {}};
  std::vector<std::string> wanted = {"provider", "contact", "purpose", "limits"};
  if (in.policy != nullptr && !in.policy->public_page_fields.empty()) wanted = in.policy->public_page_fields;
  for (const std::string& name : wanted) {
    std::string title = name;
    for (const OperatorField& one : operator_fields())
      if (name == one.key) title = chinese ? one.title_zh : one.title;
    if (name == "model") {
      for (const ModelEvidence& m : in.models)
        fields.lines.push_back({chinese ? "模型" : "Model",
                                m.facts ? in.evidence.about(*m.facts, "/path", m.name) : plain(m.name)});
      if (in.models.empty()) fields.lines.push_back({chinese ? "模型" : "Model", not_recorded()});
      continue;
    }
    const char* key = stated_as(name);
    fields.lines.push_back({title, key == nullptr ? not_recorded() : at.stated(key)});
  }
  out.sections.push_back(std::move(fields));
  if (chinese)
    out.sections.push_back({"标识与日志",
                            "",
                            {{"隐式标识", at.profile("implicit_label")},
                             {"水印方案", at.profile("watermark.scheme")},
                             {"日志留存（天）", at.profile("retention.logs_days")},
                             {"投诉答复时限（天）", at.profile("complaints.answer_days")}},
                            {}});
  else
    out.sections.push_back({"How answers are marked, and for how long logs are kept",
                            "",
                            {{"Watermark", at.profile("watermark.scheme")},
                             {"Label for machines", at.profile("implicit_label")},
                             {"Detector", at.profile("detector")},
                             {"Logs are kept, days", at.profile("retention.logs_days")},
                             {"Complaints are answered within, days", at.profile("complaints.answer_days")}},
                            {}});
  return out;
}

Document incident_document(const DossierInput& in) {
  Document out{"incidents",
               "en",
               "Register of incidents",
               "Deadlines run from the moment at which the operator became aware, by the clocks of the policy.",
               {}};
  Section clocks{"Clocks of the policy", "", {{"Hours by name", Places(in).profile("incident_clocks")}}, {}};
  out.sections.push_back(std::move(clocks));
  Section list{"Incidents", "", {}, {}};
  if (!in.incident_log) {
    list.lines.push_back({"Incidents", not_recorded()});
  } else if (in.incidents.empty()) {
    list.lines.push_back({"Incidents", in.evidence.about(*in.incident_log, "", "none is in the log")});
  } else {
    Table table{{"Incident", "Clock", "Aware", "Due", "State", "Reported", "Status", "Summary"}, {}};
    for (const Incident& one : in.incidents) {
      std::string records = "records";
      for (const std::uint64_t seq : one.records) records += " " + std::to_string(seq);
      table.rows.push_back(
          {in.evidence.about(*in.incident_log, records, one.id),
           plain(one.clock + ", " + std::to_string(one.hours) + " h"), plain(base::utc_text(one.aware)),
           plain(base::utc_text(one.due)), plain(clock_name(one.state(in.now))),
           one.reported ? plain(base::utc_text(*one.reported) + " " + one.reported_to) : plain("not yet"),
           plain(one.closed ? "closed" : "open"), plain(one.summary)});
    }
    list.tables.push_back(std::move(table));
  }
  out.sections.push_back(std::move(list));
  return out;
}

Document evidence_index(const DossierInput& in) {
  Document out{"evidence",
               "en",
               "Evidence",
               "What the documents of this dossier rest on. The hashes are also in the signed manifest.",
               {}};
  Section files{"Files", "", {}, {{{"Id", "What", "File", "Bytes", "SHA-256"}, {}}}};
  for (const Evidence& one : in.evidence.all())
    files.tables[0].rows.push_back({{one.id, true, one.id, ""},
                                    plain(one.what),
                                    plain(one.file),
                                    plain(std::to_string(one.bytes.size())),
                                    plain(one.sha256)});
  out.sections.push_back(std::move(files));
  const Places at(in);
  Section log{"Audit log",
              "",
              {{"Records", at.audit("records")},
               {"Whole", at.audit("whole")},
               {"Last head: size", at.audit("head.size")},
               {"Last head: root", at.audit("head.root")},
               {"Signed by the key", at.audit("head.key")},
               {"By type", at.audit("types")}},
              {}};
  out.sections.push_back(std::move(log));
  return out;
}

std::vector<Document> make_documents(const DossierInput& in) {
  return {model_card(in),        technical_documentation(in), training_summary(in), filing_outline(in),
          transparency_page(in), incident_document(in),       evidence_index(in)};
}

const std::vector<OperatorField>& operator_fields() {
  static const std::vector<OperatorField> all = {
      {"provider", "Provider", "服务提供者"},
      {"address", "Address", "地址"},
      {"representative_eu", "Representative in the Union", "欧盟代表"},
      {"contact", "Contact", "联系方式"},
      {"responsible", "Responsible person", "负责人"},
      {"purpose", "Purpose", "适用人群与用途"},
      {"limits", "Limits", "局限"},
      {"tasks", "Tasks", "任务"},
      {"integration", "Systems it may be built into", "可集成系统"},
      {"integration_means", "Technical means of integration", "集成方式"},
      {"acceptable_use", "Acceptable use policy", "使用规范"},
      {"release_date", "Date of release", "发布日期"},
      {"distribution", "Ways of distribution", "服务形式"},
      {"design_choices", "Key design choices", "设计选择"},
      {"bias_measures", "Measures against unsuitable sources and biases", "偏见与不当来源处置"},
      {"copyright_policy", "Copyright policy", "版权政策"},
      {"illegal_content_measures", "Removal of illegal content", "违法内容过滤"},
      {"algorithm", "How it works", "算法机制说明"},
      {"agreement", "User agreement", "用户协议"},
      {"labels", "Labels", "显式标识的实施方式"},
      {"marking", "How answers are marked", "标识方式"},
      {"detector", "Where marks are looked for", "检测入口"},
      {"training_data", "Training data", "训练数据"},
      {"filing_number", "Filing number", "备案号"},
      {"base_model_filing", "Filing of the base model", "基础模型备案情况"},
      {"complaints", "Complaints", "投诉渠道"},
  };
  return all;
}

Result<json::Object> parse_operator_facts(std::string_view file) {
  QW_ASSIGN(json::Value value, json::parse(file));
  if (!value.is_object()) return fail(ErrorKind::kBadInput, "what the operator states is an object of texts");
  for (const auto& [name, text] : value.as_object()) {
    const bool known = std::any_of(operator_fields().begin(), operator_fields().end(),
                                   [&](const OperatorField& f) { return name == f.key; });
    if (!known)
      return fail(ErrorKind::kBadInput, "\"" + name + "\" is not known here; docs/operations/dossier.md has the names");
    if (!text.is_string()) return fail(ErrorKind::kBadInput, "\"" + name + "\" is not a text");
  }
  return std::move(value.as_object());
}

}  // namespace qw::governance
