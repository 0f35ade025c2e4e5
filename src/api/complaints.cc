#include "api/complaints.h"

#include "api/accounts.h"
#include "api/admin/objects.h"
#include "api/audit_entry.h"
#include "api/field_reader.h"
#include "api/openai/files.h"
#include "governance/audit/audit_log.h"
#include "governance/audit/content_keys.h"
#include "governance/policy/policy.h"
#include "net/ip_range.h"

namespace qw::api {
namespace {

using store::Complaint;

constexpr std::string_view kRoot = "/v1/complaints", kData = "/v1/my/data", kAppeal = "/appeal";
// Complaints in a minute: from one address, and from all. The look-ups by receipt count, too.
constexpr std::int64_t kFromAddress = 30, kFromAll = 300;
constexpr std::int64_t kUsualDays = 30, kMostListed = 100, kMostHeld = 10'000;

bool is_below(std::string_view path, std::string_view root) {
  return path == root || (path.starts_with(root) && path[root.size()] == '/');
}

ApiError store_error(const Error& error) {
  if (error.kind == ErrorKind::kResource)
    return {503, "overloaded_error", "Too many complaints are open.", "", "overloaded"};
  return from_store(error);
}

ApiError not_there(const std::string& id) {
  return {404, "invalid_request_error", "There is no complaint " + id + ".", "complaint_id", "not_found"};
}

// As whoever filed it sees it: without whose it is.
json::Object shown(const Complaint& c) {
  const json::Value whole = admin::to_json(c);
  json::Object out{{"object", "complaint"}};
  for (const auto& [name, value] : whole.as_object())
    if (name != "project" && name != "user" && name != "answered_by") out.set(name, value);
  return out;
}

class Call {
 public:
  Call(const net::Request& request, const std::shared_ptr<Exchange>& exchange, Accounts& accounts,
       const governance::PolicySet* policies)
      : request_(request), exchange_(exchange), store_(accounts.store()), policies_(policies) {}

  void run() {
    if (request_.path == kData) return request_.method == "DELETE" ? erase() : take_along();
    const bool changes = request_.method == "POST";
    if (changes || exchange_->who() == nullptr) {
      if (!may_try()) return;
    }
    std::string id = request_.path.substr(kRoot.size());
    if (id.empty()) return changes ? file() : list();
    id.erase(0, 1);
    if (!changes) return show(id);
    id.resize(id.size() - kAppeal.size());
    appeal(id);
  }

 private:
  void refuse(const ApiError& error) { exchange_->send_error(error); }
  bool may_try() {
    const std::string from(net::address_of(request_.remote));
    const auto wait = store_.tenants().attempt({{"complaints from " + from, kFromAddress}, {"complaints", kFromAll}});
    if (!wait) {
      refuse(store_error(wait.error()));
      return false;
    }
    if (*wait == 0) return true;
    ApiError error{429, "rate_limit_error", "Too many complaints in a minute.", "", "too_many_attempts"};
    error.retry_after_s = retry_after_of(*wait);
    refuse(error);
    return false;
  }
  const governance::Profile* profile() const {
    const governance::Policy* policy = exchange_->policy();
    if (policy == nullptr && policies_ != nullptr) policy = policies_->of("");
    return policy == nullptr ? nullptr : &policy->profile();
  }
  std::string user() const { return exchange_->who() == nullptr ? "" : exchange_->who()->key.user_id; }
  std::string project() const { return exchange_->who() == nullptr ? "" : exchange_->who()->key.project_id; }
  bool is_own(const Complaint& c) const {
    if (exchange_->who() == nullptr) return false;
    return user().empty() ? c.project_id == project() : c.user_id == user();
  }

