// What models that embed or rank are given to read, and what their rows mean. The one way for the protocols and the
// terminal.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/retrieval_prompt.h"
#include "tokenizer/tokenizer.h"

namespace qw::api {

using tokenizer::embedding_prompt;
using tokenizer::kDefaultInstruction;
using tokenizer::kEmbeddingEnd;
using tokenizer::ranking_prompt;

struct EmbeddingTask {
  std::int64_t width = 0;  // numbers of a whole embedding
  bool normalise = true;   // to length 1
};

// How a row becomes the relevance of a document, 0 to 1: the share of number `yes` against number `no`; `no` = -1: the
// sigmoid of number `yes`.
struct RankTask {
  std::int64_t yes = 0, no = -1;
};

// Of a language model: the tokens "yes" and "no". Nothing if they are no single tokens.
std::optional<RankTask> ranking_by_tokens(const tokenizer::Tokenizer& tokenizer);
// Of a head with these labels (`outputs` of them, or unnamed): "yes" and "no", or its only number.
std::optional<RankTask> ranking_by_labels(std::span<const std::string> labels, std::int64_t outputs);
float relevance(const RankTask& task, std::span<const float> row);

}  // namespace qw::api
