#include "api/admin/objects.h"

#include <charconv>

#include "base/clock.h"

namespace qw::api::admin {
namespace {

constexpr std::int64_t kBillion = 1'000'000'000;

json::Array strings(const std::vector<std::string>& words) { return json::Array(words.begin(), words.end()); }

json::Value seconds_of(std::int64_t us) { return us == 0 ? json::Value() : json::Value(us / 1'000'000); }

// Prices are counted in billionths a token; people say them for a million tokens.
json::Value per_million(std::int64_t billionths) { return decimal_of(billionths * 1'000'000); }

json::Object tokens_json(const store::Tokens& t) {
  return {{"prompt_tokens", t.prompt},
          {"cached_tokens", t.cached},
          {"reasoning_tokens", t.reasoning},
          {"output_tokens", t.output},
          {"trained_tokens", t.trained}};
}

std::string csv_cell(const json::Value& v) {
  const std::string text = v.is_string() ? v.as_string() : v.is_null() ? "" : json::dump(v);
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

}  // namespace

std::string decimal_of(std::int64_t billionths) {
  const bool negative = billionths < 0;
  const std::uint64_t n =
      negative ? 0 - static_cast<std::uint64_t>(billionths) : static_cast<std::uint64_t>(billionths);
  std::string fraction = std::to_string(n % kBillion);
  fraction.insert(0, 9 - fraction.size(), '0');
  while (!fraction.empty() && fraction.back() == '0') fraction.pop_back();
  return (negative ? "-" : "") + std::to_string(n / kBillion) + (fraction.empty() ? "" : "." + fraction);
}

Result<std::int64_t> billionths_of(const std::string& text) {
  const auto wrong = [&] {
    return fail(ErrorKind::kUsage, "'" + text + "' is no amount (such as 12.5, with at most 9 decimals)");
  };
  const auto point = text.find('.');
  const std::string whole = text.substr(0, point);
  std::string fraction = point == std::string::npos ? "" : text.substr(point + 1);
  if (whole.empty() || fraction.size() > 9 || (point != std::string::npos && fraction.empty())) return wrong();
  fraction.append(9 - fraction.size(), '0');
  std::int64_t units = 0, parts = 0;
  const auto number = [](const std::string& digits, std::int64_t& out) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
    return error == std::errc() && end == digits.data() + digits.size() && out >= 0 && digits[0] != '-';
  };
  if (!number(whole, units) || !number(fraction, parts) || units > kBillion) return wrong();
  return units * kBillion + parts;
}

json::Value to_json(const store::Organisation& o) {
  return json::Object{{"id", o.id},
                      {"name", o.name},
                      {"weight", o.weight},
                      {"created", seconds_of(o.created_us)},
                      {"disabled", o.disabled}};
}
json::Value to_json(const store::Project& p) {
  return json::Object{{"id", p.id},
                      {"name", p.name},
                      {"organisation", p.organisation_id},
                      {"weight", p.weight},
                      {"created", seconds_of(p.created_us)},
                      {"disabled", p.disabled}};
}
json::Value to_json(const store::User& u) {
  return json::Object{{"id", u.id},
                      {"name", u.name},
                      {"organisation", u.organisation_id},
                      {"roles", strings(u.roles)},
                      {"created", seconds_of(u.created_us)},
                      {"disabled", u.disabled},
                      {"email", u.email},
                      {"project", u.project_id},
                      {"has_password", u.has_password},
                      {"external_id", u.external_id}};
}
json::Value to_json(const store::Role& r) {
  return json::Object{
      {"name", r.name}, {"allow", strings(r.allow)}, {"deny", strings(r.deny)}, {"built_in", r.built_in}};
}
json::Value to_json(const store::Key& k) {
  return json::Object{{"id", k.id},
                      {"shown", k.shown},
                      {"name", k.name},
                      {"project", k.project_id},
                      {"user", k.user_id},
                      {"scopes", strings(k.scopes)},
                      {"models", strings(k.models)},
                      {"networks", strings(k.networks)},
                      {"created", seconds_of(k.created_us)},
                      {"expires", seconds_of(k.expires_us)},
                      {"revoked", seconds_of(k.revoked_us)},
                      {"last_used", seconds_of(k.used_us)},
                      {"rotated_from", k.rotated_from}};
}
json::Value to_json(const store::Limits& l) {
  return json::Object{{"subject", l.subject},
                      {"requests_per_minute", l.requests_per_minute},
                      {"tokens_per_minute", l.tokens_per_minute},
                      {"concurrency", l.concurrency},
                      {"jobs", l.jobs},
                      {"running", l.running}};
}
json::Value to_json(const store::Budget& b) {
  const auto amount = [&](std::int64_t n) { return b.unit == "tokens" ? json::Value(n) : json::Value(decimal_of(n)); };
  return json::Object{{"id", b.id},
                      {"subject", b.subject},
                      {"unit", b.unit},
                      {"period", b.period},
                      {"amount", amount(b.amount)},
                      {"spent", amount(b.spent)},
                      {"reserved", amount(b.reserved)},
                      {"left", amount(b.left())}};
}
json::Value to_json(const store::Price& p) {
  return json::Object{{"model", p.model},
                      {"currency", p.currency},
                      {"prompt", per_million(p.prompt)},
                      {"cached", per_million(p.cached)},
                      {"reasoning", per_million(p.reasoning)},
                      {"output", per_million(p.output)},
                      {"trained", per_million(p.trained)}};
}
json::Value to_json(const store::UsageRow& r) {
  json::Object out{{"number", r.number},
                   {"request_id", r.request_id},
                   {"key", r.key_id},
                   {"user", r.user_id},
                   {"project", r.project_id},
                   {"organisation", r.organisation_id},
                   {"model", r.model},
                   {"outcome", r.outcome},
                   {"started", seconds_of(r.started_us)},
                   {"ended", seconds_of(r.ended_us)}};
  for (auto& [key, value] : tokens_json(r.tokens)) out.set(key, value);
  out.set("currency", r.currency);
  out.set("cost", decimal_of(r.cost));
  return out;
}
json::Value to_json(const store::UsageSum& s) {
  json::Object out{{"group", s.group}, {"requests", s.requests}};
  for (auto& [key, value] : tokens_json(s.tokens)) out.set(key, value);
  out.set("currency", s.currency);
  out.set("cost", decimal_of(s.cost));
  return out;
}

json::Value to_json(const store::NewKey& k) {
  json::Value out = to_json(k.key);
  out.as_object().set("key", k.secret);
  return out;
}

json::Value to_json(const store::Complaint& c) {
  const bool open = c.status == "open" || c.status.empty();
  return json::Object{{"id", c.id},
                      {"kind", c.kind},
                      {"status", c.status},
                      {"project", c.project_id},
                      {"user", c.user_id},
                      {"appeal_of", c.appeal_of},
                      {"about", c.about},
                      {"contact", c.contact},
                      {"text", c.text},
                      {"answer", c.answer},
                      {"answered_by", c.answered_by},
                      {"created", seconds_of(c.created_us)},
                      {"due", seconds_of(c.due_us)},
                      {"overdue", open && c.due_us != 0 && c.due_us < base::unix_us()},
                      {"answered", seconds_of(c.answered_us)},
                      {"closed", seconds_of(c.closed_us)},
                      {"erased", seconds_of(c.erased_us)}};
}
json::Value to_json(const store::Conduct& c) {
  // A measure whose time is over is none any more.
  const bool over = c.until_us > 0 && c.until_us <= base::unix_us();
  return json::Object{{"subject", c.subject},
                      {"standing", over ? "" : c.standing},
                      {"until", over ? json::Value() : seconds_of(c.until_us)},
                      {"per_minute", over ? 0 : c.per_minute},
                      {"in_a_row", c.in_a_row},
                      {"today", c.today},
                      {"total", c.total},
                      {"last", seconds_of(c.last_us)},
                      {"used_seconds", c.used_us / 1'000'000},
                      {"seen", seconds_of(c.seen_us)}};
}
json::Value to_json(const store::Minor& m) {
  return json::Object{
      {"subject", m.subject}, {"age", m.age}, {"consent", m.consent}, {"created", seconds_of(m.created_us)}};
}
json::Value to_json(const store::HeldData& d) {
  json::Array keys, complaints, files, documents, jobs, feedback, datasets, conduct, minors, contents;
  // Their words are encrypted, and not this function's to read.
  for (const store::Content& one : d.contents)
    contents.push_back(
        json::Object{{"id", one.id}, {"created", seconds_of(one.created_us)}, {"expires", seconds_of(one.expires_us)}});
  for (const store::Conduct& one : d.conduct) conduct.push_back(to_json(one));
  for (const store::Minor& one : d.minors) minors.push_back(to_json(one));
  for (const store::Key& one : d.keys) keys.push_back(to_json(one));
  for (const store::Complaint& one : d.complaints) complaints.push_back(to_json(one));
  for (const store::File& one : d.files)
    files.push_back(json::Object{{"id", one.id},
                                 {"name", one.name},
                                 {"purpose", one.purpose},
                                 {"bytes", one.bytes},
                                 {"created", seconds_of(one.created_us)},
                                 {"expires", seconds_of(one.expires_us)}});
  // What a document holds is JSON of whoever wrote it.
  const auto body = [](const std::string& text) {
    auto value = json::parse(text);
    return value ? std::move(*value) : json::Value(text);
  };
  for (const store::Document& one : d.documents)
    documents.push_back(json::Object{{"id", one.id},
                                     {"kind", one.kind},
                                     {"parent", one.parent},
                                     {"created", seconds_of(one.created_us)},
                                     {"expires", seconds_of(one.expires_us)},
                                     {"body", body(one.body)}});
  for (const store::Job& one : d.jobs)
    jobs.push_back(json::Object{{"id", one.id},
                                {"kind", one.kind},
                                {"status", one.status},
                                {"created", seconds_of(one.created_us)},
                                {"asked", body(one.spec)}});
  for (const store::Feedback& one : d.feedback)
    feedback.push_back(json::Object{{"id", one.id},
                                    {"answer_id", one.answer_id},
                                    {"rating", one.rating},
                                    {"comment", one.comment},
                                    {"correction", one.correction},
                                    {"status", one.status},
                                    {"note", one.note},
                                    {"prompt", body(one.prompt)},
                                    {"answer", one.answer},
                                    {"created", seconds_of(one.created_us)}});
  for (const store::DatasetVersion& one : d.datasets)
    datasets.push_back(json::Object{{"id", one.id},
                                    {"name", one.name},
                                    {"version", one.number},
                                    {"sha256", one.sha256},
                                    {"erased", one.erased},
                                    {"created", seconds_of(one.created_us)}});
  return json::Object{{"user", d.user ? to_json(*d.user) : json::Value()},
                      {"keys", std::move(keys)},
                      {"sessions", d.sessions},
                      {"usage_rows", d.usage_rows},
                      {"complaints", std::move(complaints)},
                      {"files", std::move(files)},
                      {"documents", std::move(documents)},
                      {"jobs", std::move(jobs)},
                      {"feedback", std::move(feedback)},
                      {"datasets", std::move(datasets)},
                      {"conduct", std::move(conduct)},
                      {"minors", std::move(minors)},
                      {"contents", std::move(contents)},
                      {"more", d.more}};
}
json::Value to_json(const store::ErasedData& d) {
  return json::Object{
      {"users", d.users},       {"keys", d.keys},           {"sessions", d.sessions}, {"complaints", d.complaints},
      {"files", d.files},       {"documents", d.documents}, {"jobs", d.jobs},         {"feedback", d.feedback},
      {"datasets", d.datasets}, {"salts", d.salts},         {"contents", d.contents}};
}

std::string csv_of(const json::Array& rows, bool head) {
  std::string out;
  const auto line = [&](const json::Value& row, bool names) {
    const char* comma = "";
    for (const auto& [key, value] : row.as_object()) {
      out += comma + (names ? key : csv_cell(value));
      comma = ",";
    }
    out += "\n";
  };
  if (head) line(to_json(store::UsageRow()), true);
  for (const json::Value& row : rows) line(row, false);
  return out;
}

}  // namespace qw::api::admin
