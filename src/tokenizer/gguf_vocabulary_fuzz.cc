// Any vocabulary of a GGUF file: an error, or a tokenizer that loses no byte and is the same after a way through the
// form of such files. Input, with NUL between: pre-tokeniser, tokens (lines), their types (a letter each, 'a' is 1),
// merges (lines), ids in decimal (bos, eos, pad, eot, lines).
#include <charconv>
#include <cstddef>
#include <cstdint>

#include "tokenizer/gguf_vocabulary.h"

namespace {

using namespace qw::tokenizer;  // NOLINT: a fuzz target is a program of its own

std::string_view cut(std::string_view& rest, char end) {
  const std::size_t at = std::min(rest.find(end), rest.size());
  const std::string_view part = rest.substr(0, at);
  rest.remove_prefix(std::min(at + 1, rest.size()));
  return part;
}

std::vector<std::string> lines(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) out.emplace_back(cut(text, '\n'));
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  GgufVocabulary vocabulary;
  vocabulary.pre = cut(rest, '\0');
  const bool characters = vocabulary.pre.starts_with("llama");
  if (characters) {
    vocabulary.model = "llama";
    vocabulary.space_prefix = vocabulary.pre.substr(5);
  }
  vocabulary.tokens = lines(cut(rest, '\0'));
  for (const char type : cut(rest, '\0')) vocabulary.token_types.push_back(type - 'a' + 1);
  vocabulary.merges = lines(cut(rest, '\0'));
  for (auto* id : {&vocabulary.bos, &vocabulary.eos, &vocabulary.pad, &vocabulary.eot}) {
    const std::string_view text = cut(rest, '\n');
    std::int64_t value = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc()) *id = value;
  }
  vocabulary.add_bos = size % 2 == 0;
  vocabulary.add_space_prefix = size % 3 != 0;
  if (characters) {  // the names of all bytes, of which an input would not guess enough
    for (int byte = 0; byte < 256; ++byte) {
      vocabulary.tokens.push_back("<0x" + std::string(1, "0123456789ABCDEF"[byte >> 4]) +
                                  "0123456789ABCDEF"[byte & 15] + ">");
      if (!vocabulary.token_types.empty()) vocabulary.token_types.push_back(static_cast<int>(GgufTokenType::kByte));
    }
    for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) vocabulary.scores.push_back(-static_cast<float>(i % 7));
  }
  const auto spec = spec_from_gguf(vocabulary);
  if (!spec) return 0;
  const auto tokenizer = Tokenizer::create(*spec);
  if (!tokenizer) return 0;
  const std::string text = "The cat <|im_start|> \xE6\x98\xA5\xFF";
  const auto ids = tokenizer->encode(text);
  std::string bytes = tokenizer->decode_bytes(ids, false), expected = text;
  if (characters) {  // a blank may have been put in front of each section
    std::erase(bytes, ' ');
    std::erase(expected, ' ');
  }
  QW_CHECK(bytes == expected);
  const auto written = spec_to_gguf(*spec);
  QW_CHECK(written.has_value());
  const auto again = spec_from_gguf(*written);
  QW_CHECK(again.has_value());
  const auto same = Tokenizer::create(*again);
  QW_CHECK(same.has_value() && same->encode(text) == ids);
  return 0;
}
