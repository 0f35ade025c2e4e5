// Answers as Ollama writes them: one object, or one a line of a stream.
#pragma once

#include <memory>

#include "api/exchange.h"
#include "api/generation/writer.h"

namespace qw::api::ollama {

struct WriterOptions {
  bool chat = true;  // false: of /api/generate, whose text is in "response"
  bool logprobs = false;
};
std::unique_ptr<AnswerWriter> make_writer(std::shared_ptr<Exchange> exchange, WriterOptions options);

// 2026-11-28T08:15:30.123456Z, of now.
std::string timestamp();
std::string timestamp(std::int64_t unix_seconds);

}  // namespace qw::api::ollama
