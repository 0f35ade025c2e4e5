#include "governance/dossier/document.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/html.h"
#include "governance/audit/merkle.h"
#include "governance/ledger/dataset_ledger.h"

namespace qw::governance {
namespace {

constexpr const char* kStyle =
    "body{font:15px/1.5 'Noto Sans','Noto Sans CJK SC','WenQuanYi Micro Hei','Microsoft YaHei','PingFang "
    "SC',sans-serif;"
    "color:#1b1b1b;max-width:60em;margin:2em auto;padding:0 1.5em}"
    "h1{font-size:1.6em;margin-bottom:.2em}h2{font-size:1.15em;margin-top:1.8em;border-bottom:1px solid #bbb}"
    "p.intro,p.note{color:#444}table{border-collapse:collapse;width:100%;margin:.6em 0}"
    "th,td{border:1px solid #c8c8c8;padding:.3em .6em;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
    "th{background:#f2f2f2;font-weight:600}table.facts th{width:34%}"
    ".missing{color:#9a3412;font-style:italic}a.e{font-size:.72em;color:#1d4ed8;margin-left:.5em;white-space:nowrap;"
    "text-decoration:none}footer{margin-top:3em;font-size:.8em;color:#555}"
    "@media print{body{max-width:none;margin:0}h2{break-after:avoid}tr{break-inside:avoid}a.e{white-space:normal}}";

std::string slashed(std::string_view place) {
  std::string out = "/" + std::string(place);
  std::replace(out.begin(), out.end(), '.', '/');
  return out;
}

// Lines are kept, and what no page may hold is left out.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : base::html_escaped(text)) {
    if (c == '\n')
      out += "<br>";
    else if (static_cast<unsigned char>(c) >= 0x20 || c == '\t')
      out += c;
  }
  return out;
}

const char* missing_word(const Document& d) { return d.language == "zh" ? "未记录" : "not recorded"; }

std::string html_of(const Cell& cell, const Document& document, const EvidenceSet& evidence) {
  std::string out =
      cell.recorded ? escaped(cell.text) : std::string("<span class=\"missing\">") + missing_word(document) + "</span>";
  if (cell.evidence.empty()) return out;
  for (const Evidence& one : evidence.all())
    if (one.id == cell.evidence)
      out += " <a class=\"e\" href=\"" + escaped(one.file) + "\" title=\"sha256 " + one.sha256 + "\">[" + one.id +
             (cell.place.empty() ? "" : " " + escaped(cell.place)) + "]</a>";
  return out;
}

void add_table(const Table& table, const Document& document, const EvidenceSet& evidence, std::string& out) {
  out += "<table><thead><tr>";
  for (const std::string& head : table.heads) out += "<th scope=\"col\">" + escaped(head) + "</th>";
  out += "</tr></thead><tbody>";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (const Cell& cell : row) out += "<td>" + html_of(cell, document, evidence) + "</td>";
    out += "</tr>\n";
  }
  if (table.rows.empty())
    out += "<tr><td colspan=\"" + std::to_string(std::max<std::size_t>(1, table.heads.size())) + "\">" +
           html_of(not_recorded(), document, evidence) + "</td></tr>";
  out += "</tbody></table>\n";
}

}  // namespace

Cell plain(std::string text) { return {std::move(text), true, "", ""}; }
Cell not_recorded() { return {"", false, "", ""}; }

std::size_t EvidenceSet::add(const std::string& name, std::string what, std::string bytes) {
  Evidence made;
  made.id = "E" + std::to_string(all_.size() + 1);
  made.file = "evidence/" + made.id + "-" + name;
  made.what = std::move(what);
  made.sha256 = to_hex(sha256(bytes));
  if (auto value = json::parse(bytes)) made.content = std::move(*value);
  made.bytes = std::move(bytes);
  all_.push_back(std::move(made));
  return all_.size() - 1;
}

Cell EvidenceSet::at(std::size_t evidence, std::string_view place) const {
  const Evidence& e = all_.at(evidence);
  const auto text = field_text(e.content, place);
  if (!text || text->empty()) return not_recorded();
  return {*text, true, e.id, slashed(place)};
}

Cell EvidenceSet::rounded(std::size_t evidence, std::string_view place, const char* unit) const {
  const Evidence& e = all_.at(evidence);
  const json::Value* found = member_at(e.content, place);
  if (found == nullptr || !found->is_number()) return not_recorded();
  char text[48];
  const double value = found->as_double();
  constexpr double kPlain = 1e5;
  if (std::abs(value) >= kPlain || (value != 0 && std::abs(value) < 1 / kPlain))
    std::snprintf(text, sizeof(text), "%.1e", value);
  else
    std::snprintf(text, sizeof(text), "%.2g", value);
  // %.2g writes 1.2e+02 for 120.
  if (std::abs(value) >= 100 && std::abs(value) < kPlain) {
    const double scale = std::pow(10, std::floor(std::log10(std::abs(value))) - 1);
    std::snprintf(text, sizeof(text), "%.0f", std::round(value / scale) * scale);
  }
  return {std::string(text) + (*unit == '\0' ? "" : " ") + unit, true, e.id, slashed(place)};
}

Cell EvidenceSet::about(std::size_t evidence, std::string_view place, std::string text) const {
  return {std::move(text), true, all_.at(evidence).id, place.empty() ? "" : std::string(place)};
}

std::string html_of(const Document& d, const EvidenceSet& evidence) {
  std::string out =
      "<!doctype html>\n<html lang=\"" + escaped(d.language) +
      "\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
      "<title>" +
      escaped(d.title) + "</title><style>" + kStyle + "</style></head><body>\n<h1>" + escaped(d.title) + "</h1>\n";
  if (!d.intro.empty()) out += "<p class=\"intro\">" + escaped(d.intro) + "</p>\n";
  for (const Section& section : d.sections) {
    out += "<h2>" + escaped(section.title) + "</h2>\n";
    if (!section.text.empty()) out += "<p class=\"note\">" + escaped(section.text) + "</p>\n";
    if (!section.lines.empty()) {
      out += "<table class=\"facts\"><tbody>\n";
      for (const Line& line : section.lines)
        out += "<tr><th scope=\"row\">" + escaped(line.title) + "</th><td>" + html_of(line.cell, d, evidence) +
               "</td></tr>\n";
      out += "</tbody></table>\n";
    }
    for (const Table& table : section.tables) add_table(table, d, evidence, out);
  }
  return out + "</body></html>\n";
}

}  // namespace qw::governance
