#include "api/feedback/api.h"

#include "api/accounts.h"
#include "api/feedback/chain.h"
#include "api/feedback/kept_answers.h"
#include "api/field_reader.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sha256.h"
#include "governance/audit/audit_log.h"

namespace qw::api {
namespace {

using openai::list_object;
using openai::project_of;
using openai::store_error;

constexpr std::int64_t kMostListed = 100, kUsuallyListed = 20, kMostChoices = 127, kAtOnce = 200;
constexpr std::size_t kLongestText = 256 << 10, kLongestNote = 2000, kLongestName = 64;

struct Call {
  store::Store& store;
  const net::Request& request;
  Exchange& exchange;
  std::string id, action;
  const std::string& project() const { return project_of(exchange); }
  std::string who() const {
    const store::Key& key = exchange.who()->key;
    return key.user_id.empty() ? key.id : key.user_id;
  }
};

json::Value or_null(const std::string& text) { return text.empty() ? json::Value() : json::Value(text); }

// With the texts: of the queue, and to who gave it.
json::Object feedback_object(const store::Feedback& f) {
  const auto prompt = json::parse(f.prompt.empty() ? "null" : f.prompt);
  return {{"id", f.id},
          {"object", "feedback"},
          {"created_at", f.created_us / base::kSecondUs},
          {"status", f.status},
          {"answer_id", f.answer_id},
          {"model", f.model},
          {"rating", f.rating},
          {"comment", or_null(f.comment)},
          {"correction", or_null(f.correction)},
          {"messages", prompt ? *prompt : json::Value()},
          {"answer", or_null(f.answer)},
          {"by", f.by_user.empty() ? f.by_key : f.by_user},
          {"reviewer", or_null(f.reviewer)},
          {"note", or_null(f.note)},
          {"sha256", or_null(f.digest)}};
}

json::Object dataset_object(const store::DatasetVersion& d) {
  return {{"id", d.id},
          {"object", "dataset"},
          {"created_at", d.created_us / base::kSecondUs},
          {"name", d.name},
          {"number", d.number},
          {"sha256", d.sha256},
          {"examples", d.examples},
          {"pairs", d.pairs},
          {"examples_file", or_null(d.examples_file)},
          {"pairs_file", or_null(d.pairs_file)},
          {"examples_sha256", or_null(d.examples_sha256)},
          {"pairs_sha256", or_null(d.pairs_sha256)},
          {"by", d.by_key},
          {"erased", d.erased}};
}

ApiError loop_error(const Error& error) {
  if (error.kind == ErrorKind::kRefused) return {409, "invalid_request_error", error.message + ".", "id", "conflict"};
  return store_error(error);
}

// False after answering that it cannot be had on record.
bool recorded(const Call& call, json::Object entry) {
  governance::AuditLog* log = call.exchange.audit();
  if (log == nullptr) return true;
  entry.set("request", call.exchange.request_id());
  entry.set("project", call.project());
  entry.set("key", call.exchange.who()->key.id);
  const Status kept = log->append_and_wait(std::move(entry));
  if (kept) return true;
  base::log_error("audit log: " + kept.error().message);
  call.exchange.send_error(
      {500, "server_error", "The audit log cannot be written; nothing was changed.", "", "audit_unavailable"});
  return false;
}

void give(const Call& call) {
  const auto body = parse_body(call.request);
  if (!body) return call.exchange.send_error(body.error());
  const auto request = read_feedback_request(*body);
  if (!request) return call.exchange.send_error(request.error());
  const auto answer =
      kept_answer(call.store, call.project(), request->answer_id, static_cast<std::size_t>(request->choice));
  if (!answer && answer.error().kind == ErrorKind::kBadInput)
    return call.exchange.send_error(
        {404, "invalid_request_error", answer.error().message + ".", "answer_id", "not_found"});
  if (!answer) return call.exchange.send_error(store_error(answer.error()));
  store::Feedback f;
  f.project_id = call.project();
  f.answer_id = request->answer_id;
  f.model = answer->model;
  f.rating = request->rating;
  f.comment = request->comment;
  f.correction = request->correction;
  f.by_key = call.exchange.who()->key.id;
  f.by_user = call.exchange.who()->key.user_id;
  f.prompt = json::dump(answer->messages, json::WriteStyle::compact());
  f.answer = answer->answer;
  const auto added = call.store.feedback().add(std::move(f));
  if (!added) return call.exchange.send_error(store_error(added.error()));
  name_ignored(call.exchange, request->ignored);
  call.exchange.send_json(200, feedback_object(*added));
}

// Its own, or any for who reviews. Of another's nobody learns that it is there.
bool may_see(const Call& call, const store::Feedback& f) {
  const store::Key& key = call.exchange.who()->key;
  const bool own = f.by_user.empty() ? f.by_key == key.id : f.by_user == key.user_id;
  return own || store::may(*call.exchange.who(), "reviews.read");
}
ApiError no_feedback(const Call& call) {
  return {404, "invalid_request_error", "There is no feedback " + call.id + ".", "id", "not_found"};
}

void erase(const Call& call) {
  const auto found = call.store.feedback().find(call.project(), call.id);
  if (!found) return call.exchange.send_error(store_error(found.error()));
  if (!may_see(call, *found)) return call.exchange.send_error(no_feedback(call));
  if (!recorded(call, {{"type", "feedback"}, {"action", "erase"}, {"feedback", call.id}})) return;
  const auto datasets = call.store.feedback().erase(call.project(), call.id);
  if (!datasets) return call.exchange.send_error(store_error(datasets.error()));
  json::Array names;
  for (const store::DatasetVersion& d : *datasets) {
    names.emplace_back(d.id);
    for (const std::string& file : {d.examples_file, d.pairs_file}) {
      if (file.empty()) continue;
      const auto removed = call.store.files().remove(call.project(), file);
      if (!removed && removed.error().kind != ErrorKind::kBadInput)
        return call.exchange.send_error(store_error(removed.error()));
    }
  }
  call.exchange.send_json(
      200, json::Object{{"id", call.id}, {"object", "feedback"}, {"deleted", true}, {"datasets", std::move(names)}});
}

void list_reviews(const Call& call) {
  const auto query = openai::read_list_query(call.request, kUsuallyListed, kMostListed);
  if (!query) return call.exchange.send_error(query.error());
  const std::string status(net::query_value(call.request.query, "status").value_or(""));
  auto list = call.store.feedback().list(call.project(), status, query->after, query->limit + 1);
  if (!list) return call.exchange.send_error(store_error(list.error()));
  const bool more = static_cast<std::int64_t>(list->size()) > query->limit;
  if (more) list->pop_back();
  json::Array items;
  for (const auto& f : *list) items.emplace_back(feedback_object(f));
  call.exchange.send_json(200, list_object(std::move(items), more));
}

void show(const Call& call) {
  const auto found = call.store.feedback().find(call.project(), call.id);
  if (!found) return call.exchange.send_error(store_error(found.error()));
  if (!may_see(call, *found)) return call.exchange.send_error(no_feedback(call));
  call.exchange.send_json(200, feedback_object(*found));
}

void review(const Call& call) {
  const auto body = call.request.body.empty() ? ApiResult<json::Object>(json::Object{}) : parse_body(call.request);
  if (!body) return call.exchange.send_error(body.error());
  const bool edits = call.action == "edit";
  const auto text = edits ? read_edit_request(*body) : read_decision_request(*body);
  if (!text) return call.exchange.send_error(text.error());
  const auto found = call.store.feedback().find(call.project(), call.id);
  if (!found) return call.exchange.send_error(store_error(found.error()));
  const bool accepts = call.action == "accept";
  const std::string digest = accepts ? feedback_digest(*found) : "";
  if (accepts && example_line(*found).empty())
    return call.exchange.send_error(
        bad_request("correction",
                    "There is nothing to learn from a bad answer without a correction; edit it first, or reject it."));
  if (found->status == "open" &&
      !recorded(call, {{"type", "feedback"}, {"action", call.action}, {"feedback", call.id}, {"sha256", digest}}))
    return;
  const auto changed = edits ? call.store.feedback().edit(call.project(), call.id, *text, call.who())
                             : call.store.feedback().decide(call.project(), call.id, accepts ? "accepted" : "rejected",
                                                            call.who(), *text, digest);
  if (!changed) return call.exchange.send_error(loop_error(changed.error()));
  call.exchange.send_json(200, feedback_object(*changed));
}

// What a data set is made of, line by line.
struct Draft {
  std::string examples, pairs;
  std::int64_t example_count = 0, pair_count = 0;
  std::vector<store::DatasetItem> items;
};

Result<Draft> gather(const Call& call) {
  Draft out;
  for (std::string after;;) {
    QW_ASSIGN(const auto some, call.store.feedback().list(call.project(), "accepted", after, kAtOnce));
    if (some.empty()) return out;
    for (const store::Feedback& f : some) {
      const std::string example = example_line(f), pair = pair_line(f);
      out.examples += example;
      out.pairs += pair;
      out.example_count += example.empty() ? 0 : 1;
      out.pair_count += pair.empty() ? 0 : 1;
      out.items.push_back({f.id, f.digest});
    }
    after = some.back().id;
  }
}

Result<std::string> leave_file(const Call& call, const std::string& name, const std::string& text) {
  if (text.empty()) return std::string();
  store::Files& files = call.store.files();
  QW_ASSIGN(const auto file, files.begin(call.project(), name, "fine-tune"));
  QW_TRY(files.append(file.id, text));
  QW_ASSIGN(const auto done, files.complete(file.id));
  return done.id;
}

Result<store::DatasetVersion> make_dataset(const Call& call, const std::string& name, const Draft& draft) {
  store::DatasetVersion d;
  d.project_id = call.project();
  d.name = name;
  d.sha256 = dataset_digest(draft.items);
  d.examples = draft.example_count;
  d.pairs = draft.pair_count;
  QW_ASSIGN(d.examples_file, leave_file(call, name + "-examples.jsonl", draft.examples));
  QW_ASSIGN(d.pairs_file, leave_file(call, name + "-pairs.jsonl", draft.pairs));
  d.examples_sha256 = draft.examples.empty() ? "" : base::sha256_hex(draft.examples);
  d.pairs_sha256 = draft.pairs.empty() ? "" : base::sha256_hex(draft.pairs);
  d.by_key = call.exchange.who()->key.id;
  return call.store.feedback().add_dataset(std::move(d), draft.items);
}

void create_dataset(const Call& call) {
  const auto body = parse_body(call.request);
  if (!body) return call.exchange.send_error(body.error());
  const auto name = read_dataset_request(*body);
  if (!name) return call.exchange.send_error(name.error());
  const auto draft = gather(call);
  if (!draft) return call.exchange.send_error(store_error(draft.error()));
  if (draft->items.empty()) return call.exchange.send_error(bad_request("", "Nothing was accepted yet."));
  if (!recorded(call, {{"type", "dataset"},
                       {"action", "create"},
                       {"name", *name},
                       {"items", static_cast<std::int64_t>(draft->items.size())},
                       {"sha256", dataset_digest(draft->items)}}))
    return;
  const auto made = make_dataset(call, *name, *draft);
  if (!made) return call.exchange.send_error(store_error(made.error()));
  call.exchange.send_json(200, dataset_object(*made));
}

void list_datasets(const Call& call) {
  const auto query = openai::read_list_query(call.request, kUsuallyListed, kMostListed);
  if (!query) return call.exchange.send_error(query.error());
  auto list = call.store.feedback().datasets(call.project(), query->after, query->limit + 1);
  if (!list) return call.exchange.send_error(store_error(list.error()));
  const bool more = static_cast<std::int64_t>(list->size()) > query->limit;
  if (more) list->pop_back();
  json::Array items;
  for (const auto& d : *list) items.emplace_back(dataset_object(d));
  call.exchange.send_json(200, list_object(std::move(items), more));
}

void show_dataset(const Call& call) {
  const auto found = call.store.feedback().dataset(call.project(), call.id);
  if (!found) return call.exchange.send_error(store_error(found.error()));
  const auto items = call.store.feedback().items(call.id);
  if (!items) return call.exchange.send_error(store_error(items.error()));
  json::Object out = dataset_object(*found);
  json::Array list;
  for (const auto& item : *items) list.push_back(json::Object{{"feedback", item.feedback_id}, {"sha256", item.digest}});
  out.set("items", std::move(list));
  call.exchange.send_json(200, out);
}

void show_lineage(const Call& call) {
  const auto rollout = call.store.rollouts().find(call.project(), call.id);
  if (!rollout && rollout.error().kind != ErrorKind::kBadInput)
    return call.exchange.send_error(store_error(rollout.error()));
  const auto chain = lineage(call.store, call.project(), rollout ? rollout->stable : call.id);
  if (!chain) return call.exchange.send_error(store_error(chain.error()));
  call.exchange.send_json(200, *chain);
}

using Handler = void (*)(const Call&);
struct Place {
  std::string_view root, methods;  // methods: without an id
  std::string_view methods_of_one;
};
constexpr Place kPlaces[] = {{"/v1/feedback", "POST", "GET, DELETE"},
                             {"/v1/reviews", "GET", "GET"},
                             {"/v1/datasets", "GET, POST", "GET"},
                             {"/v1/lineage", "", "GET"}};

Handler handler_of(std::string_view root, const std::string& method, const std::string& id, const std::string& action) {
  const bool posts = method == "POST";
  if (root == "/v1/feedback") return id.empty() ? &give : method == "DELETE" ? &erase : &show;
  if (root == "/v1/lineage") return &show_lineage;
  if (root == "/v1/datasets") return posts ? &create_dataset : id.empty() ? &list_datasets : &show_dataset;
  return !action.empty() ? &review : id.empty() ? &list_reviews : &show;
}

}  // namespace

ApiResult<FeedbackRequest> read_feedback_request(const json::Object& body) {
  FieldReader in(body);
  FeedbackRequest out;
  out.answer_id = in.text("answer_id").value_or("");
  if (out.answer_id.empty())
    in.reject("answer_id", "'answer_id' is required: the id of a chat completion or response.");
  out.choice = in.integer("choice", 0, kMostChoices).value_or(0);
  out.rating = in.choice("rating", {"up", "down"}).value_or("");
  if (out.rating.empty()) in.reject("rating", "'rating' is required.");
  out.comment = in.text("comment").value_or("");
  out.correction = in.text("correction").value_or("");
  if (out.comment.size() > kLongestNote) in.reject("comment", "'comment' may have at most 2000 bytes.");
  if (out.correction.size() > kLongestText) in.reject("correction", "'correction' may have at most 256 KiB.");
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  return out;
}

ApiResult<std::string> read_edit_request(const json::Object& body) {
  FieldReader in(body);
  const std::string correction = in.text("correction").value_or("");
  if (correction.empty() || correction.size() > kLongestText)
    in.reject("correction", "'correction' must be a text of at most 256 KiB.");
  if (in.error()) return tl::unexpected(*in.error());
  return correction;
}

ApiResult<std::string> read_decision_request(const json::Object& body) {
  FieldReader in(body);
  const std::string note = in.text("note").value_or("");
  if (note.size() > kLongestNote) in.reject("note", "'note' may have at most 2000 bytes.");
  if (in.error()) return tl::unexpected(*in.error());
  return note;
}

ApiResult<std::string> read_dataset_request(const json::Object& body) {
  FieldReader in(body);
  const std::string name = in.text("name").value_or("");
  constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
  if (name.empty() || name.size() > kLongestName || name.find_first_not_of(kAllowed) != std::string::npos)
    in.reject("name", "'name' must be 1 to 64 letters, digits and -_. characters.");
  if (in.error()) return tl::unexpected(*in.error());
  return name;
}

bool FeedbackApi::handle(const openai::SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const {
  const std::string_view path = request->path;
  for (const Place& place : kPlaces) {
    if (path != place.root && !path.starts_with(std::string(place.root) + "/")) continue;
    const std::string_view rest =
        path.size() > place.root.size() ? path.substr(place.root.size() + 1) : std::string_view();
    const bool lineage = place.root == "/v1/lineage";
    const auto slash = lineage ? std::string_view::npos : rest.find('/');
    const std::string id(rest.substr(0, slash)), action(slash == std::string_view::npos ? "" : rest.substr(slash + 1));
    if (!only(!action.empty() ? "POST" : id.empty() ? place.methods : place.methods_of_one, *request, *exchange))
      return true;
    store::Store* store = openai::store_of(*exchange);
    if (store == nullptr) return true;
    const Handler handler = handler_of(place.root, request->method, id, action);
    openai::in_background(background_, exchange, [store, request, exchange, id, action, handler] {
      handler({*store, *request, *exchange, id, action});
    });
    return true;
  }
  return false;
}

}  // namespace qw::api
