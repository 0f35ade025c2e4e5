#include "api/openai/responses/api.h"

#include <algorithm>

#include "api/accounts.h"
#include "api/auth.h"
#include "api/field_reader.h"
#include "api/generation/launch.h"
#include "api/openai/responses/request.h"
#include "api/openai/responses/writer.h"
#include "base/clock.h"

namespace qw::api::openai {
namespace {

constexpr std::string_view kRoot = "/v1/responses";

ApiError no_response(const std::string& id) {
  return {404, "invalid_request_error", "There is no response " + id + ".", "id", "not_found"};
}

// What was kept of a response.
ApiResult<json::Value> kept(store::Store& store, const std::string& project, const std::string& id) {
  const auto document = store.documents().find(project, kResponseKind, id);
  if (!document && document.error().kind == ErrorKind::kBadInput) return tl::unexpected(no_response(id));
  if (!document) return tl::unexpected(store_error(document.error()));
  auto value = json::parse(document->body);
  if (!value) return tl::unexpected(ApiError{500, "server_error", "The response " + id + " cannot be read.", "", ""});
  return std::move(*value);
}

const json::Array& array_of(const json::Value& value, const char* key) {
  static const json::Array kNone;
  const json::Value* found = value.find(key);
  return found != nullptr && found->is_array() ? found->as_array() : kNone;
}

void input_items(const json::Value& value, const net::Request& http, Exchange& exchange) {
  const auto query = read_list_query(http, 20, 100);
  if (!query) return exchange.send_error(query.error());
  json::Array items = array_of(value, "input");
  if (!query->oldest_first) std::reverse(items.begin(), items.end());
  json::Array page;
  bool begun = query->after.empty(), more = false;
  for (const json::Value& item : items) {
    const json::Value* id = item.find("id");
    if (begun && static_cast<std::int64_t>(page.size()) == query->limit) {
      more = true;
      break;
    }
    if (begun) page.push_back(item);
    begun = begun || (id != nullptr && *id == json::Value(query->after));
  }
  exchange.send_json(200, list_object(std::move(page), more));
}

// A response in the background that is not kept: it is still to be made, or was not.
ApiResult<json::Object> unmade(const store::Job& job) {
  const auto body = json::parse(DeferredRequest::parse(job.spec).body);
  const auto request = body && body->is_object() ? read_response_request(body->as_object())
                                                 : ApiResult<ResponseRequest>(tl::unexpected(no_response(job.id)));
  if (!request) return tl::unexpected(request.error());
  const DeferredAnswer answer = deferred_answer(job);
  const bool done = job.status == "done";
  if (done && answer.status < 400) return tl::unexpected(no_response(job.id));  // it was deleted
  const char* status = done                                             ? "failed"
                       : job.cancel_wanted || job.status == "cancelled" ? "cancelled"
                       : job.status == "running"                        ? "in_progress"
                                                                        : "queued";
  json::Object out =
      response_object(*request, {job.id, request->model, status, job.created_us / base::kSecondUs, true, true});
  if (const json::Value* error = done ? answer.body.find("error") : nullptr; error != nullptr) {
    const std::string code = text_member(*error, "code"), type = text_member(*error, "type");
    out.set("error", json::Object{{"code", code.empty() ? type : code}, {"message", text_member(*error, "message")}});
  }
  return out;
}

// Answers from the job of a response that is not kept.
void answer_unmade(const Result<store::Job>& job, const std::string& id, Exchange& exchange) {
  if (!job && job.error().kind == ErrorKind::kBadInput) return exchange.send_error(no_response(id));
  if (!job) return exchange.send_error(store_error(job.error()));
  const auto object = unmade(*job);
  if (!object) return exchange.send_error(object.error());
  exchange.send_json(200, *object);
}

void cancel_response(store::Store& store, const std::string& id, DeferredRunner* runner, Exchange& exchange) {
  // The job before the response: whose job is done is kept, if it was not deleted.
  const auto job = store.jobs().cancel(project_of(exchange), kBackgroundResponse, id);
  if (const auto value = kept(store, project_of(exchange), id)) {
    const json::Value& response = *value->find("response");
    if (*response.find("background") == json::Value(true)) return exchange.send_json(200, response);  // it is done
    return exchange.send_error(bad_request("id", "Only a response in the background can be cancelled."));
  }
  if (runner != nullptr) runner->wake();
  answer_unmade(job, id, exchange);
}

void one_response(store::Store& store, const std::string& id, const std::string& action, const net::Request& http,
                  Exchange& exchange) {
  const std::string& project = project_of(exchange);
  const auto job = store.jobs().find(project, kBackgroundResponse, id);  // before the response, as above
  const auto value = kept(store, project, id);
  if (!value) {
    if (value.error().status != 404 || !action.empty()) return exchange.send_error(value.error());
    const bool open = job && (job->status == "queued" || job->status == "running");
    if (open && http.method == "DELETE")
      return exchange.send_error(bad_request("id", "The response is still being made; it can be cancelled."));
    if (http.method == "DELETE") return exchange.send_error(value.error());
    return answer_unmade(job, id, exchange);
  }
  if (!action.empty()) return input_items(*value, http, exchange);
  if (http.method != "DELETE") return exchange.send_json(200, *value->find("response"));
  if (const auto removed = store.documents().remove(project, id); !removed)
    return exchange.send_error(store_error(removed.error()));
  exchange.send_json(200, json::Object{{"id", id}, {"object", "response"}, {"deleted", true}});
}

}  // namespace

bool ResponsesApi::handle(const SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const {
  const std::string& path = request->path;
  if (path == kRoot || path == "/v1/responses/input_tokens") {
    if (only("POST", *request, *exchange)) create(*request, exchange, path != kRoot);
    return true;
  }
  if (!path.starts_with(kRoot) || path.size() <= kRoot.size() + 1 || path[kRoot.size()] != '/') return false;
  const std::string rest = path.substr(kRoot.size() + 1);
  const auto slash = rest.find('/');
  const std::string id = rest.substr(0, slash), action = slash == std::string::npos ? "" : rest.substr(slash + 1);
  if (!action.empty() && action != "input_items" && action != "cancel") return false;
  if (!only(action.empty() ? "GET, DELETE" : action == "cancel" ? "POST" : "GET", *request, *exchange)) return true;
  if (net::query_value(request->query, "stream").value_or("") == "true") {
    exchange->send_error(bad_request("stream", "A response is read whole; events are not kept."));
    return true;
  }
  store::Store* store = store_of(*exchange);
  if (store == nullptr) return true;
  in_background(background_, exchange, [store, id, action, request, exchange, runner = runner_] {
    if (action == "cancel") return cancel_response(*store, id, runner, *exchange);
    one_response(*store, id, action, *request, *exchange);
  });
  return true;
}

// Kept as a job and answered at once; it goes through create() like every other when its turn comes.
void ResponsesApi::defer(json::Object body, ResponseRequest request, const std::shared_ptr<Exchange>& exchange) const {
  store::Store* store = store_of(*exchange);
  if (store == nullptr) return;
  const auto model = allowed_model(*exchange, models_, request.model);
  if (!model) return exchange->send_error(model.error());
  body.set("background", false);
  body.set("model", (*model)->id);
  const DeferredRequest deferred{std::string(kRoot), json::dump(json::Value(std::move(body))), exchange->who()->key.id};
  in_background(background_, exchange,
                [store, exchange, spec = deferred.text(), ignored = request.ignored, runner = runner_] {
                  const auto job = store->jobs().add("resp_", project_of(*exchange), kBackgroundResponse, spec);
                  if (!job) return exchange->send_error(store_error(job.error()));
                  if (runner != nullptr) runner->wake();
                  name_ignored(*exchange, ignored);
                  answer_unmade(job, job->id, *exchange);
                });
}

void ResponsesApi::create(const net::Request& http, const std::shared_ptr<Exchange>& exchange, bool counting) const {
  auto body = parse_body(http);
  if (!body) return exchange->send_error(body.error());
  auto read = read_response_request(*body);
  if (!read) return exchange->send_error(read.error());
  if (read->background && !counting) return defer(std::move(*body), std::move(*read), exchange);
  // With the conversation that it goes on from.
  auto start = [this, exchange, counting](ResponseRequest request, json::Array history) {
    ChatRequest chat = request;
    chat.messages = with_history(request, history);
    if (counting) {
      const auto entry = allowed_model(*exchange, models_, chat.model);
      if (!entry) return exchange->send_error(entry.error());
      return with_model(*entry, exchange, [exchange, chat](const ModelLease& model) {
        if (model->chat_template == nullptr)
          return exchange->send_error(bad_request("model", "The model `" + model->id + "` has no chat template."));
        const auto prompt = prompt_of(*model, chat);
        if (!prompt) return exchange->send_error(prompt.error());
        exchange->send_json(200, json::Object{{"object", "response.input_tokens"},
                                              {"input_tokens", static_cast<std::int64_t>(prompt->ids.size())}});
      });
    }
    ResponseWriterOptions options{&background_, std::move(request), std::move(history)};
    start_chat(models_, exchange, std::move(chat), [exchange, options = std::move(options)](const LaunchedPrompts&) {
      return make_response_writer(exchange, options);
    });
  };
  if (read->previous.empty()) return start(std::move(*read), {});
  store::Store* store = store_of(*exchange);
  if (store == nullptr) return;
  in_background(background_, exchange, [store, exchange, start, request = std::move(*read)]() mutable {
    const auto value = kept(*store, project_of(*exchange), request.previous);
    if (!value) return exchange->send_error(value.error());
    json::Array history = array_of(*value, "messages");
    start(std::move(request), std::move(history));
  });
}

}  // namespace qw::api::openai
