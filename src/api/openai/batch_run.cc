#include "api/openai/batch_run.h"

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "api/field_reader.h"
#include "api/file_lines.h"
#include "api/openai/batch_object.h"
#include "base/clock.h"

namespace qw::api::openai {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kMostLines = 50'000;  // as OpenAI has it
constexpr std::size_t kMostErrors = 100;     // named of a file that is wrong
constexpr std::int64_t kRecordsAtOnce = 500;
constexpr std::size_t kRecordsSoon = 64;  // are written before they have gathered for long
// Below every request of a client, whose priority is 0.
constexpr std::int32_t kIdle = -100;

json::Value line_error(const std::string& code, const std::string& message, std::int64_t line,
                       const char* param = nullptr) {
  return json::Object{{"code", code},
                      {"message", message},
                      {"param", param == nullptr ? json::Value() : json::Value(param)},
                      {"line", line > 0 ? json::Value(line) : json::Value()}};
}

struct Line {
  std::string custom_id;
  json::Value body;
};

// One line of the input, or what is wrong with it.
tl::expected<Line, json::Value> read_line(const std::string& text, std::int64_t number, const std::string& endpoint) {
  const auto wrong = [&](const char* code, const std::string& message, const char* param = nullptr) {
    return tl::unexpected(line_error(code, message, number, param));
  };
  auto value = json::parse(text);
  if (!value) return wrong("invalid_json_line", "This line is not JSON: " + value.error().message);
  if (!value->is_object()) return wrong("invalid_json_line", "This line is not a JSON object.");
  Line line;
  line.custom_id = text_member(*value, "custom_id");
  if (line.custom_id.empty()) return wrong("missing_required_parameter", "'custom_id' is required.", "custom_id");
  if (text_member(*value, "method") != "POST") return wrong("invalid_method", "'method' must be POST.", "method");
  if (text_member(*value, "url") != endpoint)
    return wrong("url_not_found", "'url' must be the batch's endpoint, " + endpoint + ".", "url");
  const json::Value* body = value->find("body");
  if (body == nullptr || !body->is_object())
    return wrong("missing_required_parameter", "'body' must be an object.", "body");
  if (const json::Value* stream = body->find("stream"); stream != nullptr && *stream == json::Value(true))
    return wrong("invalid_request", "A batch does not stream.", "body.stream");
  line.body = *body;
  return line;
}

struct Done {
  std::size_t ticket = 0;
  net::Response response;
};
// What comes back, from any thread.
struct Inbox {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Done> done;
};

std::chrono::milliseconds retry_after(const net::Response& response, std::chrono::milliseconds most) {
  const std::string_view text = net::find_header(response.headers, "retry-after");
  std::int64_t seconds = 1;
  std::from_chars(text.data(), text.data() + text.size(), seconds);
  return std::clamp<std::chrono::milliseconds>(std::chrono::seconds(seconds), std::chrono::milliseconds(50), most);
}

// A limit that passes, or a service that is full; a budget that is used up says nothing of a later time.
bool passes(const net::Response& response) {
  return (response.status == 429 || response.status == 503) &&
         !net::find_header(response.headers, "retry-after").empty();
}

// One batch, from where its records leave off.
class Run {
 public:
  Run(const BatchContext& context, store::Job job)
      : context_(context), job_(std::move(job)), spec_(BatchSpec::parse(job_.spec)), inbox_(std::make_shared<Inbox>()) {
    if (auto state = json::parse(job_.state); state && state->is_object()) state_ = std::move(state->as_object());
  }

  // Errors: of the store, or kRefused when the batch is another's by now.
  Status run() {
    expires_at_ = job_.created_us / base::kSecondUs + spec_.window_s;
    if (text_member(state_, "status").empty()) {
      QW_ASSIGN(const bool fine, validate());
      if (!fine) return {};
    }
    if (text_member(state_, "status") != "finalizing") QW_TRY(execute());
    if (left_) return jobs().release(job_.id, context_.instance);
    return finalize();
  }

 private:
  store::Jobs& jobs() { return context_.store.jobs(); }
  std::int64_t lease_us() const { return std::chrono::microseconds(context_.options.lease).count(); }
  void set(const char* key, json::Value value) { state_.set(key, std::move(value)); }

