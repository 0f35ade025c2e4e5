// What models that embed or rank are given to read: the same when they are trained and when they serve.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {

// What the makers of the models put where a caller says nothing.
inline constexpr std::string_view kDefaultInstruction =
    "Given a web search query, retrieve relevant passages that answer the query";

// Ends a text whose embedding is wanted.
inline constexpr std::string_view kEmbeddingEnd = "<|endoftext|>";

// What stands before a query: "Instruct: <instruction>\nQuery:"; "" without an instruction.
std::string query_prefix(std::string_view instruction);

// The text, after query_prefix(), and <|endoftext|>, whose row the embedding is, where the vocabulary has it. Special
// tokens in either are ordinary text.
std::vector<TokenId> embedding_prompt(const Tokenizer& tokenizer, std::string_view text, std::string_view instruction);
// The question whether the document answers the query, up to where kYes or kNo follows.
std::vector<TokenId> ranking_prompt(const Tokenizer& tokenizer, std::string_view instruction, std::string_view query,
                                    std::string_view document);

inline constexpr std::string_view kYes = "yes", kNo = "no";

}  // namespace qw::tokenizer
