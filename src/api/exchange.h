// One HTTP exchange of an API: the reply with the headers that every answer carries, JSON bodies, and SSE events.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/error.h"
#include "json/text_writer.h"
#include "json/value.h"
#include "net/http_server.h"

namespace qw::governance {
class AuditLog;
class ContentKeys;
class MarkKeyHolder;
class Policy;
class PolicySet;
struct MarkKey;
}  // namespace qw::governance
namespace qw::store {
struct Principal;
struct Tokens;
}  // namespace qw::store

namespace qw::api {

class Accounts;
class Preparation;
class RequestLog;
class RolloutTable;
class ServiceMetrics;
class StopSwitch;
struct RequestLine;

// A fresh identifier such as "chatcmpl-3f2a...": prefix and 24 hexadecimal digits of randomness.
std::string new_id(std::string_view prefix);
// From the same source, which nobody can guess.
std::uint64_t random_bits();

// OpenAI's error body.
json::Value error_body(const ApiError& error);
net::Response error_response(const ApiError& error);

// How a protocol shapes the body of an error.
using ErrorShape = json::Value (*)(const ApiError& error, const std::string& request_id);

class Exchange {
 public:
  Exchange(std::shared_ptr<net::Reply> reply, std::string request_id);
  ~Exchange();  // tells the log
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  void add_header(std::string name, std::string value);  // before the answer begins
  void send(net::Response response);                     // as it is
  void send_json(int status, const json::Value& body);
  // Text that was written without a value: the outermost object, still open, so that a label may follow its members.
  void send_json(int status, json::TextWriter open);
  void send_error(const ApiError& error);
  void shape_errors(ErrorShape shape) { shape_ = shape; }  // from now on; OpenAI's at first
  // 200 text/event-stream. `heartbeat`: what is sent when nothing else is to say; a comment if a protocol has none.
  void begin_events(std::string heartbeat = ": still working\n\n");
  void begin_lines();                                                // 200 application/x-ndjson
  void event(const json::Value& data);                               // data: {...}
  void event(json::TextWriter open);                                 // the same of an open object, as above
  void event_text(std::string_view data);                            // data: [DONE]
  void named_event(std::string_view name, const json::Value& data);  // event: NAME, data: {...}; to a listener if any
  void line(const json::Value& data);                                // {...} and a line's end
  void end_events();
  void begin_bytes(net::Headers headers);  // 200; then pieces by reply().write(), reply().finish()
  net::Reply& reply() { return *reply_; }
  const std::string& request_id() const { return request_id_; }

  // Errors that are found from now on go there, once: of an answer that has begun they are a part. Empty: to the
  // client.
  void take_errors(std::function<void(const ApiError& error)> taker) { taker_ = std::move(taker); }

  // Answers are counted for the route of `path`.
  void counted_by(std::shared_ptr<ServiceMetrics> metrics, std::string path) {
    metrics_ = std::move(metrics);
    path_ = std::move(path);
  }
  ServiceMetrics* metrics() const { return metrics_.get(); }  // may be null
  const std::string& path() const { return path_; }

  // A line for the log when the answer is over, which is when nobody holds this any more; null: none. `inner`: the
  // request came from inside (dispatch.h).
  void logged_by(std::shared_ptr<RequestLog> log, std::string method, bool inner);
  // What a model did for it (more, if it was asked several times), for that line, and how it ended, in the ledger's
  // words.
  void note_use(const std::string& model, const store::Tokens& tokens, std::string outcome);

  // Where what takes long before the engine has the request is done (preparation.h); null: here.
  void prepared_by(Preparation* preparation) { preparation_ = preparation; }
  Preparation* preparation() const { return preparation_; }

  // Where answers are put on record before their end is told; null: nowhere.
  void recorded_by(governance::AuditLog* log) { audit_ = log; }
  governance::AuditLog* audit() const { return audit_; }

  // What contents of audited answers are encrypted with, where a policy keeps them; null: nothing.
  void sealed_by(const governance::ContentKeys* keys) { content_keys_ = keys; }
  const governance::ContentKeys* content_keys() const { return content_keys_; }

  // The keys that answers are marked with; null: none is.
  void marked_by(const governance::MarkKeyHolder* keys) { marks_ = keys; }
  // That of whoever asks; null: answers are not marked.
  std::shared_ptr<const governance::MarkKey> mark_key() const;

  // Who answers are labelled as the work of (governance/label/aigc_label.h); null: they carry no label.
  void labelled_by(const std::string* producer) { producer_ = producer; }
  const std::string* producer() const { return producer_; }
  // From now on what is told of an answer says that a machine wrote it: the header X-AIGC, and a member `aigc` of whole
  // answers and of the first event of streams. The content's number, the same however often it is asked for; "":
  // answers carry no label.
  const std::string& label_answer();
  // More of that kind: a member that whoever shows the answer should show, too.
  void announce(std::string name, json::Value value) { notices_.set(std::move(name), std::move(value)); }
  json::Value labelled(json::Value body) const;  // with these members, if it is an object without them

