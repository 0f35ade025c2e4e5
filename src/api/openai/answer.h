// Puts the events of the choices of one request together into an answer: one JSON object, or a stream of chunks.
//
// Choices finish on the engine's thread, one after the other; the object lives until the last of them has.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "api/accounts.h"
#include "api/exchange.h"
#include "api/openai/request.h"
#include "api/served_model.h"
#include "api/text_sink.h"

namespace qw::api::openai {

enum class AnswerKind : std::uint8_t { kChat, kCompletion };

struct AnswerSpec {
  AnswerKind kind = AnswerKind::kChat;
  bool stream = false, include_usage = false;
  bool logprobs = false;
  bool split_reasoning = false;      // chat: the text may hold a thinking block
  bool starts_in_reasoning = false;  // chat: the prompt already opened it
  bool parse_tools = false;          // chat: tools were offered
  json::Value tools;                 // chat: the tools, for the types of their parameters
  std::vector<std::string> echoes;   // completion: text put before each choice ("" normally); one per choice
  std::vector<std::int64_t> prompt_sizes;  // tokens of each prompt
  std::size_t choices_per_prompt = 1;  // choices i * this to (i + 1) * this - 1 answer prompt i
  std::shared_ptr<Charge> charge;    // settled when all choices have ended, before the end is told
};

class Answer : public std::enable_shared_from_this<Answer> {
 public:
  Answer(std::shared_ptr<Exchange> exchange, ModelLease model, AnswerSpec spec, std::size_t choices);
  ~Answer();
  // Sends what a stream begins with. Call once, before any choice can produce text.
  void begin();
  // The receiver of choice `index`.
  std::shared_ptr<TextReceiver> receiver(std::size_t index);
  // Remembers a running request, so that all are cancelled when the client goes away.
  void running(engine::RequestId id);
  // Cancels what runs and answers with the error (used when a later choice could not be submitted).
  void abandon(const ApiError& error);

 private:
  class Choice;
  struct State;
  void piece(std::size_t index, TextPiece piece);
  void ended(std::size_t index, const engine::Finished& finished);
  void complete(bool entered);
  std::unique_ptr<State> state_;
};

}  // namespace qw::api::openai
