// Answers as DashScope writes them: {output, usage, request_id}, whole or in frames of a stream.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "api/exchange.h"
#include "api/generation/writer.h"

namespace qw::api::dashscope {

struct WriterOptions {
  bool message_format = false, incremental = false, parts = false, logprobs = false;
};
// A frame of a stream: id, event, status and data.
std::string frame_text(std::int64_t number, const char* event, int status, const json::Value& data);

std::unique_ptr<AnswerWriter> make_writer(std::shared_ptr<Exchange> exchange, WriterOptions options);

}  // namespace qw::api::dashscope
