#include "api/openai/batch_runner.h"

#include <algorithm>
#include <charconv>
#include <deque>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "api/field_reader.h"
#include "base/log.h"

namespace qw::api::openai {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kSecondUs = 1'000'000;
constexpr std::size_t kMostLineBytes = 8u << 20;  // of one request; far above what any context holds
constexpr std::int64_t kMostLines = 50'000;       // as OpenAI has it
constexpr std::size_t kMostErrors = 100;          // named of a file that is wrong
constexpr std::int64_t kRecordsAtOnce = 500;
constexpr std::size_t kRecordsSoon = 64;  // are written before they have gathered for long
// Below every request of a client, whose priority is 0.
constexpr std::int32_t kIdle = -100;

std::int64_t unix_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::int64_t integer_of(const json::Value& object, const char* key) {
  const json::Value* value = object.find(key);
  return value != nullptr && value->is_int() ? value->as_int() : 0;
}

json::Value line_error(const std::string& code, const std::string& message, std::int64_t line,
                       const char* param = nullptr) {
  return json::Object{{"code", code},
                      {"message", message},
                      {"param", param == nullptr ? json::Value() : json::Value(param)},
                      {"line", line > 0 ? json::Value(line) : json::Value()}};
}

// The lines of a stored file, one part of it in memory.
class FileLines {
 public:
  FileLines(store::Files& files, std::string id) : files_(files), id_(std::move(id)) {}
  // The next line that is not blank; nothing at the end.
  Result<std::optional<std::string>> next() {
    for (;;) {
      const auto end = pending_.find('\n', at_);
      if (end != std::string::npos || (ended_ && at_ < pending_.size())) {
        const auto stop = std::min(end, pending_.size());
        std::string line = pending_.substr(at_, stop - at_);
        at_ = std::min(stop + 1, pending_.size());
        ++number_;
        if (line.find_first_not_of(" \t\r") != std::string::npos) return std::optional<std::string>(std::move(line));
        continue;
      }
      if (ended_) return std::optional<std::string>();
      if (pending_.size() - at_ > kMostLineBytes)
        return fail(ErrorKind::kBadInput, "line " + std::to_string(number_ + 1) + " is longer than " +
                                              std::to_string(kMostLineBytes) + " bytes");
      pending_.erase(0, std::exchange(at_, 0));
      QW_ASSIGN(const std::string piece, files_.read(id_, offset_));
      ended_ = piece.empty();
      offset_ += static_cast<std::int64_t>(piece.size());
      pending_ += piece;
    }
  }
  std::int64_t number() const { return number_; }  // of the line that next() gave, from 1

 private:
  store::Files& files_;
  const std::string id_;
  std::string pending_;
  std::size_t at_ = 0;
  std::int64_t offset_ = 0, number_ = 0;
  bool ended_ = false;
};

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

}  // namespace

std::string BatchSpec::text() const {
  return json::dump(json::Object{{"endpoint", endpoint},
                                 {"input_file_id", input_file_id},
                                 {"completion_window", completion_window},
                                 {"window_s", window_s},
                                 {"key_id", key_id},
                                 {"metadata", metadata}});
}

BatchSpec BatchSpec::parse(const std::string& text) {
  BatchSpec out;
  const auto value = json::parse(text);
  if (!value) return out;
  out.endpoint = text_member(*value, "endpoint");
  out.input_file_id = text_member(*value, "input_file_id");
  out.completion_window = text_member(*value, "completion_window");
  out.key_id = text_member(*value, "key_id");
  out.window_s = integer_of(*value, "window_s");
  if (const json::Value* metadata = value->find("metadata")) out.metadata = *metadata;
  return out;
}

