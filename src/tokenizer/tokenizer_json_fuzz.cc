// Any bytes as tokenizer.json, and with NUL bytes between them as the other files too. What loads must make a tokenizer
// or say why not, and what makes one must encode.
#include <cstddef>
#include <cstdint>

#include "tokenizer/internal/folder_files.h"
#include "tokenizer/stream_decoder.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw::tokenizer;  // NOLINT: a fuzz target is a program of its own
  FolderFiles files;
  std::optional<std::string>* texts[] = {&files.tokenizer_json, &files.tokenizer_config, &files.added_tokens,
                                         &files.special_tokens_map, &files.generation_config};
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  for (auto* text : texts) {
    const std::size_t end = std::min(rest.find('\0'), rest.size());
    *text = rest.substr(0, end);
    if (end == rest.size()) break;
    rest.remove_prefix(end + 1);
  }
  auto spec = spec_from_files(files);
  if (!spec) return 0;
  const auto tokenizer = Tokenizer::create(std::move(*spec));
  if (!tokenizer) return 0;
  const std::string text = "The cat <|im_start|> \xE6\x98\xA5\xFF";
  const auto ids = tokenizer->encode(text);
  if (!tokenizer->spec().characters) {
    QW_CHECK(tokenizer->decode_bytes(ids, false) == text);
    return 0;
  }
  // A blank may have been put in front of each section.
  std::string bytes = tokenizer->decode_bytes(ids, false), expected = text;
  std::erase(bytes, ' ');
  std::erase(expected, ' ');
  QW_CHECK(bytes == expected);
  std::string joined;
  StreamDecoder stream(*tokenizer);
  for (const TokenId id : ids) joined += stream.push(id);
  QW_CHECK(joined + stream.finish() == tokenizer->decode(ids));
  return 0;
}
