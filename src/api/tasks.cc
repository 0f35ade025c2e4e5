#include "api/tasks.h"

#include <algorithm>

#include "engine/scores.h"
#include "tokenizer/prompt.h"

namespace qw::api {
namespace {

using tokenizer::PromptPart;

// The words the ranking models were trained with; others give other scores.
constexpr std::string_view kRankBegin =
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    "Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n";
constexpr std::string_view kRankEnd = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
constexpr std::string_view kYes = "yes", kNo = "no";

}  // namespace

std::vector<tokenizer::TokenId> embedding_prompt(const tokenizer::Tokenizer& tokenizer, std::string_view text,
                                                 std::string_view instruction) {
  std::string whole;
  if (!instruction.empty()) whole.append("Instruct: ").append(instruction).append("\nQuery:");
  whole += text;
  auto ids = tokenizer::encode_prompt(tokenizer, whole, true);
  if (const auto end = tokenizer.find(kEmbeddingEnd)) ids.push_back(*end);
  return ids;
}

std::vector<tokenizer::TokenId> ranking_prompt(const tokenizer::Tokenizer& tokenizer, std::string_view instruction,
                                               std::string_view query, std::string_view document) {
  std::string pair = "<Instruct>: ";
  pair.append(instruction).append("\n<Query>: ").append(query).append("\n<Document>: ").append(document);
  const PromptPart parts[] = {{kRankBegin, false}, {pair, true}, {kRankEnd, false}};
  return tokenizer::encode_prompt(tokenizer, parts);
}

std::optional<RankTask> ranking_by_tokens(const tokenizer::Tokenizer& tokenizer) {
  const auto yes = tokenizer.find(kYes), no = tokenizer.find(kNo);
  if (!yes || !no) return std::nullopt;
  return RankTask{*yes, *no};
}

std::optional<RankTask> ranking_by_labels(std::span<const std::string> labels, std::int64_t outputs) {
  if (outputs == 1) return RankTask{0, -1};
  const auto place = [&](std::string_view label) {
    return static_cast<std::int64_t>(std::find(labels.begin(), labels.end(), label) - labels.begin());
  };
  const RankTask task{place(kYes), place(kNo)};
  const auto n = static_cast<std::int64_t>(labels.size());
  return task.yes < n && task.no < n ? std::optional(task) : std::nullopt;
}

float relevance(const RankTask& task, std::span<const float> row) {
  return task.no < 0 ? engine::sigmoid(row[static_cast<std::size_t>(task.yes)]) : engine::share_of(row, task.yes, task.no);
}

}  // namespace qw::api
