#include "tokenizer/retrieval_prompt.h"

#include "tokenizer/prompt.h"

namespace qw::tokenizer {
namespace {

// The words the ranking models were trained with; others give other scores.
constexpr std::string_view kRankBegin =
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    "provided. "
    "Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n";
constexpr std::string_view kRankEnd = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

}  // namespace

std::string query_prefix(std::string_view instruction) {
  std::string out;
  if (!instruction.empty()) out.append("Instruct: ").append(instruction).append("\nQuery:");
  return out;
}

std::vector<TokenId> embedding_prompt(const Tokenizer& tokenizer, std::string_view text, std::string_view instruction) {
  std::string whole = query_prefix(instruction);
  whole += text;
  auto ids = encode_prompt(tokenizer, whole, true);
  if (const auto end = tokenizer.find(kEmbeddingEnd)) ids.push_back(*end);
  return ids;
}

std::vector<TokenId> ranking_prompt(const Tokenizer& tokenizer, std::string_view instruction, std::string_view query,
                                    std::string_view document) {
  std::string pair = "<Instruct>: ";
  pair.append(instruction).append("\n<Query>: ").append(query).append("\n<Document>: ").append(document);
  const PromptPart parts[] = {{kRankBegin, false}, {pair, true}, {kRankEnd, false}};
  return encode_prompt(tokenizer, parts);
}

}  // namespace qw::tokenizer