  Status advance() {
    QW_ASSIGN(const auto wish, jobs().advance(job_.id, context_.instance, lease_us(), json::dump(state_), records_));
    records_.clear();
    last_written_ = Clock::now();
    cancelled_ = cancelled_ || wish == store::JobWish::kCancel;
    return {};
  }

  // Reads the whole file once. False: it is wrong, and the batch has failed.
  Result<bool> validate() {
    json::Array errors;
    std::set<std::string> ids;
    FileLines lines(context_.store.files(), spec_.input_file_id);
    std::int64_t total = 0;
    while (errors.size() < kMostErrors) {
      auto text = lines.next();
      if (!text && text.error().kind != ErrorKind::kBadInput) return tl::unexpected(text.error());
      if (!text) errors.push_back(line_error("invalid_file", text.error().message, 0));
      if (!text || !*text) break;
      if (++total > kMostLines) {
        errors.push_back(
            line_error("too_many_lines", "A batch has at most " + std::to_string(kMostLines) + " lines.", 0));
        break;
      }
      auto line = read_line(**text, lines.number(), spec_.endpoint);
      if (!line) {
        errors.push_back(line.error());
      } else if (!ids.insert(line->custom_id).second) {
        errors.push_back(line_error("duplicate_custom_id", "'custom_id' " + line->custom_id + " occurs twice.",
                                    lines.number(), "custom_id"));
      } else if (total == 1) {
        set("model", text_member(line->body, "model"));
      }
    }
    if (total == 0 && errors.empty()) errors.push_back(line_error("empty_file", "The input file has no lines.", 0));
    if (errors.empty()) {
      set("total", total);
      set("completed", 0);
      set("failed", 0);
      set("status", "in_progress");
      set("in_progress_at", base::unix_seconds());
      QW_TRY(advance());
      return true;
    }
    set("errors", json::Object{{"object", "list"}, {"data", std::move(errors)}});
    set("failed_at", base::unix_seconds());
    QW_TRY(jobs().finish(job_.id, context_.instance, "failed", json::dump(state_)));
    return false;
  }

  // The custom_ids whose answers are written.
  Status read_records() {
    for (const char* stream : {"output", "error"}) {
      for (std::int64_t from = 0;;) {
        QW_ASSIGN(const auto records, jobs().records(job_.id, stream, from, kRecordsAtOnce));
        if (records.empty()) break;
        for (const auto& record : records) {
          if (const auto value = json::parse(record.body)) written_.insert(text_member(*value, "custom_id"));
        }
        from = records.back().number + 1;
      }
    }
    return {};
  }

  Status execute() {
    QW_TRY(read_records());
    FileLines lines(context_.store.files(), spec_.input_file_id);
    bool ended = false;
    while (!cancelled_ && !left_ && base::unix_seconds() < expires_at_ &&
           !(ended && open_.empty() && waiting_.empty())) {
      while (!ended && open_.size() + waiting_.size() < context_.options.window) {
        QW_ASSIGN(const auto text, lines.next());
        ended = !text.has_value();
        if (ended) break;
        auto line = read_line(*text, lines.number(), spec_.endpoint);
        if (line && !written_.contains(line->custom_id)) QW_TRY(send(std::move(*line)));
      }
      QW_TRY(send_again());
      gather();
      const auto unwritten = Clock::now() - last_written_;
      const bool due = !records_.empty() && (unwritten >= context_.options.flush || records_.size() >= kRecordsSoon);
      if (due || unwritten >= context_.options.poll) QW_TRY(advance());  // which also tells of a cancellation
    }
    calls_.clear();  // cancels what still runs
    if (left_) return {};
    if (!cancelled_ && (!ended || !open_.empty() || !waiting_.empty())) QW_TRY(expire());
    if (!cancelled_ &&
        integer_member(state_, "completed") + integer_member(state_, "failed") < integer_member(state_, "total")) {
      // Lines that were counted are no longer there.
      set("errors",
          json::Object{{"object", "list"},
                       {"data", json::Array{line_error("input_file_gone",
                                                       "The input file was deleted while the batch ran.", 0)}}});
      set("failed_at", base::unix_seconds());
    }
    set("status", "finalizing");
    set("finalizing_at", base::unix_seconds());
    if (cancelled_) set("cancelling_at", base::unix_seconds());
    return advance();
  }

