#include "api/provenance.h"

#include "api/audit_entry.h"
#include "api/auth.h"
#include "api/field_reader.h"
#include "api/openai/files.h"
#include "api/openai/moderations.h"
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

}  // namespace

ApiResult<ProvenanceRequest> read_provenance_request(const json::Object& body) {
  FieldReader in(body);
  ProvenanceRequest out;
  out.model = in.text("model").value_or("");
  openai::read_texts(in, out.texts);
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
  if (marks_ == nullptr)
    return exchange->send_error(
        {501, "invalid_request_error", "This service marks no texts (serve --watermark-keys).", "", "no_watermark"});
  const auto body = parse_body(http);
  if (!body) return exchange->send_error(body.error());
  auto request = read_provenance_request(*body);
  if (!request) return exchange->send_error(request.error());
  const auto entry = allowed_model(*exchange, models_, request->model);
  if (!entry) return exchange->send_error(entry.error());
  name_ignored(*exchange, request->ignored);
  with_model(*entry, exchange,
             [this, exchange, keys = marks_->now(), request = std::move(*request)](const ModelLease& model) {
               openai::in_background(background_, exchange,
                                     [model, exchange, keys, request] { look(model, request, *keys, exchange); });
             });
}

}  // namespace qw::api
