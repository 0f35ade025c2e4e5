#include "gguf_tokenizer.h"

#include "formats/tokenizer_gguf.h"
#include "tokenizer/gguf_vocabulary.h"

namespace qw::app {
namespace {

// The two rooms' plain data hold the same members; token types are a number in one and its name in the other.
template <class To, class From>
To same_vocabulary(From from) {
  To to;
  using Type = typename decltype(to.token_types)::value_type;
  for (const auto type : from.token_types) to.token_types.push_back(static_cast<Type>(type));
  to.tokens = std::move(from.tokens);
  to.model = std::move(from.model);
  to.merges = std::move(from.merges);
  to.scores = std::move(from.scores);
  to.add_space_prefix = from.add_space_prefix;
  to.space_prefix = std::move(from.space_prefix);
  to.pre = std::move(from.pre);
  to.bos = from.bos;
  to.eos = from.eos;
  to.pad = from.pad;
  to.eot = from.eot;
  to.add_bos = from.add_bos;
  to.chat_template = std::move(from.chat_template);
  return to;
}

}  // namespace

Result<tokenizer::TokenizerSpec> tokenizer_of_gguf(const formats::GgufFile& file) {
  QW_ASSIGN(auto vocabulary, formats::read_gguf_vocabulary(file));
  auto spec = tokenizer::spec_from_gguf(same_vocabulary<tokenizer::GgufVocabulary>(std::move(vocabulary)));
  if (!spec) return in_context(file.path().string(), std::move(spec).error());
  return spec;
}

Status write_gguf_tokenizer(const tokenizer::TokenizerSpec& spec, std::int64_t rows, formats::GgufMetadata& metadata) {
  QW_ASSIGN(auto vocabulary, tokenizer::spec_to_gguf(spec, rows));
  formats::write_gguf_vocabulary(same_vocabulary<formats::GgufVocabulary>(std::move(vocabulary)), metadata);
  return {};
}

}  // namespace qw::app
