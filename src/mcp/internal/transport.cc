#include "mcp/internal/transport.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "mcp/event_stream.h"
#include "mcp/internal/post.h"
#include "net/url.h"

namespace qw::mcp::internal {
namespace {

constexpr const char* kAloneVersion = "2026-07-28";
// Newest first: the first is asked for.
constexpr std::array<std::string_view, 4> kSessionVersions = {"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"};

json::Object client_info() { return {{"name", "qianwen"}, {"version", "1"}}; }

tl::unexpected<Error> bad_status(int status) {
  const ErrorKind kind = status == 429 || status >= 500 ? ErrorKind::kFailed : ErrorKind::kRefused;
  return fail(kind, "the server answered with the HTTP status " + std::to_string(status));
}

json::Object initialize_params() {
  return {{"protocolVersion", kSessionVersions[0]}, {"capabilities", json::Object{}}, {"clientInfo", client_info()}};
}

// The version that a server wants to speak; kBadInput for one that is not spoken here.
Result<std::string> version_of(const Reply& reply) {
  if (reply.error) return fail(ErrorKind::kRefused, "the server begins no session: " + reply.error->message);
  const json::Value* version = reply.result.find("protocolVersion");
  if (version != nullptr && version->is_string() &&
      std::find(kSessionVersions.begin(), kSessionVersions.end(), version->as_string()) != kSessionVersions.end())
    return version->as_string();
  return fail(ErrorKind::kBadInput, "the server speaks another version of the protocol");
}

class AloneTransport final : public Transport {
 public:
  AloneTransport(net::HttpClient http, Server server, Limits limits, const std::atomic<bool>* cancel)
      : http_(std::move(http)), server_(std::move(server)), limits_(limits), cancel_(cancel) {}

  Result<Posted> send(const std::string& method, json::Object params, net::Headers headers) {
    headers.emplace_back("MCP-Protocol-Version", kAloneVersion);
    headers.emplace_back("Mcp-Method", method);
    params.set("_meta", json::Object{{"io.modelcontextprotocol/protocolVersion", kAloneVersion},
                                     {"io.modelcontextprotocol/clientInfo", client_info()},
                                     {"io.modelcontextprotocol/clientCapabilities", json::Object{}}});
    const std::int64_t id = ++last_;
    return post(http_, server_, limits_, std::move(headers), request_text(id, method, std::move(params)), id, cancel_);
  }

  Result<Reply> ask(const std::string& method, json::Object params, net::Headers headers) override {
    QW_ASSIGN(Posted posted, send(method, std::move(params), std::move(headers)));
    if (posted.reply) return std::move(*posted.reply);
    return bad_status(posted.status);
  }

 private:
  net::HttpClient http_;
  const Server server_;
  const Limits limits_;
  const std::atomic<bool>* cancel_;
  std::int64_t last_ = 0;
};

class SessionTransport final : public Transport {
 public:
  SessionTransport(net::HttpClient http, Server server, Limits limits, const std::atomic<bool>* cancel)
      : http_(std::move(http)), server_(std::move(server)), limits_(limits), cancel_(cancel) {}

  // Told that it ended, a server can let go of it; one that is not reached will find out.
  ~SessionTransport() override {
    if (session_.empty()) return;
    net::ClientRequest request{"DELETE", server_.url, server_.headers, ""};
    for (auto& header : own_headers()) request.headers.push_back(std::move(header));
    (void)http_.get(request, limits_.message_bytes, cancel_);
  }

  // false: the server is of another age.
  Result<bool> begin() {
    const std::int64_t id = ++last_;
    QW_ASSIGN(Posted posted,
              post(http_, server_, limits_, {}, request_text(id, "initialize", initialize_params()), id, cancel_));
    if (!posted.reply && (posted.status == 400 || posted.status == 404 || posted.status == 405)) return false;
    if (!posted.reply) return bad_status(posted.status);
    QW_ASSIGN(version_, version_of(*posted.reply));
    session_ = std::move(posted.session);
    QW_ASSIGN(const Posted noted, post(http_, server_, limits_, own_headers(),
                                       request_text(0, "notifications/initialized", {}), 0, cancel_));
    if (noted.status / 100 != 2) return bad_status(noted.status);
    return true;
  }

