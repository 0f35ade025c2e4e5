// One connection of the HTTP server: reads requests, has them answered, and sends the answers.
#pragma once

#include <atomic>
#include <boost/asio.hpp>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "net/http_server.h"
#include "net/internal/server_loop.h"
#include "net/internal/wake_list.h"

namespace qw::net::internal {

class OpenSession {
 public:
  virtual ~OpenSession() = default;
  // Any thread, while the server's mutex is held: ends an idle connection now, and a busy one when `hard`.
  virtual void shut(bool hard) = 0;
};

// What the connections of a server share.
struct ServerState {
  ServerState(ServerOptions o, Handler h)
      : options(std::move(o)), handler(std::move(h)), unanswered(error(500, "the request was not answered")) {}
  virtual ~ServerState() = default;

  const ServerOptions options;
  const Handler handler;
  const Response unanswered;
  std::mutex mutex;
  std::condition_variable all_closed;
  std::set<OpenSession*> sessions;
  std::atomic<bool> draining{false};
  std::atomic<int> turned_away{0};

  Response error(int status, const std::string& message) const;
};

class ReplyState;
using Wakes = WakeList<ReplyState>;

// Both own themselves until they end. The socket's executor is one thread's: nothing of a connection runs at the same
// time. `wakes` is that thread's, and held as long as the connection lasts.
void begin_session(std::shared_ptr<ServerState> server, Socket socket, std::shared_ptr<Wakes> wakes);
// Tells a client that there is no place for it.
void turn_away(std::shared_ptr<ServerState> server, Socket socket);

}  // namespace qw::net::internal
