// Drafts by layers of the model itself which were trained to say later tokens (Gloeckle et al., "Better & faster large
// language models via multi-token prediction", 2024; models::Model::draft). They take what the model kept of each row
// and fill their own layers of the same cache.
//
// Nothing is computed for requests that are not drafted for: their rows are kept, and read by the drafting layers when
// the first draft is wanted.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "engine/drafter.h"
#include "engine/step_executor.h"

namespace qw::engine {

class LayerDrafter final : public Drafter {
 public:
  // The executor of the engine that asks, which has layers that draft.
  explicit LayerDrafter(StepExecutor& executor) : executor_(executor) {}
  double expected_acceptance(std::int32_t) const override { return 0.7; }
  bool wants_rows() const override { return true; }
  void computed(RequestId request, std::int64_t position, std::int64_t first_row, std::int64_t rows) override;
  void restarted(RequestId request) override { sequences_.erase(request); }
  Status propose(std::span<DraftJob> jobs) override;
  void forget(RequestId request) override { sequences_.erase(request); }

 private:
  // Rows from position `done` on, one after the other, which the drafting layers have not read.
  struct Followed {
    std::vector<float> given;
    std::size_t width = 0;  // of one row
    std::int64_t done = 0;
    std::int64_t rows() const { return width == 0 ? 0 : static_cast<std::int64_t>(given.size() / width); }
    std::vector<float> last;  // what the drafting layers kept of their last row
    bool given_up = false;    // it waited too long to be worth reading
  };
  struct Work {
    DraftJob* job;
    Followed* followed;
    std::int64_t rows;  // of the step
  };
  void add_row(const Work& work, std::int64_t position, TokenId next, std::span<const float> given);
  void clear();
  Status run(std::span<const std::int32_t> logit_rows);
  Status read();
  Status guess_next();
  void take(const Work& work, std::int64_t logit, std::int64_t row);

  StepExecutor& executor_;
  std::unordered_map<RequestId, Followed> sequences_;
  std::vector<Work> work_;
  // Of one step.
  std::vector<std::int32_t> tokens_, positions_, rows_sequences_, logit_rows_, prompts_;
  std::vector<std::span<const std::int32_t>> tables_;
  std::vector<float> given_;
  sampling::SamplerScratch scratch_;
};

}  // namespace qw::engine
