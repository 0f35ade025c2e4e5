#include "api/exchange.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <iterator>
#include <span>
#include <utility>

#include "api/auth.h"
#include "api/request_log.h"
#include "api/service_metrics.h"
#include "governance/label/aigc_label.h"
#include "governance/policy/policy.h"
#include "governance/watermark/mark_key.h"

namespace qw::api {

namespace {

// Bytes of the operating system's generator, which ids must have so that nobody guesses them; fetched for many ids at a
// time. (std::random_device asks the processor what it is whenever it is made, which in virtual machines takes tens of
// microseconds: more than all else of a short request.)
class RandomBytes {
 public:
  // Each is given once, and forgotten here.
  void take(std::span<unsigned char> out) {
    if (bytes_.size() - at_ < out.size()) refill();
    std::memcpy(out.data(), bytes_.data() + at_, out.size());
    std::memset(bytes_.data() + at_, 0, out.size());
    at_ += out.size();
  }

 private:
  void refill() {
    for (std::size_t have = 0; have < bytes_.size();) {
      const ssize_t n = ::getrandom(bytes_.data() + have, bytes_.size() - have, 0);
      QW_CHECK(n > 0 || errno == EINTR);
      have += static_cast<std::size_t>(std::max<ssize_t>(n, 0));
    }
    at_ = 0;
  }
  std::array<unsigned char, 1200> bytes_{};  // a hundred ids
  std::size_t at_ = bytes_.size();
};

void random_bytes(std::span<unsigned char> out) {
  thread_local RandomBytes random;
  random.take(out);
}

}  // namespace

std::string new_id(std::string_view prefix) {
  std::array<unsigned char, 12> bytes;
  random_bytes(bytes);
  std::string id(prefix.size() + 2 * bytes.size(), '\0');
  char* at = std::copy(prefix.begin(), prefix.end(), id.data());
  for (const unsigned char byte : bytes) {
    *at++ = "0123456789abcdef"[byte >> 4];
    *at++ = "0123456789abcdef"[byte & 15];
  }
  return id;
}

std::uint64_t random_bits() {
  std::array<unsigned char, sizeof(std::uint64_t)> bytes;
  random_bytes(bytes);
  return std::bit_cast<std::uint64_t>(bytes);
}

json::Value error_body(const ApiError& error) {
  const auto text_or_null = [](const std::string& s) { return s.empty() ? json::Value() : json::Value(s); };
  return json::Object{{"error", json::Object{{"message", error.message},
                                             {"type", error.type},
                                             {"param", text_or_null(error.param)},
                                             {"code", text_or_null(error.code)}}}};
}

net::Response error_response(const ApiError& error) {
  return {
      error.status, {{"Content-Type", "application/json"}}, json::dump(error_body(error), json::WriteStyle::compact())};
}

Exchange::Exchange(std::shared_ptr<net::Reply> reply, std::string request_id)
    : reply_(std::move(reply)), request_id_(std::move(request_id)) {
  headers_.emplace_back("x-request-id", request_id_);
}

Exchange::~Exchange() {
  if (line_ == nullptr) return;
  line_->path = std::move(path_);
  line_->request_id = std::move(request_id_);
  if (who_ != nullptr) {
    line_->organisation = who_->organisation_id;
    line_->project = who_->key.project_id;
    line_->user = who_->key.user_id;
    line_->key = who_->key.id;
  }
  line_->took = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - began_);
  line_->ended = std::chrono::system_clock::now();
  log_->add(std::move(*line_));
}

void Exchange::logged_by(std::shared_ptr<RequestLog> log, std::string method, bool inner) {
  if (log == nullptr) return;
  log_ = std::move(log);
  line_ = std::make_unique<RequestLine>();
  line_->method = std::move(method);
  line_->inner = inner;
  began_ = std::chrono::steady_clock::now();
}

void Exchange::note_use(const std::string& model, const store::Tokens& tokens, std::string outcome) {
  if (line_ == nullptr) return;
  line_->model = model;
  line_->tokens.prompt += tokens.prompt;
  line_->tokens.cached += tokens.cached;
  line_->tokens.reasoning += tokens.reasoning;
  line_->tokens.output += tokens.output;
  line_->finish = std::move(outcome);
}

