// Any bytes are a file of content keys or an error; what is one is written and read again as the same, and seals what
// it opens again, and nothing that was changed.
#include <cstdint>
#include <string>

#include "base/result.h"
#include "governance/audit/content_keys.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw::governance;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  auto keys = ContentKeys::parse(bytes);
  if (!keys) {
    keys = ContentKeys();
    QW_CHECK(keys->add(1).has_value());
    // Foreign bytes are no content: as a body, as a key, as both.
    QW_CHECK(!keys->open("c", {keys->newest(), std::string(bytes), std::string(bytes)}));
    Sealed sealed = keys->seal("c", bytes);
    QW_CHECK(*keys->open("c", sealed) == bytes);
    if (size > 0) sealed.body[data[0] % sealed.body.size()] ^= static_cast<char>(1 << data[size - 1] % 8);
    QW_CHECK(size == 0 || !keys->open("c", sealed));
    return 0;
  }
  const auto again = ContentKeys::parse(keys->dump());
  QW_CHECK(again && again->dump() == keys->dump());
  if (!keys->empty()) QW_CHECK(*keys->open("c", keys->seal("c", bytes)) == bytes);
  return 0;
}
