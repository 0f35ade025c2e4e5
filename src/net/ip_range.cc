#include "net/ip_range.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <vector>

namespace qw::net {
namespace {

constexpr int kMappedBits = 96;  // of ::ffff:0:0/96, in which IPv4 lies

std::optional<std::array<std::uint8_t, 16>> bytes_of(std::string_view text, bool& v4) {
  std::array<std::uint8_t, 16> out{};
  const std::string z(text);
  if (z.size() != text.size() || z.find('\0') != std::string::npos) return std::nullopt;
  v4 = ::inet_pton(AF_INET, z.c_str(), out.data() + 12) == 1;
  if (v4) {
    out[10] = out[11] = 0xff;
    return out;
  }
  if (::inet_pton(AF_INET6, z.c_str(), out.data()) != 1) return std::nullopt;
  return out;
}

bool bit(const std::array<std::uint8_t, 16>& bytes, int i) {
  return (bytes[static_cast<std::size_t>(i / 8)] >> (7 - i % 8) & 1) != 0;
}

}  // namespace

std::optional<IpRange> IpRange::parse(std::string_view text) {
  const auto slash = text.find('/');
  bool v4 = false;
  const auto bytes = bytes_of(text.substr(0, slash), v4);
  if (!bytes) return std::nullopt;
  IpRange out;
  out.bytes_ = *bytes;
  if (slash == std::string_view::npos) return out;
  const std::string_view mask = text.substr(slash + 1);
  int bits = -1;
  const auto [end, error] = std::from_chars(mask.data(), mask.data() + mask.size(), bits);
  if (error != std::errc() || end != mask.data() + mask.size() || bits < 0 || bits > (v4 ? 32 : 128))
    return std::nullopt;
  out.bits_ = v4 ? kMappedBits + bits : bits;
  for (int i = out.bits_; i < 128; ++i)
    if (bit(out.bytes_, i)) return std::nullopt;
  return out;
}

bool IpRange::contains(std::string_view address) const {
  bool v4 = false;
  const auto bytes = bytes_of(address, v4);
  if (!bytes) return false;
  for (int i = 0; i < bits_; ++i)
    if (bit(*bytes, i) != bit(bytes_, i)) return false;
  return true;
}

bool is_public_address(std::string_view address) {
  // RFC 6890 and what came after; within IPv6 only 2000::/3 is given out at all.
  static const std::vector<IpRange> kNot = [] {
    std::vector<IpRange> out;
    for (const char* text :
         {"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
          "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
          "224.0.0.0/3", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"})
      out.push_back(*IpRange::parse(text));
    return out;
  }();
  static const IpRange kV4 = *IpRange::parse("0.0.0.0/0"), kV6 = *IpRange::parse("2000::/3");
  if (!kV4.contains(address) && !kV6.contains(address)) return false;
  return std::none_of(kNot.begin(), kNot.end(), [&](const IpRange& range) { return range.contains(address); });
}

bool is_loopback_host(std::string_view host) {
  static const IpRange loopback = *IpRange::parse("127.0.0.0/8");
  return host == "localhost" || host == "::1" || (host.find(':') == std::string_view::npos && loopback.contains(host));
}

std::string_view address_of(std::string_view remote) { return remote.substr(0, remote.rfind(':')); }

}  // namespace qw::net
