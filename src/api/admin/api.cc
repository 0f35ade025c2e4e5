#include "api/admin/api.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "api/accounts.h"
#include "api/admin/objects.h"
#include "api/admin/operations.h"
#include "api/audit_entry.h"
#include "api/openai/files.h"
#include "base/log.h"
#include "base/sha256.h"

namespace qw::api::admin {
namespace {

constexpr std::string_view kRoot = "/admin/v1";
// What was used, for those who use it: of the key's own project, with the right usage.read.
constexpr std::string_view kOwnRoot = "/v1", kOwnUsage = "/v1/usage";
constexpr std::int64_t kUsualPage = 100, kMostPage = 1000;
// What a query may say to an operation; pages are cut here.
constexpr const char* kQueryArguments[] = {"by",   "from", "to",      "organisation", "project",
                                           "user", "key",  "subject", "status",       "overdue"};
// What these change is in the audit log, too: it is about people.
constexpr std::string_view kRecorded[] = {"complaints.answer", "complaints.close", "conduct.lift",  "minors.set",
                                          "minors.unset",      "users.erase",      "projects.erase"};
constexpr std::size_t kOwnArguments = 3;  // the first of them say nothing of whose
constexpr std::size_t kLongestRepeat = 255;

struct Match {
  const Operation* operation = nullptr;
  bool own = false;         // of the key's project alone
  std::string kind, where;  // of the argument in the path; "" if there is none
};

// Whether `path` (below the root) is that of an operation; its argument is put into `match`.
bool fits(std::string_view pattern, std::string_view path, Match& match) {
  const auto open = pattern.find('{'), close = pattern.find('}');
  if (open == std::string_view::npos) return path == pattern;
  const std::string_view head = pattern.substr(0, open), tail = pattern.substr(close + 1);
  if (path.size() <= head.size() + tail.size() || !path.starts_with(head) || !path.ends_with(tail)) return false;
  match.kind = pattern.substr(open + 1, close - open - 1);
  match.where = path.substr(head.size(), path.size() - head.size() - tail.size());
  const bool slashes = match.kind.ends_with('*');
  if (slashes) match.kind.pop_back();
  return slashes || match.where.find('/') == std::string::npos;
}

bool asks_for_own(std::string_view path) {
  return path.starts_with(kOwnUsage) && (path.size() == kOwnUsage.size() || path[kOwnUsage.size()] == '/');
}

// The operation of that method and path; of another method if `methods` then names those there are.
Match find_operation(const net::Request& request, std::string& methods) {
  const bool own = asks_for_own(request.path);
  const std::string_view path = std::string_view(request.path).substr(own ? kOwnRoot.size() : kRoot.size());
  Match best;
  for (const Operation& one : operations()) {
    Match match;
    if (!fits(one.path, path, match)) continue;
    methods += (methods.empty() ? "" : ", ") + std::string(one.method);
    if (one.method != request.method && !(one.method == "GET" && request.method == "HEAD")) continue;
    match.operation = &one;
    match.own = own;
    best = std::move(match);
  }
  return best;
}

ApiResult<std::int64_t> page_size(const net::Request& request, std::int64_t usual, std::int64_t most) {
  const auto text = net::query_value(request.query, "limit");
  if (!text) return usual;
  std::int64_t limit = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), limit);
  if (error != std::errc() || end != text->data() + text->size() || limit < 1 || limit > most)
    return tl::unexpected(bad_request("limit", "'limit' must be 1 to " + std::to_string(most) + "."));
  return limit;
}

// By what an object of a list is told from the others, and pages are gone on with.
std::string mark_of(const json::Value& object) {
  for (const char* name : {"id", "number", "subject", "name", "model"})
    if (const json::Value* value = object.find(name); value != nullptr)
      return value->is_string() ? value->as_string() : json::dump(*value);
  return "";
}

