// Answers of chats that the operator chose to keep for a while (serve --keep-answers DAYS), so that people can say what
// they think of them; those of /v1/responses are kept as their requests ask.
#pragma once

#include <functional>
#include <string>

#include "api/background.h"
#include "api/exchange.h"
#include "api/generation/answer.h"
#include "store/store.h"

namespace qw::api {

inline constexpr const char* kKeptAnswer = "completion";  // the kind of document

// What feedback is given on: what was asked, what was answered, and by which model.
struct KeptAnswer {
  json::Array messages;
  std::string answer, model;
};

// Writes choices of an answer into the store, then calls `then`: feedback that comes at once finds it. Where the store
// cannot be reached that is logged, and the answer is given all the same.
void keep_answer(Background& background, const std::shared_ptr<Exchange>& exchange, const std::string& id,
                 const json::Array& messages, const AnswerRecord& record, std::int64_t days,
                 std::function<void()> then);

// A chat's answer (its choice) or a response. kBadInput: nothing of that id is kept, or it has no text.
Result<KeptAnswer> kept_answer(store::Store& store, const std::string& project, const std::string& id,
                               std::size_t choice);

}  // namespace qw::api
