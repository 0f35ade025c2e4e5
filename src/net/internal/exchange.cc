#include "net/internal/exchange.h"

#include <array>
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <vector>

#include "base/base64.h"

namespace qw::net::internal {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace ssl = asio::ssl;
using tcp = asio::ip::tcp;
using boost::system::error_code;
using TlsStream = beast::ssl_stream<beast::tcp_stream>;
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
// Pieces handed to the sink: few calls a megabyte, small beside the socket's own buffer.
constexpr std::size_t kPieceBytes = 64 * 1024;
// How often `cancel` is looked at.
constexpr std::chrono::milliseconds kCancelPoll{100};
// Interim answers (100, 103) before the real one; more are a server that never answers.
constexpr int kMaxInterim = 8;

std::string basic_credentials(const Url& proxy) {
  std::string decoded;
  return percent_decode(proxy.user_info, decoded) ? "Basic " + base::to_base64(decoded) : "";
}

bool is_address(const std::string& host) {
  error_code error;
  asio::ip::make_address(host, error);
  return !error;
}

tl::unexpected<Error> failed(const Url& at, const std::string& doing, const error_code& error) {
  const std::string where = at.authority() + ": " + doing;
  if (error == beast::error::timeout) return fail(ErrorKind::kFailed, where + ": timed out");
  if (error == http::error::end_of_stream || error == http::error::partial_message || error == asio::error::eof ||
      error == ssl::error::stream_truncated)
    return fail(ErrorKind::kFailed, where + ": the connection was cut");
  if (error == http::error::header_limit) return fail(ErrorKind::kBadInput, where + ": too many header bytes");
  if (error.category() == http::make_error_code(http::error::bad_version).category())
    return fail(ErrorKind::kBadInput, where + ": malformed answer (" + error.message() + ")");
  return fail(ErrorKind::kFailed, where + ": " + error.message());
}

// The coroutines of one exchange. They run on the thread that waits for them, so they may refer to its stack.
class Runner {
 public:
  explicit Runner(const Exchange& x) : x_(x) {}

  Status run() {
    Status result = fail(ErrorKind::kFailed, x_.url.authority() + ": no answer");
    bool done = false;
    asio::co_spawn(io_, start(), [&](std::exception_ptr error, Status status) {
      done = true;
      if (error) std::rethrow_exception(error);
      result = std::move(status);
    });
    while (!done) {
      if (io_.run_one_for(kCancelPoll) == 0 && io_.stopped()) io_.restart();
      if (x_.cancel != nullptr && x_.cancel->load()) return fail(ErrorKind::kInterrupted, "interrupted");
    }
    return result;
  }

 private:
  asio::awaitable<Status> start() {
    const Url& peer = x_.proxy ? *x_.proxy : x_.url;
    tcp::resolver resolver(io_);
    asio::steady_timer limit(io_, x_.options.connect_timeout);
    bool late = false;
    limit.async_wait([&](error_code error) {
      if (!error) {
        late = true;
        resolver.cancel();
      }
    });
    auto [error, found] = co_await resolver.async_resolve(peer.host, std::to_string(peer.port), kAwait);
    limit.cancel();
    if (late) error = beast::error::timeout;
    if (error) co_return failed(peer, "name not found", error);
    std::vector<tcp::endpoint> endpoints;
    for (const auto& one : found)
      if (x_.proxy || !x_.options.may_connect || x_.options.may_connect(one.endpoint().address().to_string()))
        endpoints.push_back(one.endpoint());
    if (endpoints.empty())
      co_return fail(ErrorKind::kBadInput, peer.authority() + ": its address is one that may not be connected to");
    beast::tcp_stream stream(io_);
    stream.expires_after(x_.options.connect_timeout);
    if (auto [e, endpoint] = co_await stream.async_connect(endpoints, kAwait); e) co_return failed(peer, "cannot connect", e);
    if (!x_.url.tls) co_return co_await talk(stream, stream);
    if (x_.proxy) {
      if (auto status = co_await tunnel(stream); !status) co_return status;
    }
    co_return co_await talk_tls(std::move(stream));
  }

  asio::awaitable<Status> tunnel(beast::tcp_stream& stream) {
    // The tunnel's end is named with its port, whichever it is.
    const std::string bare = x_.url.host.find(':') == std::string::npos ? x_.url.host : "[" + x_.url.host + "]";
    const std::string end = bare + ":" + std::to_string(x_.url.port);
    http::request<http::empty_body> request(http::verb::connect, end, 11);
    request.set(http::field::host, end);
    if (!x_.proxy->user_info.empty()) request.set(http::field::proxy_authorization, basic_credentials(*x_.proxy));
    stream.expires_after(x_.options.connect_timeout);
    if (auto [e, n] = co_await http::async_write(stream, request, kAwait); e) co_return failed(*x_.proxy, "CONNECT", e);
    beast::flat_buffer buffer;
    http::response_parser<http::empty_body> parser;
    parser.header_limit(static_cast<std::uint32_t>(x_.options.max_header_bytes));
    parser.skip(true);
    if (auto [e, n] = co_await http::async_read_header(stream, buffer, parser, kAwait); e)
      co_return failed(*x_.proxy, "CONNECT", e);
    const unsigned status = parser.get().result_int();
    if (status / 100 == 2 && buffer.size() == 0) co_return Status{};
    co_return fail(status >= 500 ? ErrorKind::kFailed : ErrorKind::kBadInput,
                   x_.proxy->authority() + ": the proxy answered " + std::to_string(status) + " to CONNECT " + end);
  }

