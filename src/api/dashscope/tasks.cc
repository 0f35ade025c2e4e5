#include "api/dashscope/tasks.h"

#include <algorithm>

#include "api/auth.h"
#include "api/dashscope/api.h"
#include "api/dashscope/paging.h"
#include "api/field_reader.h"
#include "base/clock.h"

namespace qw::api::dashscope {
namespace {

constexpr std::string_view kRoot = "/api/v1/tasks", kServices = "/api/v1/services/";
constexpr std::int64_t kUsualPage = 10, kMostPage = 100;
// Pages are counted from the newest; beyond this many tasks they are not looked through.
constexpr std::int64_t kMostListed = 10'000;

const char* status_of(const store::Job& job) {
  if (job.status == "queued") return "PENDING";
  if (job.status == "running") return "RUNNING";
  if (job.status == "cancelled") return "CANCELED";
  return deferred_answer(job).status < 400 ? "SUCCEEDED" : "FAILED";
}

json::Object task_object(const store::Job& job) {
  const std::string status = status_of(job);
  json::Object out{{"task_id", job.id}, {"task_status", status}, {"submit_time", time_text(job.created_us)}};
  if (job.status != "queued")
    out.set("scheduled_time", time_text(job.status == "running" ? job.changed_us : job.created_us));
  if (job.status != "queued" && job.status != "running") out.set("end_time", time_text(job.changed_us));
  out.set(
      "task_metrics",
      json::Object{{"TOTAL", 1}, {"SUCCEEDED", status == "SUCCEEDED" ? 1 : 0}, {"FAILED", status == "FAILED" ? 1 : 0}});
  return out;
}

// One task with what it answered.
void show(const store::Job& job, Exchange& exchange) {
  json::Object output = task_object(job), body;
  const DeferredAnswer answer = deferred_answer(job);
  if (job.status == "done" && answer.body.is_object()) {
    if (const json::Value* made = answer.body.find("output"); made != nullptr && made->is_object())
      for (const auto& [key, value] : made->as_object()) output.set(key, value);
    if (answer.status >= 400)
      for (const char* key : {"code", "message"}) output.set(key, text_member(answer.body, key));
  }
  body.set("request_id", exchange.request_id());
  body.set("output", std::move(output));
  if (const json::Value* usage = answer.body.is_object() ? answer.body.find("usage") : nullptr)
    body.set("usage", *usage);
  exchange.send_json(200, body);
}

void list(store::Store& store, const net::Request& http, Exchange& exchange) {
  const auto page = page_number(http, "page_no", 1, kMostListed),
             size = page_number(http, "page_size", kUsualPage, kMostPage);
  if (!page || !size)
    return exchange.send_error(
        bad_request("page_no", "'page_no' and 'page_size' must be 1 or more; a page has at most 100 tasks."));
  const auto jobs = store.jobs().list(openai::project_of(exchange), kTask, "", kMostListed);
  if (!jobs) return exchange.send_error(openai::store_error(jobs.error()));
  const std::string wanted = net::query_value(http.query, "status").value_or("");
  json::Array data;
  std::int64_t total = 0;
  for (const store::Job& job : *jobs) {
    if (!wanted.empty() && wanted != status_of(job)) continue;
    if (total++ / *size == *page - 1) data.push_back(task_object(job));
  }
  exchange.send_json(200, json::Object{{"request_id", exchange.request_id()},
                                       {"data", std::move(data)},
                                       {"total", total},
                                       {"total_page", (total + *size - 1) / *size},
                                       {"page_no", *page},
                                       {"page_size", *size}});
}

void one_task(store::Store& store, const std::string& id, bool cancel, Exchange& exchange) {
  const std::string& project = openai::project_of(exchange);
  const auto job = cancel ? store.jobs().cancel(project, kTask, id) : store.jobs().find(project, kTask, id);
  if (!job && job.error().kind != ErrorKind::kBadInput) return exchange.send_error(openai::store_error(job.error()));
  if (!job && cancel)
    return exchange.send_error({404, "invalid_request_error", "There is no task " + id + ".", "", "not_found"});
  if (!job)  // as DashScope answers for tasks it has forgotten
    return exchange.send_json(200, json::Object{{"request_id", exchange.request_id()},
                                                {"output", json::Object{{"task_id", id}, {"task_status", "UNKNOWN"}}}});
  if (cancel) return exchange.send_json(200, json::Object{{"request_id", exchange.request_id()}});
  show(*job, exchange);
}

}  // namespace

void TasksApi::create(const net::Request& http, const std::shared_ptr<Exchange>& exchange) const {
  store::Store* store = openai::store_of(*exchange);
  if (store == nullptr) return;
  auto body = parse_body(http);
  if (!body) return exchange->send_error(body.error());
  const auto model = allowed_model(*exchange, models_, text_member(json::Value(*body), "model"));
  if (!model) return exchange->send_error(model.error());
  const DeferredRequest deferred{http.path, json::dump(json::Value(std::move(*body))), exchange->who()->key.id};
  openai::in_background(background_, exchange, [store, exchange, spec = deferred.text(), runner = runner_] {
    const auto job = store->jobs().add("task-", openai::project_of(*exchange), kTask, spec);
    if (!job) return exchange->send_error(openai::store_error(job.error()));
    if (runner != nullptr) runner->wake();
    exchange->send_json(200, json::Object{{"output", json::Object{{"task_id", job->id}, {"task_status", "PENDING"}}},
                                          {"request_id", exchange->request_id()}});
  });
}

bool TasksApi::handle(const openai::SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const {
  const std::string_view path = request->path;
  if (path.starts_with(kServices) && net::find_header(request->headers, "x-dashscope-async") == "enable") {
    if (!Api::answers(path)) return false;
    if (only("POST", *request, *exchange)) create(*request, exchange);
    return true;
  }
  if (!path.starts_with(kRoot)) return false;
  const std::string_view rest = path.substr(kRoot.size());
  if (!rest.empty() && (rest[0] != '/' || rest.size() < 2)) return false;
  const auto slash = rest.empty() ? std::string_view::npos : rest.find('/', 1);
  const std::string id(rest.empty() ? "" : rest.substr(1, slash == std::string_view::npos ? slash : slash - 1));
  const bool cancel = slash != std::string_view::npos;
  if (cancel && rest.substr(slash) != "/cancel") return false;
  if (!only(cancel ? "POST" : "GET", *request, *exchange)) return true;
  store::Store* store = openai::store_of(*exchange);
  if (store == nullptr) return true;
  openai::in_background(background_, exchange, [store, request, exchange, id, cancel, runner = runner_] {
    if (id.empty()) return list(*store, *request, *exchange);
    one_task(*store, id, cancel, *exchange);
    if (cancel && runner != nullptr) runner->wake();
  });
  return true;
}

}  // namespace qw::api::dashscope
