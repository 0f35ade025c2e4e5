// Ends a thinking block that has become too long or repeats itself, so that the answer still comes; and an answer that
// repeats itself.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "sampling/logits_processor.h"
#include "sampling/loop_watch.h"
#include "tokenizer/tokenizer.h"

namespace qw::sampling {

// After `budget` tokens of thinking (0: at once) "\n</think>\n\n" is forced, at the next border of characters. `open`:
// the prompt ends inside a block; otherwise one counts that the output begins with. `tokenizer` must outlive the
// processor.
std::unique_ptr<LogitsProcessor> make_thinking_budget(const tokenizer::Tokenizer& tokenizer, std::int64_t budget,
                                                      bool open);

// The same, without a budget if there is none. Thinking that repeats itself (`loops`, may be null) is ended as one that
// has used its budget; when the rest does, `loops` is told to end the answer, which whoever receives it asks for.
std::unique_ptr<LogitsProcessor> make_thinking_watch(const tokenizer::Tokenizer& tokenizer,
                                                     std::optional<std::int64_t> budget, bool open,
                                                     std::shared_ptr<LoopWatch> loops);

}  // namespace qw::sampling
