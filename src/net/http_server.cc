#include "net/http_server.h"

#include <atomic>
#include <boost/asio.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "net/internal/reply_state.h"

namespace qw::net {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = asio::ip::tcp;
using Stream = beast::tcp_stream;
using boost::system::error_code;
using internal::ReplyHandle;
using internal::ReplyState;
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
// Beside the head and pieces of a body as they come: what a read takes at once.
constexpr std::size_t kReadBytes = 64 * 1024;
// A connection is still read after its last answer, so that closing it does not destroy an answer which the client has
// not read yet: long enough for a client that sends all before it reads, too short to hold anything up.
constexpr std::chrono::milliseconds kLinger{2000};
// Connections over the limit that are told so; beyond, a flood is closed without a word.
constexpr int kMaxTurnedAway = 64;
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
// Until the deadline of a read takes effect: it cannot stop a read that is just between two steps.
constexpr std::chrono::milliseconds kDeadlineRepeat{10};

Response default_error(int status, const std::string& message) {
  return {status, {{"Content-Type", "text/plain; charset=utf-8"}}, message + "\n"};
}

std::string head_text(const Response& response, bool keep_alive, const char* framing) {
  std::string text = "HTTP/1.1 " + std::to_string(response.status) + " ";
  text += std::string_view(http::obsolete_reason(static_cast<http::status>(response.status)));
  text += "\r\n";
  for (const auto& [name, value] : response.headers) {
    // A header value that came from foreign bytes must not be able to end its line.
    if (value.find_first_of("\r\n") == std::string::npos) text += name + ": " + value + "\r\n";
  }
  text += framing;
  text += keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return text;
}

std::string chunk(const std::string& piece) {
  char size[20];
  std::snprintf(size, sizeof(size), "%zx\r\n", piece.size());
  return size + piece + "\r\n";
}

}  // namespace

struct HttpServer::Impl : std::enable_shared_from_this<HttpServer::Impl> {
  Impl(ServerOptions o, Handler h)
      : options(std::move(o)), handler(std::move(h)), io(std::max(1, options.threads)), acceptor(io) {}

  ServerOptions options;
  Handler handler;
  asio::io_context io;
  tcp::acceptor acceptor;
  std::uint16_t port = 0;
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::condition_variable all_closed;
  std::set<Session*> sessions;
  std::atomic<bool> draining{false};
  bool stopped = false;