  Result<Reply> ask(const std::string& method, json::Object params, net::Headers) override {
    const std::int64_t id = ++last_;
    const std::string text = request_text(id, method, std::move(params));
    QW_ASSIGN(Posted posted, post(http_, server_, limits_, own_headers(), text, id, cancel_));
    if (posted.reply) return std::move(*posted.reply);
    if (posted.status == 404 && !session_.empty()) return fail(ErrorKind::kFailed, "the server has ended the session");
    return bad_status(posted.status);
  }

 private:
  net::Headers own_headers() const {
    net::Headers out{{"MCP-Protocol-Version", version_}};
    if (!session_.empty()) out.emplace_back("Mcp-Session-Id", session_);
    return out;
  }

  net::HttpClient http_;
  const Server server_;
  const Limits limits_;
  const std::atomic<bool>* cancel_;
  std::string session_, version_;
  std::int64_t last_ = 0;
};

// Answers come by a stream that is read on a thread of its own; its first event says where requests go.
class StreamTransport final : public Transport {
 public:
  StreamTransport(net::HttpClient http, Server server, Limits limits, const std::atomic<bool>* cancel)
      : http_(std::move(http)), server_(std::move(server)), limits_(limits), cancel_(cancel) {
    thread_ = std::thread([this] { read(); });
  }
  ~StreamTransport() override {
    ended_.store(true);
    thread_.join();
  }

  Status begin() {
    QW_TRY(wait([this] { return !endpoint_.empty(); }));
    QW_ASSIGN(const Reply reply, ask("initialize", initialize_params(), {}));
    QW_TRY(version_of(reply).map([](auto&&) {}));
    return say(request_text(0, "notifications/initialized", {}));
  }

  Result<Reply> ask(const std::string& method, json::Object params, net::Headers) override {
    std::string text;
    {
      const std::lock_guard lock(mutex_);
      reply_.reset();
      waiting_ = ++last_;
      text = request_text(waiting_, method, std::move(params));
    }
    QW_TRY(say(text));
    QW_TRY(wait([this] { return reply_.has_value(); }));
    const std::lock_guard lock(mutex_);
    waiting_ = 0;
    return std::move(*reply_);
  }

 private:
  Status say(const std::string& text) {
    Server there = server_;
    {
      const std::lock_guard lock(mutex_);
      there.url = endpoint_;
    }
    QW_ASSIGN(const Posted posted, post(http_, there, limits_, {}, text, 0, cancel_));
    if (posted.status / 100 != 2) return bad_status(posted.status);
    return {};
  }

  template <class Ready>
  Status wait(Ready ready) {
    const auto until = std::chrono::steady_clock::now() + limits_.time;
    std::unique_lock lock(mutex_);
    while (!ready()) {
      if (!failed_) return tl::unexpected(failed_.error());
      if (cancel_ != nullptr && cancel_->load()) return fail(ErrorKind::kInterrupted, "interrupted");
      if (std::chrono::steady_clock::now() > until) return fail(ErrorKind::kFailed, "no answer in time");
      changed_.wait_for(lock, std::chrono::milliseconds(100));
    }
    return {};
  }

  Status take(const StreamEvent& event) {
    const std::lock_guard lock(mutex_);
    changed_.notify_all();
    if (event.name == "endpoint") {
      if (!endpoint_.empty()) return fail(ErrorKind::kBadInput, "the server names a second address for requests");
      QW_ASSIGN(const net::Url base, net::parse_url(server_.url));
      QW_ASSIGN(const net::Url to, net::resolve_reference(base, event.data));
      // What carries the headers must not be sent elsewhere by what the server says.
      if (!to.same_origin(base)) return fail(ErrorKind::kBadInput, "the server sends requests to another address");
      endpoint_ = to.text();
      return {};
    }
    if (event.name != "message" || waiting_ == 0) return {};
    QW_ASSIGN(auto reply, read_reply(event.data, waiting_));
    if (reply) reply_ = std::move(reply);
    return {};
  }

