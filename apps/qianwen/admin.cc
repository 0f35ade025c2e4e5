#include "admin.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace qw::app {
namespace {

constexpr std::int64_t kBillion = 1'000'000'000;

json::Array strings(const std::vector<std::string>& words) { return json::Array(words.begin(), words.end()); }

std::string cell(const json::Value& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return value.as_string().empty() ? "-" : value.as_string();
  if (!value.is_array()) return json::dump(value);
  std::string out;
  for (const json::Value& one : value.as_array()) out += (out.empty() ? "" : ",") + cell(one);
  return out.empty() ? "-" : out;
}

void show_table(const json::Array& rows) {
  if (rows.empty()) return;
  std::vector<std::vector<std::string>> cells(1);
  for (const auto& [key, value] : rows.front().as_object()) cells[0].push_back(key);
  for (const json::Value& row : rows) {
    cells.emplace_back();
    for (const auto& [key, value] : row.as_object()) cells.back().push_back(cell(value));
  }
  std::vector<std::size_t> widths(cells[0].size());
  for (const auto& line : cells)
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  for (const auto& line : cells) {
    std::string text;
    for (std::size_t i = 0; i < line.size(); ++i)
      text += line[i] + std::string(i + 1 == line.size() ? 0 : widths[i] - line[i].size() + 2, ' ');
    std::puts(text.c_str());
  }
}

// Prices are counted in billionths a token; people say them for a million tokens.
json::Value per_million(std::int64_t billionths) { return decimal_of(billionths * 1'000'000); }

json::Object tokens_json(const store::Tokens& t) {
  return {{"prompt_tokens", t.prompt},
          {"cached_tokens", t.cached},
          {"reasoning_tokens", t.reasoning},
          {"output_tokens", t.output}};
}

}  // namespace

std::string store_url(const std::string& given) {
  if (!given.empty()) return given;
  const char* variable = std::getenv("QW_STORE");
  return variable == nullptr ? "" : variable;
}

Result<std::string> store_url_or_default(const std::string& given) {
  if (std::string url = store_url(given); !url.empty()) return url;
  const char* data = std::getenv("XDG_DATA_HOME");
  const char* home = std::getenv("HOME");
  std::filesystem::path folder;
  if (data != nullptr && *data != '\0') {
    folder = data;
  } else if (home != nullptr && *home != '\0') {
    folder = std::filesystem::path(home) / ".local/share";
  } else {
    return fail(ErrorKind::kUsage, "--store is needed: neither XDG_DATA_HOME nor HOME is set");
  }
  folder /= "qianwen";
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail(ErrorKind::kFailed, folder.string() + ": " + error.message());
  return (folder / "state.db").string();
}

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

json::Value seconds_of(std::int64_t us) { return us == 0 ? json::Value() : json::Value(us / 1'000'000); }

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
                      {"disabled", u.disabled}};
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
                      {"output", per_million(p.output)}};
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

void show(const json::Value& value, bool json) {
  if (json) {
    std::puts(json::dump(value).c_str());
  } else if (value.is_array()) {
    show_table(value.as_array());
  } else {
    for (const auto& [key, one] : value.as_object()) std::printf("%-20s %s\n", key.c_str(), cell(one).c_str());
  }
}

}  // namespace qw::app
