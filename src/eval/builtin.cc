#include "eval/builtin.h"

#include <algorithm>
#include <array>
#include <string>

#include "builtin_tasks.h"

namespace qw::eval {
namespace {

constexpr std::array<std::string_view, 22> kNames{
    "arc_challenge", "arc_easy",  "boolq",      "ceval",   "cmmlu",    "cmrc2018", "copa", "drcd",
    "gsm8k",         "hellaswag", "humaneval",  "lambada", "mbpp",     "mmlu",     "piqa", "safetybench_zh",
    "text",          "wikitext",  "winogrande", "wsc273",  "xquad_en", "xquad_zh"};

}  // namespace

std::span<const std::string_view> builtin_tasks() { return kNames; }

Result<Task> builtin_task(std::string_view name) {
  if (std::find(kNames.begin(), kNames.end(), name) == kNames.end()) {
    std::string all;
    for (const std::string_view n : kNames) all += (all.empty() ? "" : ", ") + std::string(n);
    return fail(ErrorKind::kUsage,
                "no task '" + std::string(name) + "': expected a file that ends in .toml, or one of " + all);
  }
  const std::string file = std::string(name) + ".toml";
  return parse_task(embedded_tasks::file(file), file);
}

}  // namespace qw::eval
