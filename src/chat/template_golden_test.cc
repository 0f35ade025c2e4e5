// Real chat templates rendered by Jinja2, if the reference data is there.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "base/file.h"
#include "chat/internal/text.h"
#include "chat/template.h"

namespace qw::chat {
namespace {

std::filesystem::path shared_folder() {
  if (const char* given = std::getenv("QW_SHARED")) return given;
  return std::filesystem::path(QW_SOURCE_DIR) / ".." / "shared";
}

json::Object variables_of(const json::Value& row) {
  json::Object variables;
  for (const auto& [key, value] : row.as_object())
    if (key != "template" && key != "case" && key != "text" && key != "assistant_char_spans") variables.set(key, value);
  return variables;
}

// Python counts characters.
std::size_t characters(std::string_view text, std::size_t bytes) { return internal::char_count(text.substr(0, bytes)); }

TEST(TemplateGolden, EveryConversationOfEveryTemplate) {
  const auto folder = shared_folder() / "data/tokenizer";
  if (!std::filesystem::exists(folder / "golden_chat.jsonl"))
    GTEST_SKIP() << "no reference data at " << folder << " (set QW_SHARED)";
  const auto text = base::read_file(folder / "golden_chat.jsonl");
  ASSERT_TRUE(text) << text.error().message;
  std::istringstream lines(*text);
  int rows = 0;
  for (std::string line; std::getline(lines, line); ++rows) {
    const auto row = json::parse(line);
    ASSERT_TRUE(row) << row.error().message;
    const std::string name = row->find("template")->as_string();
    SCOPED_TRACE(name + " " + row->find("case")->as_string());
    const auto source = base::read_file(folder / "templates" / name);
    ASSERT_TRUE(source) << source.error().message;
    const auto parsed = Template::parse(*source);
    ASSERT_TRUE(parsed) << parsed.error().message;
    const auto rendered = parsed->render(variables_of(*row));
    ASSERT_TRUE(rendered) << rendered.error().message;
    EXPECT_EQ(rendered->text, row->find("text")->as_string());
    const json::Value* spans = row->find("assistant_char_spans");
    if (!spans) continue;
    EXPECT_TRUE(rendered->generation_exact);
    ASSERT_EQ(rendered->generation.size(), spans->as_array().size());
    for (std::size_t i = 0; i < rendered->generation.size(); ++i) {
      const auto& span = spans->as_array()[i].as_array();
      EXPECT_EQ(static_cast<std::int64_t>(characters(rendered->text, rendered->generation[i].begin)), span[0].as_int());
      EXPECT_EQ(static_cast<std::int64_t>(characters(rendered->text, rendered->generation[i].end)), span[1].as_int());
    }
  }
  EXPECT_GE(rows, 100);
}

}  // namespace
}  // namespace qw::chat
