// Any ids, two bytes each: pieces are valid UTF-8 and join to what decode gives.
#include <cstddef>
#include <cstdint>

#include "base/utf8.h"
#include "tokenizer/stream_decoder.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw::tokenizer;  // NOLINT: a fuzz target is a program of its own
  static const Tokenizer tokenizer = [] {
    std::optional<std::string_view> text =
        "白日依山盡，黃河入海流。白日黃河 \xF0\x9F\x98\x80\xF0\x9F\x98\x81 \xE6\x98 \xE6\x98";
    auto spec = train_bpe([&] { return std::exchange(text, std::nullopt); },
                          {.vocab = 300, .min_frequency = 1, .added_tokens = {"<|im_end|>", "<think>"}});
    QW_CHECK(spec.has_value());
    auto made = Tokenizer::create(std::move(*spec));
    QW_CHECK(made.has_value());
    return std::move(*made);
  }();
  std::vector<TokenId> ids;
  for (std::size_t i = 0; i + 1 < size; i += 2) ids.push_back((data[i] | (data[i + 1] << 8)) % 400 - 20);
  for (const bool skip : {false, true}) {
    StreamDecoder stream(tokenizer, skip);
    std::string joined;
    for (const TokenId id : ids) {
      const std::string piece = stream.push(id);
      std::string checked;
      qw::base::append_valid_utf8(checked, piece, true);
      QW_CHECK(checked == piece);
      joined += piece;
    }
    QW_CHECK(joined + stream.finish() == tokenizer.decode(ids, skip));
  }
  return 0;
}
