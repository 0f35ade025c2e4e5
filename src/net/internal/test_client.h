// What the tests of the server share: a client of raw bytes, and a server with a handler that says what it got.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "net/http_server.h"

namespace qw::net::test {

// A raw socket, so that the tests see exactly the bytes on the wire.
class Client {
 public:
  explicit Client(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
    timeval limit{10, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  }
  ~Client() { close(); }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  // Closes so that the server gets a reset, whatever is on its way.
  void reset() {
    const linger at_once{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close();
  }
  // No more requests will come, answers are still read.
  void shut_sending() { ::shutdown(fd_, SHUT_WR); }
  bool connected() const { return connected_; }
  int fd() const { return fd_; }
  void send(std::string_view text) { ASSERT_EQ(::send(fd_, text.data(), text.size(), MSG_NOSIGNAL), ssize_t(text.size())); }
  // False once the server does not take more.
  bool try_send(std::string_view text) { return ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL) == ssize_t(text.size()); }
  // Reads until `text` has come, or the end.
  std::string read_until(std::string_view text) {
    char buffer[4096];
    while (received_.find(text) == std::string::npos) {
      const ssize_t n = ::recv(fd_, buffer, sizeof(buffer), 0);
      if (n <= 0) break;
      received_.append(buffer, static_cast<std::size_t>(n));
    }
    const std::size_t at = received_.find(text);
    const std::size_t take = at == std::string::npos ? received_.size() : at + text.size();
    std::string out = received_.substr(0, take);
    received_.erase(0, take);
    return out;
  }
  std::string read_all() { return read_until("\x01never"); }

 private:
  int fd_;
  bool connected_ = false;
  std::string received_;
};

inline std::unique_ptr<HttpServer> start(Handler handler, ServerOptions options = {}) {
  options.port = 0;
  auto server = HttpServer::start(options, std::move(handler));
  EXPECT_TRUE(server.has_value()) << server.error().message;
  return std::move(*server);
}

inline void echo(Request request, std::shared_ptr<Reply> reply) {
  reply->send({200, {{"X-Path", request.path}, {"X-Query", request.query}}, request.method + ":" + request.body});
}

}  // namespace qw::net::test
