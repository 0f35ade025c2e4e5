// Addresses and ranges of addresses, as access lists have them: "10.0.0.7", "10.0.0.0/8", "2001:db8::/32".
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace qw::net {

class IpRange {
 public:
  // Nothing if the text is no address or range, or names bits beyond its mask (10.0.0.1/8), which is usually a mistake.
  static std::optional<IpRange> parse(std::string_view text);
  // `address`: without a port. An IPv4 address written as IPv6 (::ffff:10.0.0.7) is the IPv4 address.
  bool contains(std::string_view address) const;

 private:
  std::array<std::uint8_t, 16> bytes_{};  // IPv4 as ::ffff:a.b.c.d
  int bits_ = 128;
};

// Whether an address is one of the public internet: not of this machine, a private network, a link, a test or a group, nor
// an IPv4 address of those written as IPv6 in whichever way. false for what is no address.
bool is_public_address(std::string_view address);

// Whether what is named is this machine alone: "localhost", "::1", or an address of 127.0.0.0/8. A name that only begins
// like one ("127.example.org") is somebody's.
bool is_loopback_host(std::string_view host);

// "127.0.0.1" of "127.0.0.1:52114", "::1" of "::1:52114".
std::string_view address_of(std::string_view remote);

}  // namespace qw::net
