// Addresses of the web, http and https only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace qw::net {

struct Url {
  bool tls = false;       // https
  std::string host;       // lower case; an IPv6 address without its brackets
  std::uint16_t port = 0;
  std::string target;     // path and query, begins with '/'; percent-encoded as given
  std::string user_info;  // "name:password" before '@', percent-encoded; empty for nearly all

  std::string authority() const;  // host[:port], the port only if it is not the scheme's own
  std::string text() const;       // without user_info, so that it may stand in messages
  bool same_origin(const Url& other) const { return tls == other.tls && host == other.host && port == other.port; }
};

// kBadInput with the reason: another scheme, no host, a bad port, or bytes that have no place in an address.
Result<Url> parse_url(std::string_view text);
// What `reference` (of a Location or Link header) means on the page `base`. A fragment is dropped.
Result<Url> resolve_reference(const Url& base, std::string_view reference);

// Encodes everything but letters, digits, "-._~" and the bytes of `keep`.
std::string percent_encode(std::string_view text, std::string_view keep = "");

}  // namespace qw::net
