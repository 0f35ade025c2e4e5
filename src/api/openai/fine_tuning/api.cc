#include "api/openai/fine_tuning/api.h"

#include <algorithm>
#include <charconv>

#include "api/accounts.h"
#include "api/auth.h"
#include "api/openai/fine_tuning/job.h"
#include "api/openai/fine_tuning/preflight.h"
#include "base/log.h"

namespace qw::api::openai {
namespace {

constexpr std::string_view kRoot = "/v1/fine_tuning/jobs", kEstimate = "/v1/fine_tuning/estimate";
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

ApiError wrong_state(const store::Job& job, const char* wanted) {
  return {400, "invalid_request_error", "The job " + job.id + " is " + job.status + "; " + wanted, "id",
          "invalid_state"};
}

json::Value validation_object(const store::Job& job) {
  const json::Value state(fine_tune_state(job));
  json::Object out{{"object", "fine_tuning.job.validation"}, {"fine_tuning_job_id", job.id}};
  const json::Value* found = state.find("validation");
  for (const char* member : {"valid", "training_file", "validation_file"}) {
    const json::Value* value = found == nullptr ? nullptr : found->find(member);
    out.set(member, value == nullptr ? json::Value() : *value);
  }
  return out;
}

}  // namespace

void FineTuningApi::start(Accounts& accounts) {
  if (options_.runner == nullptr) return;  // another service of the store may have one
  context_ =
      std::make_unique<FineTuneContext>(FineTuneContext{accounts, options_, [this] { return stopping_.load(); }});
  loop_ = std::make_unique<JobLoop>(accounts.store(), accounts.instance(),
                                    JobLoop::Options{kFineTuneJob, options_.lease, options_.poll},
                                    [this](store::Job job) { return run_fine_tune(*context_, std::move(job)); });
}

void FineTuningApi::stop() {
  stopping_.store(true);
  slow_.stop();
  if (loop_) loop_->stop();
}

void FineTuningApi::one_job(store::Store& store, const std::string& id, const std::string& action,
                            const net::Request& request, Exchange& exchange) const {
  const std::string& project = project_of(exchange);
  store::Jobs& jobs = store.jobs();
  const auto job = action == "cancel"   ? jobs.cancel(project, kFineTuneJob, id)
                   : action == "pause"  ? jobs.pause(project, kFineTuneJob, id)
                   : action == "resume" ? jobs.resume(project, kFineTuneJob, id)
                                        : jobs.find(project, kFineTuneJob, id);
  if (!job && job.error().kind == ErrorKind::kBadInput) return exchange.send_error(no_job(id));
  if (!job) return exchange.send_error(store_error(job.error()));
  const bool open = job->status == "queued" || job->status == "running" || job->status == "paused";
  if (action == "pause" && !open)
    return exchange.send_error(wrong_state(*job, "only one that has not ended can be paused."));
  if (action == "resume" && !open) return exchange.send_error(wrong_state(*job, "only a paused one can be resumed."));
  if (action == "resume" && loop_) loop_->wake();
  // Of one that was laid aside, or waited after a service had ended, there are files that nobody will come for.
  if (action == "cancel" && job->status == "cancelled" && options_.runner != nullptr) options_.runner->forget(job->id);
  if (action == "validation") return exchange.send_json(200, validation_object(*job));
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

std::optional<FineTuneAsk> FineTuningApi::read(store::Store& store, const net::Request& http, Exchange& exchange,
                                               std::string& spec) const {
  const auto refuse = [&exchange](const ApiError& error) {
    exchange.send_error(error);
    return std::nullopt;
  };
  const auto body = parse_body(http);
  if (!body) return refuse(body.error());
  const auto request = read_fine_tune_request(*body);
  if (!request) return refuse(request.error());
  const auto model = allowed_model(exchange, models_, request->model);
  if (!model) return refuse(model.error());
  const std::string& project = project_of(exchange);
  if (auto fine = check_file(store, project, request->training_file, "training_file"); !fine)
    return refuse(fine.error());
  if (!request->validation_file.empty())
    if (auto fine = check_file(store, project, request->validation_file, "validation_file"); !fine)
      return refuse(fine.error());
  store::Job job;
  job.id = "ftjob-";
  job.project_id = project;
  job.spec = spec = fine_tune_spec(*request, (*model)->id, *exchange.who());
  FineTuneAsk ask = fine_tune_ask(job);
  if (const auto fine = options_.runner->check(ask); !fine) return refuse(bad_request("model", fine.error().message));
  name_ignored(exchange, request->ignored);
  return ask;
}

void FineTuningApi::create(store::Store& store, const net::Request& http, Exchange& exchange) const {
  std::string spec;
  if (!read(store, http, exchange, spec)) return;
  const auto added = store.jobs().add("ftjob-", project_of(exchange), kFineTuneJob, spec);
  if (!added) return exchange.send_error(store_error(added.error()));
  exchange.send_json(200, fine_tune_object(*added));
  if (loop_) loop_->wake();
  // While another job is trained this one waits; that its files are wrong is told now, not when its turn comes.
  slow_.post([this, &store, job = *added] { check_waiting(store, job); });
}

void FineTuningApi::check_waiting(store::Store& store, const store::Job& job) const {
  const auto now = store.jobs().find(job.project_id, kFineTuneJob, job.id);
  if (!now || now->status == "running" || !now->state.empty()) return;  // whoever runs it looks at them, too
  const auto alive = [this]() -> Status {
    if (stopping_.load()) return fail(ErrorKind::kInterrupted, "the service stops");
    return {};
  };
  const auto check = check_files(store, options_.runner, fine_tune_ask(job), alive);
  if (!check) return;
  const auto record = [](const char* level, const std::string& message) {
    store::JobRecord out;
    out.stream = kFineTuneEvents;
    out.body =
        json::dump(json::Object{{"level", level}, {"message", message}, {"type", "message"}, {"data", json::Object{}}},
                   json::WriteStyle::compact());
    return out;
  };
  json::Object state{{"phase", "validating_files"}, {"events", 2}, {"validation", to_json(*check)}};
  std::vector<store::JobRecord> records{record("info", "Created fine-tuning job: " + job.id),
                                        record("info", "Validating training file: " + check->training.file)};
  if (!check->fine()) {
    records.push_back(record("error", check->problem()));
    state.set("events", 3);
    state.set("error", json::Object{{"code", "invalid_file_format"}, {"message", check->problem()}, {"param", check->param()}});
  }
  const auto told = store.jobs().prepare(job.id, json::dump(state), records, check->fine() ? "" : "failed");
  if (!told) base::log_error("fine-tuning " + job.id + ": " + told.error().message);
}

void FineTuningApi::estimate(store::Store& store, const net::Request& http, Exchange& exchange) const {
  std::string spec;
  auto ask = read(store, http, exchange, spec);
  if (!ask) return;
  ask->job_id = new_id("estimate-");
  const auto alive = [this]() -> Status {
    if (stopping_.load()) return fail(ErrorKind::kInterrupted, "the service stops");
    return {};
  };
  const auto check = check_files(store, options_.runner, *ask, alive);
  if (!check && check.error().kind == ErrorKind::kUsage)
    return exchange.send_error(bad_request("model", check.error().message));
  if (!check) return exchange.send_error(store_error(check.error()));
  json::Object out{
      {"object", "fine_tuning.estimate"}, {"model", ask->base}, {"validation", to_json(*check)}, {"estimate", nullptr}};
  if (check->fine()) {
    const auto estimate = options_.runner->estimate(*ask, *check->measure, store.files(),
                                                    [&] { return !stopping_.load() && !exchange.reply().closed(); });
    if (!estimate) return exchange.send_error({500, "server_error", estimate.error().message, "", "estimate_failed"});
    auto told = estimate_object(store, *ask, *estimate);
    if (!told) return exchange.send_error(store_error(told.error()));
    out.set("estimate", std::move(*told));
  }
  exchange.send_json(200, out);
}

bool FineTuningApi::handle(const SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const {
  const std::string_view path = request->path;
  const bool estimates = path == kEstimate;
  if (!estimates && !path.starts_with(kRoot)) return false;
  const std::string_view rest = estimates ? std::string_view() : path.substr(kRoot.size());
  if (!rest.empty() && (rest[0] != '/' || rest.size() < 2)) return false;
  const auto slash = rest.empty() ? std::string_view::npos : rest.find('/', 1);
  const std::string id(rest.empty() ? "" : rest.substr(1, slash == std::string_view::npos ? slash : slash - 1));
  const std::string action(slash == std::string_view::npos ? "" : rest.substr(slash + 1));
  const bool changes = action == "cancel" || action == "pause" || action == "resume";
  if (!action.empty() && !changes && action != "events" && action != "checkpoints" && action != "validation")
    return false;
  if (!only(estimates || changes ? "POST" : id.empty() ? "GET, POST" : "GET", *request, *exchange)) return true;
  store::Store* store = store_of(*exchange);
  if (store == nullptr) return true;
  const bool creates = !estimates && id.empty() && request->method == "POST";
  if ((creates || estimates) && options_.runner == nullptr) {
    exchange->send_error({501, "invalid_request_error",
                          "This service trains no models: it was started without a folder for them (serve "
                          "--fine-tune-folder).",
                          "", "no_runner"});
    return true;
  }
  in_background(estimates ? slow_ : background_, exchange,
                [this, store, request, exchange, id, action, creates, estimates] {
                  if (estimates) return estimate(*store, *request, *exchange);
                  if (creates) return create(*store, *request, *exchange);
                  if (id.empty()) return list(*store, *request, *exchange);
                  one_job(*store, id, action, *request, *exchange);
                });
  return true;
}

}  // namespace qw::api::openai
