#include "api/openai/fine_tuning/run.h"

#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "api/field_reader.h"
#include "api/openai/fine_tuning/job.h"
#include "api/openai/fine_tuning/preflight.h"
#include "base/clock.h"

namespace qw::api::openai {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kRecordsAtOnce = 500;
constexpr std::chrono::milliseconds kLookAgain{200};

class Run final : public FineTuneWatch {
 public:
  Run(const FineTuneContext& context, store::Job job)
      : context_(context), job_(std::move(job)), ask_(fine_tune_ask(job_)), state_(fine_tune_state(job_)) {}

  Status run() {
    if (text_member(state_, "phase").empty()) {
      event("info", "Created fine-tuning job: " + job_.id);
      event("info", "Validating training file: " + ask_.training_file);
      set("phase", "validating_files");
      QW_TRY(write());
    }
    if (cancelled_) return cancelled();
    if (text_member(state_, "phase") == "validating_files") {
      QW_ASSIGN(const bool goes_on, begin());
      if (!goes_on) return {};
    }
    if (context_.options.runner == nullptr) return fail_job("no_runner", "This service trains no models.", "");
    const auto end = context_.options.runner->run(ask_, store().files(), *this);
    if (broken_) return tl::unexpected(*broken_);  // of the store: the job goes on when it is back
    const bool charged = settle(!end                           ? "error"
                                : *end == FineTuneEnd::kDone   ? "trained"
                                : *end == FineTuneEnd::kLeft   ? "interrupted"
                                : *end == FineTuneEnd::kPaused ? "paused"
                                                               : "cancelled");
    if (!charged) return fail(ErrorKind::kFailed, "the store could not enter what job " + job_.id + " cost");
    if (!end) return fail_job(refused_ ? "insufficient_quota" : "training_failed", end.error().message, "");
    if (*end == FineTuneEnd::kLeft) {
      QW_TRY(write());
      return jobs().release(job_.id, context_.accounts.instance());
    }
    if (*end == FineTuneEnd::kPaused) return hold();
    if (*end == FineTuneEnd::kCancelled) return cancelled();
    return succeed();
  }

  void step(const FineTuneStep& s) override {
    const char* key = s.valid_loss ? "last_valid_step" : "last_step";
    if (s.step <= integer_member(state_, key)) return;
    set(key, s.step);
    json::Object data{{"step", s.step}};
    std::string message = "Step " + std::to_string(s.step) + "/" + std::to_string(s.total_steps) + ":";
    const auto add = [&](const char* name, const std::optional<double>& value) {
      if (!value) return;
      data.set(name, *value);
      set(name, *value);
      message += std::string(" ") + name + "=" + json::python_float(*value);
    };
    data.set("total_steps", s.total_steps);
    add("train_loss", s.train_loss);
    add("valid_loss", s.valid_loss);
    const auto tell = [&](const char* name, const std::optional<double>& value) {
      if (value) data.set(name, *value);
    };
    tell("learning_rate", s.learning_rate);
    tell("gradient_norm", s.gradient_norm);
    tell("tokens_per_second", s.tokens_per_second);
    tell("seconds_left", s.seconds_left);
    if (s.seconds_left) set("estimated_finish", base::unix_seconds() + static_cast<std::int64_t>(*s.seconds_left));
    if (s.trained_tokens > 0) {
      set("trained_tokens", s.trained_tokens);
      acknowledge();
    }
    event("info", message, "metrics", std::move(data));
  }
  void say(const std::string& message) override { event("info", message); }
  Result<FineTuneOrder> plan(std::int64_t trained_tokens) override {
    QW_ASSIGN(const FineTuneOrder order, wait_for_the_dead());
    if (order != FineTuneOrder::kGoOn) return order;
    store::Ledger& ledger = store().ledger();
    store::UsageQuery query;
    query.request_id = job_.id;
    QW_ASSIGN(const auto sums, ledger.usage_sums(query, ""));
    for (const auto& sum : sums) charged_ += sum.tokens.trained;
    store::Asked asked = fine_tune_payer(job_);
    asked.instance = context_.accounts.instance();
    asked.trained_tokens = trained_tokens - charged_;
    if (asked.trained_tokens <= 0) return FineTuneOrder::kGoOn;
    QW_ASSIGN(const auto admissions, ledger.admit(std::span(&asked, 1)));
    const store::Admission& admission = admissions.front();
    if (admission.refusal != store::Refusal::kNone) {
      refused_ = true;
      return fail(ErrorKind::kRefused, "Budget reached: " + admission.why + ".");
    }
    charge_ = std::make_shared<Charge>(context_.accounts, admission.reservation);
    context_.accounts.watch(admission.reservation, charge_);
    acknowledge();
    return FineTuneOrder::kGoOn;
  }
  Result<FineTuneOrder> go_on() override {
    const auto since = Clock::now() - last_written_;
    if ((!records_.empty() && since >= context_.options.flush) || since >= context_.options.poll) {
      if (auto written = write(); !written) {
        broken_ = written.error();
        return tl::unexpected(written.error());
      }
    }
    if (cancelled_) return FineTuneOrder::kCancel;
    if (paused_) return FineTuneOrder::kPause;
    return context_.stopping() ? FineTuneOrder::kLeave : FineTuneOrder::kGoOn;
  }