  Response error(int status, const std::string& message) const {
    return options.error_response ? options.error_response(status, message) : default_error(status, message);
  }
  asio::awaitable<void> accept_loop();
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<HttpServer::Impl> server, tcp::socket socket)
      : server_(std::move(server)), stream_(std::move(socket)), deadline_(stream_.get_executor()) {
    error_code ignored;
    const auto end = stream_.socket().remote_endpoint(ignored);
    remote_ = ignored ? "unknown" : end.address().to_string() + ":" + std::to_string(end.port());
    stream_.socket().set_option(tcp::no_delay(true), ignored);
    std::lock_guard lock(server_->mutex);
    server_->sessions.insert(this);
  }
  ~Session() {
    std::lock_guard lock(server_->mutex);
    server_->sessions.erase(this);
    if (server_->sessions.empty()) server_->all_closed.notify_all();
  }

  asio::awaitable<void> run() {
    auto self = shared_from_this();
    // Bounds what belongs to no body, too: the heads of chunks, and trailers.
    beast::flat_buffer buffer(server_->options.max_header_bytes + kReadBytes);
    while (!server_->draining.load()) {
      const bool again = co_await one_request(buffer);
      if (!again) break;
    }
    error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    if (linger_ && !ignored && !server_->draining.load()) co_await read_away();
    stream_.socket().close(ignored);
  }

  // Any thread: closes an idle connection now, and a busy one when `hard`.
  void shut_weakly(bool hard) {
    asio::post(stream_.get_executor(), [weak = weak_from_this(), hard] {
      const auto self = weak.lock();
      if (!self || !(hard || self->idle_)) return;
      error_code ignored;
      self->stream_.socket().close(ignored);
      if (self->reply_) {  // a busy one: its coroutine is asleep until there is news
        self->reply_->close();
        self->reply_->wake().cancel();
      }
    });
  }

 private:
  using Parser = http::request_parser<http::string_body>;

  // Reads from now on fail after `limit`, however many steps they take. The connection stays as it is (a beast stream's
  // own limit would close it), so the client can be told. ended() tells whether it came to that, and ends the watch.
  void begin_reading(std::chrono::milliseconds limit) {
    late_ = false;
    stream_.expires_never();
    interrupt_after(limit, ++reading_);
  }
  void interrupt_after(std::chrono::milliseconds limit, std::uint64_t reading) {
    deadline_.expires_after(limit);
    deadline_.async_wait([weak = weak_from_this(), reading](error_code error) {
      const auto self = weak.lock();
      if (error || !self || self->reading_ != reading) return;
      self->late_ = true;
      error_code ignored;
      self->stream_.socket().cancel(ignored);
      self->interrupt_after(kDeadlineRepeat, reading);
    });
  }
  // What a read gave, and beast's timeout if it was interrupted.
  error_code ended(error_code error) {
    ++reading_;
    deadline_.cancel();
    return error && late_ ? error_code(beast::error::timeout) : error;
  }

  // What the client still sends is of no use any more.
  asio::awaitable<void> read_away() {
    idle_ = true;
    std::vector<char> waste(kReadBytes);
    begin_reading(kLinger);
    for (;;) {
      auto [error, n] = co_await stream_.socket().async_read_some(asio::buffer(waste), kAwait);
      if (error || late_) break;
    }
    ended({});
  }

  // Reads one request and answers it; false when the connection must end.
  asio::awaitable<bool> one_request(beast::flat_buffer& buffer) {
    const ServerOptions& options = server_->options;
    Parser parser;
    parser.header_limit(static_cast<std::uint32_t>(options.max_header_bytes));
    parser.body_limit(options.max_body_bytes);
    idle_ = true;
    begin_reading(options.head_timeout);
    auto [head_error, head_bytes] = co_await http::async_read_header(stream_, buffer, parser, kAwait);
    idle_ = false;
    if (const error_code error = ended(head_error)) {
      co_await refuse(error, !buffer.size() && !parser.got_some());
      co_return false;
    }
    if (beast::iequals(parser.get()[http::field::expect], "100-continue")) co_await write_all(kContinue);
    begin_reading(options.body_timeout);
    auto [body_error, body_bytes] = co_await http::async_read(stream_, buffer, parser, kAwait);
    if (const error_code error = ended(body_error)) {
      co_await refuse(error, false);
      co_return false;
    }
    auto message = parser.release();
    const bool keep_alive = message.keep_alive() && !server_->draining.load();

    Request request;
    request.method = std::string(message.method_string());
    request.remote = remote_;
    const std::string_view target = message.target();
    const std::size_t mark = target.find('?');
    if (target.empty() || target[0] != '/' || !percent_decode(target.substr(0, mark), request.path)) {
      const Response bad = server_->error(400, "malformed request target");
      co_await send_whole(bad, false, false);
      co_return false;
    }
    if (mark != std::string_view::npos) request.query = target.substr(mark + 1);
    for (const auto& field : message) request.headers.emplace_back(field.name_string(), field.value());
    request.body = std::move(message.body());
    const bool head_only = request.method == "HEAD";

    interim_ = message.version() >= 11;
    auto state = std::make_shared<ReplyState>(server_, stream_.get_executor(), options.max_pending_bytes);
    server_->handler(std::move(request),
                     std::make_shared<ReplyHandle>(state, server_->error(500, "the request was not answered")));
    const bool again = co_await answer(state, keep_alive, head_only, buffer.size() > 0);
    co_return again;
  }

  // What to tell a client whose request could not be read; nullopt: nothing.
  std::optional<Response> refusal(error_code error, bool nothing_received) const {
    if (error == http::error::body_limit) {
      return server_->error(413, "request body is larger than " + std::to_string(server_->options.max_body_bytes) + " bytes");
    }
    // The buffer ends where chunk heads or trailers do not.
    if (error == http::error::header_limit || error == http::error::buffer_overflow)
      return server_->error(431, "request head is too large");
    if (error == beast::error::timeout) {
      if (nothing_received) return std::nullopt;  // an idle keep-alive connection ends without a word
      return server_->error(408, "request was not received in time");
    }
    const bool malformed = error.category() == http::make_error_code(http::error::bad_method).category() &&
                           error != http::error::end_of_stream && error != http::error::partial_message;
    if (malformed) return server_->error(400, "malformed HTTP request: " + error.message());
    return std::nullopt;
  }

  asio::awaitable<bool> refuse(error_code error, bool nothing_received) {
    const std::optional<Response> answer = refusal(error, nothing_received);
    if (answer) co_await send_whole(*answer, false, false);
    co_return false;
  }

  asio::awaitable<bool> write_all(std::string_view bytes) {
    stream_.expires_after(server_->options.write_timeout);
    auto [error, n] = co_await asio::async_write(stream_, asio::buffer(bytes), kAwait);
    co_return !error;
  }

  // `response` must live until this is done. (Arguments of awaited calls are named objects throughout this file: GCC 12
  // destroys some temporaries of co_await expressions twice.)
  asio::awaitable<bool> send_whole(const Response& response, bool keep_alive, bool head_only) {
    const std::string framing = "Content-Length: " + std::to_string(response.body.size()) + "\r\n";
    std::string text = head_text(response, keep_alive, framing.c_str());
    if (!head_only) text += response.body;
    const bool sent = co_await write_all(text);
    linger_ = sent && !keep_alive;
    co_return sent && keep_alive;
  }

  asio::awaitable<bool> answer(std::shared_ptr<ReplyState> state, bool keep_alive, bool head_only, bool pipelined) {
    // While the answer is being made, notice a client that goes away. Pipelined bytes make "readable" mean nothing.
    auto watching = std::make_shared<bool>(!pipelined);
    if (*watching) watch(state, watching);
    reply_ = state;
    asks_ = false;
    const bool again = co_await pump(state, keep_alive, head_only);
    reply_ = nullptr;
    *watching = false;
    error_code ignored;
    if (again) {
      stream_.socket().cancel(ignored);  // ends the watch; nothing else is pending here
      co_await asio::post(stream_.get_executor(), asio::use_awaitable);
    }
    state->close();
    co_return again;
  }

  void watch(std::shared_ptr<ReplyState> state, std::shared_ptr<bool> watching) {
    stream_.socket().async_wait(tcp::socket::wait_read, [this, self = shared_from_this(), state,
                                                         watching](error_code error) {
      if (!*watching || error) return;
      char byte;
      error_code peek_error;
      stream_.socket().non_blocking(true, peek_error);
      const std::size_t n =
          stream_.socket().receive(asio::buffer(&byte, 1), tcp::socket::message_peek, peek_error);
      if (peek_error == asio::error::would_block) return watch(state, watching);
      if (!peek_error && n > 0) return;  // the next request is already here
      if (!peek_error || peek_error == asio::error::eof) {  // no more requests; is somebody there to read the answer?
        watch_for_reset(state, watching);
        asks_ = true;
      } else {
        *watching = false;
        state->close();
      }
      state->wake().cancel();
    });
  }

  // The end of what a client sends looks the same whether it still reads or is gone. Who is gone answers the next bytes
  // with a reset.
  void watch_for_reset(std::shared_ptr<ReplyState> state, std::shared_ptr<bool> watching) {
    stream_.socket().async_wait(tcp::socket::wait_error, [self = shared_from_this(), state, watching](error_code error) {
      if (!*watching || error) return;
      *watching = false;
      state->close();
      state->wake().cancel();
    });
  }

  // Bytes that mean nothing to a client that reads: an interim answer before the answer, a heartbeat in a stream. Where
  // there are none, the client counts as gone.
  std::string question(const ReplyState& state, bool head_sent) const {
    if (!head_sent) return interim_ ? std::string(kContinue) : "";
    return state.heartbeat().empty() ? "" : chunk(state.heartbeat());
  }

  // Sends what the handler's threads produce; returns whether the connection may be used again.
  asio::awaitable<bool> pump(std::shared_ptr<ReplyState> state, bool keep_alive, bool head_only) {
    bool head_sent = false;
    for (;;) {
      state->has_news();
      auto next = state->take();
      if (state->closed() || next.overflow) co_return false;
      if (next.begun && !next.streaming) {
        const bool again = co_await send_whole(state->head(), keep_alive, head_only);
        state->complete();
        co_return again;
      }
      std::string out;
      if (next.streaming && !std::exchange(head_sent, true)) {
        out = head_text(state->head(), keep_alive, "Transfer-Encoding: chunked\r\n");
      }
      if (!next.data.empty()) out += chunk(next.data);
      if (next.done) out += "0\r\n\r\n";
      if (std::exchange(asks_, false) && out.empty()) {
        out = question(*state, head_sent);
        if (out.empty()) co_return false;
      }
      if (!out.empty()) {
        const bool sent = co_await write_all(out);
        if (!sent) co_return false;
      }
      if (next.done) {
        state->complete();
        linger_ = !keep_alive;
        co_return keep_alive;
      }
      state->sent();
      const bool beats = head_sent && !state->heartbeat().empty();
      if (beats) {
        state->wake().expires_after(server_->options.heartbeat);
      } else {
        state->wake().expires_at(asio::steady_timer::time_point::max());
      }
      if (state->has_news() || asks_) continue;
      stream_.expires_never();
      auto [error] = co_await state->wake().async_wait(kAwait);
      if (!error && beats) {
        const std::string beat = chunk(state->heartbeat());
        const bool sent = co_await write_all(beat);
        if (!sent) co_return false;
      }
    }
  }

  std::shared_ptr<HttpServer::Impl> server_;
  Stream stream_;
  std::string remote_;
  bool idle_ = false;
  asio::steady_timer deadline_;          // of reading
  std::uint64_t reading_ = 0;            // counts up, so that a deadline knows its own read
  bool late_ = false;
  bool interim_ = false;                 // the client knows interim answers
  bool asks_ = false;                    // it is to be found out whether the client still reads
  bool linger_ = false;                  // the last answer was sent whole
  std::shared_ptr<ReplyState> reply_;    // the answer in progress
};