ApiResult<void> Exchange::read_deadline(const net::Headers& headers) {
  const std::string_view text = net::find_header(headers, "x-deadline-ms");
  if (text.empty()) return {};
  constexpr std::int64_t kLongest = std::int64_t{7} * 24 * 3600 * 1000;
  std::int64_t ms = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), ms);
  if (failed != std::errc() || end != text.data() + text.size() || ms < 1 || ms > kLongest)
    return tl::unexpected(
        bad_request("X-Deadline-Ms",
                    "The header X-Deadline-Ms must be a whole number between 1 and " + std::to_string(kLongest) + "."));
  deadline_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(ms);
  return {};
}

void Exchange::add_header(std::string name, std::string value) {
  headers_.emplace_back(std::move(name), std::move(value));
}

void Exchange::count(int status) {
  if (metrics_) metrics_->answered(path_, status);
  if (line_) line_->status = status;
}

void Exchange::send(net::Response response) {
  count(response.status);
  reply_->send(std::move(response));
}

void Exchange::send_json(int status, const json::Value& body) {
  count(status);
  net::Headers headers = headers_;
  headers.emplace_back("Content-Type", "application/json");
  const bool bare = says_nothing() || status != 200;
  reply_->send({status, std::move(headers), json::dump(bare ? body : labelled(body), json::WriteStyle::compact())});
}

void Exchange::send_json(int status, json::TextWriter open) {
  count(status);
  net::Headers headers = headers_;
  headers.emplace_back("Content-Type", "application/json");
  reply_->send({status, std::move(headers), closed(std::move(open), status == 200)});
}

void Exchange::send_error(const ApiError& error) {
  if (const auto taker = std::exchange(taker_, nullptr)) return taker(error);
  count(error.status);
  net::Response response = error_response(error);
  if (shape_ != nullptr) response.body = json::dump(shape_(error, request_id_), json::WriteStyle::compact());
  response.headers.insert(response.headers.begin(), headers_.begin(), headers_.end());
  if ((error.status == 503 || error.status == 429) && error.retry_after_s >= 0)
    response.headers.emplace_back("Retry-After", std::to_string(error.retry_after_s));
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  reply_->send(std::move(response));
}

void Exchange::begin_stream(const char* content_type, std::string heartbeat) {
  count(200);
  net::Headers headers = headers_;
  headers.emplace_back("Content-Type", content_type);
  headers.emplace_back("Cache-Control", "no-cache");
  headers.emplace_back("X-Accel-Buffering", "no");  // proxies such as nginx would hold events back
  reply_->begin_stream({200, std::move(headers), ""}, std::move(heartbeat));
}

void Exchange::begin_events(std::string heartbeat) { begin_stream("text/event-stream", std::move(heartbeat)); }
// Lines have no comments, and an empty one is an error to some readers: no heartbeat.
void Exchange::begin_lines() { begin_stream("application/x-ndjson", ""); }

