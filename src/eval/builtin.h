// The tasks that come with the program: the files of src/eval/tasks.
#pragma once

#include <span>
#include <string_view>

#include "base/result.h"
#include "eval/task.h"

namespace qw::eval {

std::span<const std::string_view> builtin_tasks();  // by name
// kUsage naming those there are.
Result<Task> builtin_task(std::string_view name);

}  // namespace qw::eval