  void read() {
    EventStream events(limits_.message_bytes);
    net::ClientRequest request{"GET", server_.url, server_.headers, ""};
    request.headers.emplace_back("Accept", "text/event-stream");
    const auto on_head = [](const net::ResponseHead& head) -> Status {
      if (head.status / 100 != 2) return bad_status(head.status);
      if (!net::find_header(head.headers, "Content-Type").starts_with("text/event-stream"))
        return fail(ErrorKind::kBadInput, "the server speaks no transport of the protocol");
      return {};
    };
    const auto on_body = [&](std::string_view piece) {
      return events.push(piece, [this](const StreamEvent& event) { return take(event); });
    };
    const auto answer = http_.fetch(request, on_head, on_body, &ended_);
    const std::lock_guard lock(mutex_);
    failed_ = answer ? Status(fail(ErrorKind::kFailed, "the server ended its stream"))
                     : Status(tl::unexpected(without_address(answer.error(), server_.url)));
    changed_.notify_all();
  }

  net::HttpClient http_;
  const Server server_;
  const Limits limits_;
  const std::atomic<bool>* cancel_;
  std::atomic<bool> ended_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string endpoint_;
  std::optional<Reply> reply_;
  std::int64_t waiting_ = 0, last_ = 0;
  Status failed_;
  std::thread thread_;
};

// The errors of the age whose requests stand alone: what is answered with one of them is of that age.
bool of_that_age(const RpcError& error) { return error.code <= -32020 && error.code >= -32029; }

}  // namespace

Result<Alone> open_alone(const Server& server, const Limits& limits, const std::atomic<bool>* cancel) {
  QW_ASSIGN(auto http, make_http(server, limits));
  auto transport = std::make_unique<AloneTransport>(std::move(http), server, limits, cancel);
  QW_ASSIGN(Posted posted, transport->send("tools/list", {}, {}));
  if (posted.status == 401 || posted.status == 403 || posted.status == 429 || posted.status >= 500)
    return bad_status(posted.status);
  if (posted.status / 100 == 3) return fail(ErrorKind::kBadInput, "the server sends clients to another address");
  if (!posted.reply) return Alone{};
  if (posted.reply->error) {
    // -32022: it speaks other versions, perhaps with a session.
    if (of_that_age(*posted.reply->error) && posted.reply->error->code != -32022)
      return fail(ErrorKind::kRefused, "the server answered: " + posted.reply->error->message);
    return Alone{};
  }
  // Servers of the age of sessions may answer without one; only the newer say that they are.
  if (posted.reply->result.find("resultType") == nullptr) return Alone{};
  return Alone{std::move(transport), std::move(posted.reply)};
}

Result<std::unique_ptr<Transport>> open_session(const Server& server, const Limits& limits,
                                                const std::atomic<bool>* cancel) {
  QW_ASSIGN(auto http, make_http(server, limits));
  auto transport = std::make_unique<SessionTransport>(std::move(http), server, limits, cancel);
  QW_ASSIGN(const bool begun, transport->begin());
  if (!begun) return std::unique_ptr<Transport>();
  return std::unique_ptr<Transport>(std::move(transport));
}

Result<std::unique_ptr<Transport>> open_stream(const Server& server, const Limits& limits,
                                               const std::atomic<bool>* cancel) {
  QW_ASSIGN(auto http, make_http(server, limits));
  auto transport = std::make_unique<StreamTransport>(std::move(http), server, limits, cancel);
  QW_TRY(transport->begin());
  return std::unique_ptr<Transport>(std::move(transport));
}

}  // namespace qw::mcp::internal
