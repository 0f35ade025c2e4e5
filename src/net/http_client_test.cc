#include "net/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "net/http_server.h"

namespace qw::net {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

// A listening socket whose every connection is handled by `serve`, one after the other: wrong servers on purpose.
class RawServer {
 public:
  using Serve = std::function<void(int fd, const std::string& head)>;
  explicit RawServer(Serve serve, bool read_head = true) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(fd_, 16), 0);
    socklen_t size = sizeof(address);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, serve = std::move(serve), read_head] {
      for (;;) {
        const int peer = ::accept(fd_, nullptr, nullptr);
        if (peer < 0) return;
        serve(peer, read_head ? read_request(peer) : "");
        ::close(peer);
      }
    });
  }
  ~RawServer() {
    ::shutdown(fd_, SHUT_RDWR);
    thread_.join();
    ::close(fd_);
  }
  std::uint16_t port() const { return port_; }
  std::string url(const std::string& target = "/") const {
    return "http://127.0.0.1:" + std::to_string(port_) + target;
  }
  static void send(int fd, std::string_view text) { (void)!::send(fd, text.data(), text.size(), MSG_NOSIGNAL); }
  static std::string read_request(int fd) {
    std::string head;
    for (char c; head.find("\r\n\r\n") == std::string::npos && ::recv(fd, &c, 1, 0) == 1;) head += c;
    return head;
  }

 private:
  int fd_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

RawServer answering(std::string answer) {
  return RawServer([answer](int fd, const std::string&) { RawServer::send(fd, answer); });
}

ClientOptions direct() {
  ClientOptions options;
  options.proxies = {};  // whatever the environment says
  return options;
}

HttpClient client(ClientOptions options = direct()) {
  auto made = HttpClient::create(std::move(options));
  EXPECT_TRUE(made.has_value());
  return std::move(*made);
}

std::unique_ptr<HttpServer> start(Handler handler) {
  ServerOptions options;
  options.port = 0;
  return std::move(*HttpServer::start(options, std::move(handler)));
}

std::string at(const HttpServer& server, const std::string& target) {
  return "http://127.0.0.1:" + std::to_string(server.port()) + target;
}

Error error_of(const Result<Response>& result) {
  EXPECT_FALSE(result.has_value());
  return result ? Error{} : result.error();
}

TEST(HttpClient, GetsAnAnswerOfAnyStatusWithItsHeaders) {
  const auto server = start([](Request r, std::shared_ptr<Reply> reply) {
    reply->send({r.path == "/a b" ? 200 : 404,
                 {{"X-Seen", std::string(find_header(r.headers, "X-Mine"))}},
                 r.method + r.query});
  });
  const auto good = client().get({"GET", at(*server, "/a%20b?q=1"), {{"X-Mine", "yes"}}}, 100);
  ASSERT_TRUE(good.has_value()) << good.error().message;
  EXPECT_EQ(good->status, 200);
  EXPECT_EQ(good->body, "GETq=1");
  EXPECT_EQ(find_header(good->headers, "x-seen"), "yes");
  EXPECT_EQ(client().get({"GET", at(*server, "/none"), {}}, 100)->status, 404);
}

