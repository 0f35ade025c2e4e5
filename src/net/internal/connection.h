// A client's connection, in the clear or through TLS: an async stream for Beast and Asio either way. Used from one
// strand only.
#pragma once

#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <memory>
#include <optional>

#include "net/internal/server_loop.h"
#include "net/internal/server_tls.h"

namespace qw::net::internal {

class Connection {
 public:
  using executor_type = Executor;
  using Plain = boost::beast::basic_stream<boost::asio::ip::tcp, Executor>;

  // `tls` null: in the clear.
  Connection(Socket socket, std::shared_ptr<ServerIdentity::Tls> tls)
      : tls_(std::move(tls)), plain_(std::move(socket)) {
    if (tls_) secure_.emplace(plain_, tls_->context);
  }

  executor_type get_executor() noexcept { return plain_.get_executor(); }
  Socket& socket() { return plain_.socket(); }
  Plain& plain() { return plain_; }  // beneath TLS
  bool secure() const { return secure_.has_value(); }

  template <class Buffers, class Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    if (secure_) return secure_->async_read_some(buffers, std::forward<Token>(token));
    return plain_.async_read_some(buffers, std::forward<Token>(token));
  }
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    if (secure_) return secure_->async_write_some(buffers, std::forward<Token>(token));
    return plain_.async_write_some(buffers, std::forward<Token>(token));
  }
  // Both with TLS only. The second tells the client that nothing was cut off, and waits for it to say the same.
  template <class Token>
  auto async_handshake(Token&& token) {
    return secure_->async_handshake(boost::asio::ssl::stream_base::server, std::forward<Token>(token));
  }
  template <class Token>
  auto async_goodbye(Token&& token) {
    return secure_->async_shutdown(std::forward<Token>(token));
  }

 private:
  std::shared_ptr<ServerIdentity::Tls> tls_;  // before the streams, so that it goes last
  Plain plain_;
  std::optional<boost::asio::ssl::stream<Plain&>> secure_;
};

}  // namespace qw::net::internal
