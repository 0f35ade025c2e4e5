// Drafts by a second, smaller model of the same vocabulary (Leviathan et al., 2023; Chen et al., 2023). It has a cache
// of its own, follows what the sequence really became, and draws as the request would: with its temperature and seed,
// so that two models of one opinion draw the same token.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "engine/drafter.h"
#include "engine/step_executor.h"
#include "kvcache/block_pool.h"

namespace qw::engine {

class ModelDrafter final : public Drafter {
 public:
  // Both must outlive the drafter and are used by nobody else meanwhile. `target_vocab` and `mask` are those of the
  // model whose requests are drafted. kUsage: rows narrower than the tokens in use, another head, layers with states.
  static Result<std::unique_ptr<ModelDrafter>> create(StepExecutor& executor, kvcache::BlockPool& pool,
                                                      std::int64_t context, std::int64_t target_vocab,
                                                      const sampling::VocabularyMask& mask);

  double expected_acceptance(std::int32_t) const override { return 0.6; }
  // A sequence whose text is not in the cache yet is read a step's rows at a time, and guessed for when it has been
  // read. One for which there is no room in the cache is not guessed for.
  Status propose(std::span<DraftJob> jobs) override;
  void forget(RequestId request) override { sequences_.erase(request); }

 private:
  struct Cached {
    kvcache::BlockTable table;
    std::vector<TokenId> tokens;  // in the cache
    std::uint64_t used = 0;       // round of the last use
  };
  struct Work {
    DraftJob* job = nullptr;
    Cached* cached = nullptr;
  };
  ModelDrafter(StepExecutor& executor, kvcache::BlockPool& pool, std::int64_t context)
      : executor_(executor), pool_(pool), context_(context) {}
  bool follow(DraftJob& job, Cached& cached);
  bool make_room(Cached& cached, std::int64_t tokens);
  Status run(std::span<const std::int32_t> logit_rows);
  Status read();
  Status guess_next();

  StepExecutor& executor_;
  kvcache::BlockPool& pool_;
  std::int64_t context_;
  std::unordered_map<RequestId, Cached> sequences_;
  std::uint64_t round_ = 0;
  std::vector<Work> work_;
  // Of one step.
  std::vector<std::int32_t> tokens_, positions_, rows_sequences_, logit_rows_, prompts_;
  std::vector<std::span<const std::int32_t>> tables_;
  sampling::SamplerScratch scratch_;
};

}  // namespace qw::engine
