// The summary of training content, and the tables of sources that others have of it.
#include "governance/dossier/internal/places.h"

namespace qw::governance {
namespace {

// Of the ledger of a model; nothing: it has none, or it cannot be read.
std::optional<DatasetLedger> ledger_of(const DossierInput& in, const ModelEvidence& m) {
  if (!m.data) return std::nullopt;
  auto ledger = DatasetLedger::parse(in.evidence.all()[*m.data].bytes);
  return ledger ? std::optional(std::move(*ledger)) : std::nullopt;
}

std::string place_of(std::size_t source, std::string_view key) {
  return "sources." + std::to_string(source) + "." + std::string(key);
}

Cell field(const DossierInput& in, const ModelEvidence& m, std::size_t source, std::string_view key) {
  return in.evidence.at(*m.data, place_of(source, key));
}

struct Kind {
  const char *kind, *title;
};
constexpr Kind kKinds[] = {{"public", "2.1 Publicly available data sets"},
                           {"licensed", "2.2 Private data sets, licensed"},
                           {"third_party", "2.2 Private data sets of other third parties"},
                           {"crawled", "2.3 Data crawled from online sources"},
                           {"user", "2.4 User data"},
                           {"synthetic", "2.5 Synthetic data"},
                           {"other", "2.6 Other sources"},
                           {"", "Sources whose kind is not recorded"}};

Section sources_of_kind(const DossierInput& in, const ModelEvidence& m, const DatasetLedger& ledger, const Kind& kind) {
  Section out{std::string(kind.title), "", {}, {}};
  const std::string_view name = kind.kind;
  Table table{{"Name", "Source", "Licence", "Languages", "Collected", "Tokens", "Latest item"}, {}};
  if (name == "crawled")
    table.heads.insert(table.heads.end(), {"Crawler", "Robots and opt-outs", "Captchas and paywalls"});
  if (name == "synthetic") table.heads.emplace_back("Made by");
  for (std::size_t i = 0; i < ledger.sources().size(); ++i) {
    if (field_text(ledger.sources()[i], "provenance.kind").value_or("") != name) continue;
    const auto at = [&](const char* key) { return field(in, m, i, key); };
    Cell from = at("provenance.collected_from"), to = at("provenance.collected_to");
    if (from.recorded && to.recorded) from.text += " to " + to.text;
    std::vector<Cell> row{at("name"),
                          at("origin"),
                          at("licence"),
                          at("provenance.languages"),
                          from.recorded ? from : to,
                          at("train.tokens"),
                          at("provenance.latest_item")};
    if (name == "crawled")
      row.insert(row.end(),
                 {at("provenance.crawler.name"), at("provenance.crawler.robots"), at("provenance.crawler.paywalls")});
    if (name == "synthetic") row.push_back(at("provenance.generator.model"));
    table.rows.push_back(std::move(row));
  }
  if (table.rows.empty())
    out.text = "The ledger of the data lists no such source.";
  else
    out.tables.push_back(std::move(table));
  return out;
}

}  // namespace

Section data_table(const DossierInput& in, const ModelEvidence& m, std::string title, unsigned regime, bool chinese) {
  Section out{std::move(title), "", {}, {}};
  const auto ledger = ledger_of(in, m);
  if (!ledger) {
    out.lines.push_back({chinese ? "训练数据台账" : "Data ledger", not_recorded()});
    return out;
  }
  out.lines.push_back(
      {chinese ? "台账 SHA-256" : "Data ledger (SHA-256)", in.evidence.about(*m.data, "", ledger->sha256())});
  out.lines.push_back({chinese ? "词元总数" : "Tokens in all",
                       in.evidence.about(*m.data, "/sources", std::to_string(ledger->tokens()))});
  for (std::size_t i = 0; i < ledger->sources().size(); ++i) {
    Table table{{chinese ? "来源 " + std::to_string(i + 1) : "Source " + std::to_string(i + 1),
                 field_text(ledger->sources()[i], "name").value_or("?")},
                {}};
    for (const DatasetField& f : dataset_fields()) {
      if ((f.asked_by & regime) == 0) continue;
      Cell cell = field(in, m, i, f.key);
      if (!cell.recorded && *f.only_for != '\0') continue;  // of other kinds of sources
      table.rows.push_back({plain(chinese ? f.title_zh : f.title), std::move(cell)});
    }
    for (const std::string& warning : warnings_of(ledger->sources()[i]))
      table.rows.push_back({plain(chinese ? "警示" : "Warning"), in.evidence.about(*m.data, "", warning)});
    out.tables.push_back(std::move(table));
  }
  return out;
}

Document training_summary(const DossierInput& in) {
  const Places at(in);
  Document out{
      "training_content_summary",
      "en",
      "Public summary of training content",
      "After the Commission's template (AI Act, Article 53(1)(d)). To be made anew every six months, or when the data "
      "change.",
      {}};
  Section general{"1. General information", "", {}, {}};
  general.lines = {{"Provider", at.stated("provider")},
                   {"Representative in the Union", at.stated("representative_eu")},
                   {"Contact", at.stated("contact")},
                   {"Placed on the market in the Union", at.stated("release_date")}};
  for (const ModelEvidence& m : in.models) {
    general.lines.push_back(
        {"Model", at.model(m, "path").recorded ? in.evidence.about(*m.facts, "/path", m.name) : plain(m.name)});
    general.lines.push_back({m.name + ": trained from", at.compute(m, "parent.name")});
    general.lines.push_back({m.name + ": modality", at.model(m, "head")});
    if (const auto ledger = ledger_of(in, m))
      general.lines.push_back(
          {m.name + ": size of the text data", in.evidence.about(*m.data, "/sources", ledger->size_band())});
    else
      general.lines.push_back({m.name + ": size of the text data", not_recorded()});
  }
  out.sections.push_back(std::move(general));
  for (const ModelEvidence& m : in.models) {
    const auto ledger = ledger_of(in, m);
    if (!ledger) {
      out.sections.push_back({"2. Sources of " + m.name, "", {{"Data ledger", not_recorded()}}, {}});
      continue;
    }
    for (const Kind& kind : kKinds) {
      Section one = sources_of_kind(in, m, *ledger, kind);
      if (*kind.kind == '\0' && one.tables.empty()) continue;
      if (in.models.size() > 1) one.title += " (" + m.name + ")";
      out.sections.push_back(std::move(one));
    }
    Section domains{"2.3 Top domains of " + m.name, "", {{"List", not_recorded()}}, {}};
    out.sections.push_back(std::move(domains));
    Section processing{"3. Processing of " + m.name, "", {}, {}};
    for (std::size_t i = 0; i < ledger->sources().size(); ++i)
      processing.lines.push_back(
          {field_text(ledger->sources()[i], "name").value_or("?"), field(in, m, i, "processing")});
    processing.lines.push_back({"Opt-outs of rights holders that are respected", at.stated("copyright_policy")});
    processing.lines.push_back({"Removal of illegal content", at.stated("illegal_content_measures")});
    out.sections.push_back(std::move(processing));
  }
  return out;
}

}  // namespace qw::governance
