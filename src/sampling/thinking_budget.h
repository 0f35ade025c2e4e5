// Ends a thinking block that has become too long, so that the answer still comes.
#pragma once

#include <cstdint>
#include <memory>

#include "sampling/logits_processor.h"
#include "tokenizer/tokenizer.h"

namespace qw::sampling {

// After `budget` tokens of thinking (0: at once) "\n</think>\n\n" is forced, at the next border of characters. `open`:
// the prompt ends inside a block; otherwise one counts that the output begins with. `tokenizer` must outlive the
// processor.
std::unique_ptr<LogitsProcessor> make_thinking_budget(const tokenizer::Tokenizer& tokenizer, std::int64_t budget,
                                                      bool open);

}  // namespace qw::sampling
