// An HTTP/1.1 client for downloads and calls: GET, HEAD, POST and DELETE, TLS, proxies, redirects, a body that streams.
//
// A call works on the calling thread and returns when the answer is complete or has failed; one client may be used from
// many threads at once. Each request has its own connection.
//
// Errors: kFailed for what may go better another time (no connection, a time-out, a cut answer), kBadInput for what will
// not (a malformed answer, too many headers or redirects, a certificate that is not trusted, an address that is none),
// kInterrupted when `cancel` was set, and whatever a sink answers. Messages name the host, never headers of the request.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "net/http.h"
#include "net/url.h"

namespace qw::net {

struct ProxySettings {
  std::string http, https;  // addresses of proxies, "http://[user:password@]host:port"; empty: none
  std::string bypass;       // hosts reached directly: "localhost,.example.org,10.0.0.1", or "*"
  // http_proxy (in lower case only: a server's environment may hold a client's header "Proxy" as HTTP_PROXY), https_proxy,
  // all_proxy and no_proxy.
  static ProxySettings from_environment();
  // The proxy for `url`, or "".
  std::string proxy_for(const Url& url) const;
};

struct ClientOptions {
  std::chrono::milliseconds connect_timeout{20'000};  // name, connection and TLS handshake, each
  std::chrono::milliseconds idle_timeout{60'000};     // without a byte of the answer
  int max_redirects = 8;
  std::size_t max_header_bytes = 64 * 1024;
  std::string ca_file;                                // PEM; empty: the system's (SSL_CERT_FILE is heeded)
  ProxySettings proxies = ProxySettings::from_environment();
  std::string user_agent = "qianwen";
  // Which addresses ("10.0.0.7", "::1") may be connected to, asked of what the name was resolved to, so that a name
  // cannot mean one address when it is looked at and another when it is used; empty: all. Proxies are not asked about.
  std::function<bool(std::string_view address)> may_connect;
};

struct ClientRequest {
  std::string method = "GET";  // or HEAD, POST, DELETE
  std::string url;
  // Authorization, Proxy-Authorization and Cookie do not follow a redirect to another origin.
  Headers headers;
  std::string body{};  // of a POST
};

struct ResponseHead {
  int status = 0;
  Headers headers;
  std::string url;             // where the answer came from, after redirects
};

class HttpClient {
 public:
  // Called once, before the body; an error ends the exchange.
  using HeadSink = std::function<Status(const ResponseHead& head)>;
  // Called with each piece as it comes.
  using BodySink = std::function<Status(std::string_view piece)>;

  // kBadInput if ca_file cannot be read.
  static Result<HttpClient> create(ClientOptions options = {});
  HttpClient(HttpClient&&) noexcept;
  HttpClient& operator=(HttpClient&&) noexcept;
  ~HttpClient();

  // An answer of any status is a success here; a redirect (301, 302, 303, 307, 308) of a GET or HEAD is followed, of others
  // it is an answer. From https to http it is refused. `cancel` is looked at a few times a second.
  Result<ResponseHead> fetch(const ClientRequest& request, const HeadSink& on_head, const BodySink& on_body,
                             const std::atomic<bool>* cancel = nullptr) const;
  // The whole answer. kBadInput if the body is longer than `max_body_bytes`.
  // (Of any method.)
  Result<Response> get(const ClientRequest& request, std::size_t max_body_bytes,
                       const std::atomic<bool>* cancel = nullptr) const;

 private:
  struct Impl;
  explicit HttpClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace qw::net
