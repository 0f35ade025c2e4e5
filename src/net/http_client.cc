#include "net/http_client.h"

#include <algorithm>
#include <cstdlib>

#include "net/internal/exchange.h"

namespace qw::net {
namespace {

std::string environment(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0') return value;
  }
  return "";
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

bool is_redirect(int status) { return status == 301 || status == 302 || status == 303 || status == 307 || status == 308; }

// Header lines must not be able to end themselves; bytes above are allowed, as servers do.
Status check_request(const ClientRequest& request) {
  const bool known = request.method == "GET" || request.method == "HEAD" || request.method == "POST" || request.method == "DELETE";
  if (!known) return fail(ErrorKind::kUsage, "the client speaks GET, HEAD, POST and DELETE, not " + request.method);
  if (!request.body.empty() && request.method != "POST") return fail(ErrorKind::kUsage, "only a POST has a body");
  for (const auto& [name, value] : request.headers) {
    const bool token = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
      return (lower({&c, 1})[0] >= 'a' && lower({&c, 1})[0] <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    });
    const bool line = std::none_of(value.begin(), value.end(), [](char c) { return (c >= 0 && c < ' ' && c != '\t') || c == 127; });
    if (!token || !line) return fail(ErrorKind::kUsage, "a header of the request has bytes that may not stand there");
  }
  return {};
}

void drop_credentials(Headers& headers) {
  std::erase_if(headers, [](const auto& header) {
    const std::string name = lower(header.first);
    return name == "authorization" || name == "proxy-authorization" || name == "cookie";
  });
}

}  // namespace

ProxySettings ProxySettings::from_environment() {
  const std::string all = environment({"all_proxy", "ALL_PROXY"});
  const auto or_all = [&](std::string value) { return value.empty() ? all : value; };
  return {or_all(environment({"http_proxy"})), or_all(environment({"https_proxy", "HTTPS_PROXY"})),
          environment({"no_proxy", "NO_PROXY"})};
}

std::string ProxySettings::proxy_for(const Url& url) const {
  std::string_view rest = bypass;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(','), rest.size());
    std::string entry = lower(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    std::erase(entry, ' ');
    if (entry == "*") return "";
    if (const std::size_t colon = entry.find(':'); colon != std::string::npos && entry.find(':', colon + 1) == std::string::npos) {
      if (entry.substr(colon + 1) != std::to_string(url.port)) continue;
      entry.resize(colon);
    }
    if (entry.starts_with('.')) entry.erase(0, 1);
    if (!entry.empty() && (url.host == entry || url.host.ends_with("." + entry))) return "";
  }
  return url.tls ? https : http;
}

struct HttpClient::Impl {
  ClientOptions options;
  // Shared by all connections; OpenSSL counts references to it under its own locks.
  mutable boost::asio::ssl::context tls{boost::asio::ssl::context::tls_client};
};

HttpClient::HttpClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpClient::HttpClient(HttpClient&&) noexcept = default;
HttpClient& HttpClient::operator=(HttpClient&&) noexcept = default;
HttpClient::~HttpClient() = default;

Result<HttpClient> HttpClient::create(ClientOptions options) {
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  boost::system::error_code error;
  SSL_CTX_set_min_proto_version(impl->tls.native_handle(), TLS1_2_VERSION);
  impl->tls.set_verify_mode(boost::asio::ssl::verify_peer, error);
  if (impl->options.ca_file.empty()) {
    impl->tls.set_default_verify_paths(error);
  } else {
    impl->tls.load_verify_file(impl->options.ca_file, error);
  }
  if (error) return fail(ErrorKind::kBadInput, impl->options.ca_file + ": cannot read certificates: " + error.message());
  return HttpClient(std::move(impl));
}

Result<ResponseHead> HttpClient::fetch(const ClientRequest& first, const HeadSink& on_head, const BodySink& on_body,
                                       const std::atomic<bool>* cancel) const {
  ClientRequest request = first;
  QW_TRY(check_request(request));
  auto url = parse_url(request.url);
  if (!url) return in_context(request.url, url.error());
  if (!url->user_info.empty()) return fail(ErrorKind::kUsage, "an address must not carry a password; use a token");
  for (int hop = 0; hop <= impl_->options.max_redirects; ++hop) {
    std::optional<Url> proxy;
    if (const std::string via = impl_->options.proxies.proxy_for(*url); !via.empty()) {
      auto parsed = parse_url(via.find("://") == std::string::npos ? "http://" + via : via);
      if (!parsed || parsed->tls) return fail(ErrorKind::kUsage, "the proxy's address is not of the form http://host:port");
      proxy = std::move(*parsed);
    }
    ResponseHead answer;
    std::string location;
    const auto head_seen = [&](const ResponseHead& head) -> Result<bool> {
      answer = head;
      if (is_redirect(head.status) && (request.method == "GET" || request.method == "HEAD")) location = find_header(head.headers, "Location");
      if (!location.empty()) return false;
      if (on_head) QW_TRY(on_head(head));
      return true;
    };
    QW_TRY(internal::run_exchange({impl_->options, impl_->tls, request, *url, proxy, head_seen, on_body, cancel}));
    if (location.empty()) return answer;
    auto next = resolve_reference(*url, location);
    if (!next) return in_context(url->authority() + ": redirect", next.error());
    if (url->tls && !next->tls) return fail(ErrorKind::kBadInput, url->authority() + ": redirect from https to http refused");
    if (!next->same_origin(*url)) drop_credentials(request.headers);
    next->user_info.clear();
    url = std::move(next);
  }
  return fail(ErrorKind::kBadInput, url->authority() + ": more than " + std::to_string(impl_->options.max_redirects) + " redirects");
}

Result<Response> HttpClient::get(const ClientRequest& request, std::size_t max_body_bytes, const std::atomic<bool>* cancel) const {
  Response response;
  const auto collect = [&](std::string_view piece) -> Status {
    if (piece.size() > max_body_bytes - response.body.size())
      return fail(ErrorKind::kBadInput, request.url + ": answer is longer than " + std::to_string(max_body_bytes) + " bytes");
    response.body += piece;
    return {};
  };
  QW_ASSIGN(const ResponseHead head, fetch(request, nullptr, collect, cancel));
  response.status = head.status;
  response.headers = head.headers;
  return response;
}

}  // namespace qw::net
