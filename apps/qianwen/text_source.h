// Text that a command works on, and the text side of a MODEL: a .gguf file, a Hugging Face folder (for the tokenizer
// its tokenizer files are enough), "mini" (shipped), or a name in the model store.
#pragma once

#include <string>

#include "base/result.h"
#include "formats/gguf.h"
#include "tokenizer/tokenizer.h"

namespace qw::app {

// "-" reads standard input.
Result<std::string> read_text(const std::string& path);

// The folder of the model store: QW_MODELS, else $XDG_DATA_HOME/qianwen/models.
std::string model_store();
// Where MODEL is on disk. kBadInput if there is nothing of that name.
Result<std::string> resolve_model(const std::string& model);

Result<tokenizer::TokenizerSpec> tokenizer_of(const std::string& model);
Result<tokenizer::TokenizerSpec> tokenizer_of_gguf(const formats::GgufFile& file);

}  // namespace qw::app
