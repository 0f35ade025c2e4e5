#include "net/internal/session.h"

#include <openssl/ssl.h>

#include <boost/asio/awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "net/internal/connection.h"
#include "net/internal/reply_state.h"

namespace qw::net::internal {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace ssl = asio::ssl;
using tcp = asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
// Beside the head and pieces of a body as they come: what a read takes at once.
constexpr std::size_t kReadBytes = 64 * 1024;
// What is read ahead of a client that may be gone or may ask again, while it is being answered through TLS.
constexpr std::size_t kAheadBytes = 4096;
// A connection is still read after its last answer, so that closing it does not destroy an answer which the client has
// not read yet: long enough for a client that sends all before it reads, too short to hold anything up.
constexpr std::chrono::milliseconds kLinger{2000};
// For a client to confirm the end of TLS, which few wait for.
constexpr std::chrono::milliseconds kGoodbye{250};
// Connections over the limit that are told so; beyond, a flood is closed without a word.
constexpr int kMaxTurnedAway = 64;
// An answer that takes longer is watched for a client that goes away; before, that would cost more than it saves.
constexpr std::chrono::milliseconds kWatchAfter{20};
// The status line, framing and connection of a head, generously.
constexpr std::size_t kUsualHeadBytes = 160;
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
// Until the deadline of a read takes effect: it cannot stop a read that is just between two steps.
constexpr std::chrono::milliseconds kDeadlineRepeat{10};

Response default_error(int status, const std::string& message) {
  return {status, {{"Content-Type", "text/plain; charset=utf-8"}}, message + "\n"};
}

// `body_room`: bytes that will follow the head in the same text.
std::string head_text(const Response& response, bool keep_alive, const char* framing, std::size_t body_room = 0) {
  std::size_t size = kUsualHeadBytes + body_room;
  for (const auto& [name, value] : response.headers) size += name.size() + value.size() + 4;
  std::string text;
  text.reserve(size);
  text.append("HTTP/1.1 ").append(std::to_string(response.status)).append(" ");
  text += std::string_view(http::obsolete_reason(static_cast<http::status>(response.status)));
  text += "\r\n";
  for (const auto& [name, value] : response.headers) {
    // A header value that came from foreign bytes must not be able to end its line.
    const bool one_line = value.find('\r') == std::string::npos && value.find('\n') == std::string::npos;
    if (one_line) text.append(name).append(": ").append(value).append("\r\n");
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

std::string whole(const Response& response, bool keep_alive, bool head_only) {
  const std::string framing = "Content-Length: " + std::to_string(response.body.size()) + "\r\n";
  std::string text = head_text(response, keep_alive, framing.c_str(), head_only ? 0 : response.body.size());
  if (!head_only) text += response.body;
  return text;
}

bool speaks_plain_http(const error_code& error) {
  return error.category() == asio::error::get_ssl_category() &&
         ERR_GET_REASON(static_cast<unsigned long>(error.value())) == SSL_R_HTTP_REQUEST;
}

// The pair of now; later ones are for later connections.
std::shared_ptr<ServerIdentity::Tls> tls_of(const ServerState& server) {
  return server.options.identity ? server.options.identity->tls() : nullptr;
}

class Session : public OpenSession, public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<ServerState> server, Socket socket, std::shared_ptr<Wakes> wakes)
      : server_(std::move(server)),
        wakes_(std::move(wakes)),
        stream_(std::move(socket), tls_of(*server_)),
        // Bounds what belongs to no body, too: the heads of chunks, and trailers.
        buffer_(server_->options.max_header_bytes + kReadBytes),
        deadline_(stream_.get_executor()),
        look_(stream_.get_executor()) {
    error_code ignored;
    const auto end = stream_.socket().remote_endpoint(ignored);
    remote_ = ignored ? "unknown" : end.address().to_string() + ":" + std::to_string(end.port());
    stream_.socket().set_option(tcp::no_delay(true), ignored);
    std::lock_guard lock(server_->mutex);
    server_->sessions.insert(this);
  }
  ~Session() override {
    std::lock_guard lock(server_->mutex);
    server_->sessions.erase(this);
    if (server_->sessions.empty()) server_->all_closed.notify_all();
  }

  Connection::executor_type executor() { return stream_.get_executor(); }

  Task<void> run() {
    const bool begun = co_await begin();
    while (begun && !server_->draining.load()) {
      const bool again = co_await one_request();
      if (!again) break;
    }
    error_code ignored;
    if (begun && stream_.secure()) co_await say_goodbye();
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    if (linger_ && !ignored && !server_->draining.load()) co_await read_away();
    stream_.socket().close(ignored);
  }

  void shut(bool hard) override {
    asio::post(stream_.get_executor(), [weak = weak_from_this(), hard] {
      if (const auto self = weak.lock(); self && (hard || self->idle_)) self->end_now(hard);
    });
  }

 private:
  using Parser = http::request_parser<http::string_body>;

  void end_now(bool hard) {
    // An idle client of TLS is still told that this is the end.
    if (!hard && stream_.secure() && reading_began_ == reading_) return interrupt_at(Clock::now());
    error_code ignored;
    stream_.socket().close(ignored);
    if (!reply_) return;
    reply_->close();  // a busy one: its coroutine is asleep until there is news
    reply_->wake().cancel();
  }

  // With TLS: the handshake. False: there is nobody to serve.
  Task<bool> begin() {
    if (!stream_.secure()) co_return true;
    idle_ = true;
    begin_reading(server_->options.handshake_timeout);
    auto [handshake_error] = co_await stream_.async_handshake(kAwait);
    const error_code error = ended(handshake_error);
    if (error && speaks_plain_http(error)) co_await refuse_plain_http();
    co_return !error;
  }

  // A client that does not know that it must speak TLS here understands this.
  Task<void> refuse_plain_http() {
    const std::string text = whole(server_->error(400, "this port speaks TLS: use https://"), false, false);
    stream_.plain().expires_after(server_->options.write_timeout);
    auto [error, n] = co_await asio::async_write(stream_.plain(), asio::buffer(text), kAwait);
    linger_ = !error;
  }

  Task<void> say_goodbye() {
    begin_reading(kGoodbye);
    auto [error] = co_await stream_.async_goodbye(kAwait);
    ended(error);
  }

  // Reads from now on fail after `limit`, however many steps they take. The connection stays as it is (a beast stream's
  // own limit would close it), so the client can be told. ended() tells whether it came to that, and ends the watch.
  void begin_reading(std::chrono::milliseconds limit) {
    late_ = false;
    stream_.plain().expires_never();
    reading_began_ = ++reading_;
    interrupt_at(Clock::now() + limit);
  }
  // The timer stays as it is if it goes off before: then it is looked what is left. So most requests leave it alone.
  void interrupt_at(Clock::time_point at) {
    interrupt_at_ = at;
    if (!armed_ || deadline_.expiry() > at) arm(at);
  }
  void arm(Clock::time_point at) {
    armed_ = true;
    deadline_.expires_at(at);
    deadline_.async_wait([weak = weak_from_this()](error_code error) {
      if (const auto self = weak.lock(); self && !error) self->on_deadline();
    });
  }
  void on_deadline() {
    armed_ = false;
    if (reading_began_ != reading_) return;
    const auto now = Clock::now();
    if (now < interrupt_at_) return arm(interrupt_at_);
    late_ = true;
    error_code ignored;
    stream_.socket().cancel(ignored);
    arm(now + kDeadlineRepeat);
  }
  // What a read gave, and beast's timeout if it was interrupted.
  error_code ended(error_code error) {
    ++reading_;
    return error && late_ ? error_code(beast::error::timeout) : error;
  }

  // What the client still sends is of no use any more.
  Task<void> read_away() {
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
  Task<bool> one_request() {
    const ServerOptions& options = server_->options;
    Parser parser;
    parser.header_limit(static_cast<std::uint32_t>(options.max_header_bytes));
    parser.body_limit(options.max_body_bytes);
    idle_ = true;
    begin_reading(options.head_timeout);
    auto [head_error, head_bytes] = co_await http::async_read_header(stream_, buffer_, parser, kAwait);
    idle_ = false;
    if (const error_code error = ended(head_error)) {
      co_await refuse(error, !buffer_.size() && !parser.got_some());
      co_return false;
    }
    if (beast::iequals(parser.get()[http::field::expect], "100-continue")) co_await write_all(kContinue);
    error_code error = take_received(parser);
    if (!error && !parser.is_done()) {
      begin_reading(options.body_timeout);
      auto [body_error, body_bytes] = co_await http::async_read(stream_, buffer_, parser, kAwait);
      error = ended(body_error);
    }
    if (error) {
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
    request.headers.reserve(static_cast<std::size_t>(std::distance(message.begin(), message.end())));
    for (const auto& field : message) request.headers.emplace_back(field.name_string(), field.value());
    request.body = std::move(message.body());
    const bool head_only = request.method == "HEAD";

    interim_ = message.version() >= 11;
    auto state = std::make_shared<ReplyState>(server_, stream_.get_executor(), wakes_, options.max_pending_bytes);
    server_->handler(std::move(request), std::make_shared<ReplyHandle>(state, server_->unanswered));
    const bool again = co_await answer(state, keep_alive, head_only, buffer_.size() > 0);
    co_return again;
  }

  // As much of the body as came with the head.
  error_code take_received(Parser& parser) {
    error_code error;
    std::size_t taken = 1;
    while (!error && taken > 0 && !parser.is_done() && buffer_.size() > 0) {
      taken = parser.put(buffer_.data(), error);
      buffer_.consume(taken);
    }
    return error == http::error::need_more ? error_code() : error;
  }

  // What to tell a client whose request could not be read; nullopt: nothing.
  std::optional<Response> refusal(error_code error, bool nothing_received) const {
    if (error == http::error::body_limit) {
      return server_->error(
          413, "request body is larger than " + std::to_string(server_->options.max_body_bytes) + " bytes");
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

  Task<bool> refuse(error_code error, bool nothing_received) {
    const std::optional<Response> answer = refusal(error, nothing_received);
    if (answer) co_await send_whole(*answer, false, false);
    co_return false;
  }

  void do_not_block(error_code& error) {  // a system call, once
    if (!stream_.socket().non_blocking()) stream_.socket().non_blocking(true, error);
  }

  Task<bool> write_all(std::string_view bytes) {
    if (!stream_.secure()) {  // most of what is written fits at once, without a deadline or a turn of the loop
      error_code error;
      do_not_block(error);
      bytes.remove_prefix(stream_.socket().write_some(asio::buffer(bytes), error));
      if (bytes.empty()) co_return true;
      if (error && error != asio::error::would_block) co_return false;
    }
    stream_.plain().expires_after(server_->options.write_timeout);
    auto [error, n] = co_await asio::async_write(stream_, asio::buffer(bytes), kAwait);
    co_return !error;
  }

  // `response` must live until this is done. (Arguments of awaited calls are named objects throughout this file: GCC 12
  // destroys some temporaries of co_await expressions twice.)
  Task<bool> send_whole(const Response& response, bool keep_alive, bool head_only) {
    const std::string text = whole(response, keep_alive, head_only);
    const bool sent = co_await write_all(text);
    linger_ = sent && !keep_alive;
    co_return (sent && keep_alive);
  }

  Task<bool> answer(std::shared_ptr<ReplyState> state, bool keep_alive, bool head_only, bool pipelined) {
    // Pipelined bytes make "readable" mean nothing.
    watch_at_ = pipelined ? Clock::time_point::max() : Clock::now() + kWatchAfter;
    reply_ = state;
    asks_ = false;
    const bool again = co_await pump(state, keep_alive, head_only);
    reply_ = nullptr;
    if (watching_) {
      *watching_ = false;
      if (again || reads_ahead_) co_await end_watch();
      watching_ = nullptr;
    }
    state->close();
    co_return again;
  }

  Task<void> end_watch() {
    error_code ignored;
    stream_.socket().cancel(ignored);  // nothing else is pending here
    co_await asio::post(stream_.get_executor(), kAwaitTask);
    Timer moment(stream_.get_executor());
    while (reads_ahead_) {  // it was between two steps
      moment.expires_after(std::chrono::milliseconds(1));
      co_await moment.async_wait(kAwait);
      stream_.socket().cancel(ignored);
    }
  }

  // The answer in progress is watched once it has taken long. The timer is left running for the next ones, so most
  // answers leave it alone.
  void watch_later() {
    if (look_armed_ || watching_ || watch_at_ == Clock::time_point::max()) return;
    look_armed_ = true;
    look_.expires_at(watch_at_);
    look_.async_wait([weak = weak_from_this()](error_code error) {
      const auto self = weak.lock();
      if (!self || error) return;
      self->look_armed_ = false;
      if (self->reply_) self->look();
    });
  }
  void look() {
    if (Clock::now() < watch_at_) return watch_later();
    watching_ = std::make_shared<bool>(true);
    watch(reply_, watching_);
  }

  void watch(std::shared_ptr<ReplyState> state, std::shared_ptr<bool> watching) {
    if (stream_.secure()) return read_ahead(state, watching);
    stream_.socket().async_wait(
        tcp::socket::wait_read, [this, self = shared_from_this(), state, watching](error_code error) {
          if (!*watching || error) return;
          char byte;
          error_code peek_error;
          do_not_block(peek_error);
          const std::size_t n = stream_.socket().receive(asio::buffer(&byte, 1), tcp::socket::message_peek, peek_error);
          if (peek_error == asio::error::would_block) return watch(state, watching);
          if (!peek_error && n > 0) return;  // the next request is already here
          came_to_an_end(peek_error, state, watching);
        });
  }

  // What comes through TLS must be read to know whether it is the end. The next request's bytes are kept.
  void read_ahead(std::shared_ptr<ReplyState> state, std::shared_ptr<bool> watching) {
    reads_ahead_ = true;
    stream_.async_read_some(buffer_.prepare(kAheadBytes), [this, self = shared_from_this(), state, watching](
                                                              error_code error, std::size_t n) {
      reads_ahead_ = false;
      buffer_.commit(n);
      if (!*watching || !error) return;
      came_to_an_end(error == ssl::error::stream_truncated ? asio::error::eof : error, state, watching);
    });
  }

  void came_to_an_end(error_code error, std::shared_ptr<ReplyState> state, std::shared_ptr<bool> watching) {
    if (!error || error == asio::error::eof) {  // no more requests; is somebody there to read the answer?
      watch_for_reset(state, watching);
      asks_ = true;
    } else {
      *watching = false;
      state->close();
    }
    state->wake().cancel();
  }

  // The end of what a client sends looks the same whether it still reads or is gone. Who is gone answers the next bytes
  // with a reset.
  void watch_for_reset(std::shared_ptr<ReplyState> state, std::shared_ptr<bool> watching) {
    stream_.socket().async_wait(tcp::socket::wait_error,
                                [self = shared_from_this(), state, watching](error_code error) {
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
  Task<bool> pump(std::shared_ptr<ReplyState> state, bool keep_alive, bool head_only) {
    bool head_sent = false;
    for (;;) {
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
      if (beats) state->wake().expires_after(server_->options.heartbeat);
      if (asks_ || !state->may_sleep()) continue;
      watch_later();
      stream_.plain().expires_never();
      auto [error] = co_await state->wake().async_wait(kAwait);
      if (!error && beats) {
        const std::string beat = chunk(state->heartbeat());
        const bool sent = co_await write_all(beat);
        if (!sent) co_return false;
      }
    }
  }

  std::shared_ptr<ServerState> server_;
  std::shared_ptr<Wakes> wakes_;
  Connection stream_;
  std::string remote_;
  beast::flat_buffer buffer_;  // received, and not looked at yet
  bool idle_ = false;
  Timer deadline_;      // of reading
  bool armed_ = false;  // it runs, until interrupt_at_ or sooner
  Clock::time_point interrupt_at_;
  std::uint64_t reading_ = 0;        // counts up, so that a deadline knows its own read
  std::uint64_t reading_began_ = 0;  // equal while a read is in progress
  bool reads_ahead_ = false;
  bool late_ = false;
  bool interim_ = false;               // the client knows interim answers
  bool asks_ = false;                  // it is to be found out whether the client still reads
  bool linger_ = false;                // the last answer was sent whole
  std::shared_ptr<ReplyState> reply_;  // the answer in progress
  std::shared_ptr<bool> watching_;     // of the answer in progress, once it is watched
  Clock::time_point watch_at_;         // when that is to be; max: never
  Timer look_;                         // goes off about then
  bool look_armed_ = false;
};

// Holds nothing of the server, which may end before.
Task<void> tell_and_close(std::unique_ptr<Connection> connection, std::string text) {
  Connection::Plain& plain = connection->plain();
  plain.expires_after(kLinger);
  error_code error;
  if (connection->secure()) {
    auto [handshake_error] = co_await connection->async_handshake(kAwait);
    error = handshake_error;
  }
  if (!error) {
    auto [write_error, n] = co_await asio::async_write(*connection, asio::buffer(text), kAwait);
    error = write_error;
  }
  error_code ignored;
  plain.socket().shutdown(tcp::socket::shutdown_send, ignored);
  std::vector<char> waste(kReadBytes);
  while (!error) {
    auto [end, more] = co_await plain.async_read_some(asio::buffer(waste), kAwait);
    error = end;
  }
}

}  // namespace

Response ServerState::error(int status, const std::string& message) const {
  return options.error_response ? options.error_response(status, message) : default_error(status, message);
}

void begin_session(std::shared_ptr<ServerState> server, Socket socket, std::shared_ptr<Wakes> wakes) {
  const auto session = std::make_shared<Session>(std::move(server), std::move(socket), std::move(wakes));
  const auto executor = session->executor();
  asio::co_spawn(
      executor, [session] { return session->run(); }, asio::detached);
}

void turn_away(std::shared_ptr<ServerState> server, Socket socket) {
  if (server->turned_away >= kMaxTurnedAway) return;
  ++server->turned_away;
  auto connection = std::make_unique<Connection>(std::move(socket), tls_of(*server));
  const auto executor = connection->get_executor();
  asio::co_spawn(executor,
                 tell_and_close(std::move(connection), whole(server->error(503, "too many connections"), false, false)),
                 [weak = std::weak_ptr(server)](std::exception_ptr) {
                   if (const auto s = weak.lock()) --s->turned_away;
                 });
}

}  // namespace qw::net::internal