  Status send(Line line) {
    QW_TRY(find_key());
    const std::size_t ticket = next_ticket_++;
    if (key_ == nullptr) {
      record(
          line,
          {401,
           {},
           R"({"error":{"message":"The key that left this batch is no longer valid.","type":"authentication_error","param":null,"code":"invalid_api_key"}})"});
      return {};
    }
    InnerRequest request;
    request.path = spec_.endpoint;
    request.body = json::dump(line.body, json::WriteStyle::compact());
    request.who = key_;
    request.priority = kIdle;
    open_.emplace(ticket, std::move(line));
    auto call = context_.dispatch(std::move(request), [inbox = inbox_, ticket](net::Response response) {
      {
        const std::lock_guard lock(inbox->mutex);
        inbox->done.push_back({ticket, std::move(response)});
      }
      inbox->changed.notify_one();
    });
    calls_.emplace(ticket, std::move(call));
    return {};
  }

  Status send_again() {
    while (!waiting_.empty() && waiting_.begin()->first <= Clock::now()) {
      Line line = std::move(waiting_.begin()->second);
      waiting_.erase(waiting_.begin());
      QW_TRY(send(std::move(line)));
    }
    return {};
  }

  // Rights may change while a batch runs; they are looked up again now and then.
  Status find_key() {
    constexpr std::chrono::seconds kBelieved{5};
    if (Clock::now() < key_until_) return {};
    QW_ASSIGN(auto found, context_.store.tenants().principal_of_key_id(spec_.key_id));
    key_ = found ? std::make_shared<const store::Principal>(std::move(*found)) : nullptr;
    key_until_ = Clock::now() + kBelieved;
    return {};
  }

  // Waits for answers, at most until they should be written.
  void gather() {
    const auto until = Clock::now() + context_.options.flush;
    while (Clock::now() < until) {
      std::vector<Done> done;
      {
        std::unique_lock lock(inbox_->mutex);
        auto next = until;
        if (!waiting_.empty()) next = std::min(next, waiting_.begin()->first);
        inbox_->changed.wait_until(lock, next, [&] { return !inbox_->done.empty(); });
        done.swap(inbox_->done);
      }
      for (Done& one : done) {
        const auto at = open_.find(one.ticket);
        if (at == open_.end()) continue;
        Line line = std::move(at->second);
        open_.erase(at);
        calls_.erase(one.ticket);
        if (passes(one.response)) {
          waiting_.emplace(Clock::now() + retry_after(one.response, context_.options.longest_wait), std::move(line));
        } else {
          record(line, one.response);
        }
      }
      left_ = left_ || context_.stopping();
      // Places that came free are filled before the rest is waited for.
      if (left_ || !done.empty() || (!waiting_.empty() && waiting_.begin()->first <= Clock::now())) return;
    }
  }

  void record(const Line& line, const net::Response& response) {
    auto body = json::parse(response.body);
    const bool fine = response.status < 400 && body.has_value();
    if (fine) add_usage(*body);
    json::Object out{{"id", "batch_req_" + job_.id.substr(job_.id.find('_') + 1) + "_" + line.custom_id},
                     {"custom_id", line.custom_id},
                     {"response", json::Object{{"status_code", response.status},
                                               {"request_id", net::find_header(response.headers, "x-request-id")},
                                               {"body", body ? std::move(*body) : json::Value()}}},
                     {"error", nullptr}};
    add_record(fine, out);
  }

  void add_record(bool fine, const json::Object& out) {
    const char* count = fine ? "completed" : "failed";
    set(count, integer_member(state_, count) + 1);
    store::JobRecord record;
    record.stream = fine ? "output" : "error";
    record.body = json::dump(out, json::WriteStyle::compact());
    records_.push_back(std::move(record));
  }

