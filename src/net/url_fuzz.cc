// Addresses come from redirects, which are foreign bytes: what parses must parse again from its own text, unchanged.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "net/url.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto base = qw::net::parse_url("https://example.org:8443/a/b?c=d");
  for (const auto& url : {qw::net::parse_url(text), qw::net::resolve_reference(*base, text)}) {
    if (!url) continue;
    const auto again = qw::net::parse_url(url->text());
    if (!again || !again->same_origin(*url) || again->target != url->target) std::abort();
  }
  return 0;
}
