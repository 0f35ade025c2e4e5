// A report as people read it: the same rows as Markdown and as a page.
#include "base/html.h"
#include "governance/assess/report.h"

namespace qw::governance {
namespace {

std::string text_of(const json::Value& value, std::string_view name) {
  const json::Value* found = value.find(name);
  if (found == nullptr || found->is_null()) return {};
  if (found->is_string()) return found->as_string();
  return json::dump(*found);
}

// 0.917 as "91.7 %".
std::string percent(const json::Value& value, const char* name) {
  const json::Value* found = value.find(name);
  if (found == nullptr || !found->is_int()) return {};
  const std::int64_t tenths = (found->as_int() + 500) / 1000;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " %";
}

std::string decimal(const json::Value& value, const char* name) {
  const json::Value* found = value.find(name);
  return found == nullptr || !found->is_int() ? "" : json::dump(static_cast<double>(found->as_int()) / 1e6);
}

class Writer {
 public:
  virtual ~Writer() = default;
  virtual void heading(const std::string& text) = 0;
  virtual void line(const std::string& text) = 0;
  virtual void table(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows) = 0;
  std::string out;
};

class Markdown final : public Writer {
 public:
  void heading(const std::string& text) override {
    out += std::string(out.empty() ? "# " : "\n## ") + plain(text) + "\n\n";
  }
  void line(const std::string& text) override { out += plain(text) + "\n\n"; }
  void table(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows) override {
    row(head);
    out += "|";
    for (std::size_t i = 0; i < head.size(); ++i) out += "---|";
    out += "\n";
    for (const auto& cells : rows) row(cells);
  }

 private:
  // One line, and nothing in it that Markdown takes for its own.
  static std::string plain(const std::string& text) {
    std::string made;
    for (const char c : text) {
      if (c == '\n' || c == '\r') {
        made += ' ';
        continue;
      }
      if (std::string_view("\\|<>[]*_`").find(c) != std::string_view::npos) made += '\\';
      made += c;
    }
    return made;
  }
  void row(const std::vector<std::string>& cells) {
    out += "|";
    for (const std::string& cell : cells) out += " " + plain(cell) + " |";
    out += "\n";
  }
};

class Page final : public Writer {
 public:
  Page() {
    out =
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Assessment</title><style>"
        "body{font:15px/1.5 sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;width:100%}td,th{border:1px solid #bbb;padding:.3rem .5rem;text-align:left;"
        "vertical-align:top}th{background:#eee}</style></head><body>\n";
  }
  void heading(const std::string& text) override {
    const std::string tag = first_ ? "h1" : "h2";
    first_ = false;
    out += "<" + tag + ">" + base::html_escaped(text) + "</" + tag + ">\n";
  }
  void line(const std::string& text) override { out += "<p>" + base::html_escaped(text) + "</p>\n"; }
  void table(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows) override {
    out += "<table><tr>";
    for (const std::string& cell : head) out += "<th>" + base::html_escaped(cell) + "</th>";
    out += "</tr>\n";
    for (const auto& cells : rows) {
      out += "<tr>";
      for (const std::string& cell : cells) out += "<td>" + base::html_escaped(cell) + "</td>";
      out += "</tr>\n";
    }
    out += "</table>\n";
  }

