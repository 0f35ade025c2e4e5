#include "api/tasks.h"

#include <algorithm>

#include "engine/scores.h"

namespace qw::api {
namespace {

using tokenizer::kNo;
using tokenizer::kYes;

}  // namespace

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