  // The policies that requests follow; null: none.
  void governed_by(const governance::PolicySet* policies) { policies_ = policies; }
  // That of whoever asks; null: none. Lives as long as the service.
  const governance::Policy* policy() const;

  // What the operator stops; null: nothing can be.
  void stopped_by(StopSwitch* stops) { stops_ = stops; }
  StopSwitch* stops() const { return stops_; }

  // Names that stand for versions of models; null: there are none.
  void rolled_out_by(const RolloutTable* table) { rollouts_ = table; }
  const RolloutTable* rollouts() const { return rollouts_; }
  // Whom a version is chosen for: who the client says asks, else the key's user, else the key.
  // `who`: a field of the client's; null or anything but a text that is not empty says nothing.
  void stick_to(const json::Value* who) {
    if (who != nullptr && who->is_string() && !who->as_string().empty()) subject_ = who->as_string();
  }
  std::string subject() const;
  const std::string& named_subject() const { return subject_; }  // who the client says asks; "": it does not say

  // Who asks, once that is known; without accounts both stay null.
  void belongs_to(Accounts& accounts, std::shared_ptr<const store::Principal> who) {
    accounts_ = &accounts;
    who_ = std::move(who);
  }
  Accounts* accounts() const { return accounts_; }
  const std::shared_ptr<const store::Principal>& who() const { return who_; }

  // In the engine: higher goes first. Clients' own have 0.
  void set_priority(std::int32_t priority) { priority_ = priority; }
  std::int32_t priority() const { return priority_; }

  // When the models' work for it is given up; nothing: never. From the header X-Deadline-Ms: milliseconds from now.
  ApiResult<void> read_deadline(const net::Headers& headers);
  const std::optional<std::chrono::steady_clock::time_point>& deadline() const { return deadline_; }

  // What a stored answer is to be called, where somebody was told already; "": it names itself.
  // `created`: Unix seconds of when it was asked for.
  void set_answer_id(std::string id, std::int64_t created) {
    answer_id_ = std::move(id);
    answer_created_ = created;
  }
  const std::string& answer_id() const { return answer_id_; }
  std::int64_t answer_created() const { return answer_created_; }  // 0: now
  // An id of a part of the answer. Of a named answer the same ones, in the same order, whenever it is made: parts that
  // were told before its service died are still those of the answer that is made anew. Under the answer's lock.
  std::string part_id(std::string_view prefix);

  // Of an answer that is read later: what a stream would send goes here, and the exchange is answered whole.
  using EventListener = std::function<void(std::string event)>;
  void tell_events_to(EventListener listener) { listener_ = std::move(listener); }
  const EventListener& listener() const { return listener_; }

 private:
  void count(int status);
  void begin_stream(const char* content_type, std::string heartbeat);
  bool says_nothing() const { return label_.is_null() && notices_.empty(); }  // beside answers
  std::string told(const json::Value& data);  // as text, with the label if it is the first event
  std::string told(json::TextWriter open);
  std::string closed(json::TextWriter open, bool with_label) const;
  std::shared_ptr<net::Reply> reply_;
  std::string request_id_;
  net::Headers headers_;
  ErrorShape shape_ = nullptr;  // null: OpenAI's
  Accounts* accounts_ = nullptr;
  std::shared_ptr<ServiceMetrics> metrics_;
  std::string path_;
  std::shared_ptr<RequestLog> log_;
  std::unique_ptr<RequestLine> line_;  // with a log
  std::chrono::steady_clock::time_point began_;
  governance::AuditLog* audit_ = nullptr;
  const governance::ContentKeys* content_keys_ = nullptr;
  Preparation* preparation_ = nullptr;
  const governance::MarkKeyHolder* marks_ = nullptr;
  const std::string* producer_ = nullptr;
  std::string content_id_;
  json::Value label_;  // null: there is none
  json::Object notices_;
  bool label_told_ = false;
  const governance::PolicySet* policies_ = nullptr;
  StopSwitch* stops_ = nullptr;
  const RolloutTable* rollouts_ = nullptr;
  std::string subject_;
  std::shared_ptr<const store::Principal> who_;
  std::int32_t priority_ = 0;
  std::optional<std::chrono::steady_clock::time_point> deadline_;
  std::string answer_id_;
  std::int64_t answer_created_ = 0, parts_ = 0;
  EventListener listener_;
  std::function<void(const ApiError&)> taker_;
};

// What every protocol does first
// ---------------------------------------------------------------------------------------

// Whether the request's method is one of `methods` ("GET", "GET, DELETE"); false after answering 405. Who takes GET
// takes HEAD.
bool only(std::string_view methods, const net::Request& request, Exchange& exchange);
// The body, which must be a JSON object.
ApiResult<json::Object> parse_body(const net::Request& request);
// A list of names in a header of the answer; nothing if there are none.
void name_list(Exchange& exchange, const char* header, const std::vector<std::string>& names);
// X-Ignored-Params: fields that nobody asked for.
void name_ignored(Exchange& exchange, const std::vector<std::string>& names);

}  // namespace qw::api
