#include "api/rollouts/evaluations.h"

#include "api/accounts.h"
#include "api/auth.h"
#include "api/field_reader.h"
#include "base/clock.h"
#include "base/sha256.h"

namespace qw::api {
namespace {

constexpr std::string_view kRoot = "/v1/evaluations";
constexpr std::int64_t kMostListed = 100, kUsuallyListed = 20, kMostItems = 1'000'000;
constexpr std::size_t kMostFiles = 32;
constexpr std::chrono::milliseconds kLease{30'000}, kPoll{2'000};

json::Value of(const json::Value& from, const char* key) {
  const json::Value* value = from.find(key);
  return value == nullptr ? json::Value() : *value;
}

GateAsk ask_of(const store::Job& job) {
  GateAsk out;
  const auto spec = json::parse(job.spec);
  if (!spec) return out;
  out.job_id = job.id;
  out.project_id = job.project_id;
  out.model = text_member(*spec, "model");
  out.task_file = text_member(*spec, "task_file");
  if (const json::Value* files = spec->find("data_files"); files != nullptr && files->is_array())
    for (const json::Value& file : files->as_array())
      if (file.is_string()) out.data_files.push_back(file.as_string());
  out.metric = text_member(*spec, "metric");
  out.limit = integer_member(*spec, "limit");
  out.chat = of(*spec, "chat") == json::Value(true);
  return out;
}

Result<std::string> digest_of_file(store::Files& files, const std::string& id) {
  base::Sha256 sha;
  for (std::int64_t at = 0;;) {
    QW_ASSIGN(const std::string piece, files.read(id, at));
    if (piece.empty()) return sha.hex();
    sha.update(piece);
    at += static_cast<std::int64_t>(piece.size());
  }
}

ApiResult<void> check_file(store::Store& store, const std::string& project, const std::string& id, const char* param) {
  const auto file = store.files().find(project, id);
  if (!file && file.error().kind != ErrorKind::kBadInput) return tl::unexpected(openai::store_error(file.error()));
  if (!file || !file->complete) return tl::unexpected(bad_request(param, "There is no file " + id + "."));
  if (file->purpose != "evals")
    return tl::unexpected(bad_request(param, "The file's purpose is " + file->purpose + ", not evals."));
  return {};
}

}  // namespace

ApiResult<EvaluationRequest> read_evaluation_request(const json::Object& body) {
  FieldReader in(body);
  EvaluationRequest out;
  out.ask.model = in.text("model").value_or("");
  if (out.ask.model.empty()) in.reject("model", "'model' is required.");
  out.ask.task_file = in.text("task_file").value_or("");
  if (out.ask.task_file.empty()) in.reject("task_file", "'task_file' is required.");
  if (const json::Array* files =
          in.array("data_files", R"({"type": "array", "items": {"type": "string"}, "maxItems": 32})")) {
    if (files->size() > kMostFiles) in.reject("data_files", "'data_files' may hold at most 32 ids.");
    for (const json::Value& file : *files) {
      if (!file.is_string()) {
        in.reject("data_files", "'data_files' must hold ids of files.");
        break;
      }
      out.ask.data_files.push_back(file.as_string());
    }
  }
  out.ask.metric = in.text("metric").value_or("");
  out.ask.limit = in.integer("limit", 1, kMostItems).value_or(0);
  out.ask.chat = in.boolean("chat").value_or(false);
  out.at_least = in.number("at_least", -1e9, 1e9);
  out.at_most = in.number("at_most", -1e9, 1e9);
  if (out.at_least.has_value() == out.at_most.has_value() && !in.error())
    in.reject("at_least", "Either 'at_least' or 'at_most' is required.");
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  return out;
}

json::Object evaluation_object(const store::Job& job) {
  const auto parsed = json::parse(job.spec), told = json::parse(job.state.empty() ? "{}" : job.state);
  const json::Value spec = parsed ? *parsed : json::Value(json::Object{}),
                    state = told ? *told : json::Value(json::Object{});
  const bool ended = job.status != "queued" && job.status != "running";
  json::Object out{{"id", job.id},
                   {"object", "evaluation"},
                   {"created_at", job.created_us / base::kSecondUs},
                   {"finished_at", ended ? json::Value(job.changed_us / base::kSecondUs) : json::Value()},
                   {"status", job.status}};
  for (const char* member : {"model", "task_file", "data_files", "metric", "limit", "chat", "at_least", "at_most"})
    out.set(member, of(spec, member));
  for (const char* member :
       {"task", "value", "items", "passed", "task_sha256", "data_sha256", "model_sha256", "sha256", "error"})
    out.set(member, of(state, member));
  if (const json::Value metric = of(state, "measured"); metric.is_string()) out.set("metric", metric);
  return out;
}

void EvaluationsApi::start(Accounts& accounts) {
  if (runner_ == nullptr) return;
  loop_ = std::make_unique<JobLoop>(
      accounts.store(), accounts.instance(), JobLoop::Options{kEvaluationJob, kLease, kPoll},
      [this, &accounts](store::Job job) { return run(accounts.store(), accounts.instance(), job); });
}

void EvaluationsApi::stop() {
  stopping_.store(true);
  if (loop_) loop_->stop();
}

Status EvaluationsApi::run(store::Store& store, const std::string& instance, const store::Job& job) const {
  const GateAsk ask = ask_of(job);
  const auto spec = json::parse(job.spec);
  store::JobWish wish = store::JobWish::kNone;
  auto renewed = std::chrono::steady_clock::now();
  Status lost;
  const auto go_on = [&] {
    if (std::chrono::steady_clock::now() - renewed > kPoll) {
      renewed = std::chrono::steady_clock::now();
      const auto told =
          store.jobs().advance(job.id, instance, std::chrono::microseconds(kLease).count(), job.state, {});
      if (told)
        wish = *told;
      else
        lost = tl::unexpected(told.error());
    }
    return lost.has_value() && wish != store::JobWish::kCancel && !stopping_.load();
  };
  const auto end = [&](const char* status, const json::Object& state) {
    return store.jobs().finish(job.id, instance, status, json::dump(state));
  };
  const auto failed = [&](const Error& error) {
    return end("failed",
               json::Object{{"error", json::Object{{"code", "evaluation_failed"}, {"message", error.message}}}});
  };
  const auto task_sha = digest_of_file(store.files(), ask.task_file);
  if (!task_sha) return failed(task_sha.error());
  std::string data_sha;
  for (const std::string& file : ask.data_files) {
    const auto one = digest_of_file(store.files(), file);
    if (!one) return failed(one.error());
    data_sha += *one + "\n";
  }
  const auto result = runner_->run(ask, store.files(), go_on);
  if (!lost) return lost;
  if (!result && wish == store::JobWish::kCancel) return end("cancelled", json::Object{});
  if (!result && stopping_.load()) return store.jobs().release(job.id, instance);
  if (!result) return failed(result.error());
  const json::Value least = of(*spec, "at_least"), most = of(*spec, "at_most");
  const bool passed = least.is_number() ? result->value >= least.as_double() : result->value <= most.as_double();
  json::Object state{{"task", result->task},
                     {"measured", result->metric},
                     {"value", result->value},
                     {"items", result->items},
                     {"passed", passed},
                     {"task_sha256", *task_sha},
                     {"data_sha256", base::sha256_hex(data_sha)},
                     {"model_sha256", result->model_sha256}};
  // Over all that it says: what a rollout rests on can be told apart from what was changed.
  state.set("sha256", base::sha256_hex(job.spec + "\n" + json::dump(state, json::WriteStyle::compact())));
  return end("succeeded", state);
}

void EvaluationsApi::create(store::Store& store, const net::Request& http, Exchange& exchange) const {
  const auto body = parse_body(http);
  if (!body) return exchange.send_error(body.error());
  auto request = read_evaluation_request(*body);
  if (!request) return exchange.send_error(request.error());
  const auto model = allowed_model(exchange, models_, request->ask.model);
  if (!model) return exchange.send_error(model.error());
  request->ask.model = (*model)->id;
  const std::string& project = openai::project_of(exchange);
  if (auto fine = check_file(store, project, request->ask.task_file, "task_file"); !fine)
    return exchange.send_error(fine.error());
  for (const std::string& file : request->ask.data_files)
    if (auto fine = check_file(store, project, file, "data_files"); !fine) return exchange.send_error(fine.error());
  if (const auto fine = runner_->check(request->ask); !fine)
    return exchange.send_error(bad_request("model", fine.error().message));
  const auto bound = [](const std::optional<double>& x) { return x ? json::Value(*x) : json::Value(); };
  const json::Object spec{{"model", request->ask.model},
                          {"task_file", request->ask.task_file},
                          {"data_files", json::Array(request->ask.data_files.begin(), request->ask.data_files.end())},
                          {"metric", request->ask.metric.empty() ? json::Value() : json::Value(request->ask.metric)},
                          {"limit", request->ask.limit > 0 ? json::Value(request->ask.limit) : json::Value()},
                          {"chat", request->ask.chat},
                          {"at_least", bound(request->at_least)},
                          {"at_most", bound(request->at_most)},
                          {"key_id", exchange.who()->key.id}};
  const auto added = store.jobs().add("evaluation-", project, kEvaluationJob, json::dump(spec));
  if (!added) return exchange.send_error(openai::store_error(added.error()));
  name_ignored(exchange, request->ignored);
  exchange.send_json(200, evaluation_object(*added));
  if (loop_) loop_->wake();
}

bool EvaluationsApi::handle(const openai::SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const {
  const std::string_view path = request->path;
  if (path != kRoot && !path.starts_with(std::string(kRoot) + "/")) return false;
  const std::string id(path.size() > kRoot.size() ? path.substr(kRoot.size() + 1) : "");
  if (!only(id.empty() ? "GET, POST" : "GET", *request, *exchange)) return true;
  store::Store* store = openai::store_of(*exchange);
  if (store == nullptr) return true;
  if (request->method == "POST" && runner_ == nullptr) {
    exchange->send_error({501, "invalid_request_error",
                          "This service judges no models: it was started without --fine-tune-folder.", "",
                          "no_runner"});
    return true;
  }
  openai::in_background(background_, exchange, [this, store, request, exchange, id] {
    if (request->method == "POST") return create(*store, *request, *exchange);
    const std::string& project = openai::project_of(*exchange);
    if (!id.empty()) {
      const auto job = store->jobs().find(project, kEvaluationJob, id);
      if (!job) return exchange->send_error(openai::store_error(job.error()));
      return exchange->send_json(200, evaluation_object(*job));
    }
    const auto query = openai::read_list_query(*request, kUsuallyListed, kMostListed);
    if (!query) return exchange->send_error(query.error());
    auto jobs = store->jobs().list(project, kEvaluationJob, query->after, query->limit + 1);
    if (!jobs) return exchange->send_error(openai::store_error(jobs.error()));
    const bool more = static_cast<std::int64_t>(jobs->size()) > query->limit;
    if (more) jobs->pop_back();
    json::Array items;
    for (const store::Job& job : *jobs) items.emplace_back(evaluation_object(job));
    exchange->send_json(200, openai::list_object(std::move(items), more));
  });
  return true;
}

}  // namespace qw::api