json::Value batch_object(const store::Job& job) {
  const BatchSpec spec = BatchSpec::parse(job.spec);
  const auto parsed = json::parse(job.state.empty() ? "{}" : job.state);
  const json::Value state = parsed ? *parsed : json::Value(json::Object{});
  const std::int64_t created = job.created_us / kSecondUs;
  std::string status = job.status;
  if (status == "queued") status = "validating";
  if (status == "running") status = text_member(state, "status").empty() ? "validating" : text_member(state, "status");
  if (job.status == "running" && job.cancel_wanted) status = "cancelling";
  const auto of_state = [&](const char* key) {
    const json::Value* value = state.find(key);
    return value == nullptr ? json::Value() : *value;
  };
  json::Object out{{"id", job.id},
                   {"object", "batch"},
                   {"endpoint", spec.endpoint},
                   {"model", of_state("model")},
                   {"errors", of_state("errors")},
                   {"input_file_id", spec.input_file_id},
                   {"completion_window", spec.completion_window},
                   {"status", status},
                   {"output_file_id", of_state("output_file_id")},
                   {"error_file_id", of_state("error_file_id")},
                   {"created_at", created},
                   {"in_progress_at", of_state("in_progress_at")},
                   {"expires_at", created + spec.window_s},
                   {"finalizing_at", of_state("finalizing_at")},
                   {"completed_at", of_state("completed_at")},
                   {"failed_at", of_state("failed_at")},
                   {"expired_at", of_state("expired_at")},
                   {"cancelling_at", of_state("cancelling_at")},
                   {"cancelled_at", of_state("cancelled_at")},
                   {"request_counts", json::Object{{"total", integer_of(state, "total")},
                                                   {"completed", integer_of(state, "completed")},
                                                   {"failed", integer_of(state, "failed")}}},
                   {"usage", of_state("usage")},
                   {"metadata", spec.metadata}};
  if (job.status == "cancelled" && state.find("cancelled_at") == nullptr)
    out.set("cancelled_at", job.changed_us / kSecondUs);
  return out;
}

// One batch, from where its records leave off.
class BatchRunner::Run {
 public:
  Run(BatchRunner& runner, store::Job job)
      : runner_(runner), job_(std::move(job)), spec_(BatchSpec::parse(job_.spec)), inbox_(std::make_shared<Inbox>()) {
    if (auto state = json::parse(job_.state); state && state->is_object()) state_ = std::move(state->as_object());
  }

  // Errors: of the store, or kRefused when the batch is another's by now.
  Status run() {
    expires_at_ = job_.created_us / kSecondUs + spec_.window_s;
    if (text_member(state_, "status").empty()) {
      QW_ASSIGN(const bool fine, validate());
      if (!fine) return {};
    }
    if (text_member(state_, "status") != "finalizing") QW_TRY(execute());
    if (left_) return jobs().release(job_.id, runner_.instance_);
    return finalize();
  }

 private:
  store::Jobs& jobs() { return runner_.store_.jobs(); }
  std::int64_t lease_us() const { return std::chrono::microseconds(runner_.options_.lease).count(); }
  void set(const char* key, json::Value value) { state_.set(key, std::move(value)); }

  Status advance() {
    QW_ASSIGN(const bool cancel, jobs().advance(job_.id, runner_.instance_, lease_us(), json::dump(state_), records_));
    records_.clear();
    last_written_ = Clock::now();
    cancelled_ = cancelled_ || cancel;
    return {};
  }

