// qianwen admin org | project | user | role | key | limit | budget | price | usage | backup | restore: who may use a
// service, and what that may cost. Works on the store while services run.
#include <chrono>
#include <cstdio>
#include <functional>
#include <optional>

#include "admin.h"
#include "base/clock.h"
#include "commands.h"
#include "net/ip_range.h"

namespace qw::app {
namespace {

using store::Store;

struct Options {
  std::string store, where, name, project, user, period = "total", unit = "tokens", amount, subject, by, from, to, file;
  std::string currency, prompt, cached, reasoning, output;
  std::vector<std::string> roles, scopes, models, networks, allow, deny;
  std::int64_t weight = 0, days = 0, grace = 0, requests = -1, tokens = -1, concurrency = -1;
  bool disable = false, enable = false, rows = false, csv = false, json = false;
};
using Shared = std::shared_ptr<Options>;
using Body = std::function<Result<json::Value>(Store&, const Options&)>;

template <class T>
Result<json::Value> one(Result<T> made) {
  return made.map([](const T& x) { return to_json(x); });
}
template <class T>
Result<json::Value> all(Result<std::vector<T>> found) {
  return found.map([](const std::vector<T>& list) {
    json::Array out;
    for (const T& x : list) out.push_back(to_json(x));
    return json::Value(std::move(out));
  });
}
Result<json::Value> done(const Status& status) {
  return status.map([] { return json::Value(json::Object{{"done", true}}); });
}
std::optional<bool> disabled(const Options& o) {
  return o.disable ? std::optional<bool>(true) : o.enable ? std::optional<bool>(false) : std::nullopt;
}
std::optional<std::int64_t> weight(const Options& o) {
  return o.weight == 0 ? std::nullopt : std::optional<std::int64_t>(o.weight);
}

// "project:NAME" to "project:ID".
Result<std::string> subject_of(Store& store, const std::string& text) {
  const auto colon = text.find(':');
  const std::string kind = text.substr(0, colon), where = colon == std::string::npos ? "" : text.substr(colon + 1);
  auto& t = store.tenants();
  const auto named = [&](const auto& found) -> Result<std::string> {
    if (!found) return tl::unexpected(found.error());
    return kind + ":" + found->id;
  };
  if (kind == "key") return named(t.key(where));
  if (kind == "user") return named(t.user(where));
  if (kind == "project") return named(t.project(where));
  if (kind == "org") return named(t.organisation(where));
  return fail(ErrorKind::kUsage, "admin: expected key:, user:, project: or org: and a name or id, not " + text);
}

json::Value new_key(const store::NewKey& made) {
  json::Value out = to_json(made.key);
  out.as_object().set("key", made.secret);
  return out;
}

Result<json::Value> add_key(Store& store, const Options& o) {
  store::KeySpec spec{o.where,  o.user,     o.name, o.scopes.empty() ? std::vector<std::string>{"*"} : o.scopes,
                      o.models, o.networks, 0};
  for (const std::string& range : o.networks)
    if (!net::IpRange::parse(range))
      return fail(ErrorKind::kUsage, "admin: --network " + range + " is no address or range (10.0.0.0/8)");
  if (o.days > 0) spec.expires_us = base::unix_us() + o.days * 86'400'000'000;
  return store.tenants().add_key(spec).map(new_key);
}

Result<json::Value> set_limits(Store& store, const Options& o) {
  store::Limits limits;
  QW_ASSIGN(limits.subject, subject_of(store, o.subject));
  QW_ASSIGN(const auto present, store.ledger().limits());
  for (const store::Limits& l : present)
    if (l.subject == limits.subject) limits = l;
  if (o.requests >= 0) limits.requests_per_minute = o.requests;
  if (o.tokens >= 0) limits.tokens_per_minute = o.tokens;
  if (o.concurrency >= 0) limits.concurrency = o.concurrency;
  QW_TRY(store.ledger().set_limits(limits));
  return to_json(limits);
}

Result<json::Value> set_budget(Store& store, const Options& o) {
  QW_ASSIGN(const std::string subject, subject_of(store, o.subject));
  QW_ASSIGN(std::int64_t amount, billionths_of(o.amount));
  if (o.unit == "tokens") {
    if (amount % 1'000'000'000 != 0) return fail(ErrorKind::kUsage, "admin: a budget in tokens is a whole number");
    amount /= 1'000'000'000;
  }
  return one(store.ledger().set_budget(subject, o.unit, o.period, amount));
}

// For a million tokens, in steps of a thousandth of the currency's unit (a billionth for each token).
Result<std::int64_t> price(const std::string& text) {
  QW_ASSIGN(const std::int64_t billionths, billionths_of(text));
  if (billionths % 1'000'000 != 0)
    return fail(ErrorKind::kUsage, "admin: a price has at most 3 decimals for a million tokens: " + text);
  return billionths / 1'000'000;
}
Result<json::Value> set_price(Store& store, const Options& o) {
  store::Price p{o.where, o.currency, 0, 0, 0, 0};
  QW_ASSIGN(p.prompt, price(o.prompt));
  QW_ASSIGN(p.output, price(o.output));
  p.cached = p.prompt;
  p.reasoning = p.output;
  if (!o.cached.empty()) {
    QW_ASSIGN(p.cached, price(o.cached));
  }
  if (!o.reasoning.empty()) {
    QW_ASSIGN(p.reasoning, price(o.reasoning));
  }
  QW_TRY(store.ledger().set_price(p));
  return to_json(p);
}

// 2026-11-28, in UTC.
Result<std::int64_t> day(const std::string& text) {
  if (text.empty()) return 0;
  int y = 0, m = 0, d = 0, used = 0;
  using namespace std::chrono;
  if (std::sscanf(text.c_str(), "%4d-%2d-%2d%n", &y, &m, &d, &used) != 3 ||
      static_cast<std::size_t>(used) != text.size())
    return fail(ErrorKind::kUsage, "admin: " + text + " is no day (such as 2026-11-28)");
  const year_month_day date{year(y), month(static_cast<unsigned>(m)), std::chrono::day(static_cast<unsigned>(d))};
  if (!date.ok()) return fail(ErrorKind::kUsage, "admin: there is no day " + text);
  return duration_cast<microseconds>(sys_days(date).time_since_epoch()).count();
}

std::string csv_cell(const json::Value& v) {
  const std::string text = v.is_string() ? v.as_string() : v.is_null() ? "" : json::dump(v);
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

// Every row of the ledger, page by page: it may be long.
Result<json::Value> export_rows(Store& store, const store::UsageQuery& query, bool csv) {
  constexpr std::int64_t kPage = 1000;
  bool head = csv;
  for (std::int64_t after = 0;;) {
    QW_ASSIGN(const auto rows, store.ledger().usage(query, after, kPage));
    if (head && rows.empty()) {
      const json::Value names = to_json(store::UsageRow());
      std::string line;
      for (const auto& [key, value] : names.as_object()) line += (line.empty() ? "" : ",") + key;
      std::puts(line.c_str());
    }
    for (const store::UsageRow& row : rows) {
      const json::Value value = to_json(row);
      after = row.number;
      if (!csv) {
        std::puts(json::dump(value).c_str());
        continue;
      }
      std::string names, line;
      for (const auto& [key, v] : value.as_object()) {
        names += (names.empty() ? "" : ",") + key;
        line += (line.empty() ? "" : ",") + csv_cell(v);
      }
      if (std::exchange(head, false)) std::puts(names.c_str());
      std::puts(line.c_str());
    }
    if (static_cast<std::int64_t>(rows.size()) < kPage) return json::Value();
  }
}

Result<json::Value> usage(Store& store, const Options& o) {
  store::UsageQuery query;
  auto& t = store.tenants();
  const auto id = [](std::string& into, const auto& found) -> Status {
    if (!found) return tl::unexpected(found.error());
    into = found->id;
    return {};
  };
  if (!o.where.empty()) QW_TRY(id(query.key_id, t.key(o.where)));
  if (!o.user.empty()) QW_TRY(id(query.user_id, t.user(o.user)));
  if (!o.project.empty()) QW_TRY(id(query.project_id, t.project(o.project)));
  if (!o.name.empty()) QW_TRY(id(query.organisation_id, t.organisation(o.name)));
  QW_ASSIGN(query.from_us, day(o.from));
  QW_ASSIGN(query.to_us, day(o.to));
  if (o.rows || o.csv) return export_rows(store, query, o.csv);
  return all(store.ledger().usage_sums(query, o.by));
}

class Admin {
 public:
  Admin(CLI::App& admin, Outcome& outcome) : admin_(admin), outcome_(outcome) {}

  CLI::App* group(const char* name, const char* what) {
    CLI::App* made = admin_.add_subcommand(name, what);
    made->require_subcommand(1);
    return made;
  }
  // A command that opens the store, runs `body` and shows what it gives.
  CLI::App* command(CLI::App* parent, const char* name, const char* what, const Shared& o, Body body) {
    CLI::App* cmd = parent->add_subcommand(name, what);
    cmd->add_option("--store", o->store,
                    "postgres://... or a file (default: QW_STORE, else state.db in the data folder)");
    cmd->add_flag("--json", o->json, "print JSON");
    cmd->callback([o, body = std::move(body), &outcome = outcome_] {
      auto result = [&]() -> Result<json::Value> {
        QW_ASSIGN(const std::string url, store_url_or_default(o->store));
        QW_ASSIGN(const auto store, Store::open(url));
        return body(*store, *o);
      }();
      if (!result) {
        outcome.code = report(result.error());
      } else if (!result->is_null()) {
        show(*result, o->json);
      }
    });
    return cmd;
  }
  CLI::App& root() { return admin_; }

 private:
  CLI::App& admin_;
  Outcome& outcome_;
};

Shared fresh() { return std::make_shared<Options>(); }

void switches(CLI::App* cmd, const Shared& o) {
  auto* off = cmd->add_flag("--disable", o->disable, "its keys are refused");
  cmd->add_flag("--enable", o->enable, "its keys work again")->excludes(off);
}
void weight_option(CLI::App* cmd, const Shared& o) {
  cmd->add_option("--weight", o->weight, "share of the engine beside others (1)");
}

void add_organisations(Admin& admin) {
  auto* group = admin.group("org", "Organisations: who pays");
  auto o = fresh();
  auto* cmd = admin.command(group, "add", "Add one", o, [](Store& s, const Options& x) {
    return one(s.tenants().add_organisation(x.name, x.weight == 0 ? 1 : x.weight));
  });
  cmd->add_option("NAME", o->name)->required();
  weight_option(cmd, o);
  admin.command(group, "list", "All of them", fresh(),
                [](Store& s, const Options&) { return all(s.tenants().organisations()); });
  o = fresh();
  cmd = admin.command(group, "set", "Change one", o, [](Store& s, const Options& x) {
    return done(s.tenants().set_organisation(x.where, weight(x), disabled(x)));
  });
  cmd->add_option("ORG", o->where, "name or id")->required();
  weight_option(cmd, o);
  switches(cmd, o);
}

void add_projects(Admin& admin) {
  auto* group = admin.group("project", "Projects: whose files, jobs and answers these are");
  auto o = fresh();
  auto* cmd = admin.command(group, "add", "Add one to an organisation", o, [](Store& s, const Options& x) {
    return one(s.tenants().add_project(x.where, x.name, x.weight == 0 ? 1 : x.weight));
  });
  cmd->add_option("ORG", o->where, "name or id")->required();
  cmd->add_option("NAME", o->name)->required();
  weight_option(cmd, o);
  o = fresh();
  cmd = admin.command(group, "list", "All of them", o,
                      [](Store& s, const Options& x) { return all(s.tenants().projects(x.where)); });
  cmd->add_option("--org", o->where, "of this organisation only");
  o = fresh();
  cmd = admin.command(group, "set", "Change one", o, [](Store& s, const Options& x) {
    return done(s.tenants().set_project(x.where, weight(x), disabled(x)));
  });
  cmd->add_option("PROJECT", o->where, "name or id")->required();
  weight_option(cmd, o);
  switches(cmd, o);
}

void add_users(Admin& admin) {
  auto* group = admin.group("user", "Users and their roles");
  auto o = fresh();
  auto* cmd = admin.command(group, "add", "Add one to an organisation", o, [](Store& s, const Options& x) {
    return one(s.tenants().add_user(x.where, x.name, x.roles.empty() ? std::vector<std::string>{"member"} : x.roles));
  });
  cmd->add_option("ORG", o->where, "name or id")->required();
  cmd->add_option("NAME", o->name)->required();
  cmd->add_option("--role", o->roles, "may be given more than once (default: member)");
  o = fresh();
  cmd = admin.command(group, "list", "All of them", o,
                      [](Store& s, const Options& x) { return all(s.tenants().users(x.where)); });
  cmd->add_option("--org", o->where, "of this organisation only");
  o = fresh();
  cmd = admin.command(group, "set", "Change one", o, [](Store& s, const Options& x) {
    return done(s.tenants().set_user(
        x.where, x.roles.empty() ? std::nullopt : std::optional<std::vector<std::string>>(x.roles), disabled(x)));
  });
  cmd->add_option("USER", o->where, "name or id")->required();
  cmd->add_option("--role", o->roles, "the roles from now on");
  switches(cmd, o);

  group = admin.group("role", "Roles: what users may do");
  admin.command(group, "list", "All of them", fresh(),
                [](Store& s, const Options&) { return all(s.tenants().roles()); });
  o = fresh();
  cmd = admin.command(group, "set", "Add or change one", o, [](Store& s, const Options& x) {
    return done(s.tenants().set_role({x.name, x.allow, x.deny, false}));
  });
  cmd->add_option("NAME", o->name)->required();
  cmd->add_option("--allow", o->allow, "actions such as inference, files.*, *");
  cmd->add_option("--deny", o->deny, "actions; denied by any role is denied");
  o = fresh();
  cmd = admin.command(group, "rm", "Remove one that nobody has", o,
                      [](Store& s, const Options& x) { return done(s.tenants().remove_role(x.name)); });
  cmd->add_option("NAME", o->name)->required();
}

void add_keys(Admin& admin) {
  auto* group = admin.group("key", "API keys");
  auto o = fresh();
  auto* cmd = admin.command(group, "add", "Make one for a project; it is shown this once", o, add_key);
  cmd->add_option("PROJECT", o->where, "name or id")->required();
  cmd->add_option("--user", o->user, "whose key it is (default: a service's, which scopes alone bind)");
  cmd->add_option("--name", o->name, "for people");
  cmd->add_option("--scope", o->scopes, "actions such as inference, models.read, files.*, admin (default: *)");
  cmd->add_option("--model", o->models, "models it may use (default: all)");
  cmd->add_option("--network", o->networks, "addresses and ranges it may come from, such as 10.0.0.0/8");
  cmd->add_option("--days", o->days, "expires after so many days")->check(CLI::PositiveNumber);
  o = fresh();
  cmd = admin.command(group, "list", "All of them", o,
                      [](Store& s, const Options& x) { return all(s.tenants().keys(x.where)); });
  cmd->add_option("--project", o->where, "of this project only");
  o = fresh();
  cmd = admin.command(group, "rotate", "A new key with the same rights", o, [](Store& s, const Options& x) {
    return s.tenants().rotate_key(x.where, x.grace * 1'000'000).map(new_key);
  });
  cmd->add_option("KEY", o->where, "id, or its shown characters")->required();
  cmd->add_option("--grace", o->grace, "seconds that the old one still works (0)")->check(CLI::NonNegativeNumber);
  o = fresh();
  cmd = admin.command(group, "revoke", "End one", o,
                      [](Store& s, const Options& x) { return done(s.tenants().revoke_key(x.where)); });
  cmd->add_option("KEY", o->where, "id, or its shown characters")->required();
}

constexpr const char* kSubjectHelp = "key:, user:, project: or org: and a name or id";

void add_money(Admin& admin) {
  auto* group = admin.group("limit", "Requests and tokens a minute, requests at once");
  auto o = fresh();
  auto* cmd = admin.command(group, "set", "Set those that are given; 0 removes", o, set_limits);
  cmd->add_option("SUBJECT", o->subject, kSubjectHelp)->required();
  cmd->add_option("--requests", o->requests, "a minute")->check(CLI::NonNegativeNumber);
  cmd->add_option("--tokens", o->tokens, "a minute")->check(CLI::NonNegativeNumber);
  cmd->add_option("--concurrency", o->concurrency, "requests at once")->check(CLI::NonNegativeNumber);
  admin.command(group, "list", "All of them", fresh(),
                [](Store& s, const Options&) { return all(s.ledger().limits()); });

  group = admin.group("budget", "What may be spent");
  o = fresh();
  cmd = admin.command(group, "set", "Add one, or change its amount", o, set_budget);
  cmd->add_option("SUBJECT", o->subject, kSubjectHelp)->required();
  cmd->add_option("AMOUNT", o->amount, "such as 100000 or 12.50")->required();
  cmd->add_option("--unit", o->unit, "tokens, or a currency such as CNY (needs prices)");
  cmd->add_option("--period", o->period, "total, day or month (UTC)");
  o = fresh();
  cmd = admin.command(group, "list", "All of them", o, [](Store& s, const Options& x) -> Result<json::Value> {
    std::string subject;
    if (!x.subject.empty()) {
      QW_ASSIGN(subject, subject_of(s, x.subject));
    }
    return all(s.ledger().budgets(subject));
  });
  cmd->add_option("--subject", o->subject, kSubjectHelp);
  o = fresh();
  cmd = admin.command(group, "rm", "Remove one", o,
                      [](Store& s, const Options& x) { return done(s.ledger().remove_budget(x.where)); });
  cmd->add_option("BUDGET", o->where, "id")->required();

  group = admin.group("price", "What a million tokens of a model cost");
  o = fresh();
  cmd = admin.command(group, "set", "Set one", o, set_price);
  cmd->add_option("MODEL", o->where, "* is every model without a price of its own")->required();
  cmd->add_option("--currency", o->currency, "such as CNY")->required();
  cmd->add_option("--prompt", o->prompt)->required();
  cmd->add_option("--output", o->output)->required();
  cmd->add_option("--cached", o->cached, "prompt tokens from a cache (default: as others)");
  cmd->add_option("--reasoning", o->reasoning, "output tokens of a thinking block (default: as others)");
  admin.command(group, "list", "All of them", fresh(),
                [](Store& s, const Options&) { return all(s.ledger().prices()); });
  o = fresh();
  cmd = admin.command(group, "rm", "Remove one", o,
                      [](Store& s, const Options& x) { return done(s.ledger().remove_price(x.where)); });
  cmd->add_option("MODEL", o->where)->required();
}

void add_usage(Admin& admin) {
  auto o = fresh();
  auto* cmd = admin.command(&admin.root(), "usage", "What was used: sums, or every request", o, usage);
  cmd->add_option("--by", o->by, "key, user, project, organisation, model or day (default: one sum)");
  cmd->add_option("--key", o->where, "of this key");
  cmd->add_option("--user", o->user, "of this user");
  cmd->add_option("--project", o->project, "of this project");
  cmd->add_option("--org", o->name, "of this organisation");
  cmd->add_option("--from", o->from, "first day (UTC), such as 2026-11-28");
  cmd->add_option("--to", o->to, "the day after the last");
  auto* rows = cmd->add_flag("--rows", o->rows, "every request, as JSON lines");
  cmd->add_flag("--csv", o->csv, "every request, as CSV")->excludes(rows);
  o = fresh();
  cmd = admin.command(&admin.root(), "backup", "Everything in one file, while services run", o,
                      [](Store& s, const Options& x) { return done(s.backup(x.file)); });
  cmd->add_option("FILE", o->file)->required();
  o = fresh();
  cmd = admin.command(&admin.root(), "restore", "Fill a new store from a backup of either engine", o,
                      [](Store& s, const Options& x) { return done(s.restore(x.file)); });
  cmd->add_option("FILE", o->file)->required();
}

}  // namespace

void add_admin(CLI::App& app, Outcome& outcome) {
  CLI::App* cmd = app.add_subcommand("admin", "Users, keys, limits, budgets and use of a service");
  cmd->require_subcommand(1);
  Admin admin(*cmd, outcome);
  add_organisations(admin);
  add_projects(admin);
  add_users(admin);
  add_keys(admin);
  add_money(admin);
  add_usage(admin);
}

}  // namespace qw::app