  // On record first: what is not there did not happen.
  void answer(json::Object entry, json::Object body) {
    if (exchange_->audit() == nullptr) return exchange_->send_json(200, body);
    entry.set("request", exchange_->request_id());
    if (exchange_->who() != nullptr) entry.set("key", exchange_->who()->key.id);
    keep(*exchange_, std::move(entry), [exchange = exchange_, body = std::move(body)](const Status& kept) {
      kept ? exchange->send_json(200, body) : exchange->send_error(not_kept());
    });
  }
  json::Object entry_of(const char* action, const Complaint& c) const {
    json::Object out{
        {"type", "complaint"}, {"action", action}, {"complaint", c.id}, {"kind", c.kind}, {"status", c.status}};
    if (!c.appeal_of.empty()) out.set("appeal_of", c.appeal_of);
    if (!c.project_id.empty()) out.set("project", c.project_id);
    out.set("due", c.due_us / 1'000'000);
    if (exchange_->audit() != nullptr) out.set("text_hmac", concealed(*exchange_, c.text));
    return out;
  }

  void file() {
    const auto body = parse_body(request_);
    auto asked = body ? read_complaint_request(*body) : tl::unexpected(body.error());
    if (!asked) return refuse(asked.error());
    name_ignored(*exchange_, asked->ignored);
    const governance::Profile* p = profile();
    const std::int64_t days = p != nullptr && p->complaint_days > 0 ? p->complaint_days : kUsualDays;
    const auto made = store_.complaints().add({project(), user(), asked->about, asked->contact, asked->text, days});
    if (!made) return refuse(store_error(made.error()));
    told(*made, "received");
  }
  void appeal(const std::string& id) {
    const auto body = parse_body(request_);
    auto asked = body ? read_appeal_request(*body) : tl::unexpected(body.error());
    if (!asked) return refuse(asked.error());
    name_ignored(*exchange_, asked->ignored);
    if (const auto of = own(id, asked->receipt); !of) return refuse(of.error());
    const governance::Profile* p = profile();
    const std::int64_t days = p != nullptr && p->appeal_days > 0 ? p->appeal_days : kUsualDays;
    const auto made = store_.complaints().appeal(id, {"", "", asked->about, asked->contact, asked->text, days});
    if (!made) return refuse(store_error(made.error()));
    told(*made, "appealed");
  }
  void told(const store::FiledComplaint& made, const char* action) {
    json::Object body = shown(made.complaint);
    body.set("receipt", made.receipt);
    answer(entry_of(action, made.complaint), std::move(body));
  }
  ApiResult<Complaint> own(const std::string& id, const std::string& receipt) {
    auto found = receipt.empty() ? store_.complaints().find(id) : store_.complaints().find_by_receipt(id, receipt);
    if (!found && found.error().kind != ErrorKind::kBadInput) return tl::unexpected(store_error(found.error()));
    if (!found || (receipt.empty() && !is_own(*found))) return tl::unexpected(not_there(id));
    return std::move(*found);
  }
  void show(const std::string& id) {
    const auto found = own(id, net::query_value(request_.query, "receipt").value_or(""));
    found ? exchange_->send_json(200, shown(*found)) : refuse(found.error());
  }
  void list() {
    if (exchange_->who() == nullptr)
      return refuse({401, "authentication_error", "Without a key only a complaint with its receipt is shown.", "",
                     "missing_key", -1});
    const auto query = openai::read_list_query(request_, kMostListed, kMostListed);
    if (!query) return refuse(query.error());
    store::ComplaintFilter mine;
    if (user().empty())
      mine.project_id = project();
    else
      mine.user_id = user();
    auto found = store_.complaints().list(mine, query->after, query->limit + 1);
    if (!found) return refuse(store_error(found.error()));
    const bool more = std::ssize(*found) > query->limit;
    if (more) found->pop_back();
    json::Array items;
    for (const Complaint& one : *found) items.push_back(shown(one));
    exchange_->send_json(200, openai::list_object(std::move(items), more));
  }

