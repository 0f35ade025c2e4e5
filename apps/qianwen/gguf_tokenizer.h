// The tokenizer inside a GGUF file: the formats room reads and writes its keys, the tokenizer room knows what they mean.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "formats/gguf.h"
#include "tokenizer/tokenizer.h"

namespace qw::app {

Result<tokenizer::TokenizerSpec> tokenizer_of_gguf(const formats::GgufFile& file);
// `rows`: of the embedding table, which may have more than the tokenizer has ids.
Status write_gguf_tokenizer(const tokenizer::TokenizerSpec& spec, std::int64_t rows, formats::GgufMetadata& metadata);

}  // namespace qw::app
