// Any bytes: encoding loses none, decoding is valid UTF-8, the stream decoder's pieces are whole and join to the text.
// The first byte chooses normalisation, pre-tokeniser and the parsing of added tokens.
#include <cstddef>
#include <cstdint>

#include "tokenizer/internal/unicode.h"
#include "base/utf8.h"
#include "tokenizer/stream_decoder.h"
#include "tokenizer/tokenizer.h"

namespace {

using namespace qw::tokenizer;  // NOLINT: a fuzz target is a program of its own

Tokenizer make(bool nfc, const char* pre) {
  std::optional<std::string_view> text =
      "the cat sat on the mat 白日依山盡，黃河入海流。白日黃河 aaaa aaaaaaaa ==== e\u0301";
  auto spec = train_bpe([&] { return std::exchange(text, std::nullopt); },
                        {.vocab = 320, .min_frequency = 1, .added_tokens = {"<|im_start|>", "<|im_end|>", "<think>"}});
  QW_CHECK(spec.has_value());
  spec->nfc = nfc;
  spec->pre_tokenizer = pre;
  auto tokenizer = Tokenizer::create(std::move(*spec));
  QW_CHECK(tokenizer.has_value());
  return std::move(*tokenizer);
}

std::string valid(std::string_view bytes) {
  std::string out;
  qw::base::append_valid_utf8(out, bytes, true);
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Tokenizer tokenizers[] = {make(false, "qwen2"), make(true, "qwen2"), make(false, "qwen35"),
                                         make(true, "qwen35")};
  if (size == 0) return 0;
  const Tokenizer& t = tokenizers[data[0] % 4];
  const bool parse = (data[0] & 4) != 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const auto ids = t.encode(text, parse);
  const std::string bytes = t.decode_bytes(ids, false);
  if (!t.spec().nfc) {
    QW_CHECK(bytes == text);
  } else {
    QW_CHECK(to_nfc(bytes) == to_nfc(text));
  }
  const std::string decoded = t.decode(ids, false);
  QW_CHECK(decoded == valid(bytes));
  StreamDecoder stream(t, false);
  std::string joined;
  for (const TokenId id : ids) {
    const std::string piece = stream.push(id);
    QW_CHECK(valid(piece) == piece);
    joined += piece;
  }
  QW_CHECK(joined + stream.finish() == decoded);
  return 0;
}
