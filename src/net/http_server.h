// An HTTP/1.1 server with streaming answers.
//
// Each connection is a coroutine on one of the server's I/O threads. The handler is called there with a whole request
// and a Reply; it must not block. The Reply may be kept and used from any thread: the answer, or pieces of a stream,
// are handed over to the connection's own thread. A client that goes away makes the reply `closed` and calls its
// on_close callback once, so that work can be cancelled. One that only stops sending (half-closed) still gets its answer:
// it is told apart by an interim answer (100) or a heartbeat, to which a client that is gone replies with a reset. With
// HTTP/1.0, and in a stream without heartbeat, it counts as gone.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "net/http.h"
#include "net/server_identity.h"

namespace qw::net {

// One answer. Exactly one of send() or begin_stream() ... finish() must be called, once; a Reply destroyed without
// either answers 500. All methods are thread-safe and never block.
class Reply {
 public:
  virtual ~Reply() = default;
  virtual void send(Response response) = 0;
  // Sends the head at once; pieces follow by write(); chunked transfer encoding. `heartbeat`, if not empty, is sent
  // whenever nothing was written for the server's heartbeat interval.
  virtual void begin_stream(Response head, std::string heartbeat) = 0;
  virtual void write(std::string piece) = 0;
  virtual void finish() = 0;
  // Of a stream: calls back once, on an I/O thread, when all that was written so far is out of this process, or nobody
  // waits for it any more (closed() tells). So that an answer of any length needs the memory of a piece.
  virtual void when_sent(std::function<void()> callback) = 0;
  // True once the client has gone, or the server gave up on it.
  virtual bool closed() const = 0;
  // Called once, on an I/O thread, when the client goes away before the answer is complete; at once if it already has.
  virtual void on_close(std::function<void()> callback) = 0;
};

using Handler = std::function<void(Request request, std::shared_ptr<Reply> reply)>;

struct ServerOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8080;                        // 0: any free port
  int threads = 1;                                  // I/O threads; the work is elsewhere
  std::size_t max_header_bytes = 64 * 1024;         // 431 above; chunk heads and trailers of a body: about the same
  std::size_t max_body_bytes = 32 * 1024 * 1024;    // 413 above
  std::size_t max_connections = 4096;               // further ones get 503
  std::shared_ptr<ServerIdentity> identity;         // null: in the clear; else TLS, for all connections
  std::chrono::milliseconds handshake_timeout{10'000};  // of TLS
  std::chrono::milliseconds head_timeout{30'000};   // to receive a request's head, however slowly it drips (also keep-alive idle time)
  std::chrono::milliseconds body_timeout{60'000};   // to receive a body
  std::chrono::milliseconds write_timeout{30'000};  // for the client to take a piece
  std::chrono::milliseconds heartbeat{8'000};
  std::size_t max_pending_bytes = 16 * 1024 * 1024; // unsent stream bytes of one reply before the client is dropped
  // Body of the answers the transport itself must give (400, 408, 413, 431, 503), so that protocols keep their shape.
  std::function<Response(int status, const std::string& message)> error_response;
};

class HttpServer {
 public:
  // Whether `host` is an address of this machine, or the name of one; the error of start() if not.
  static Status can_listen(const std::string& host);
  // Binds and starts accepting. Errors: kFailed naming host, port and the system's reason.
  static Result<std::unique_ptr<HttpServer>> start(ServerOptions options, Handler handler);
  ~HttpServer();  // stop()
  std::uint16_t port() const;
  std::size_t connections() const;
  // Stops accepting, lets running answers finish for at most `grace`, then closes all. Returns true if all finished.
  bool drain(std::chrono::milliseconds grace);
  void stop();

 private:
  struct Impl;
  explicit HttpServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace qw::net