class Call {
 public:
  Call(const net::Request& request, const std::shared_ptr<Exchange>& exchange, store::Store& store, Match match)
      : request_(request), exchange_(exchange), store_(store), match_(std::move(match)) {}

  void run() {
    if (!match_.kind.empty()) {
      const auto there = exists(store_, match_.kind, match_.where);
      if (!there) return refuse(from_store(there.error()));
      if (!*there)
        return refuse({404, "invalid_request_error", "There is no " + match_.kind + " " + match_.where + ".",
                       match_.kind, "not_found"});
    }
    auto arguments = read_arguments();
    if (!arguments) return refuse(arguments.error());
    if (match_.operation->name == "usage.list") return rows(*arguments);
    const auto answer = perform(*match_.operation, store_, *arguments);
    if (!answer) return refuse(from_store(answer.error()));
    if (match_.operation->changes()) note(*arguments, *answer);
    if (match_.operation->changes()) exchange_->accounts()->forget();
    if (exchange_->audit() != nullptr && std::count(std::begin(kRecorded), std::end(kRecorded), match_.operation->name))
      return record(*answer);
    if (match_.operation->name == "usage.sum") return send_list(answer->as_array(), false);  // few, and none has a name
    if (answer->is_array()) return page(answer->as_array());
    exchange_->send_json(200, *answer);
  }

 private:
  void refuse(const ApiError& error) { exchange_->send_error(error); }

  ApiResult<json::Object> read_arguments() {
    json::Object out;
    if (request_.method == "POST" && !request_.body.empty()) {
      auto body = parse_body(request_);
      if (!body) return tl::unexpected(body.error());
      out = std::move(*body);
    }
    if (!match_.operation->changes()) {
      std::size_t left = match_.own ? kOwnArguments : std::size(kQueryArguments);
      for (const char* name : kQueryArguments) {
        auto value = net::query_value(request_.query, name);
        if (value && left == 0)
          return tl::unexpected(bad_request(name, std::string("'") + name + "' is an administrator's."));
        if (value) out.set(name, std::move(*value));
        left -= left > 0 ? 1 : 0;
      }
    }
    if (match_.own) out.set("project", exchange_->who()->key.project_id);
    if (!match_.kind.empty()) out.set(match_.kind, match_.where);
    if (out.find("repeat_id") != nullptr) return tl::unexpected(bad_request("repeat_id", "'repeat_id' is a header's."));
    const std::string_view repeat = net::find_header(request_.headers, "idempotency-key");
    if (match_.operation->name != "keys.add" || repeat.empty()) return out;
    if (repeat.size() > kLongestRepeat) return tl::unexpected(bad_request("", "The Idempotency-Key is too long."));
    const std::string id = exchange_->who()->key.id + " " + std::string(repeat);
    const std::string made = "key_" + base::sha256_hex(id).substr(0, 24);
    const auto there = exists(store_, "key", made);
    if (!there) return tl::unexpected(from_store(there.error()));
    // Its secret was shown when it was made, and is nowhere any more.
    if (*there)
      return tl::unexpected(ApiError{
          409, "invalid_request_error",
          "This request made the key " + made + " before. If its secret was lost, rotate it.", "", "repeated"});
    out.set("repeat_id", id);
    return out;
  }

  // Who changed what, without content that is secret: no argument of these operations but those that are named here.
  void note(const json::Object& arguments, const json::Value& answer) {
    json::Object shown;
    for (const auto& [name, value] : arguments)
      if (name != "repeat_id") shown.set(name, name == "password" || name == "text" ? json::Value("(hidden)") : value);
    const json::Value* id = answer.find("id");
    const store::Principal& who = *exchange_->who();
    base::log_info("admin: " + std::string(match_.operation->name) + " " +
                   json::dump(json::Object{{"arguments", std::move(shown)},
                                           {"id", id == nullptr ? json::Value() : *id},
                                           {"key", who.key.id},
                                           {"user", who.user},
                                           {"from", request_.remote},
                                           {"request", exchange_->request_id()}}));
  }

