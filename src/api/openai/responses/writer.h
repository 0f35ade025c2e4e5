// Answers as POST /v1/responses gives them: a response of items, whole or as numbered events that build it; kept in the
// store before its end is told.
#pragma once

#include <memory>
#include <string>

#include "api/background.h"
#include "api/exchange.h"
#include "api/generation/writer.h"
#include "api/openai/responses/request.h"

namespace qw::api::openai {

inline constexpr const char* kResponseKind = "response";  // of the store's documents
// Of a response in the background: response.created and response.queued, which are told when it is asked for.
inline constexpr std::int64_t kQueuedEvents = 2;

// The wire's object without what was answered.
struct ResponseHead {
  std::string id, model, status;
  std::int64_t created = 0;  // Unix seconds
  bool kept = false, background = false;
};
json::Object response_object(const ResponseRequest& request, const ResponseHead& head);

struct ResponseWriterOptions {
  Background* background = nullptr;  // where it is kept from; must outlive the writer
  ResponseRequest request;
  json::Array history;  // the conversation that the input went on from
};

std::unique_ptr<AnswerWriter> make_response_writer(std::shared_ptr<Exchange> exchange, ResponseWriterOptions options);

}  // namespace qw::api::openai