  // Reads the whole file once. False: it is wrong, and the batch has failed.
  Result<bool> validate() {
    json::Array errors;
    std::set<std::string> ids;
    FileLines lines(runner_.store_.files(), spec_.input_file_id);
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
      set("in_progress_at", unix_now());
      QW_TRY(advance());
      return true;
    }
    set("errors", json::Object{{"object", "list"}, {"data", std::move(errors)}});
    set("failed_at", unix_now());
    QW_TRY(jobs().finish(job_.id, runner_.instance_, "failed", json::dump(state_)));
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
    FileLines lines(runner_.store_.files(), spec_.input_file_id);
    bool ended = false;
    while (!cancelled_ && !left_ && unix_now() < expires_at_ && !(ended && open_.empty() && waiting_.empty())) {
      while (!ended && open_.size() + waiting_.size() < runner_.options_.window) {
        QW_ASSIGN(const auto text, lines.next());
        ended = !text.has_value();
        if (ended) break;
        auto line = read_line(*text, lines.number(), spec_.endpoint);
        if (line && !written_.contains(line->custom_id)) QW_TRY(send(std::move(*line)));
      }
      QW_TRY(send_again());
      gather();
      const auto unwritten = Clock::now() - last_written_;
      const bool due = !records_.empty() && (unwritten >= runner_.options_.flush || records_.size() >= kRecordsSoon);
      if (due || unwritten >= runner_.options_.poll) QW_TRY(advance());  // which also tells of a cancellation
    }
    calls_.clear();  // cancels what still runs
    if (left_) return {};
    if (!cancelled_ && (!ended || !open_.empty() || !waiting_.empty())) QW_TRY(expire());
    if (!cancelled_ && integer_of(state_, "completed") + integer_of(state_, "failed") < integer_of(state_, "total")) {
      // Lines that were counted are no longer there.
      set("errors",
          json::Object{{"object", "list"},
                       {"data", json::Array{line_error("input_file_gone",
                                                       "The input file was deleted while the batch ran.", 0)}}});
      set("failed_at", unix_now());
    }
    set("status", "finalizing");
    set("finalizing_at", unix_now());
    if (cancelled_) set("cancelling_at", unix_now());
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
    auto call = runner_.dispatch_(std::move(request), [inbox = inbox_, ticket](net::Response response) {
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
    QW_ASSIGN(auto found, runner_.store_.tenants().principal_of_key_id(spec_.key_id));
    key_ = found ? std::make_shared<const store::Principal>(std::move(*found)) : nullptr;
    key_until_ = Clock::now() + kBelieved;
    return {};
  }

  // Waits for answers, at most until they should be written.
  void gather() {
    const auto until = Clock::now() + runner_.options_.flush;
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
          waiting_.emplace(Clock::now() + retry_after(one.response, runner_.options_.longest_wait), std::move(line));
        } else {
          record(line, one.response);
        }
      }
      {
        const std::lock_guard lock(runner_.mutex_);
        left_ = left_ || runner_.stopping_;
      }
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
    set(count, integer_of(state_, count) + 1);
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
          name, integer_of(before, name) + integer_of(*usage, a) + integer_of(*usage, b));
    };
    set("usage", json::Object{sum("input_tokens", "prompt_tokens", "input_tokens"),
                              sum("output_tokens", "completion_tokens", "output_tokens"),
                              sum("total_tokens", "total_tokens", "")});
  }

  // The window has passed: what has no answer gets an error.
  Status expire() {
    set("expired_at", unix_now());
    for (const auto& record : records_)
      if (const auto value = json::parse(record.body)) written_.insert(text_member(*value, "custom_id"));
    QW_TRY(advance());
    written_.clear();
    QW_TRY(read_records());
    FileLines lines(runner_.store_.files(), spec_.input_file_id);
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
    store::Files& files = runner_.store_.files();
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
      if (Clock::now() - last_written_ > runner_.options_.lease / 3) QW_TRY(advance());
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
    if (cancelled) set("cancelled_at", unix_now());
    if (!cancelled && !failed && !expired) set("completed_at", unix_now());
    return jobs().finish(job_.id, runner_.instance_, status, json::dump(state_));
  }

  BatchRunner& runner_;
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

BatchRunner::BatchRunner(store::Store& store, std::string instance, Dispatch dispatch, BatchOptions options)
    : store_(store), instance_(std::move(instance)), dispatch_(std::move(dispatch)), options_(options), thread_([this] {
        loop();
      }) {}

BatchRunner::~BatchRunner() { stop(); }

void BatchRunner::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_one();
}

void BatchRunner::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void BatchRunner::loop() {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      woken_ = false;
    }
    auto job = store_.jobs().claim(kBatchJob, instance_, std::chrono::microseconds(options_.lease).count());
    if (!job) base::log_error("batches: " + job.error().message);
    if (job && *job) {
      const std::string id = (*job)->id;
      // A batch that another service has taken over is no error; others leave it to its lease.
      if (const auto done = Run(*this, std::move(**job)).run(); !done && done.error().kind != ErrorKind::kRefused) {
        base::log_error("batch " + id + ": " + done.error().message);
      } else {
        continue;
      }
    }
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, options_.poll, [this] { return stopping_ || woken_; });
  }
}

}  // namespace qw::api::openai
