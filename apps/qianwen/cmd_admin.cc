// qianwen admin org | project | user | role | key | limit | budget | price | usage | complaint | conduct | minor | data
// | backup | restore: who may use a service, and what that may cost. Works on the store while services run; what it
// does is what /admin/v1 does (api/admin/operations.h).
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>

#include "admin.h"
#include "api/admin/objects.h"
#include "api/admin/operations.h"
#include "commands.h"

namespace qw::app {
namespace {

using store::Store;
namespace operations = api::admin;

constexpr const char* kStoreHelp = "postgres://... or a file (default: QW_STORE, else state.db in the data folder)";
constexpr const char* kSubjectHelp = "key:, user:, project: or org: and a name or id";

// The arguments that a command line gives, in the words of the operations.
struct Call {
  std::string store;
  json::Object arguments;
  bool json = false;
};
using Body = std::function<Result<json::Value>(Store&, const Call&)>;

// One command: its options fill the arguments of an operation.
class Command {
 public:
  Command(CLI::App* cmd, std::shared_ptr<Call> call) : cmd_(cmd), call_(std::move(call)) {}

  Command& needs(const char* option, const char* argument, const char* help = "") {
    text_option(option, argument, help)->required();
    return *this;
  }
  Command& text(const char* option, const char* argument, const char* help) {
    text_option(option, argument, help);
    return *this;
  }
  // The first line of a file, so that a secret stands in no list of processes.
  Command& secret_file(const char* option, const char* argument, const char* help) {
    cmd_->add_option_function<std::string>(
        option,
        [call = call_, argument](const std::string& path) {
          std::string line;
          std::ifstream file;
          if (path != "-") file.open(path);
          if (path != "-" && !file) throw CLI::ValidationError(path, "cannot be read");
          std::getline(path == "-" ? std::cin : file, line);
          call->arguments.set(argument, line);
        },
        help);
    return *this;
  }
  Command& list(const char* option, const char* argument, const char* help) {
    cmd_->add_option_function<std::vector<std::string>>(
        option,
        [call = call_, argument](const std::vector<std::string>& words) {
          call->arguments.set(argument, json::Array(words.begin(), words.end()));
        },
        help);
    return *this;
  }
  Command& number(const char* option, const char* argument, const char* help) {
    cmd_->add_option_function<std::int64_t>(
            option, [call = call_, argument](const std::int64_t& n) { call->arguments.set(argument, n); }, help)
        ->check(CLI::NonNegativeNumber);
    return *this;
  }
  // The flag that empties a list.
  Command& none(const char* flag, const char* argument, const char* instead_of, const char* help) {
    cmd_->add_flag_function(
            flag, [call = call_, argument](std::int64_t) { call->arguments.set(argument, json::Array()); }, help)
        ->excludes(cmd_->get_option(instead_of));
    return *this;
  }
  Command& switches() {
    auto* off = cmd_->add_flag_function(
        "--disable", [call = call_](std::int64_t) { call->arguments.set("disabled", true); }, "its keys are refused");
    cmd_->add_flag_function(
            "--enable", [call = call_](std::int64_t) { call->arguments.set("disabled", false); }, "its keys work again")
        ->excludes(off);
    return *this;
  }
  Command& weight() { return number("--weight", "weight", "share of the engine beside others (1)"); }
  CLI::App& app() { return *cmd_; }

 private:
  CLI::Option* text_option(const char* option, const char* argument, const char* help) {
    return cmd_->add_option_function<std::string>(
        option, [call = call_, argument](const std::string& word) { call->arguments.set(argument, word); }, help);
  }
  CLI::App* cmd_;
  std::shared_ptr<Call> call_;
};

class Admin {
 public:
  Admin(CLI::App& admin, Outcome& outcome) : admin_(admin), outcome_(outcome) {
    admin_.add_option("--store", *store_, kStoreHelp);  // before the command's words or behind them
  }