  void take_along() {
    const auto subject = store_.personal_data().subject_of(exchange_->who()->key);
    const auto held = subject ? store_.personal_data().collect(*subject, kMostHeld) : tl::unexpected(subject.error());
    if (!held) return refuse(store_error(held.error()));
    json::Value body = admin::to_json(*held);
    json::Array contents;
    for (const store::Content& one : held->contents) contents.push_back(opened(one));
    body.as_object().set("contents", std::move(contents));
    exchange_->send_json(200, body);
  }
  // With its words, if their key is here: they are his who asks.
  json::Object opened(const store::Content& c) const {
    json::Object out{{"id", c.id}, {"created", c.created_us / 1'000'000}};
    if (c.expires_us > 0) out.set("expires", c.expires_us / 1'000'000);
    if (exchange_->content_keys() == nullptr) return out;
    const auto words = exchange_->content_keys()->open(c.id, {c.key_id, c.wrapped, c.body});
    const auto value = words ? json::parse(*words) : tl::unexpected(words.error());
    if (!value) {
      out.set("unreadable", value.error().message);
      return out;
    }
    for (const char* name : {"asked", "prompt_texts", "answers"})
      if (const json::Value* found = value->find(name); found != nullptr) out.set(name, *found);
    return out;
  }
  void erase() {
    const auto subject = store_.personal_data().subject_of(exchange_->who()->key);
    const auto erased = subject ? store_.personal_data().erase(*subject) : tl::unexpected(subject.error());
    if (!erased) return refuse(store_error(erased.error()));
    exchange_->accounts()->forget();
    json::Object entry{{"type", "erasure"}, {"user", subject->user_id}, {"project", subject->project_id}};
    json::Value counts = admin::to_json(*erased);
    entry.set("erased", counts);
    answer(std::move(entry), std::move(counts.as_object()));
  }

  const net::Request& request_;
  const std::shared_ptr<Exchange>& exchange_;
  store::Store& store_;
  const governance::PolicySet* policies_;
};

ComplaintRequest read_words(FieldReader& in) {
  ComplaintRequest out;
  const auto text = in.text("text");
  if (!text || text->empty()) in.reject("text", "'text' says what it is about, and may not be empty.");
  out.text = text.value_or("");
  out.about = in.text("about").value_or("");
  out.contact = in.text("contact").value_or("");
  return out;
}

// The methods of a path; "": it is none of these.
std::string_view methods_of(std::string_view path) {
  if (path == kData) return "GET, DELETE";
  if (path == kRoot) return "GET, POST";
  if (!is_below(path, kRoot)) return "";
  const std::string_view rest = path.substr(kRoot.size() + 1);
  if (rest.ends_with(kAppeal) && rest.size() > kAppeal.size() && rest.find('/') == rest.size() - kAppeal.size())
    return "POST";
  return rest.empty() || rest.find('/') != std::string_view::npos ? "" : "GET";
}

}  // namespace

ApiResult<ComplaintRequest> read_complaint_request(const json::Object& body) {
  FieldReader in(body);
  ComplaintRequest out = read_words(in);
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  return out;
}

ApiResult<ComplaintRequest> read_appeal_request(const json::Object& body) {
  FieldReader in(body);
  ComplaintRequest out = read_words(in);
  out.receipt = in.text("receipt").value_or("");
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  return out;
}

bool ComplaintsApi::open_to_all(std::string_view path) const {
  if (!is_below(path, kRoot) || policies_ == nullptr) return false;
  const governance::Policy* everybodys = policies_->of("");
  return everybodys != nullptr && everybodys->profile().complaints_open;
}

bool ComplaintsApi::handle(const std::shared_ptr<const net::Request>& request,
                           const std::shared_ptr<Exchange>& exchange, Accounts* accounts) const {
  const std::string_view methods = methods_of(request->path);
  if (methods.empty()) return false;
  if (!only(methods, *request, *exchange)) return true;
  if (accounts == nullptr) {
    exchange->send_error({501, "invalid_request_error",
                          "This service keeps no complaints: it was started without a store (serve --store).", "",
                          "no_store"});
    return true;
  }
  openai::in_background(background_, exchange, [request, exchange, accounts, policies = policies_] {
    Call(*request, exchange, *accounts, policies).run();
  });
  return true;
}

}  // namespace qw::api