TEST(HttpClient, PostsABodyAndTakesARedirectOfItAsTheAnswer) {
  std::string body, head;
  RawServer server([&](int fd, const std::string& seen) {
    head = seen;
    for (char c; body.size() < 7 && ::recv(fd, &c, 1, 0) == 1;) body += c;
    RawServer::send(fd, "HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\nno");
  });
  const auto client = *HttpClient::create();
  const auto answer =
      client.get({"POST", server.url("/call"), {{"Content-Type", "application/json"}}, R"({"a":1})"}, 100);
  ASSERT_TRUE(answer.has_value()) << answer.error().message;
  EXPECT_EQ(answer->status, 307);
  EXPECT_EQ(answer->body, "no");
  EXPECT_EQ(body, R"({"a":1})");
  EXPECT_THAT(head, HasSubstr("POST /call HTTP/1.1"));
  EXPECT_THAT(head, HasSubstr("Content-Length: 7"));
  EXPECT_EQ(client.get({"PUT", server.url(), {}, ""}, 100).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(client.get({"GET", server.url(), {}, "body"}, 100).error().kind, ErrorKind::kUsage);
}

TEST(HttpClient, AsksWhetherAnAddressMayBeConnectedTo) {
  int seen = 0;
  RawServer server([&](int fd, const std::string&) {
    ++seen;
    RawServer::send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  });
  std::vector<std::string> asked;
  ClientOptions options;
  options.may_connect = [&](std::string_view address) {
    asked.emplace_back(address);
    return false;
  };
  const auto refused = HttpClient::create(options)->get({"GET", server.url(), {}, ""}, 100);
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("may not be connected to"));
  EXPECT_EQ(asked, std::vector<std::string>{"127.0.0.1"});
  EXPECT_EQ(seen, 0);
  options.may_connect = [](std::string_view) { return true; };
  EXPECT_TRUE(HttpClient::create(options)->get({"GET", server.url(), {}, ""}, 100).has_value());
}

TEST(HttpClient, HeadHasLengthAndNoBody) {
  const auto server = answering("HTTP/1.1 200 OK\r\nContent-Length: 123456\r\n\r\n");
  const auto head = client().get({"HEAD", server.url(), {}}, 10);
  ASSERT_TRUE(head.has_value()) << head.error().message;
  EXPECT_EQ(find_header(head->headers, "Content-Length"), "123456");
  EXPECT_EQ(head->body, "");
}