  // Answers once it is on record: without words, but for counts and statuses.
  void record(const json::Value& answer) {
    json::Object entry{{"type", "administration"},
                       {"operation", std::string(match_.operation->name)},
                       {"by_key", exchange_->who()->key.id},
                       {"request", exchange_->request_id()}};
    if (!match_.kind.empty()) entry.set(match_.kind, match_.where);
    for (const char* name : {"status", "kind", "appeal_of", "subject", "age", "consent"})
      if (const json::Value* found = answer.find(name); found != nullptr) entry.set(name, *found);
    if (answer.find("documents") != nullptr) entry.set("erased", answer);
    if (const json::Value* text = answer.find("answer"); text != nullptr && text->is_string())
      entry.set("answer_hmac", concealed(*exchange_, text->as_string()));
    keep(*exchange_, std::move(entry), [exchange = exchange_, answer](const Status& kept) {
      kept ? exchange->send_json(200, answer) : exchange->send_error(not_kept());
    });
  }

  // What stands in a list after the object `after`, at most a page of it.
  void page(const json::Array& all) {
    const auto limit = page_size(request_, kUsualPage, kMostPage);
    if (!limit) return refuse(limit.error());
    auto from = all.begin();
    if (const auto after = net::query_value(request_.query, "after"); after && !after->empty()) {
      from = std::find_if(all.begin(), all.end(), [&](const json::Value& one) { return mark_of(one) == *after; });
      if (from == all.end()) return refuse(bad_request("after", "'after' must be an object of this list."));
      ++from;
    }
    const auto to = all.end() - from > *limit ? from + *limit : all.end();
    send_list(json::Array(from, to), to != all.end());
  }

  void send_list(json::Array data, bool more) {
    const json::Value next = more ? json::Value(mark_of(data.back())) : json::Value();
    exchange_->send_json(
        200, json::Object{{"object", "list"}, {"data", std::move(data)}, {"has_more", more}, {"next", next}});
  }

  // The ledger may be long: its pages are cut by the store.
  void rows(json::Object& arguments) {
    const auto limit = page_size(request_, kUsualPage, kMostPage);
    if (!limit) return refuse(limit.error());
    const auto after = net::query_value(request_.query, "after");
    if (after) arguments.set("after", *after);
    arguments.set("limit", *limit + 1);
    auto found = perform(*match_.operation, store_, arguments);
    if (!found) return refuse(from_store(found.error()));
    json::Array& data = found->as_array();
    const bool more = static_cast<std::int64_t>(data.size()) > *limit;
    if (more) data.pop_back();
    if (net::query_value(request_.query, "format").value_or("json") != "csv") return send_list(std::move(data), more);
    net::Headers headers{{"Content-Type", "text/csv; charset=utf-8"}};
    if (more) headers.emplace_back("X-Next-After", mark_of(data.back()));
    exchange_->send({200, std::move(headers), csv_of(data, !after)});
  }

  const net::Request& request_;
  const std::shared_ptr<Exchange>& exchange_;
  store::Store& store_;
  const Match match_;
};

}  // namespace

bool Api::handle(const std::shared_ptr<const net::Request>& request, const std::shared_ptr<Exchange>& exchange) const {
  if (!request->path.starts_with(kRoot) && !asks_for_own(request->path)) return false;
  std::string methods;
  const Match match = find_operation(*request, methods);
  if (methods.empty()) return false;
  if (match.operation == nullptr) {
    only(methods, *request, *exchange);
    return true;
  }
  if (exchange->accounts() == nullptr) {
    exchange->send_error({501, "invalid_request_error",
                          "This service keeps no accounts: it was started without a store (serve --store).", "",
                          "no_store"});
    return true;
  }
  openai::in_background(background_, exchange, [request, exchange, match] {
    Call(*request, exchange, exchange->accounts()->store(), match).run();
  });
  return true;
}

}  // namespace qw::api::admin
