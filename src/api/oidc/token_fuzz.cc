// Tokens and keys from anybody: no crash, and nothing is believed. Input: keys, a zero byte, a token.
#include <cstdint>
#include <cstdlib>

#include "api/oidc/token.h"
#include "base/base64.h"

using namespace qw::api::oidc;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const auto zero = all.find('\0');
  const auto keys = parse_keys(all.substr(0, zero));
  if (const auto bytes = qw::base::from_base64url(all); bytes && qw::base::to_base64url(*bytes) != all) std::abort();
  if (zero == std::string_view::npos || !keys) return 0;
  (void)verify(all.substr(zero + 1), *keys, {"https://id.example", "client", "nonce", 1'790'000'000, 60});
  return 0;
}
