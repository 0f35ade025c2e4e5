#include "mcp/internal/post.h"

#include <utility>

#include "mcp/event_stream.h"
#include "net/ip_range.h"
#include "net/url.h"

namespace qw::mcp::internal {

Result<net::HttpClient> make_http(const Server& server, const Limits& limits) {
  net::ClientOptions options;
  options.connect_timeout = limits.connect_time;
  options.idle_timeout = limits.time;
  options.max_redirects = 0;
  if (!server.private_addresses) {
    options.may_connect = [](std::string_view address) { return net::is_public_address(address); };
    options.proxies = {};  // a proxy would look the name up itself
  }
  return net::HttpClient::create(std::move(options));
}

Error without_address(Error error, const std::string& url) {
  if (const auto parsed = net::parse_url(url)) {
    const std::string start = parsed->authority() + ": ";
    if (error.message.starts_with(start)) error.message.erase(0, start.size());
  }
  if (const auto at = error.message.find(url); at != std::string::npos)
    error.message.replace(at, url.size(), "the server");
  return error;
}

Result<Posted> post(const net::HttpClient& http, const Server& server, const Limits& limits, net::Headers headers,
                    const std::string& text, std::int64_t id, const std::atomic<bool>* cancel) {
  net::ClientRequest request{"POST", server.url, server.headers, text};
  request.headers.emplace_back("Content-Type", "application/json");
  request.headers.emplace_back("Accept", "application/json, text/event-stream");
  for (auto& header : headers) request.headers.push_back(std::move(header));
  const auto until = std::chrono::steady_clock::now() + limits.time;

  Posted out;
  bool streams = false, stopped = false;
  std::size_t bytes = 0;
  EventStream events(limits.message_bytes);
  const auto on_head = [&](const net::ResponseHead& head) -> Status {
    out.status = head.status;
    out.session = net::find_header(head.headers, "Mcp-Session-Id");
    streams = net::find_header(head.headers, "Content-Type").starts_with("text/event-stream");
    // Nothing more is wanted of what accepts a notification.
    if (id == 0) {
      stopped = true;
      return fail(ErrorKind::kInterrupted, "");
    }
    return {};
  };
  const auto on_event = [&](const StreamEvent& event) -> Status {
    QW_ASSIGN(auto reply, read_reply(event.data, id));
    if (!reply) return {};
    out.reply = std::move(reply);
    stopped = true;
    return fail(ErrorKind::kInterrupted, "");  // ends the stream, which a server may keep open
  };
  const auto on_body = [&](std::string_view piece) -> Status {
    if (std::chrono::steady_clock::now() > until) return fail(ErrorKind::kFailed, "no answer in time");
    bytes += piece.size();
    if (bytes > 2 * limits.message_bytes)  // of a stream: what goes on before the answer counts, too
      return fail(ErrorKind::kBadInput, "an answer of more than " + std::to_string(limits.message_bytes) + " bytes");
    if (streams) return events.push(piece, on_event);
    if (out.body.size() + piece.size() > limits.message_bytes)
      return fail(ErrorKind::kBadInput, "an answer of more than " + std::to_string(limits.message_bytes) + " bytes");
    out.body += piece;
    return {};
  };
  const auto answer = http.fetch(request, on_head, on_body, cancel);
  if (!answer && !stopped) return tl::unexpected(without_address(answer.error(), server.url));
  if (id == 0 || out.reply) return out;
  if (streams) return fail(ErrorKind::kFailed, "the stream ended without an answer");
  if (out.body.empty()) return out;
  auto reply = read_reply(out.body, id);
  if (reply) {
    out.reply = std::move(*reply);
  } else if (out.status / 100 == 2) {
    return tl::unexpected(reply.error());
  }
  return out;
}

}  // namespace qw::mcp::internal