void Exchange::begin_bytes(net::Headers more) {
  count(200);
  net::Headers headers = headers_;
  headers.insert(headers.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  reply_->begin_stream({200, std::move(headers), ""}, "");
}

std::string Exchange::told(const json::Value& data) {
  if (says_nothing() || std::exchange(label_told_, true)) return json::dump(data, json::WriteStyle::compact());
  return json::dump(labelled(data), json::WriteStyle::compact());
}

std::string Exchange::told(json::TextWriter open) {
  return closed(std::move(open), !says_nothing() && !std::exchange(label_told_, true));
}

std::string Exchange::closed(json::TextWriter open, bool with_label) const {
  if (with_label && !label_.is_null()) open.key("aigc"), open.value(label_);
  if (with_label)
    for (const auto& [name, value] : notices_) open.key(name), open.value(value);
  open.close_object();
  return open.take();
}

const std::string& Exchange::label_answer() {
  if (producer_ == nullptr || !content_id_.empty()) return content_id_;
  governance::AigcLabel label;
  label.producer = *producer_;
  label.produce_id = content_id_ = governance::new_produce_id();
  label_ = governance::to_json(label);
  add_header("X-AIGC", governance::compact_json(label));
  return content_id_;
}

json::Value Exchange::labelled(json::Value body) const {
  if (!body.is_object()) return body;
  if (!label_.is_null() && body.find("aigc") == nullptr) body.as_object().set("aigc", label_);
  for (const auto& [name, value] : notices_)
    if (body.find(name) == nullptr) body.as_object().set(name, value);
  return body;
}

void Exchange::event(const json::Value& data) { event_text(told(data)); }
void Exchange::event(json::TextWriter open) { event_text(told(std::move(open))); }
void Exchange::event_text(std::string_view data) {
  constexpr std::string_view kBegin = "data: ", kEnd = "\n\n";
  std::string text;
  text.reserve(kBegin.size() + data.size() + kEnd.size());
  reply_->write(std::move(text.append(kBegin).append(data).append(kEnd)));
}
void Exchange::named_event(std::string_view name, const json::Value& data) {
  std::string text = "event: " + std::string(name) + "\ndata: " + told(data) + "\n\n";
  if (listener_) return listener_(std::move(text));
  reply_->write(std::move(text));
}
void Exchange::line(const json::Value& data) { reply_->write(told(data) + "\n"); }
void Exchange::end_events() { reply_->finish(); }

std::shared_ptr<const governance::MarkKey> Exchange::mark_key() const {
  if (marks_ == nullptr) return nullptr;
  const auto keys = marks_->now();
  return {keys, keys->of(tenant_of(*this))};  // holds all of them, as they were
}

const governance::Policy* Exchange::policy() const {
  return policies_ == nullptr ? nullptr : policies_->of(tenant_of(*this));
}

std::string Exchange::part_id(std::string_view prefix) {
  if (answer_id_.empty()) return new_id(prefix);
  return std::string(prefix) + answer_id_.substr(answer_id_.find('_') + 1) + "_" + std::to_string(parts_++);
}

bool only(std::string_view methods, const net::Request& request, Exchange& exchange) {
  for (std::string_view rest = methods; !rest.empty();) {
    const auto comma = rest.find(", ");
    const std::string_view one = rest.substr(0, comma);
    if (request.method == one || (one == "GET" && request.method == "HEAD")) return true;
    rest = comma == std::string_view::npos ? "" : rest.substr(comma + 2);
  }
  exchange.add_header("Allow", std::string(methods));
  exchange.send_error({405, "invalid_request_error", request.path + " takes " + std::string(methods) + " only.", "",
                       "method_not_allowed"});
  return false;
}

ApiResult<json::Object> parse_body(const net::Request& request) {
  auto value = json::parse(request.body);
  if (!value) return tl::unexpected(bad_request("", "The request body is not valid JSON: " + value.error().message));
  if (!value->is_object()) return tl::unexpected(bad_request("", "The request body must be a JSON object."));
  return std::move(value->as_object());
}

void name_list(Exchange& exchange, const char* header, const std::vector<std::string>& names) {
  if (names.empty()) return;
  constexpr std::size_t kMostBytes = 2048;  // of a header; clients and proxies take heads of 8 KB and more
  std::string list;
  for (const std::string& name : names) {
    if (list.size() + name.size() + 1 > kMostBytes) {
      list += list.empty() ? "..." : ",...";
      break;
    }
    list += (list.empty() ? "" : ",") + name;
  }
  exchange.add_header(header, list);
}

void name_ignored(Exchange& exchange, const std::vector<std::string>& names) {
  name_list(exchange, "X-Ignored-Params", names);
}

std::string Exchange::subject() const {
  if (who_ == nullptr) return subject_;
  if (!subject_.empty()) return who_->key.id + "\n" + subject_;
  return who_->key.user_id.empty() ? who_->key.id : who_->key.user_id;
}

}  // namespace qw::api
