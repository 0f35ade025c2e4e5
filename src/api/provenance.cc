#include "api/provenance.h"

#include "api/audit_entry.h"
#include "api/auth.h"
#include "api/field_reader.h"
#include "api/openai/files.h"
#include "api/openai/moderations.h"
#include "governance/audit/audit_log.h"
#include "governance/audit/find_answer.h"
#include "governance/label/statement.h"
#include "governance/watermark/detector.h"

namespace qw::api {
namespace {

// The smallest level that is told apart from zero by the tests' approximations.
constexpr double kLeastLevel = 1e-12;

void look(const ModelLease& model, const ProvenanceRequest& request, const governance::MarkKeys& keys,
          const std::shared_ptr<Exchange>& exchange) {
  json::Array results, asked;
  for (const std::string& text : request.texts) {
    const auto found = governance::detect_text(keys.all(), *model->tokenizer, text, request.level);
    if (!found) return exchange->send_error(from_internal(found.error()));
    results.push_back(to_json(*found));
    if (exchange->audit() != nullptr)
      asked.push_back(json::Object{{"text_hmac", concealed(*exchange, text)}, {"verdict", name_of(found->verdict)}});
  }
  json::Object entry;
  if (exchange->audit() != nullptr) {
    entry = audit_entry("detection", *exchange, *model, {});
    entry.set("results", std::move(asked));
  }
  json::Object body{{"object", "content_provenance"}, {"model", model->id}, {"results", std::move(results)}};
  keep(*exchange, std::move(entry), [exchange, body = std::move(body)](const Status& kept) {
    kept ? exchange->send_json(200, body) : exchange->send_error(not_kept());
  });
}

constexpr std::size_t kMostNumbers = 100;
constexpr const char* kTexts = R"({"anyOf": [{"type": "string"}, {"type": "array"}]})";

void read_numbers(FieldReader& in, std::vector<std::string>& out) {
  const json::Value* given = in.any("produce_id", kTexts);
  if (given == nullptr) return;
  const json::Array list = given->is_array() ? given->as_array() : json::Array{*given};
  if (list.empty() || list.size() > kMostNumbers)
    return in.reject("produce_id", "'produce_id' must hold 1 to " + std::to_string(kMostNumbers) + " numbers.");
  for (const json::Value& one : list) {
    if (!one.is_string() || !governance::moment_of(one.as_string()))
      return in.reject("produce_id", "'produce_id' must be the ProduceID of a label of this service, or several: UUIDs of version 7.");
    out.push_back(one.as_string());
  }
}

// What anybody may know of a record: not whose it was.
json::Object told_of(const std::string& number, const std::optional<json::Value>& record) {
  json::Object out{{"produce_id", number}, {"verdict", record ? "produced_here" : "not_found"}};
  if (!record) return out;
  const auto copy = [&](const char* from, const char* to) {
    if (const json::Value* found = record->find(from); found != nullptr) out.set(to, *found);
  };
  copy("ts", "created");
  copy("type", "type");
  copy("model", "model");
  copy("watermark", "watermark");
  copy("seq", "record");
  return out;
}

// Whether the text is an answer that the record has the hash of. Hashes are salted with whose the answer is, so only he
// can show it. What it says is signed, under the number that it has.
json::Object compared(const Exchange& exchange, const json::Value& record, const std::string& number,
                      const std::string& text) {
  const json::Value* choices = record.find("choices");
  bool recorded = false, same = false;
  if (choices != nullptr && choices->is_array())
    for (const json::Value& choice : choices->as_array()) {
      const std::string hash = text_member(choice, "content_hmac");
      recorded = recorded || !hash.empty();
      same = same || (!hash.empty() && hash == concealed(exchange, text));
    }
  json::Object out{{"text", same ? "same" : recorded ? "differs" : "not_recorded"}};
  if (!same || exchange.producer() == nullptr) return out;
  governance::AigcLabel label;
  label.producer = *exchange.producer();
  label.produce_id = number;
  auto labelled = governance::with_signed_label(governance::LabelFormat::kMarkdown, text, label,
                                                text_member(record, "model"), exchange.audit()->key());
  if (labelled)
    out.set("signed", *std::move(labelled));
  else
    out.set("not_signed", labelled.error().message);
  return out;
}

}  // namespace

ApiResult<ProvenanceRequest> read_provenance_request(const json::Object& body) {
  FieldReader in(body);
  ProvenanceRequest out;
  out.model = in.text("model").value_or("");
  const char* asked = in.one_of({"input", "produce_id"}, kTexts);
  if (asked != nullptr && std::string_view(asked) == "produce_id") read_numbers(in, out.numbers);
  if (asked != nullptr && out.numbers.empty() && !in.error()) openai::read_texts(in, out.texts);
  out.text = in.text("text");
  if (out.text && out.numbers.size() != 1) in.reject("text", "'text' is of one 'produce_id'.");
  out.level = in.number("level", kLeastLevel, 0.5).value_or(out.level);
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  return out;
}

bool ProvenanceApi::handle(const net::Request& http, const std::shared_ptr<Exchange>& exchange) const {
  if (http.path != "/v1/content_provenance") return false;
  if (only("POST", http, *exchange)) answer(http, exchange);
  return true;
}

void ProvenanceApi::answer(const net::Request& http, const std::shared_ptr<Exchange>& exchange) const {
  const auto body = parse_body(http);
  if (!body) return exchange->send_error(body.error());
  auto request = read_provenance_request(*body);
  if (!request) return exchange->send_error(request.error());
  if (!request->numbers.empty()) return look_up(*request, exchange);
  if (marks_ == nullptr)
    return exchange->send_error(
        {501, "invalid_request_error", "This service marks no texts (serve --watermark-keys).", "", "no_watermark"});
  const auto entry = allowed_model(*exchange, models_, request->model);
  if (!entry) return exchange->send_error(entry.error());
  name_ignored(*exchange, request->ignored);
  with_model(*entry, exchange,
             [this, exchange, keys = marks_->now(), request = std::move(*request)](const ModelLease& model) {
               openai::in_background(background_, exchange,
                                     [model, exchange, keys, request] { look(model, request, *keys, exchange); });
             });
}

void ProvenanceApi::look_up(const ProvenanceRequest& request, const std::shared_ptr<Exchange>& exchange) const {
  if (exchange->audit() == nullptr)
    return exchange->send_error({501, "invalid_request_error",
                                 "This service keeps no record of its answers (serve --audit-log).", "", "no_audit_log"});
  name_ignored(*exchange, request.ignored);
  openai::in_background(background_, exchange, [exchange, numbers = request.numbers, text = request.text] {
    json::Array results, asked;
    for (const std::string& number : numbers) {
      const auto record = governance::find_answer(exchange->audit()->folder(), number);
      if (!record) return exchange->send_error(from_internal(record.error()));
      json::Object told = told_of(number, *record);
      json::Object noted{{"produce_id_asked", number}, {"verdict", *record ? "produced_here" : "not_found"}};
      if (*record && text) {
        for (auto& [name, value] : compared(*exchange, **record, number, *text)) {
          if (name == "text") noted.set(name, value);
          told.set(name, std::move(value));
        }
      }
      results.push_back(std::move(told));
      asked.push_back(std::move(noted));
    }
    json::Object entry{{"type", "detection"},
                       {"request", exchange->request_id()},
                       {"path", exchange->path()},
                       {"results", std::move(asked)}};
    if (exchange->who() != nullptr) entry.set("key", exchange->who()->key.id);
    json::Object body{{"object", "content_provenance"}, {"basis", "audit_log"}, {"results", std::move(results)}};
    keep(*exchange, std::move(entry), [exchange, body = std::move(body)](const Status& kept) {
      kept ? exchange->send_json(200, body) : exchange->send_error(not_kept());
    });
  });
}

}  // namespace qw::api