  void add_usage(const json::Value& body) {
    const json::Value* usage = body.find("usage");
    if (usage == nullptr) return;
    const json::Value* so_far = state_.find("usage");
    const json::Value before = so_far == nullptr ? json::Value(json::Object{}) : *so_far;
    const auto sum = [&](const char* name, const char* a, const char* b) {
      return std::pair<std::string, json::Value>(
          name, integer_member(before, name) + integer_member(*usage, a) + integer_member(*usage, b));
    };
    const auto inside = [](const json::Value& of, const std::string& details, const char* name) {
      const json::Value* found = of.find(details);
      return found == nullptr ? 0 : integer_member(*found, name);
    };
    // Chats and completions name the two sides otherwise than responses and this.
    const auto details = [&](const std::string& side, const std::string& other, const char* name) {
      const std::string ours = side + "_tokens_details";
      const std::int64_t all =
          inside(before, ours, name) + inside(*usage, ours, name) + inside(*usage, other + "_tokens_details", name);
      return std::pair<std::string, json::Value>(ours, json::Object{{name, all}});
    };
    set("usage", json::Object{sum("input_tokens", "prompt_tokens", "input_tokens"),
                              details("input", "prompt", "cached_tokens"),
                              sum("output_tokens", "completion_tokens", "output_tokens"),
                              details("output", "completion", "reasoning_tokens"),
                              sum("total_tokens", "total_tokens", "")});
  }

  // The window has passed: what has no answer gets an error.
  Status expire() {
    set("expired_at", base::unix_seconds());
    for (const auto& record : records_)
      if (const auto value = json::parse(record.body)) written_.insert(text_member(*value, "custom_id"));
    QW_TRY(advance());
    written_.clear();
    QW_TRY(read_records());
    FileLines lines(context_.store.files(), spec_.input_file_id);
    for (;;) {
      QW_ASSIGN(const auto text, lines.next());
      if (!text) return {};
      const auto line = read_line(*text, lines.number(), spec_.endpoint);
      if (!line || written_.contains(line->custom_id)) continue;
      add_record(
          false,
          {{"id", "batch_req_" + job_.id.substr(job_.id.find('_') + 1) + "_" + line->custom_id},
           {"custom_id", line->custom_id},
           {"response", nullptr},
           {"error",
            json::Object{{"code", "batch_expired"},
                         {"message", "This request could not be executed before the completion window expired."}}}});
      if (records_.size() >= static_cast<std::size_t>(kRecordsAtOnce)) QW_TRY(advance());
    }
  }

  // A stream of records as a file; "" if there are none.
  Result<std::string> write_file(const char* stream) {
    store::Files& files = context_.store.files();
    std::string id;
    for (std::int64_t from = 0;;) {
      QW_ASSIGN(const auto records, jobs().records(job_.id, stream, from, kRecordsAtOnce));
      if (records.empty()) break;
      if (id.empty()) {
        QW_ASSIGN(const auto file, files.begin(job_.project_id, job_.id + "_" + stream + ".jsonl", "batch_output"));
        id = file.id;
      }
      std::string text;
      for (const auto& record : records) text += record.body + "\n";
      QW_TRY(files.append(id, text));
      from = records.back().number + 1;
      if (Clock::now() - last_written_ > context_.options.lease / 3) QW_TRY(advance());
    }
    if (!id.empty()) QW_TRY(files.complete(id));
    return id;
  }

  Status finalize() {
    QW_ASSIGN(const std::string output, write_file("output"));
    QW_ASSIGN(const std::string errors, write_file("error"));
    if (!output.empty()) set("output_file_id", output);
    if (!errors.empty()) set("error_file_id", errors);
    const bool cancelled = state_.find("cancelling_at") != nullptr, expired = state_.find("expired_at") != nullptr;
    const bool failed = state_.find("failed_at") != nullptr;
    const char* status = cancelled ? "cancelled" : failed ? "failed" : expired ? "expired" : "completed";
    if (cancelled) set("cancelled_at", base::unix_seconds());
    if (!cancelled && !failed && !expired) set("completed_at", base::unix_seconds());
    return jobs().finish(job_.id, context_.instance, status, json::dump(state_));
  }

  const BatchContext& context_;
  const store::Job job_;
  const BatchSpec spec_;
  const std::shared_ptr<Inbox> inbox_;
  json::Object state_;
  std::int64_t expires_at_ = 0;
  std::set<std::string> written_;
  std::size_t next_ticket_ = 0;
  std::map<std::size_t, Line> open_;
  std::map<std::size_t, std::unique_ptr<InnerCall>> calls_;
  std::multimap<Clock::time_point, Line> waiting_;
  std::vector<store::JobRecord> records_;
  Clock::time_point last_written_ = Clock::now(), key_until_{};
  Accounts::Who key_;
  bool cancelled_ = false, left_ = false;
};

}  // namespace

Status run_batch(const BatchContext& context, store::Job job) { return Run(context, std::move(job)).run(); }

}  // namespace qw::api::openai
