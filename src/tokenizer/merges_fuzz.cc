// Any bytes as merges.txt beside a small vocab.json, and as qwen.tiktoken.
#include <cstddef>
#include <cstdint>

#include "tokenizer/internal/folder_files.h"

namespace {

using namespace qw::tokenizer;  // NOLINT: a fuzz target is a program of its own

void try_spec(TokenizerSpec spec) {
  const auto tokenizer = Tokenizer::create(std::move(spec));
  if (!tokenizer) return;
  const std::string text = "aaabab the cat \xE6\x98\xA5\xFF";
  QW_CHECK(tokenizer->decode_bytes(tokenizer->encode(text), false) == text);
}

TokenizerSpec small_vocabulary() {
  qw::json::Object vocab;
  for (int b = 0; b < 256; ++b) vocab.set(bytes_to_letters(std::string(1, static_cast<char>(b))), qw::json::Value(b));
  int id = 256;
  for (const char* token : {"aa", "ab", "aaa", "aab", "bab", "th", "the", " t"})
    vocab.set(bytes_to_letters(token), id++);
  FolderFiles files;
  files.vocab_json = qw::json::dump(vocab);
  files.merges_txt = "";
  auto spec = spec_from_files(files);
  QW_CHECK(spec.has_value());
  return std::move(*spec);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const TokenizerSpec vocabulary = small_vocabulary();
  const std::string text(reinterpret_cast<const char*>(data), size);
  TokenizerSpec merges = vocabulary, first;
  if (read_merges_txt(text, merges)) try_spec(std::move(merges));
  AddedReader added(first);
  if (read_tiktoken(text, added, first)) try_spec(std::move(first));
  return 0;
}