 private:
  bool first_ = true;
};

using Rows = std::vector<std::vector<std::string>>;

template <class F>
void each(const json::Value& value, const char* list, F f) {
  const json::Value* found = value.find(list);
  if (found == nullptr || !found->is_array()) return;
  for (const json::Value& one : found->as_array()) f(one);
}

void write_subject(Writer& w, const json::Value& document) {
  const json::Value* subject = document.find("subject");
  if (subject == nullptr) return;
  Rows rows;
  for (const auto& [name, title] :
       {std::pair("name", "model"), std::pair("address", "asked at"), std::pair("sha256", "files (SHA-256)"),
        std::pair("adapter_sha256", "adapter (SHA-256)"), std::pair("template_sha256", "chat template (SHA-256)"),
        std::pair("policy", "policy"), std::pair("temperature_millionths", "temperature (millionths)"),
        std::pair("max_tokens", "tokens of an answer at most")})
    if (const std::string text = text_of(*subject, name); !text.empty()) rows.push_back({title, text});
  rows.push_back({"plan (SHA-256)", text_of(document, "plan_sha256")});
  rows.push_back({"seed", text_of(document, "seed")});
  each(document, "banks", [&](const json::Value& bank) {
    rows.push_back({"bank " + text_of(bank, "name") + " (SHA-256)",
                    text_of(bank, "sha256") + ", " + text_of(bank, "questions") + " questions"});
  });
  if (const json::Value* library = document.find("library"); library != nullptr && library->is_object())
    rows.push_back(
        {"keyword library (SHA-256)", text_of(*library, "sha256") + ", " + text_of(*library, "words") + " words"});
  w.heading("What was assessed");
  w.table({"what", "which"}, rows);
}

void write_results(Writer& w, const json::Value& document) {
  Rows rows;
  each(document, "requirements", [&](const json::Value& r) {
    const std::string why = text_of(r, "why");
    rows.push_back({text_of(r, "title"), text_of(r, "wanted"), text_of(r, "found"),
                    text_of(r, "verdict") + (why.empty() ? "" : " (" + why + ")"),
                    text_of(r, "source") + ", " + text_of(r, "certainty")});
  });
  w.heading("Requirements");
  w.table({"requirement", "wanted", "found", "verdict", "source"}, rows);
  rows.clear();
  each(document, "tests", [&](const json::Value& t) {
    std::string who;
    each(t, "decided_by", [&](const json::Value& one) {
      who += (who.empty() ? "" : "; ") + text_of(one, "items") + " by " + text_of(one, "judge") + " (" +
             text_of(one, "by").substr(0, 60) + ")";
    });
    rows.push_back(
        {text_of(t, "title"), text_of(t, "measure"),
         text_of(t, "hits") + " yes, " + text_of(t, "misses") + " no, " + text_of(t, "undecided") + " undecided",
         percent(t, "share"),
         t.find("low") == nullptr
             ? ""
             : percent(t, "low") + " to " + percent(t, "high") + " (" + text_of(t, "interval") + ")",
         who});
  });
  w.heading("Tests");
  w.table({"test", "measure", "answers", "share", "95 %", "decided"}, rows);
}

void write_rest(Writer& w, const json::Value& document) {
  Rows rows;
  each(document, "agreement", [&](const json::Value& a) {
    rows.push_back({text_of(a, "a"), text_of(a, "b"), text_of(a, "measure"), text_of(a, "items"), text_of(a, "same"),
                    decimal(a, "kappa_millionths")});
  });
  if (!rows.empty()) {
    w.heading("How people agree");
    w.table({"one", "other", "measure", "items", "same", "Cohen's kappa"}, rows);
  }
  const json::Value* comparison = document.find("comparison");
  if (comparison == nullptr) return;
  rows.clear();
  each(*comparison, "tests", [&](const json::Value& t) {
    rows.push_back({text_of(t, "name"), text_of(t, "items"), text_of(t, "now_yes"), text_of(t, "now_no"),
                    decimal(t, "p_millionths")});
  });
  w.heading("Beside the report of " + text_of(*comparison, "made"));
  w.line("Of the model " + text_of(*comparison, "subject") + ", " + text_of(*comparison, "subject_sha256") +
         ". p: how likely so lopsided a change is by chance (McNemar, exact).");
  w.table({"test", "asked in both", "no to yes", "yes to no", "p"}, rows);
}

void write_all(Writer& w, const json::Value& document, const std::string& key) {
  const json::Value* plan = document.find("plan");
  w.heading("Assessment by the plan " + (plan == nullptr ? "" : text_of(*plan, "plan")) + ": " +
            text_of(document, "result"));
  w.line("Made " + text_of(document, "made") + " by " + text_of(document, "by") + " with qianwen " +
         text_of(document, "program") + ", signed by the key " + key + ".");
  w.line("This tells what was measured, and is no statement that any law or standard is kept.");
  write_subject(w, document);
  write_results(w, document);
  write_rest(w, document);
}

}  // namespace

std::string report_markdown(const json::Value& document, const std::string& key) {
  Markdown writer;
  write_all(writer, document, key);
  return std::move(writer.out);
}

std::string report_page(const json::Value& document, const std::string& key) {
  Page writer;
  write_all(writer, document, key);
  return std::move(writer.out) + "</body></html>\n";
}

}  // namespace qw::governance
