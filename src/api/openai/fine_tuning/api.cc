#include "api/openai/fine_tuning/api.h"

#include <algorithm>
#include <charconv>

#include "api/accounts.h"
#include "api/auth.h"
#include "api/openai/fine_tuning/job.h"

namespace qw::api::openai {
namespace {

constexpr std::string_view kRoot = "/v1/fine_tuning/jobs";
constexpr std::int64_t kMostListed = 100, kUsuallyListed = 20;

ApiError no_job(const std::string& id) {
  return {404, "invalid_request_error", "There is no fine-tuning job " + id + ".", "id", "not_found"};
}

// A file of the project for training.
ApiResult<void> check_file(store::Store& store, const std::string& project, const std::string& id, const char* param) {
  const auto file = store.files().find(project, id);
  if (!file && file.error().kind != ErrorKind::kBadInput) return tl::unexpected(store_error(file.error()));
  if (!file || !file->complete) return tl::unexpected(bad_request(param, "There is no file " + id + "."));
  if (file->purpose != "fine-tune")
    return tl::unexpected(bad_request(param, "The file's purpose is " + file->purpose + ", not fine-tune."));
  return {};
}

void list(store::Store& store, const net::Request& request, Exchange& exchange) {
  const auto query = read_list_query(request, kUsuallyListed, kMostListed);
  if (!query) return exchange.send_error(query.error());
  auto jobs = store.jobs().list(project_of(exchange), kFineTuneJob, query->after, query->limit + 1);
  if (!jobs) return exchange.send_error(store_error(jobs.error()));
  const bool more = static_cast<std::int64_t>(jobs->size()) > query->limit;
  if (more) jobs->pop_back();
  json::Array items;
  for (const store::Job& job : *jobs) items.push_back(fine_tune_object(job));
  exchange.send_json(200, list_object(std::move(items), more));
}

// The records of a stream, newest first. `count`: how many there are.
void list_records(store::Store& store, const store::Job& job, const char* stream, std::int64_t count,
                  json::Value (*object)(const store::Job&, const store::JobRecord&), const net::Request& request,
                  Exchange& exchange) {
  const auto query = read_list_query(request, kUsuallyListed, kMostListed);
  if (!query) return exchange.send_error(query.error());
  std::int64_t end = count;
  if (!query->after.empty()) {
    const std::string number = query->after.substr(query->after.rfind('-') + 1);
    const auto [stop, error] = std::from_chars(number.data(), number.data() + number.size(), end);
    if (error != std::errc() || stop != number.data() + number.size() || end < 0 || end > count)
      return exchange.send_error(bad_request("after", "'after' must be an id of this list."));
  }
  const std::int64_t from = std::max<std::int64_t>(0, end - query->limit);
  json::Array items;
  if (end > from) {
    const auto records = store.jobs().records(job.id, stream, from, end - from);
    if (!records) return exchange.send_error(store_error(records.error()));
    for (auto record = records->rbegin(); record != records->rend(); ++record) items.push_back(object(job, *record));
  }
  exchange.send_json(200, list_object(std::move(items), from > 0));
}

void one_job(store::Store& store, const std::string& id, const std::string& action, const net::Request& request,
             Exchange& exchange) {
  const std::string& project = project_of(exchange);
  const auto job = action == "cancel" ? store.jobs().cancel(project, kFineTuneJob, id)
                                      : store.jobs().find(project, kFineTuneJob, id);
  if (!job && job.error().kind == ErrorKind::kBadInput) return exchange.send_error(no_job(id));
  if (!job) return exchange.send_error(store_error(job.error()));
  if (action == "events") {
    const json::Value state(fine_tune_state(*job));
    const json::Value* count = state.find("events");
    return list_records(store, *job, kFineTuneEvents, count == nullptr ? 0 : count->as_int(), &fine_tune_event, request,
                        exchange);
  }
  if (action == "checkpoints")  // one: only what can be asked is listed
    return list_records(store, *job, kFineTuneCheckpoints, job->status == "succeeded" ? 1 : 0, &fine_tune_checkpoint,
                        request, exchange);
  exchange.send_json(200, fine_tune_object(*job));
}

}  // namespace

void FineTuningApi::start(Accounts& accounts) {
  if (options_.runner == nullptr) return;  // another service of the store may have one
  context_ = std::make_unique<FineTuneContext>(
      FineTuneContext{accounts, options_, [this] { return stopping_.load(); }});
  loop_ = std::make_unique<JobLoop>(accounts.store(), accounts.instance(), JobLoop::Options{kFineTuneJob, options_.lease, options_.poll},
                                    [this](store::Job job) { return run_fine_tune(*context_, std::move(job)); });
}

void FineTuningApi::stop() {
  stopping_.store(true);
  if (loop_) loop_->stop();
}

void FineTuningApi::create(store::Store& store, const net::Request& http, Exchange& exchange) const {
  const auto body = parse_body(http);
  if (!body) return exchange.send_error(body.error());
  const auto request = read_fine_tune_request(*body);
  if (!request) return exchange.send_error(request.error());
  const auto model = allowed_model(exchange, models_, request->model);
  if (!model) return exchange.send_error(model.error());
  const std::string& project = project_of(exchange);
  if (auto fine = check_file(store, project, request->training_file, "training_file"); !fine)
    return exchange.send_error(fine.error());
  if (!request->validation_file.empty())
    if (auto fine = check_file(store, project, request->validation_file, "validation_file"); !fine)
      return exchange.send_error(fine.error());
  store::Job job;
  job.id = "ftjob-";
  job.project_id = project;
  job.spec = fine_tune_spec(*request, (*model)->id, *exchange.who());
  if (const auto fine = options_.runner->check(fine_tune_ask(job)); !fine)
    return exchange.send_error(bad_request("model", fine.error().message));
  const auto added = store.jobs().add("ftjob-", project, kFineTuneJob, job.spec);
  if (!added) return exchange.send_error(store_error(added.error()));
  name_ignored(exchange, request->ignored);
  exchange.send_json(200, fine_tune_object(*added));
  if (loop_) loop_->wake();
}

bool FineTuningApi::handle(const SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const {
  const std::string_view path = request->path;
  if (!path.starts_with(kRoot)) return false;
  const std::string_view rest = path.substr(kRoot.size());
  if (!rest.empty() && (rest[0] != '/' || rest.size() < 2)) return false;
  const auto slash = rest.empty() ? std::string_view::npos : rest.find('/', 1);
  const std::string id(rest.empty() ? "" : rest.substr(1, slash == std::string_view::npos ? slash : slash - 1));
  const std::string action(slash == std::string_view::npos ? "" : rest.substr(slash + 1));
  if (!action.empty() && action != "cancel" && action != "events" && action != "checkpoints") return false;
  if (!only(id.empty() ? "GET, POST" : action == "cancel" ? "POST" : "GET", *request, *exchange)) return true;
  store::Store* store = store_of(*exchange);
  if (store == nullptr) return true;
  const bool creates = id.empty() && request->method == "POST";
  if (creates && options_.runner == nullptr) {
    exchange->send_error({501, "invalid_request_error",
                          "This service trains no models: it was started without a folder for them (serve "
                          "--fine-tune-folder).",
                          "", "no_runner"});
    return true;
  }
  in_background(background_, exchange, [this, store, request, exchange, id, action, creates] {
    if (creates) return create(*store, *request, *exchange);
    if (id.empty()) return list(*store, *request, *exchange);
    one_job(*store, id, action, *request, *exchange);
  });
  return true;
}

}  // namespace qw::api::openai
