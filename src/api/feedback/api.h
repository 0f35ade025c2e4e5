// What people think of answers, and what is made of it:
//
//   POST    /v1/feedback                {"answer_id", "choice", "rating": "up" | "down", "comment", "correction"}
//   GET, DELETE  /v1/feedback/{id}      DELETE erases its texts, in data sets too
//   GET     /v1/reviews?status=open     the queue; GET /v1/reviews/{id}
//   POST    /v1/reviews/{id}/edit       {"correction"}
//   POST    /v1/reviews/{id}/accept | reject   {"note"}
//   GET, POST    /v1/datasets           {"name"}: a version of all that was accepted; GET /v1/datasets/{id}
//   GET     /v1/lineage/{model}         from a served model, or a rollout's name, back to ratings
//
// Who rates needs feedback.write, who reviews reviews.*, who makes data sets datasets.* (the role `reviewer` has all
// three). Decisions and data sets are in the audit log.
#pragma once

#include "api/openai/files.h"

namespace qw::api {

struct FeedbackRequest {
  std::string answer_id, rating, comment, correction;
  std::int64_t choice = 0;
  std::vector<std::string> ignored;
};
ApiResult<FeedbackRequest> read_feedback_request(const json::Object& body);
ApiResult<std::string> read_edit_request(const json::Object& body);
ApiResult<std::string> read_decision_request(const json::Object& body);
ApiResult<std::string> read_dataset_request(const json::Object& body);

class FeedbackApi {
 public:
  // `background` must outlive this object and what it began.
  explicit FeedbackApi(Background& background) : background_(background) {}
  bool handle(const openai::SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  Background& background_;
};

}  // namespace qw::api