  CLI::App* group(const char* name, const char* what) {
    CLI::App* made = admin_.add_subcommand(name, what);
    made->require_subcommand(1);
    return made;
  }
  // A command that opens the store, runs `body` and shows what it gives.
  Command command(CLI::App* parent, const char* name, const char* what, Body body) {
    auto call = std::make_shared<Call>();
    CLI::App* cmd = parent->add_subcommand(name, what);
    cmd->add_option("--store", call->store, kStoreHelp);
    cmd->add_flag("--json", call->json, "print JSON");
    cmd->callback([call, body = std::move(body), store = store_, &outcome = outcome_] {
      auto result = [&]() -> Result<json::Value> {
        QW_ASSIGN(const std::string url, store_url_or_default(call->store.empty() ? *store : call->store));
        QW_ASSIGN(const auto opened, Store::open(url));
        return body(*opened, *call);
      }();
      if (!result) {
        outcome.code = report(result.error());
      } else if (!result->is_null()) {
        show(*result, call->json);
      }
    });
    return {cmd, call};
  }
  // One that performs an operation.
  Command operation(CLI::App* parent, const char* name, const char* what, const char* operation) {
    return command(parent, name, what, [operation](Store& store, const Call& call) {
      return operations::perform(operations::operation(operation), store, call.arguments);
    });
  }
  CLI::App& root() { return admin_; }

