// Answers as OpenAI writes them: chat.completion and text_completion, one JSON object or a stream of chunks.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "api/exchange.h"
#include "api/generation/writer.h"

namespace qw::api::openai {

struct WriterOptions {
  bool chat = true;            // false: text completions
  bool include_usage = false;  // streams end with the counts
  bool logprobs = false;
  bool tells_tier = false;  // somebody asked for a tier of service
  bool timings =
      false;  // whole answers and ends of streams say how long their parts took, and what guards found if they may
  std::vector<std::string> echoes;  // text completions: what is put before each choice, one per choice
  // And its tokens, where log-probabilities are told: by prompt, each of `choices_per_prompt` choices.
  std::vector<std::vector<engine::TokenId>> echoed_ids = {};
  std::size_t choices_per_prompt = 1;
  // Is told of an answer before its end is, and calls what tells that; empty: the end is told at once.
  std::function<void(const std::string& id, const AnswerRecord& record, std::function<void()> then)> keep = {};
};

std::unique_ptr<AnswerWriter> make_writer(std::shared_ptr<Exchange> exchange, WriterOptions options);

// "stop", "length", "tool_calls" or "content_filter".
const char* reason_name(EndReason reason);
// The list of chat log-probabilities, which others write the same way.
json::Array chat_logprobs(const tokenizer::Tokenizer& tokenizer, std::span<const TokenDetail> tokens);

}  // namespace qw::api::openai
