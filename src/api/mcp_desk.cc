#include "api/mcp_desk.h"

#include <algorithm>
#include <utility>

#include "net/url.h"

namespace qw::api {
namespace {

bool is_label(const std::string& text) {
  return !text.empty() && text.size() <= 64 &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
             std::string::npos;
}

// `pattern` without its "*."; nothing if it is no address.
struct Pattern {
  net::Url url;
  bool below = false;
};
Result<Pattern> parse_pattern(std::string text) {
  Pattern out;
  const auto star = text.find("://*.");
  out.below = star != std::string::npos;
  if (out.below) text.erase(star + 3, 2);
  QW_ASSIGN(out.url, net::parse_url(text));
  if (!out.url.user_info.empty() || out.url.target.find('?') != std::string::npos)
    return fail(ErrorKind::kUsage, "an address with a password or a query");
  return out;
}

bool covers(const Pattern& pattern, const net::Url& url) {
  const net::Url& p = pattern.url;
  const bool host = url.host == p.host || (pattern.below && url.host.ends_with("." + p.host));
  if (!host || url.tls != p.tls || url.port != p.port || !url.target.starts_with(p.target)) return false;
  // A path that climbs, plainly or encoded, is not where it seems to be.
  if (url.target.find("..") != std::string::npos || url.target.find('%') != std::string::npos) return false;
  const bool border = p.target.ends_with('/') || url.target.size() == p.target.size();
  return border || url.target[p.target.size()] == '/' || url.target[p.target.size()] == '?';
}

}  // namespace

Result<McpServerName> parse_mcp_server(const std::string& text) {
  const auto at = text.find('=');
  McpServerName out{text.substr(0, at), at == std::string::npos ? "" : text.substr(at + 1)};
  if (!is_label(out.label)) return fail(ErrorKind::kUsage, "serve: --mcp-server " + text + ": expected LABEL=URL");
  const auto url = net::parse_url(out.url);
  if (!url) return fail(ErrorKind::kUsage, "serve: --mcp-server " + text + ": " + url.error().message);
  return out;
}

Status check_mcp_pattern(const std::string& pattern) {
  const auto parsed = parse_pattern(pattern);
  if (!parsed) return fail(ErrorKind::kUsage, "serve: --mcp-allow " + pattern + ": " + parsed.error().message);
  return {};
}

McpDesk::McpDesk(McpOptions options)
    : options_(std::move(options)), connector_(options_.limits), threads_(options_.threads) {}

McpDesk::~McpDesk() { stop(); }

ApiResult<mcp::Server> McpDesk::permitted(const std::string& label, const std::string& url,
                                          net::Headers headers) const {
  if (!is_label(label))
    return tl::unexpected(bad_request("tools", "'server_label' must be letters, digits, '_' and '-', at most 64."));
  for (const McpServerName& one : options_.servers)
    if (one.label == label && (url.empty() || url == one.url)) return mcp::Server{one.url, std::move(headers), true};
  if (url.empty())
    return tl::unexpected(bad_request("tools", "This service knows no MCP server of the label `" + label + "`."));
  const auto parsed = net::parse_url(url);
  if (!parsed || !parsed->user_info.empty())
    return tl::unexpected(bad_request("tools", "'server_url' is not an address of an MCP server."));
  for (const std::string& text : options_.patterns)
    if (const auto pattern = parse_pattern(text); pattern && covers(*pattern, *parsed))
      return mcp::Server{url, std::move(headers), false};
  return tl::unexpected(ApiError{403, "permission_error", "This service may not call the MCP server at this address.",
                                 "tools", "mcp_server_not_allowed"});
}

std::shared_ptr<std::atomic<bool>> McpDesk::cancellation() {
  const std::lock_guard lock(mutex_);
  std::erase_if(open_, [](const auto& one) { return one.expired(); });
  auto out = std::make_shared<std::atomic<bool>>(stopping_);
  open_.push_back(out);
  return out;
}

void McpDesk::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const auto& one : open_)
      if (const auto flag = one.lock()) flag->store(true);
  }
  threads_.stop();
}

}  // namespace qw::api