 private:
  store::Store& store() { return context_.accounts.store(); }
  // What a service that died has reserved for this job is settled when its lease runs out, and must be known before the
  // rest is reserved.
  Result<FineTuneOrder> wait_for_the_dead() {
    for (;;) {
      QW_ASSIGN(const std::int64_t open, store().ledger().open_reservations(job_.id));
      if (open == 0) return FineTuneOrder::kGoOn;
      QW_ASSIGN(const FineTuneOrder order, go_on());
      if (order != FineTuneOrder::kGoOn) return order;
      std::this_thread::sleep_for(kLookAgain);
    }
  }
  // Tells the charge what was trained in the meantime.
  void acknowledge() {
    const std::int64_t total = integer_member(state_, "trained_tokens") - charged_;
    if (charge_ == nullptr || total <= acknowledged_) return;
    store::Tokens more;
    more.trained = total - std::exchange(acknowledged_, total);
    charge_->acknowledge(more);
  }
  // Enters what was trained here; of training that failed nothing. False if the store could not.
  bool settle(const char* outcome) {
    if (charge_ == nullptr) return true;
    std::promise<bool> done;
    const bool failed = std::string_view(outcome) == "error";
    charge_->settle(outcome, failed ? store::Tokens() : charge_->acknowledged(),
                    [&](bool entered) { done.set_value(entered); });
    charge_.reset();
    return done.get_future().get();
  }
  store::Jobs& jobs() { return store().jobs(); }
  void set(const char* key, json::Value value) { state_.set(key, std::move(value)); }

  void event(const char* level, const std::string& message, const char* type = "message", json::Object data = {}) {
    store::JobRecord record;
    record.stream = kFineTuneEvents;
    record.body =
        json::dump(json::Object{{"level", level}, {"message", message}, {"type", type}, {"data", std::move(data)}},
                   json::WriteStyle::compact());
    records_.push_back(std::move(record));
    set("events", integer_member(state_, "events") + 1);  // so that the newest can be found
  }

  Status write() {
    const auto lease = std::chrono::microseconds(context_.options.lease).count();
    QW_ASSIGN(const auto wish,
              jobs().advance(job_.id, context_.accounts.instance(), lease, json::dump(state_), records_));
    records_.clear();
    last_written_ = Clock::now();
    cancelled_ = cancelled_ || wish == store::JobWish::kCancel;
    paused_ = wish == store::JobWish::kPause;
    return {};
  }

  Status cancelled() {
    if (context_.options.runner != nullptr) context_.options.runner->forget(job_.id);
    return finish("cancelled", "The job was cancelled.");
  }

  Status hold() {
    event("info", "The job was paused after step " + std::to_string(integer_member(state_, "last_step")) +
                      ": it goes on from there when it is resumed.");
    set("estimated_finish", nullptr);
    return jobs().hold(job_.id, context_.accounts.instance(), json::dump(state_), records_);
  }

  Status finish(const char* status, const std::string& message, const char* level = "info") {
    event(level, message);
    set("estimated_finish", nullptr);
    return jobs().finish(job_.id, context_.accounts.instance(), status, json::dump(state_), records_);
  }

  Status fail_job(const char* code, const std::string& message, const std::string& param) {
    set("error",
        json::Object{
            {"code", code}, {"message", message}, {"param", param.empty() ? json::Value() : json::Value(param)}});
    return finish("failed", message, "error");
  }

  // Keeps the lease while something long is done here.
  Status alive() {
    if (Clock::now() - last_written_ > context_.options.lease / 3) QW_TRY(write());
    return {};
  }

