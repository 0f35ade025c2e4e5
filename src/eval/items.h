// The items of a task: rows of JSON lines, JSON, CSV, SQuAD's JSON or documents of a text, plain or .xz.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "eval/task.h"
#include "json/value.h"

namespace qw::eval {

struct Item {
  json::Object fields;
  std::string group;  // what '*' stood for; ""
  std::string where;  // "file:line", or "file, item 3"
};

enum class Split : std::uint8_t { kItems, kShots };

// What a file of that name (its ending says what it is) holds. kBadInput naming `name` and the line. CSV fields are
// texts. Of SQuAD's form each question is an item: title, context, question, id, answers (a list of texts).
Result<std::vector<Item>> parse_items(std::string_view bytes, const std::string& name, const DataSpec& spec);

// The items of a task below `folder`, with the answers of a file of their own put in, and only those that `where`
// keeps. No file of the items: kBadInput which names all that would do; of examples: none.
Result<std::vector<Item>> read_items(const Task& task, const std::filesystem::path& folder, Split split);

}  // namespace qw::eval
