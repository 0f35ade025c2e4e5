// Text that a command works on, and the text side of a MODEL: a .gguf file, a Hugging Face folder (for the tokenizer
// its tokenizer files are enough), "mini" (shipped), or a name in the model store.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "json/value.h"
#include "tokenizer/tokenizer.h"

namespace qw::app {

// Corpora that are scored or tokenised at once; more is a mistake, such as a device.
inline constexpr std::uint64_t kMaxTextBytes = std::uint64_t{1} << 30;
// A prompt: 16 bytes for each of the million tokens of the longest context there is.
inline constexpr std::uint64_t kMaxPromptBytes = std::uint64_t{16} << 20;
// "-" reads standard input. More than the limit is kBadInput.
Result<std::string> read_text(const std::string& path, std::uint64_t limit_bytes = kMaxTextBytes);

// One JSON string or {"text": ...} a line, empty lines left out. kBadInput naming the line.
Result<std::vector<std::string>> json_lines(std::string_view input);
Result<json::Value> read_json(const std::string& path);
// An array of messages, or an object that has one under "messages".
Result<json::Array> read_messages(const std::string& path);

// Token ids as people and scripts write them: "1,2,3", "1 2 3" or "[1, 2, 3]". kUsage naming the option.
Result<std::vector<tokenizer::TokenId>> parse_ids(const std::string& option, std::string_view text);

// Adds --models DIR to a command that takes a MODEL: the folder of the model store for this run.
void add_models_option(CLI::App& cmd);
// The folder of the model store: --models, QW_MODELS, else $XDG_DATA_HOME/qianwen/models.
std::string model_store();
// Where MODEL is on disk. kBadInput if there is nothing of that name.
Result<std::string> resolve_model(const std::string& model);

Result<tokenizer::TokenizerSpec> tokenizer_of(const std::string& model);

}  // namespace qw::app
