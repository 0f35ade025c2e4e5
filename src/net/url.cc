#include "net/url.h"

#include <algorithm>
#include <charconv>

namespace qw::net {
namespace {

// Longer addresses are refused by common servers; signed addresses of files have some 2 KB.
constexpr std::size_t kMaxUrlBytes = 16 * 1024;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

bool begins_with_scheme(std::string_view text) {
  const std::size_t colon = text.find("://");
  return colon != std::string_view::npos && colon > 0 &&
         std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(colon), [](char c) {
           return (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
         });
}

Status split_port(std::string_view& host, std::uint16_t& port) {
  const std::size_t bracket = host.rfind(']');
  const std::size_t colon = host.find(':', bracket == std::string_view::npos ? 0 : bracket);
  if (colon == std::string_view::npos) return {};
  const std::string_view digits = host.substr(colon + 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size() || port == 0)
    return fail(ErrorKind::kBadInput, "bad port in the address");
  host = host.substr(0, colon);
  return {};
}

bool host_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

bool address_byte(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || c == ':' || c == '.'; }

Status set_host(std::string_view host, Url& url) {
  url.host.clear();
  for (const char c : host) url.host += lower(c);
  bool good = !url.host.empty();
  if (good && url.host.front() == '[') {
    good = url.host.size() > 2 && url.host.back() == ']';
    if (good) url.host = url.host.substr(1, url.host.size() - 2);
    good = good && std::all_of(url.host.begin(), url.host.end(), address_byte);
  } else {
    good = good && std::all_of(url.host.begin(), url.host.end(), host_byte);
  }
  if (!good) return fail(ErrorKind::kBadInput, "bad host in the address");
  return {};
}

}  // namespace

std::string Url::authority() const {
  const std::string shown = host.find(':') == std::string::npos ? host : "[" + host + "]";
  return port == (tls ? 443 : 80) ? shown : shown + ":" + std::to_string(port);
}

std::string Url::text() const { return (tls ? "https://" : "http://") + authority() + target; }

Result<Url> parse_url(std::string_view text) {
  if (text.size() > kMaxUrlBytes) return fail(ErrorKind::kBadInput, "address is longer than 16 KB");
  for (const char c : text) {
    // Anything else must be percent-encoded; bytes that could end a header line least of all.
    if (c <= ' ' || c > '~') return fail(ErrorKind::kBadInput, "address has bytes that must be percent-encoded");
  }
  Url url;
  std::string scheme;
  for (const char c : text.substr(0, text.find(':'))) scheme += lower(c);
  if (!begins_with_scheme(text) || (scheme != "http" && scheme != "https"))
    return fail(ErrorKind::kBadInput, "address must begin with http:// or https://");
  url.tls = scheme == "https";
  text.remove_prefix(scheme.size() + 3);
  text = text.substr(0, text.find('#'));
  const std::size_t end = std::min(text.find_first_of("/?"), text.size());
  std::string_view host = text.substr(0, end);
  url.target = text.substr(end);
  if (url.target.empty() || url.target.front() != '/') url.target.insert(0, "/");
  if (const std::size_t at = host.rfind('@'); at != std::string_view::npos) {
    url.user_info = host.substr(0, at);
    host.remove_prefix(at + 1);
  }
  url.port = url.tls ? 443 : 80;
  QW_TRY(split_port(host, url.port));
  QW_TRY(set_host(host, url));
  return url;
}

Result<Url> resolve_reference(const Url& base, std::string_view reference) {
  if (begins_with_scheme(reference)) return parse_url(reference);
  if (reference.starts_with("//")) return parse_url((base.tls ? "https:" : "http:") + std::string(reference));
  std::string target;
  if (reference.starts_with('/')) {
    target = reference;
  } else {
    const std::string path = base.target.substr(0, base.target.find('?'));
    target = reference.starts_with('?') ? path + std::string(reference)
                                        : path.substr(0, path.rfind('/') + 1) + std::string(reference);
  }
  return parse_url((base.tls ? "https://" : "http://") + base.authority() + target);
}

std::string percent_encode(std::string_view text, std::string_view keep) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~").find(c) != std::string_view::npos;
    if (plain || keep.find(c) != std::string_view::npos) {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
  return out;
}

}  // namespace qw::net