 private:
  CLI::App& admin_;
  Outcome& outcome_;
  std::shared_ptr<std::string> store_ = std::make_shared<std::string>();
};

void add_organisations(Admin& admin) {
  auto* group = admin.group("org", "Organisations: who pays");
  admin.operation(group, "add", "Add one", "organisations.add").needs("NAME", "name").weight();
  admin.operation(group, "list", "All of them", "organisations.list");
  admin.operation(group, "show", "One of them", "organisations.get").needs("ORG", "organisation", "name or id");
  admin.operation(group, "set", "Change one", "organisations.set")
      .needs("ORG", "organisation", "name or id")
      .text("--name", "name", "its name from now on; its id stays")
      .weight()
      .switches();
}

void add_projects(Admin& admin) {
  auto* group = admin.group("project", "Projects: whose files, jobs and answers these are");
  admin.operation(group, "add", "Add one to an organisation", "projects.add")
      .needs("ORG", "organisation", "name or id")
      .needs("NAME", "name")
      .weight();
  admin.operation(group, "list", "All of them", "projects.list")
      .text("--org", "organisation", "of this organisation only");
  admin.operation(group, "show", "One of them", "projects.get").needs("PROJECT", "project", "name or id");
  admin.operation(group, "set", "Change one", "projects.set")
      .needs("PROJECT", "project", "name or id")
      .text("--name", "name", "its name from now on; its id stays")
      .weight()
      .switches();
}

void add_users(Admin& admin) {
  auto* group = admin.group("user", "Users and their roles");
  admin.operation(group, "add", "Add one to an organisation", "users.add")
      .needs("ORG", "organisation", "name or id")
      .needs("NAME", "name")
      .list("--role", "roles", "may be given more than once (default: member)");
  admin.operation(group, "list", "All of them", "users.list")
      .text("--org", "organisation", "of this organisation only");
  admin.operation(group, "show", "One of them", "users.get").needs("USER", "user", "name or id");
  admin.operation(group, "logout", "End all sessions of one in browsers", "users.logout")
      .needs("USER", "user", "name or id");
  admin.operation(group, "set", "Change one", "users.set")
      .needs("USER", "user", "name or id")
      .text("--name", "name", "his name from now on, by which he logs in; his id stays")
      .list("--role", "roles", "the roles from now on")
      .text("--email", "email", "by which he may log in, too")
      .text("--project", "project", "where he works in a browser (default: the oldest of his organisation)")
      .secret_file("--password-file", "password",
                   "file of his password (-: standard input); an empty one takes it away")
      .switches();

  group = admin.group("role", "Roles: what users may do");
  admin.operation(group, "list", "All of them", "roles.list");
  admin.operation(group, "set", "Add or change one", "roles.set")
      .needs("NAME", "name")
      .list("--allow", "allow", "actions such as inference, files.*, *")
      .list("--deny", "deny", "actions; denied by any role is denied");
  admin.operation(group, "rm", "Remove one that nobody has", "roles.remove").needs("NAME", "role");
}

void add_keys(Admin& admin) {
  auto* group = admin.group("key", "API keys");
  admin.operation(group, "add", "Make one for a project; it is shown this once", "keys.add")
      .needs("PROJECT", "project", "name or id")
      .text("--user", "user", "whose key it is (default: a service's, which scopes alone bind)")
      .text("--name", "name", "for people")
      .list("--scope", "scopes", "actions such as inference, models.read, files.*, admin (default: *)")
      .list("--model", "models", "models it may use (default: all)")
      .list("--network", "networks", "addresses and ranges it may come from, such as 10.0.0.0/8")
      .number("--days", "days", "expires after so many days");
  admin.operation(group, "list", "All of them", "keys.list").text("--project", "project", "of this project only");
  admin.operation(group, "show", "One of them", "keys.get").needs("KEY", "key", "id, or its shown characters");
  admin.operation(group, "set", "Change one; what is not given stays", "keys.set")
      .needs("KEY", "key", "id, or its shown characters")
      .text("--name", "name", "for people")
      .list("--scope", "scopes", "the actions from now on")
      .list("--model", "models", "the models from now on")
      .list("--network", "networks", "the addresses and ranges from now on")
      .none("--all-models", "models", "--model", "it may use every model")
      .none("--any-network", "networks", "--network", "it may come from anywhere")
      .number("--days", "days", "expires so many days from now; 0: never");
  admin.operation(group, "rotate", "A new key with the same rights", "keys.rotate")
      .needs("KEY", "key", "id, or its shown characters")
      .number("--grace", "grace_seconds", "seconds that the old one still works (0)");
  admin.operation(group, "revoke", "End one", "keys.revoke").needs("KEY", "key", "id, or its shown characters");
}

void add_money(Admin& admin) {
  auto* group = admin.group("limit", "Requests and tokens a minute, requests and jobs at once");
  admin.operation(group, "set", "Set those that are given; 0 removes", "limits.set")
      .needs("SUBJECT", "subject", kSubjectHelp)
      .number("--requests", "requests_per_minute", "a minute")
      .number("--tokens", "tokens_per_minute", "a minute")
      .number("--concurrency", "concurrency", "requests at once")
      .number("--jobs", "jobs", "unfinished jobs of a project: batches, fine-tuning, what is answered later (1000)");
  admin.operation(group, "list", "All of them", "limits.list");

  group = admin.group("budget", "What may be spent");
  admin.operation(group, "set", "Add one, or change its amount", "budgets.set")
      .needs("SUBJECT", "subject", kSubjectHelp)
      .needs("AMOUNT", "amount", "such as 100000 or 12.50")
      .text("--unit", "unit", "tokens, or a currency such as CNY (needs prices)")
      .text("--period", "period", "total, day or month (UTC)");
  admin.operation(group, "list", "All of them", "budgets.list").text("--subject", "subject", kSubjectHelp);
  admin.operation(group, "rm", "Remove one", "budgets.remove").needs("BUDGET", "budget", "id");

  group = admin.group("price", "What a million tokens of a model cost");
  admin.operation(group, "set", "Set one", "prices.set")
      .needs("MODEL", "model", "* is every model without a price of its own")
      .needs("--currency", "currency", "such as CNY")
      .needs("--prompt", "prompt", "a million tokens of prompts")
      .needs("--output", "output", "a million tokens of answers")
      .text("--cached", "cached", "prompt tokens from a cache (default: as others)")
      .text("--reasoning", "reasoning", "output tokens of a thinking block (default: as others)")
      .text("--trained", "trained", "tokens that fine-tuning of this model learns from (default: free)");
  admin.operation(group, "list", "All of them", "prices.list");
  admin.operation(group, "rm", "Remove one", "prices.remove").needs("MODEL", "model");
}

// Every row of the ledger, page by page: it may be long.
Result<json::Value> export_rows(Store& store, json::Object arguments, bool csv) {
  constexpr std::int64_t kPage = 1000;
  arguments.set("limit", kPage);
  for (bool first = true;; first = false) {
    QW_ASSIGN(const json::Value rows, operations::perform(operations::operation("usage.list"), store, arguments));
    if (csv) std::fputs(operations::csv_of(rows.as_array(), first).c_str(), stdout);
    for (const json::Value& row : rows.as_array()) {
      if (!csv) std::puts(json::dump(row).c_str());
      arguments.set("after", *row.find("number"));
    }
    if (static_cast<std::int64_t>(rows.as_array().size()) < kPage) return json::Value();
  }
}

void add_usage(Admin& admin) {
  struct Form {
    bool rows = false, csv = false;
    std::string by;
  };
  auto form = std::make_shared<Form>();
  auto cmd = admin.command(&admin.root(), "usage", "What was used: sums, or every request",
                           [form](Store& store, const Call& call) -> Result<json::Value> {
                             if (form->rows || form->csv) return export_rows(store, call.arguments, form->csv);
                             json::Object arguments = call.arguments;
                             if (!form->by.empty()) arguments.set("by", form->by);
                             return operations::perform(operations::operation("usage.sum"), store, arguments);
                           });
  cmd.text("--key", "key", "of this key")
      .text("--user", "user", "of this user")
      .text("--project", "project", "of this project")
      .text("--org", "organisation", "of this organisation")
      .text("--from", "from", "first day (UTC), such as 2026-11-28")
      .text("--to", "to", "the day after the last");
  cmd.app().add_option("--by", form->by, "key, user, project, organisation, model or day (default: one sum)");
  auto* rows = cmd.app().add_flag("--rows", form->rows, "every request, as JSON lines");
  cmd.app().add_flag("--csv", form->csv, "every request, as CSV")->excludes(rows);
}

void add_cases(Admin& admin) {
  auto* group = admin.group("complaint", "Complaints and appeals of users");
  admin.operation(group, "list", "All of them, oldest first", "complaints.list")
      .text("--status", "status", "open, answered or closed")
      .text("--overdue", "overdue", "true: those that are behind their deadline only")
      .text("--project", "project", "of this project")
      .text("--user", "user", "of this user");
  admin.operation(group, "show", "One of them", "complaints.get").needs("COMPLAINT", "complaint", "id");
  admin.operation(group, "answer", "Answer one", "complaints.answer")
      .needs("COMPLAINT", "complaint", "id")
      .needs("TEXT", "text", "what whoever complained is told")
      .text("--by", "by", "who answers; not told");
  admin.operation(group, "close", "Close one, without an answer of its own if it is open", "complaints.close")
      .needs("COMPLAINT", "complaint", "id")
      .needs("REASON", "reason", "why; of an open one, whoever complained is told")
      .text("--by", "by", "who closes; not told");

  group = admin.group("conduct", "Who broke the rules of a policy, and what is done about it");
  admin.operation(group, "list", "Who did, the latest first", "conduct.list")
      .text("--status", "status", "warned, slowed or suspended");
  admin.operation(group, "show", "One of them", "conduct.get")
      .needs("PERSON", "person", "user, or key that is nobody's");
  admin.operation(group, "lift", "End what was done to one", "conduct.lift")
      .needs("PERSON", "person", "user, or key that is nobody's");

  group = admin.group("minor", "Whose requests are a minor's");
  admin.operation(group, "list", "All of them", "minors.list");
  admin.operation(group, "set", "Say that somebody is one", "minors.set")
      .text("--user", "user", "name or id")
      .text("--key", "key", "id, or its shown characters")
      .text("--project", "project", "name or id: all of its keys")
      .number("--age", "age", "years (0: not known)")
      .text("--consent", "consent", "true: a guardian agreed");
  admin.operation(group, "unset", "Say that somebody is none", "minors.unset").needs("SUBJECT", "minor", "id");

  group = admin.group("data", "What is held of people: to be given out, or erased");
  admin.operation(group, "user", "What is held of a user", "users.data")
      .needs("USER", "user", "name or id")
      .text("--project", "project", "and what this project has left");
  admin.operation(group, "project", "What a project has left", "projects.data")
      .needs("PROJECT", "project", "name or id");
  admin.operation(group, "erase-user", "Erase it: nobody can take that back", "users.erase")
      .needs("USER", "user", "name or id")
      .text("--project", "project", "and what this project has left");
  admin.operation(group, "erase-project", "Erase it: nobody can take that back", "projects.erase")
      .needs("PROJECT", "project", "name or id");
}

void add_backup(Admin& admin) {
  auto file = std::make_shared<std::string>();
  const auto with = [&](const char* name, const char* what, Status (Store::*act)(const std::filesystem::path&)) {
    auto cmd = admin.command(&admin.root(), name, what, [file, act](Store& store, const Call&) {
      return (store.*act)(*file).map([] { return json::Value(json::Object{{"done", true}}); });
    });
    cmd.app().add_option("FILE", *file)->required();
  };
  with("backup", "Everything in one file, while services run", &Store::backup);
  with("restore", "Fill a new store from a backup of either engine", &Store::restore);
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
  add_cases(admin);
  add_backup(admin);
}

}  // namespace qw::app