namespace {

// Tells a client that there is no place for it. Holds nothing of the server, which may end before.
asio::awaitable<void> turn_away(tcp::socket socket, std::string text, std::shared_ptr<std::atomic<int>> count) {
  ++*count;
  Stream stream(std::move(socket));
  stream.expires_after(kLinger);
  auto [error, n] = co_await asio::async_write(stream, asio::buffer(text), kAwait);
  error_code ignored;
  stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
  std::vector<char> waste(kReadBytes);
  while (!error) {
    auto [end, more] = co_await stream.async_read_some(asio::buffer(waste), kAwait);
    error = end;
  }
  --*count;
}

}  // namespace

asio::awaitable<void> HttpServer::Impl::accept_loop() {
  auto self = shared_from_this();
  const auto turned_away = std::make_shared<std::atomic<int>>(0);
  for (;;) {
    // Each connection gets a strand: its coroutine and its timers never run at the same time.
    auto strand = asio::make_strand(io);
    auto [accept_error, socket] = co_await acceptor.async_accept(strand, kAwait);
    if (accept_error == asio::error::operation_aborted || !acceptor.is_open()) co_return;
    if (accept_error) {  // out of file descriptors and the like: leave the backlog alone for a moment
      asio::steady_timer pause(io, std::chrono::milliseconds(100));
      co_await pause.async_wait(kAwait);
      continue;
    }
    std::size_t open;
    {
      std::lock_guard lock(mutex);
      open = sessions.size();
    }
    if (open >= options.max_connections) {
      if (*turned_away >= kMaxTurnedAway) continue;
      const Response busy = error(503, "too many connections");
      std::string text = head_text(busy, false, ("Content-Length: " + std::to_string(busy.body.size()) + "\r\n").c_str());
      text += busy.body;
      asio::co_spawn(strand, turn_away(std::move(socket), std::move(text), turned_away), asio::detached);
      continue;
    }
    auto session = std::make_shared<Session>(self, std::move(socket));
    asio::co_spawn(strand, [session] { return session->run(); }, asio::detached);
  }
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(ServerOptions options, Handler handler) {
  auto impl = std::make_shared<Impl>(std::move(options), std::move(handler));
  const std::string where = impl->options.host + ":" + std::to_string(impl->options.port);
  error_code error;
  tcp::resolver resolver(impl->io);
  const auto found = resolver.resolve(impl->options.host, std::to_string(impl->options.port), error);
  if (error || found.empty()) return fail(ErrorKind::kFailed, "cannot listen on " + where + ": " + error.message());
  const tcp::endpoint endpoint = *found.begin();
  impl->acceptor.open(endpoint.protocol(), error);
  if (!error) impl->acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) impl->acceptor.bind(endpoint, error);
  if (!error) impl->acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return fail(ErrorKind::kFailed, "cannot listen on " + where + ": " + error.message());
  impl->port = impl->acceptor.local_endpoint().port();
  asio::co_spawn(impl->io, [impl] { return impl->accept_loop(); }, asio::detached);
  for (int i = 0; i < std::max(1, impl->options.threads); ++i) {
    impl->threads.emplace_back([raw = impl.get()] { raw->io.run(); });
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
  asio::post(impl_->io, [impl = impl_] {
    error_code ignored;
    impl->acceptor.close(ignored);
  });
  std::unique_lock lock(impl_->mutex);
  // A session that is being destroyed is still listed until it takes the mutex, so weak references decide.
  for (Session* session : impl_->sessions) session->shut_weakly(false);
  return impl_->all_closed.wait_for(lock, grace, [&] { return impl_->sessions.empty(); });
}

void HttpServer::stop() {
  {
    std::lock_guard lock(impl_->mutex);
    if (std::exchange(impl_->stopped, true)) return;
  }
  if (!drain(std::chrono::milliseconds(0))) {
    std::unique_lock lock(impl_->mutex);
    for (Session* session : impl_->sessions) session->shut_weakly(true);
    impl_->all_closed.wait_for(lock, std::chrono::seconds(2), [&] { return impl_->sessions.empty(); });
  }
  impl_->io.stop();
  for (auto& thread : impl_->threads) thread.join();
  impl_->threads.clear();
  // Coroutines that were cancelled but had no thread to end on: let them end, so that nothing keeps the server alive.
  impl_->io.restart();
  impl_->io.poll();
}

}  // namespace qw::net