  // Its files are judged, and what it will take is told. False: the job has ended with that, was paused or given back.
  Result<bool> begin() {
    FineTuneRunner* runner = context_.options.runner;
    auto check = check_files(store(), runner, ask_, [this] { return alive(); });
    if (!check && check.error().kind == ErrorKind::kUsage)
      return ended(fail_job("model_unusable", check.error().message, "model"));
    if (!check) return tl::unexpected(check.error());
    set("validation", to_json(*check));
    if (!check->fine()) return ended(fail_job("invalid_file_format", check->problem(), check->param()));
    event("info",
          "Files validated: " + std::to_string(check->training.examples) + " examples" +
              (check->training.counted ? ", " + std::to_string(check->training.tokens) + " tokens" : "") +
              (check->training.duplicates > 0 ? ", " + std::to_string(check->training.duplicates) + " of them twice"
                                              : "") +
              ".");
    if (runner != nullptr && check->measure != nullptr) {
      FineTuneOrder order = FineTuneOrder::kGoOn;
      const auto estimate = runner->estimate(ask_, *check->measure, store().files(), [&] {
        const auto said = go_on();
        order = said ? *said : FineTuneOrder::kLeave;
        return order == FineTuneOrder::kGoOn;
      });
      if (broken_) return tl::unexpected(*broken_);
      if (order == FineTuneOrder::kCancel) return ended(cancelled());
      if (order == FineTuneOrder::kPause) return ended(hold());
      if (order == FineTuneOrder::kLeave) return ended(jobs().release(job_.id, context_.accounts.instance()));
      if (!estimate) return ended(fail_job("training_failed", estimate.error().message, ""));
      QW_ASSIGN(json::Object told, estimate_object(store(), ask_, *estimate));
      set("estimate", std::move(told));
      if (!estimate->fits())
        return ended(fail_job("insufficient_memory",
                              "This job needs " + std::to_string(estimate->memory_bytes >> 20) +
                                  " MiB of memory, there are " + std::to_string(estimate->available_bytes >> 20) + ".",
                              ""));
    }
    event("info", "Training begins.");
    set("phase", "running");
    QW_TRY(write());
    return true;
  }
  static Result<bool> ended(const Status& status) {
    if (!status) return tl::unexpected(status.error());
    return false;
  }

  Status succeed() {
    QW_ASSIGN(const std::string results, write_results());
    QW_ASSIGN(const std::string digest, context_.options.runner->digest(ask_));
    set("model_sha256", digest);
    set("result_files", json::Array{results});
    set("fine_tuned_model", ask_.name);
    json::Object metrics{{"step", integer_member(state_, "last_step")}};
    for (const char* name : {"train_loss", "valid_loss"})
      if (const json::Value* value = state_.find(name)) metrics.set(name, *value);
    store::JobRecord checkpoint;
    checkpoint.stream = kFineTuneCheckpoints;
    checkpoint.body = json::dump(json::Object{{"fine_tuned_model_checkpoint", ask_.name},
                                              {"step_number", integer_member(state_, "last_step")},
                                              {"metrics", std::move(metrics)}});
    records_.push_back(std::move(checkpoint));
    event("info", "New fine-tuned model created: " + ask_.name);
    return finish("succeeded", "The job has successfully completed.");
  }

  // The figures of all steps as a file of the project.
  Result<std::string> write_results() {
    QW_TRY(write());
    store::Files& files = store().files();
    QW_ASSIGN(const auto file, files.begin(job_.project_id, job_.id + "_metrics.csv", "fine-tune-results"));
    std::string text = "step,train_loss,valid_loss\n";
    for (std::int64_t from = 0;;) {
      QW_ASSIGN(const auto records, jobs().records(job_.id, kFineTuneEvents, from, kRecordsAtOnce));
      if (records.empty()) break;
      for (const auto& record : records) {
        const auto value = json::parse(record.body);
        if (!value || text_member(*value, "type") != "metrics") continue;
        const json::Value& data = *value->find("data");
        const auto cell = [&](const char* name) {
          const json::Value* found = data.find(name);
          return found == nullptr ? std::string() : json::dump(*found);
        };
        text += cell("step") + "," + cell("train_loss") + "," + cell("valid_loss") + "\n";
      }
      from = records.back().number + 1;
    }
    QW_TRY(files.append(file.id, text));
    QW_TRY(files.complete(file.id));
    return file.id;
  }

  const FineTuneContext& context_;
  const store::Job job_;
  const FineTuneAsk ask_;
  json::Object state_;
  std::vector<store::JobRecord> records_;
  Clock::time_point last_written_ = Clock::now();
  std::optional<Error> broken_;
  bool cancelled_ = false, paused_ = false;
  bool refused_ = false;  // by a budget
  std::shared_ptr<Charge> charge_;
  std::int64_t charged_ = 0;       // tokens that were settled before this service had the job
  std::int64_t acknowledged_ = 0;  // tokens the charge was told of
};

}  // namespace

Status run_fine_tune(const FineTuneContext& context, store::Job job) { return Run(context, std::move(job)).run(); }

}  // namespace qw::api::openai