  asio::awaitable<Status> talk_tls(beast::tcp_stream plain) {
    TlsStream stream(std::move(plain), x_.tls);
    // An address has no server name to send, and is looked for among the certificate's addresses.
    if (!is_address(x_.url.host) && SSL_set_tlsext_host_name(stream.native_handle(), x_.url.host.c_str()) != 1)
      co_return fail(ErrorKind::kBadInput, x_.url.authority() + ": no server name for TLS");
    stream.set_verify_callback(ssl::host_name_verification(x_.url.host));
    beast::get_lowest_layer(stream).expires_after(x_.options.connect_timeout);
    if (auto [e] = co_await stream.async_handshake(ssl::stream_base::client, kAwait); e) {
      const long reason = SSL_get_verify_result(stream.native_handle());
      if (reason != X509_V_OK)
        co_return fail(ErrorKind::kBadInput, x_.url.authority() + ": the certificate is not trusted (" +
                                                 X509_verify_cert_error_string(reason) + ")");
      if (e.category() == asio::error::get_ssl_category())
        co_return fail(ErrorKind::kBadInput, x_.url.authority() + ": TLS failed, or the certificate is of another host (" +
                                                 e.message() + ")");
      co_return failed(x_.url, "TLS handshake", e);
    }
    co_return co_await talk(stream, beast::get_lowest_layer(stream));
  }

  http::request<http::string_body> message() const {
    const bool absolute = x_.proxy && !x_.url.tls;
    http::request<http::string_body> request;
    request.method_string(x_.request.method);
    request.target(absolute ? x_.url.text() : x_.url.target);
    request.version(11);
    request.set(http::field::host, x_.url.authority());
    request.set(http::field::user_agent, x_.options.user_agent);
    // Ranges and hashes are of the bytes as stored.
    request.set(http::field::accept_encoding, "identity");
    request.set(http::field::connection, "close");
    for (const auto& [name, value] : x_.request.headers) request.set(name, value);
    if (x_.request.method == "POST") {
      request.body() = x_.request.body;
      request.prepare_payload();
    }
    if (absolute && !x_.proxy->user_info.empty())
      request.set(http::field::proxy_authorization, basic_credentials(*x_.proxy));
    return request;
  }

  template <class Stream>
  asio::awaitable<Status> talk(Stream& stream, beast::tcp_stream& socket) {
    auto request = message();
    socket.expires_after(x_.options.idle_timeout);
    if (auto [e, n] = co_await http::async_write(stream, request, kAwait); e) co_return failed(x_.url, "sending", e);
    beast::flat_buffer buffer;
    for (int interim = 0; interim <= kMaxInterim; ++interim) {
      http::response_parser<http::buffer_body> parser;
      parser.header_limit(static_cast<std::uint32_t>(x_.options.max_header_bytes));
      parser.body_limit(boost::none);   // the sink knows how much it wants
      if (x_.request.method == "HEAD") parser.skip(true);
      // The whole head must come in time; a byte now and then does not prolong it.
      socket.expires_after(x_.options.idle_timeout);
      if (auto [e, n] = co_await http::async_read_header(stream, buffer, parser, kAwait); e)
        co_return failed(x_.url, "reading the answer", e);
      if (parser.get().result_int() / 100 == 1 && parser.get().result_int() != 101) continue;
      co_return co_await body(stream, socket, buffer, parser);
    }
    co_return fail(ErrorKind::kBadInput, x_.url.authority() + ": too many interim answers");
  }

  template <class Stream>
  asio::awaitable<Status> body(Stream& stream, beast::tcp_stream& socket, beast::flat_buffer& buffer,
                               http::response_parser<http::buffer_body>& parser) {
    ResponseHead head{static_cast<int>(parser.get().result_int()), {}, x_.url.text()};
    for (const auto& field : parser.get()) head.headers.emplace_back(field.name_string(), field.value());
    const auto wanted = x_.on_head(head);
    if (!wanted) co_return tl::unexpected(wanted.error());
    if (!*wanted) co_return Status{};
    const std::string_view encoding = find_header(head.headers, "Content-Encoding");
    if (!encoding.empty() && encoding != "identity")
      co_return fail(ErrorKind::kBadInput, x_.url.authority() + ": the answer is compressed, which was not asked for");
    std::array<char, kPieceBytes> piece;
    while (!parser.is_done()) {
      parser.get().body().data = piece.data();
      parser.get().body().size = piece.size();
      socket.expires_after(x_.options.idle_timeout);
      auto [e, n] = co_await http::async_read_some(stream, buffer, parser, kAwait);
      if (e && e != http::error::need_buffer) co_return failed(x_.url, "reading the answer", e);
      const std::size_t filled = piece.size() - parser.get().body().size;
      if (filled == 0) continue;
      if (auto status = x_.on_body({piece.data(), filled}); !status) co_return status;
    }
    co_return Status{};
  }

  const Exchange& x_;
  asio::io_context io_{1};
};

}  // namespace

Status run_exchange(const Exchange& exchange) { return Runner(exchange).run(); }

}  // namespace qw::net::internal
