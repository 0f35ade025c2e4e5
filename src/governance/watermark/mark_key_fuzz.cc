// Any bytes are a file of keys or an error; what is one is written and read again as the same, and its keys judge any
// tokens with a probability.
#include <cstdint>
#include <cstring>

#include "base/result.h"
#include "governance/watermark/detector.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw::governance;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  (void)visible_text(bytes);
  const auto keys = MarkKeys::parse(bytes);
  if (!keys) return 0;
  const auto again = MarkKeys::parse(keys->dump());
  QW_CHECK(again && again->dump() == keys->dump());
  std::vector<TokenId> tokens(size / 4);
  if (!tokens.empty()) std::memcpy(tokens.data(), data, tokens.size() * 4);
  for (const MarkTest& test : detect_tokens(keys->all(), tokens, 1e-3).tests)
    QW_CHECK(test.p_corrected >= 0 && test.p_corrected <= 1);
  return 0;
}
