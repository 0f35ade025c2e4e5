#include "net/http_server.h"

#include <algorithm>
#include <boost/asio.hpp>
#include <boost/asio/awaitable.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "base/put_off.h"
#include "net/internal/reply_state.h"
#include "net/internal/session.h"

namespace qw::net {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using boost::system::error_code;
using internal::kAwait;
using internal::Task;
using internal::Timer;

}  // namespace

struct HttpServer::Impl : internal::ServerState, std::enable_shared_from_this<HttpServer::Impl> {
  // A thread and its connections, which stay with it: nothing of a connection runs at the same time, nor do threads
  // wait for each other's queue or wake each other.
  struct Loop {
    asio::io_context io{1};
    std::shared_ptr<internal::Wakes> wakes = std::make_shared<internal::Wakes>(io);  // each connection holds it
    std::thread thread;
  };

  Impl(ServerOptions o, Handler h)
      : ServerState(std::move(o), std::move(h)),
        loops(static_cast<std::size_t>(std::max(1, options.threads))),
        acceptor(loops[0].io) {}

  std::vector<Loop> loops;
  asio::basic_socket_acceptor<tcp, internal::Executor> acceptor;
  std::uint16_t port = 0;
  bool stopped = false;

  // That with the fewest connections.
  Loop& quietest() {
    return *std::min_element(loops.begin(), loops.end(),
                             [](const Loop& a, const Loop& b) { return a.wakes.use_count() < b.wakes.use_count(); });
  }
  Task<void> accept_loop();
};

Task<void> HttpServer::Impl::accept_loop() {
  auto self = shared_from_this();
  for (;;) {
    Loop& loop = quietest();
    auto [accept_error, socket] = co_await acceptor.async_accept(loop.io, kAwait);
    if (accept_error == asio::error::operation_aborted || !acceptor.is_open()) co_return;
    if (accept_error) {  // out of file descriptors and the like: leave the backlog alone for a moment
      Timer pause(acceptor.get_executor(), std::chrono::milliseconds(100));
      co_await pause.async_wait(kAwait);
      continue;
    }
    std::size_t open;
    {
      std::lock_guard lock(mutex);
      open = sessions.size();
    }
    if (open >= options.max_connections) {
      internal::turn_away(self, std::move(socket));
    } else {
      internal::begin_session(self, std::move(socket), loop.wakes);
    }
  }
}

Status HttpServer::can_listen(const std::string& host) {
  asio::io_context io;
  error_code error;
  const auto found = tcp::resolver(io).resolve(host, "0", error);
  if (error || found.empty()) return fail(ErrorKind::kFailed, "cannot listen on " + host + ": " + error.message());
  const tcp::endpoint endpoint = *found.begin();  // any free port
  tcp::acceptor acceptor(io);
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.bind(endpoint, error);
  return error ? fail(ErrorKind::kFailed, "cannot listen on " + host + ": " + error.message()) : Status();
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(ServerOptions options, Handler handler) {
  auto impl = std::make_shared<Impl>(std::move(options), std::move(handler));
  const std::string where = impl->options.host + ":" + std::to_string(impl->options.port);
  error_code error;
  tcp::resolver resolver(impl->loops[0].io);
  const auto found = resolver.resolve(impl->options.host, std::to_string(impl->options.port), error);
  if (error || found.empty()) return fail(ErrorKind::kFailed, "cannot listen on " + where + ": " + error.message());
  const tcp::endpoint endpoint = *found.begin();
  impl->acceptor.open(endpoint.protocol(), error);
  if (!error) impl->acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) impl->acceptor.bind(endpoint, error);
  if (!error) impl->acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return fail(ErrorKind::kFailed, "cannot listen on " + where + ": " + error.message());
  impl->port = impl->acceptor.local_endpoint().port();
  asio::co_spawn(
      impl->loops[0].io, [impl] { return impl->accept_loop(); }, asio::detached);
  for (Impl::Loop& loop : impl->loops) {
    loop.thread = std::thread([&io = loop.io] {
      const auto work = asio::make_work_guard(io);  // it waits for connections
      base::put_off_by([&io](std::function<void()> later) { asio::post(io, std::move(later)); });
      io.run();
    });
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() { stop(); }
std::uint16_t HttpServer::port() const { return impl_->port; }

std::size_t HttpServer::connections() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->sessions.size();
}

bool HttpServer::drain(std::chrono::milliseconds grace) {
  impl_->draining.store(true);
  asio::post(impl_->loops[0].io, [impl = impl_] {
    error_code ignored;
    impl->acceptor.close(ignored);
  });
  std::unique_lock lock(impl_->mutex);
  // A session that is being destroyed is still listed until it takes the mutex, so weak references decide.
  for (internal::OpenSession* session : impl_->sessions) session->shut(/*hard=*/false);
  return impl_->all_closed.wait_for(lock, grace, [&] { return impl_->sessions.empty(); });
}

void HttpServer::stop() {
  {
    std::lock_guard lock(impl_->mutex);
    if (std::exchange(impl_->stopped, true)) return;
  }
  if (!drain(std::chrono::milliseconds(0))) {
    std::unique_lock lock(impl_->mutex);
    for (internal::OpenSession* session : impl_->sessions) session->shut(/*hard=*/true);
    impl_->all_closed.wait_for(lock, std::chrono::seconds(2), [&] { return impl_->sessions.empty(); });
  }
  for (Impl::Loop& loop : impl_->loops) loop.io.stop();
  for (Impl::Loop& loop : impl_->loops) {
    if (loop.thread.joinable()) loop.thread.join();
  }
  // Coroutines that were cancelled but had no thread to end on: let them end, so that nothing keeps the server alive.
  for (Impl::Loop& loop : impl_->loops) {
    loop.io.restart();
    loop.io.poll();
  }
}

}  // namespace qw::net
