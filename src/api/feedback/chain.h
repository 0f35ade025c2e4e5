// Digests that link a model to what people said: an answer that was accepted, the data set it is in, the job that
// learnt from that, the model that came of it, the evaluation it passed, its rollouts.
#pragma once

#include <string>
#include <vector>

#include "json/value.h"
#include "store/store.h"

namespace qw::api {

// Of what a reviewer accepts: who was asked what, the answer, the rating and the correction; not of comments.
std::string feedback_digest(const store::Feedback& feedback);
// Of a data set, over its items' digests in order.
std::string dataset_digest(const std::vector<store::DatasetItem>& items);

// What a data set is made of: lines of fine-tuning files. "" for what has none of that kind.
std::string example_line(const store::Feedback& feedback);  // {"messages": [..., the answer as it should be]}
std::string pair_line(const store::Feedback& feedback);     // the correction, preferred to the answer

// The chain from a served model back to ratings, with what of it does not hold. kBadInput: no job here made the model.
Result<json::Object> lineage(store::Store& store, const std::string& project, const std::string& model);

}  // namespace qw::api