TEST(HttpClient, StreamsChunkedBodies) {
  const auto server = start([](Request, std::shared_ptr<Reply> reply) {
    reply->begin_stream({200, {}, ""}, "");
    for (int i = 0; i < 40; ++i) reply->write(std::string(50'000, static_cast<char>('a' + i % 26)));
    reply->finish();
  });
  std::size_t bytes = 0, pieces = 0;
  const auto status = client().fetch({"GET", at(*server, "/"), {}}, nullptr, [&](std::string_view piece) -> Status {
    bytes += piece.size();
    ++pieces;
    return {};
  });
  ASSERT_TRUE(status.has_value()) << status.error().message;
  EXPECT_EQ(bytes, 2'000'000u);
  EXPECT_GT(pieces, 20u);
}

TEST(HttpClient, ABodyWithoutLengthEndsWithTheConnection) {
  const auto server = answering("HTTP/1.1 200 OK\r\n\r\nall of it");
  EXPECT_EQ(client().get({"GET", server.url(), {}}, 100)->body, "all of it");
}

TEST(HttpClient, SkipsInterimAnswers) {
  const auto server =
      answering("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  const auto answer = client().get({"GET", server.url(), {}}, 100);
  ASSERT_TRUE(answer.has_value()) << answer.error().message;
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(answer->body, "ok");
}

TEST(HttpClient, CutConnectionsAreFailuresThatMayGoBetter) {
  for (const char* answer : {"", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
                             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"}) {
    const auto server = answering(answer);
    const Error error = error_of(client().get({"GET", server.url(), {}}, 100));
    EXPECT_EQ(error.kind, ErrorKind::kFailed) << answer;
    EXPECT_THAT(error.message, HasSubstr("cut")) << answer;
  }
}

TEST(HttpClient, MalformedAnswersAreBadInput) {
  for (const char* answer :
       {"SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 999999 X\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\n\r\nhello"}) {
    const auto server = answering(answer);
    EXPECT_EQ(error_of(client().get({"GET", server.url(), {}}, 100)).kind, ErrorKind::kBadInput) << answer;
  }
}

TEST(HttpClient, RefusesAFloodOfHeaders) {
  const RawServer server([](int fd, const std::string&) {
    RawServer::send(fd, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 20'000; ++i) RawServer::send(fd, "X-Header-" + std::to_string(i) + ": flood\r\n");
  });
  const Error error = error_of(client().get({"GET", server.url(), {}}, 100));
  EXPECT_EQ(error.kind, ErrorKind::kBadInput);
  EXPECT_THAT(error.message, HasSubstr("header"));
}

TEST(HttpClient, BodiesLongerThanAskedForAreRefused) {
  const auto server = start([](Request, std::shared_ptr<Reply> reply) {
    reply->send({200, {}, std::string(200'000, 'x')});
  });
  EXPECT_EQ(error_of(client().get({"GET", at(*server, "/"), {}}, 199'999)).kind, ErrorKind::kBadInput);
  EXPECT_EQ(client().get({"GET", at(*server, "/"), {}}, 200'000)->body.size(), 200'000u);
}

TEST(HttpClient, SilentServersTimeOut) {
  ClientOptions options = direct();
  options.idle_timeout = 150ms;
  for (const char* beginning : {"", "HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"}) {
    const RawServer server([&](int fd, const std::string&) {
      RawServer::send(fd, beginning);
      char c;
      (void)!::recv(fd, &c, 1, 0);  // until the client gives up
    });
    const auto begun = std::chrono::steady_clock::now();
    const Error error = error_of(client(options).get({"GET", server.url(), {}}, 100));
    EXPECT_EQ(error.kind, ErrorKind::kFailed);
    EXPECT_THAT(error.message, HasSubstr("timed out"));
    EXPECT_LT(std::chrono::steady_clock::now() - begun, 5s);
  }
}

TEST(HttpClient, ASlowBodyIsWaitedForAsLongAsBytesCome) {
  ClientOptions options = direct();
  options.idle_timeout = 800ms;  // far more than a pause, on a busy machine too, and less than all of them
  const RawServer server([](int fd, const std::string&) {
    RawServer::send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n");
    for (int i = 0; i < 8; ++i) {
      std::this_thread::sleep_for(120ms);
      RawServer::send(fd, "s");
    }
  });
  const auto answer = client(options).get({"GET", server.url(), {}}, 100);
  ASSERT_TRUE(answer.has_value()) << answer.error().message;
  EXPECT_EQ(answer->body, "ssssssss");
}

TEST(HttpClient, CancelEndsAWaitingCall) {
  std::atomic<bool> cancel{false};
  const RawServer server([&](int fd, const std::string&) {
    cancel = true;
    char c;
    (void)!::recv(fd, &c, 1, 0);
  });
  EXPECT_EQ(error_of(client().get({"GET", server.url(), {}}, 100, &cancel)).kind, ErrorKind::kInterrupted);
}

TEST(HttpClient, ASinkCanEndTheExchange) {
  const auto server = start([](Request, std::shared_ptr<Reply> reply) { reply->send({200, {}, "hello"}); });
  const auto refuse_head = [](const ResponseHead&) -> Status { return fail(ErrorKind::kRefused, "no"); };
  const auto refuse_body = [](std::string_view) -> Status { return fail(ErrorKind::kResource, "full"); };
  const HttpClient c = client();
  EXPECT_EQ(c.fetch({"GET", at(*server, "/"), {}}, refuse_head, refuse_body).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(c.fetch({"GET", at(*server, "/"), {}}, nullptr, refuse_body).error().kind, ErrorKind::kResource);
}

// Two servers; the first redirects to the second. Tells what arrived there.
Headers headers_after_redirect(bool same_origin) {
  Headers seen;
  const auto second = start([&](Request r, std::shared_ptr<Reply> reply) {
    seen = r.headers;
    reply->send({200, {}, "there"});
  });
  const auto first = start([&](Request r, std::shared_ptr<Reply> reply) {
    if (r.path == "/here") {
      seen = r.headers;
      return reply->send({200, {}, "there"});
    }
    reply->send({302, {{"Location", same_origin ? "/here" : at(*second, "/x")}}, "moved"});
  });
  const auto answer = client().get(
      {"GET", at(*first, "/a"), {{"Authorization", "Bearer secret"}, {"Cookie", "id=1"}, {"Range", "bytes=0-1"}}}, 100);
  EXPECT_EQ(answer->body, "there");
  return seen;
}

TEST(HttpClient, CredentialsStayWithTheirOrigin) {
  EXPECT_EQ(find_header(headers_after_redirect(true), "Authorization"), "Bearer secret");
  const Headers other = headers_after_redirect(false);
  EXPECT_EQ(find_header(other, "Authorization"), "");
  EXPECT_EQ(find_header(other, "Cookie"), "");
  EXPECT_EQ(find_header(other, "Range"), "bytes=0-1");
}

TEST(HttpClient, RedirectLoopsEnd) {
  std::atomic<int> requests{0};
  const auto server = start([&](Request, std::shared_ptr<Reply> reply) {
    ++requests;
    reply->send({307, {{"Location", "again"}}, ""});
  });
  const Error error = error_of(client().get({"GET", at(*server, "/"), {}}, 100));
  EXPECT_EQ(error.kind, ErrorKind::kBadInput);
  EXPECT_THAT(error.message, HasSubstr("redirects"));
  EXPECT_EQ(requests, 9);  // the first and eight redirects
}

TEST(HttpClient, RedirectsToOtherSchemesAreRefused) {
  for (const char* to : {"file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "http://a b/"}) {
    const auto server =
        answering("HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + std::string(to) + "\r\n\r\n");
    EXPECT_EQ(error_of(client().get({"GET", server.url(), {}}, 100)).kind, ErrorKind::kBadInput) << to;
  }
}

TEST(HttpClient, RequestsThatCannotBeSentAreRefused) {
  EXPECT_EQ(error_of(client().get({"GET", "http://127.0.0.1/", {{"X", "a\r\nY: b"}}}, 1)).kind, ErrorKind::kUsage);
  EXPECT_EQ(error_of(client().get({"PUT", "http://127.0.0.1/", {}}, 1)).kind, ErrorKind::kUsage);
  EXPECT_EQ(error_of(client().get({"GET", "http://me:secret@127.0.0.1/", {}}, 1)).kind, ErrorKind::kUsage);
  EXPECT_EQ(error_of(client().get({"GET", "127.0.0.1/", {}}, 1)).kind, ErrorKind::kBadInput);
  // Nothing listens on port 1.
  EXPECT_EQ(error_of(client().get({"GET", "http://127.0.0.1:1/", {}}, 1)).kind, ErrorKind::kFailed);
}

TEST(HttpClient, PlainRequestsGoThroughAProxyWithTheWholeAddress) {
  std::string seen;
  const RawServer proxy([&](int fd, const std::string& head) {
    seen = head;
    RawServer::send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  });
  ClientOptions options = direct();
  options.proxies.http = "http://me:pass%40word@127.0.0.1:" + std::to_string(proxy.port());
  options.proxies.bypass = "other.invalid, .example.org";
  EXPECT_EQ(client(options).get({"GET", "http://model.invalid/x?y", {}}, 100)->body, "ok");
  EXPECT_THAT(seen, HasSubstr("GET http://model.invalid/x?y HTTP/1.1\r\n"));
  EXPECT_THAT(seen, HasSubstr("Proxy-Authorization: Basic bWU6cGFzc0B3b3Jk\r\n"));  // me:pass@word
}

TEST(ProxySettings, BypassNamesHostsAndDomains) {
  ProxySettings settings{"p:1", "q:2", "example.org, .inner.net,10.0.0.1,host:8080"};
  const auto via = [&](const char* url) { return settings.proxy_for(*parse_url(url)); };
  EXPECT_EQ(via("http://a/"), "p:1");
  EXPECT_EQ(via("https://a/"), "q:2");
  EXPECT_EQ(via("https://example.org/"), "");
  EXPECT_EQ(via("https://www.EXAMPLE.org/"), "");
  EXPECT_EQ(via("https://notexample.org/"), "q:2");
  EXPECT_EQ(via("http://x.inner.net/"), "");
  EXPECT_EQ(via("http://10.0.0.1/"), "");
  EXPECT_EQ(via("http://host:8080/"), "");
  EXPECT_EQ(via("http://host/"), "p:1");
  settings.bypass = "*";
  EXPECT_EQ(via("https://a/"), "");
}

// A TLS server with a certificate of its own making for 127.0.0.1 (or another address).
class TlsServer {
 public:
  explicit TlsServer(const char* subject) : context_(SSL_CTX_new(TLS_server_method())) {
    EVP_PKEY* key = EVP_RSA_gen(2048);
    X509* certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>("test"), -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    X509_EXTENSION* names = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, subject);
    X509_add_ext(certificate, names, -1);
    X509_sign(certificate, key, EVP_sha256());
    SSL_CTX_use_certificate(context_, certificate);
    SSL_CTX_use_PrivateKey(context_, key);
    path_ = std::filesystem::temp_directory_path() / ("qw_net_test_" + std::to_string(::getpid()) + ".pem");
    FILE* file = std::fopen(path_.c_str(), "w");
    PEM_write_X509(file, certificate);
    std::fclose(file);
    X509_EXTENSION_free(names);
    X509_free(certificate);
    EVP_PKEY_free(key);
    server_ = std::make_unique<RawServer>([this](int fd, const std::string&) { serve(fd); }, false);
  }
  ~TlsServer() {
    server_.reset();
    SSL_CTX_free(context_);
    std::filesystem::remove(path_);
  }
  void serve(int fd) {
    SSL* ssl = SSL_new(context_);
    SSL_set_fd(ssl, fd);
    char buffer[4096];
    if (SSL_accept(ssl) == 1 && SSL_read(ssl, buffer, sizeof(buffer)) > 0) {
      SSL_write(ssl, answer_.data(), static_cast<int>(answer_.size()));
      if (orderly_) SSL_shutdown(ssl);
    }
    SSL_free(ssl);
  }
  std::uint16_t port() const { return server_->port(); }
  std::string url() const { return "https://127.0.0.1:" + std::to_string(port()) + "/"; }
  std::string ca() const { return path_.string(); }

  std::string answer_ = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret";
  bool orderly_ = true;

 private:
  SSL_CTX* context_;
  std::filesystem::path path_;
  std::unique_ptr<RawServer> server_;
};

TEST(HttpClientTls, TrustsOnlyKnownCertificatesOfTheRightHost) {
  const TlsServer server("IP:127.0.0.1"), other("DNS:elsewhere.example");
  ClientOptions options = direct();
  const Error unknown = error_of(client(options).get({"GET", server.url(), {}}, 100));
  EXPECT_EQ(unknown.kind, ErrorKind::kBadInput);
  EXPECT_THAT(unknown.message, HasSubstr("certificate"));
  TlsServer trusted("IP:127.0.0.1");
  options.ca_file = trusted.ca();
  const auto good = client(options).get({"GET", trusted.url(), {}}, 100);
  ASSERT_TRUE(good.has_value()) << good.error().message;
  EXPECT_EQ(good->body, "secret");
}

TEST(HttpClientTls, ACertificateOfAnotherHostIsRefused) {
  const TlsServer server("DNS:elsewhere.example");
  ClientOptions options = direct();
  options.ca_file = server.ca();
  const Error error = error_of(client(options).get({"GET", server.url(), {}}, 100));
  EXPECT_EQ(error.kind, ErrorKind::kBadInput);
  EXPECT_THAT(error.message, HasSubstr("certificate"));
}

TEST(HttpClientTls, ACutBodyWithoutLengthIsNoticed) {
  TlsServer server("IP:127.0.0.1");
  server.answer_ = "HTTP/1.1 200 OK\r\n\r\npart";
  ClientOptions options = direct();
  options.ca_file = server.ca();
  EXPECT_EQ(client(options).get({"GET", server.url(), {}}, 100)->body, "part");
  server.orderly_ = false;
  EXPECT_EQ(error_of(client(options).get({"GET", server.url(), {}}, 100)).kind, ErrorKind::kFailed);
}

TEST(HttpClientTls, GoesThroughAProxyByConnect) {
  TlsServer server("IP:127.0.0.1");
  std::string seen;
  // Speaks CONNECT, then the TLS server's part itself: what comes through the tunnel is whole.
  const RawServer proxy([&](int fd, const std::string& head) {
    seen = head;
    RawServer::send(
        fd, head.starts_with("CONNECT 127.0.0.1:1 ") ? "HTTP/1.1 403 Forbidden\r\n\r\n" : "HTTP/1.1 200 OK\r\n\r\n");
    server.serve(fd);
  });
  ClientOptions options = direct();
  options.ca_file = server.ca();
  options.proxies.https = "127.0.0.1:" + std::to_string(proxy.port());
  const auto answer = client(options).get({"GET", server.url(), {{"Authorization", "Bearer secret"}}}, 100);
  ASSERT_TRUE(answer.has_value()) << answer.error().message;
  EXPECT_EQ(answer->body, "secret");
  EXPECT_THAT(seen, HasSubstr("CONNECT 127.0.0.1:" + std::to_string(server.port()) + " HTTP/1.1\r\n"));
  EXPECT_THAT(seen, testing::Not(HasSubstr("Bearer")));
  const Error refused = error_of(client(options).get({"GET", "https://127.0.0.1:1/", {}}, 100));
  EXPECT_THAT(refused.message, HasSubstr("403"));
}

TEST(HttpClientTls, ARedirectToPlainHttpIsRefused) {
  TlsServer server("IP:127.0.0.1");
  server.answer_ = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://127.0.0.1:1/\r\n\r\n";
  ClientOptions options = direct();
  options.ca_file = server.ca();
  const Error error = error_of(client(options).get({"GET", server.url(), {}}, 100));
  EXPECT_EQ(error.kind, ErrorKind::kBadInput);
  EXPECT_THAT(error.message, HasSubstr("https to http"));
}

TEST(Url, PartsAndErrors) {
  const auto url = parse_url("HTTPS://me@Example.ORG:8443?a=b#c");
  ASSERT_TRUE(url.has_value());
  EXPECT_EQ(url->host, "example.org");
  EXPECT_EQ(url->user_info, "me");
  EXPECT_EQ(url->text(), "https://example.org:8443/?a=b");
  EXPECT_EQ(parse_url("http://[::1]:80/x")->authority(), "[::1]");
  for (const char* bad :
       {"", "http:", "http://", "http:///x", "gopher://a/", "http://a:0/", "http://a:99999/", "http://a:x/",
        "http://a/ b", "http://a/\r\nX: y", "http://[::1/", "http://[x]/", "http://a,b/"})
    EXPECT_FALSE(parse_url(bad).has_value()) << bad;
}

TEST(Url, ReferencesOfAPage) {
  const Url base = *parse_url("https://a.org/x/y?q");
  EXPECT_EQ(resolve_reference(base, "/z")->text(), "https://a.org/z");
  EXPECT_EQ(resolve_reference(base, "z?r")->text(), "https://a.org/x/z?r");
  EXPECT_EQ(resolve_reference(base, "?r")->text(), "https://a.org/x/y?r");
  EXPECT_EQ(resolve_reference(base, "//b.org/z")->text(), "https://b.org/z");
  EXPECT_EQ(resolve_reference(base, "http://c/")->text(), "http://c/");
}

TEST(Url, Encoding) { EXPECT_EQ(percent_encode("a b/ü+", "/"), "a%20b/%C3%BC%2B"); }

}  // namespace
}  // namespace qw::net
