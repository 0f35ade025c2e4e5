// What models that embed or rank are given to read, and what their rows mean. The one way for the protocols and the
// terminal.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace qw::api {

// What the makers of the models put where a caller says nothing.
inline constexpr std::string_view kDefaultInstruction =
    "Given a web search query, retrieve relevant passages that answer the query";

struct EmbeddingTask {
  std::int64_t width = 0;  // numbers of a whole embedding
  bool normalise = true;   // to length 1
};

// How a row becomes the relevance of a document, 0 to 1: the share of number `yes` against number `no`; `no` = -1: the
// sigmoid of number `yes`.
struct RankTask {
  std::int64_t yes = 0, no = -1;
};

// Ends a text whose embedding is wanted.
inline constexpr std::string_view kEmbeddingEnd = "<|endoftext|>";

// The text, after "Instruct: <instruction>\nQuery:" if there is an instruction, and <|endoftext|>, whose row the
// embedding is, where the vocabulary has it. Special tokens in either are ordinary text.
std::vector<tokenizer::TokenId> embedding_prompt(const tokenizer::Tokenizer& tokenizer, std::string_view text,
                                                 std::string_view instruction);
// The question whether the document answers the query, up to where "yes" or "no" follows.
std::vector<tokenizer::TokenId> ranking_prompt(const tokenizer::Tokenizer& tokenizer, std::string_view instruction,
                                               std::string_view query, std::string_view document);

// Of a language model: the tokens "yes" and "no". Nothing if they are no single tokens.
std::optional<RankTask> ranking_by_tokens(const tokenizer::Tokenizer& tokenizer);
// Of a head with these labels (`outputs` of them, or unnamed): "yes" and "no", or its only number.
std::optional<RankTask> ranking_by_labels(std::span<const std::string> labels, std::int64_t outputs);
float relevance(const RankTask& task, std::span<const float> row);

}  // namespace qw::api
