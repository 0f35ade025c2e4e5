// POST /v1/content_provenance: did this service write these texts? Answered by looking for its watermark
// (governance/watermark/detector.h), with the probability that an unmarked text looks so; every answer names what it
// rests on. Without keys the route answers 501. With {"produce_id"} in place of texts: whether the audit log has an answer
// of that number, as its label names it; without a log 501. With one number and {"text"}, as whoever asked for that answer
// has it: whether it is what was answered, by the log's hash of it; it comes back under a label with a statement that the
// log's key signed (governance/label/statement.h), which others verify without asking this service.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/background.h"
#include "api/exchange.h"
#include "api/served_model.h"
#include "governance/watermark/mark_key.h"

namespace qw::api {

struct ProvenanceRequest {
  std::string model;               // whose tokens the texts are made of; "": the first
  std::vector<std::string> texts;    // of one kind or the other there is one at least, and none of the other
  std::vector<std::string> numbers;  // ProduceIDs
  std::optional<std::string> text;   // of the one number
  double level = 0.001;            // of p-values that count as a mark
  std::vector<std::string> ignored;
};
ApiResult<ProvenanceRequest> read_provenance_request(const json::Object& body);

class ProvenanceApi {
 public:
  // All must outlive this object and what it began. `marks` may be null.
  ProvenanceApi(const ModelList& models, Background& background, const governance::MarkKeyHolder* marks)
      : models_(models), background_(background), marks_(marks) {}
  // True if the path belongs here; the exchange is then answered, now or later.
  bool handle(const net::Request& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  void answer(const net::Request& request, const std::shared_ptr<Exchange>& exchange) const;
  void look_up(const ProvenanceRequest& request, const std::shared_ptr<Exchange>& exchange) const;
  const ModelList& models_;
  Background& background_;
  const governance::MarkKeyHolder* marks_;
};

}  // namespace qw::api
