// One HTTP request whose answer is made of rows: its texts go through the engine in the batches of everybody else, and
// what their rows mean is answered when the last one is there.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "api/accounts.h"
#include "api/exchange.h"
#include "api/served_model.h"

namespace qw::api {

struct RowResults {
  std::vector<std::vector<float>> values;  // by prompt
  std::int64_t prompt_tokens = 0;
};

// The prompts by the first number of their rows, highest first, equals in their order; at most `most` of them.
std::vector<std::size_t> best_first(const RowResults& results, std::optional<std::int64_t> most);

class RowJob : public std::enable_shared_from_this<RowJob> {
 public:
  // `reduce` makes of a prompt's last row what is kept; `answer` the body of the reply, status 200. Both run on the
  // engine's thread and must not throw.
  using Reduce = std::function<std::vector<float>(std::span<const float> row)>;
  using AnswerBody = std::function<json::Value(RowResults results)>;
  // Reserves what the prompts cost, and lives until the last has ended. `prompts` are not empty and checked (check_text).
  static void start(std::shared_ptr<Exchange> exchange, ModelLease model,
                    std::vector<std::vector<engine::TokenId>> prompts, Reduce reduce, AnswerBody answer);

 private:
  class Item;
  RowJob(std::shared_ptr<Exchange> exchange, ModelLease model, std::vector<std::vector<engine::TokenId>> prompts,
         Reduce reduce, AnswerBody answer, std::shared_ptr<Charge> charge);
  void run();
  json::Object what_is_read() const;
  void complete(bool entered);
  void give(bool kept);
  void submit_more();  // under the mutex
  void fail(const ApiError& error);  // under the mutex
  void ended(std::size_t index, const engine::Finished& finished);
  void leave();

  const std::shared_ptr<Exchange> exchange_;
  const ModelLease model_;
  std::vector<std::vector<engine::TokenId>> prompts_;
  const Reduce reduce_;
  const AnswerBody answer_;
  const std::shared_ptr<Charge> charge_;  // settled before the answer is given, or when all that was cancelled has ended
  json::Object audit_;                    // for the audit log; empty: there is none
  json::Object content_;                  // what is kept of it, encrypted; empty: nothing
  std::mutex mutex_;
  RowResults results_;
  std::vector<engine::RequestId> running_;
  std::size_t next_ = 0, open_ = 0;
  bool over_ = false;    // answered, or nobody waits
  bool failed_ = false;  // an error was answered: it costs nothing
};

// The text as ids fits the model, and every id is one.
ApiResult<void> check_text(const ServedModel& model, const std::vector<engine::TokenId>& ids, const char* param);

}  // namespace qw::api
