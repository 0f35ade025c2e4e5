#include "api/row_job.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "api/audit_entry.h"
#include "api/auth.h"
#include "api/service_metrics.h"

namespace qw::api {
namespace {

// Prompts of one request in the engine at once: enough to fill its steps, and the requests of others find room.
constexpr std::size_t kWindow = 32;

}  // namespace

std::vector<std::size_t> best_first(const RowResults& results, std::optional<std::int64_t> most) {
  std::vector<std::size_t> order(results.values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return results.values[a][0] > results.values[b][0]; });
  if (most) order.resize(std::min(order.size(), static_cast<std::size_t>(*most)));
  return order;
}

class RowJob::Item final : public engine::Sink {
 public:
  Item(std::shared_ptr<RowJob> job, std::size_t index) : job_(std::move(job)), index_(index) {}
  engine::Verdict on_token(const engine::TokenEvent&) noexcept override { return engine::Verdict::kContinue; }
  void on_row(const engine::RowEvent& event) noexcept override { job_->results_.values[index_] = job_->reduce_(event.row); }
  void on_finished(const engine::Finished& finished) noexcept override { job_->ended(index_, finished); }

 private:
  const std::shared_ptr<RowJob> job_;
  const std::size_t index_;
};

RowJob::RowJob(std::shared_ptr<Exchange> exchange, ModelLease model,
               std::vector<std::vector<engine::TokenId>> prompts, Reduce reduce, AnswerBody answer, std::shared_ptr<Charge> charge)
    : exchange_(std::move(exchange)),
      model_(std::move(model)),
      prompts_(std::move(prompts)),
      reduce_(std::move(reduce)),
      answer_(std::move(answer)),
      charge_(std::move(charge)) {
  results_.values.resize(prompts_.size());
  if (exchange_->audit() != nullptr) audit_ = audit_entry("reading", *exchange_, *model_, prompts_);
  if (keeps_content(*exchange_)) content_ = what_is_read();
}

// What was read. What came of it is not kept: the same model makes the same of it at any time.
json::Object RowJob::what_is_read() const {
  json::Array texts, prompts;
  for (const auto& ids : prompts_) {
    json::Array numbers;
    for (const engine::TokenId id : ids) numbers.emplace_back(std::int64_t{id});
    texts.emplace_back(model_->tokenizer->decode(ids, false));
    prompts.emplace_back(std::move(numbers));
  }
  return {{"version", 1}, {"prompt_texts", std::move(texts)}, {"prompts", std::move(prompts)}};
}

void RowJob::start(std::shared_ptr<Exchange> exchange, ModelLease model,
                   std::vector<std::vector<engine::TokenId>> prompts, Reduce reduce, AnswerBody answer) {
  Need need;
  need.model = model->id;
  for (const auto& ids : prompts) need.prompt_tokens += static_cast<std::int64_t>(ids.size());
  admit(exchange, need,
        [exchange, model, prompts = std::move(prompts), reduce = std::move(reduce), answer = std::move(answer)](
            std::shared_ptr<Charge> charge, std::int64_t) mutable {
          std::shared_ptr<RowJob> job(
              new RowJob(std::move(exchange), std::move(model), std::move(prompts), std::move(reduce), std::move(answer), std::move(charge)));
          job->run();
        });
}

void RowJob::run() {
  exchange_->reply().on_close([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->leave();
  });
  const std::lock_guard lock(mutex_);
  submit_more();
}

void RowJob::submit_more() {
  while (!over_ && next_ < prompts_.size() && open_ < kWindow) {
    engine::Request request;
    request.prompt = std::move(prompts_[next_]);
    request.wanted = engine::Wanted::kLastRow;
    request.adapter = model_->adapter;
    set_owner(*exchange_, request);
    request.sink = std::make_shared<Item>(shared_from_this(), next_++);
    const auto id = model_->engine->submit(std::move(request));
    if (!id) return fail(not_taken(*model_, id.error()));
    running_.push_back(*id);
    ++open_;
  }
}

void RowJob::fail(const ApiError& error) {
  for (const auto id : running_) model_->engine->cancel(id);
  failed_ = true;
  if (!std::exchange(over_, true)) exchange_->send_error(error);
}

void RowJob::ended(std::size_t index, const engine::Finished& finished) {
  {
    const std::lock_guard lock(mutex_);
    --open_;
    std::erase(running_, finished.request);
    const bool read = finished.reason == engine::FinishReason::kStop && !results_.values[index].empty();
    if (read) results_.prompt_tokens += finished.usage.prompt_tokens;
    if (!over_) {
      if (finished.error) return fail(from_internal(*finished.error));
      if (finished.reason == engine::FinishReason::kDeadline)
        return fail({504, "server_error", "The deadline passed before all was read.", "", "deadline_exceeded"});
      if (!read) return fail({503, "server_error", "The service is stopping.", "", ""});
      submit_more();
    }
    if (open_ > 0 || failed_) return;
  }
  store::Tokens used;
  used.prompt = results_.prompt_tokens;
  if (exchange_->metrics() != nullptr) exchange_->metrics()->used(model_->id, tenant_of(*exchange_), used);
  const char* outcome = over_ ? "cancelled" : "stop";
  exchange_->note_use(model_->id, used, outcome);
  std::optional<store::Content> kept;
  if (!content_.empty()) kept = seal(*exchange_, content_, audit_);
  charge_->settle(outcome, used, [self = shared_from_this()](bool entered) { self->complete(entered); }, std::move(kept));
}

// Only what is in the ledger, and on record, is given.
void RowJob::complete(bool entered) {
  {
    const std::lock_guard lock(mutex_);
    if (over_ && audit_.empty()) return;
    if (!entered && !over_) return fail({500, "server_error", "The accounts cannot be reached; this answer was not given.", "", "store_unavailable"});
    store::Tokens used;
    used.prompt = results_.prompt_tokens;
    if (!audit_.empty()) add_usage(audit_, used, over_ ? "cancelled" : "complete");
  }
  keep(*exchange_, std::move(audit_), [self = shared_from_this()](const Status& kept) { self->give(kept.has_value()); });
}

void RowJob::give(bool kept) {
  const std::lock_guard lock(mutex_);
  if (over_) return;
  if (!kept) return fail(not_kept());
  over_ = true;
  exchange_->send_json(200, answer_(std::move(results_)));
}

// The client has gone: what runs is cancelled, the rest never begins.
void RowJob::leave() {
  const std::lock_guard lock(mutex_);
  over_ = true;
  for (const auto id : running_) model_->engine->cancel(id);
}

ApiResult<void> check_text(const ServedModel& model, const std::vector<engine::TokenId>& ids, const char* param) {
  if (ids.empty()) return tl::unexpected(bad_request(param, std::string("'") + param + "' is empty."));
  if (const auto longest = model.engine->max_read_tokens(); static_cast<std::int64_t>(ids.size()) > longest) {
    ApiError error = bad_request(param, "This model reads " + std::to_string(longest) + " tokens; the text has " +
                                            std::to_string(ids.size()) + ".");
    error.code = "context_length_exceeded";
    return tl::unexpected(std::move(error));
  }
  for (const auto id : ids)
    if (id < 0 || id >= model.engine->vocab())
      return tl::unexpected(bad_request(param, "token id " + std::to_string(id) + " is outside the vocabulary."));
  return {};
}

}  // namespace qw::api
