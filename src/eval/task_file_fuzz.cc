// Task files of any bytes: one line that says what is wrong, or a task that words items.
#include <string_view>

#include "eval/example.h"
#include "eval/task.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto task = eval::parse_task(text, "fuzz.toml");
  if (!task) {
    QW_CHECK(task.error().message.starts_with("fuzz.toml"));
    return 0;
  }
  const eval::Item item{
      {{"question", "q"}, {"choices", json::Array{"a", "b"}}, {"answer", 0}, {"text", "t u"}}, "group", "item"};
  const auto example = eval::word(*task, item);
  if (!example) {
    QW_CHECK(!example.error().message.empty());
  } else if (task->kind != eval::Kind::kPerplexity) {
    const eval::Example* const shots[] = {&*example};
    QW_CHECK(eval::prompts_of(*task, *example, shots, false).size() == example->contexts.size());
    for (const auto& rule : task->rules)
      if (const auto taken = eval::extracted(rule, "The answer is 42.\n");
          taken && rule.metric != eval::Metric::kProgram)
        (void)eval::score(rule, *taken, example->targets);
  }
  return 0;
}
