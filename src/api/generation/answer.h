// Puts the events of the choices of one request together, counts what they cost, and hands both to the protocol's
// writer.
//
// Choices finish on the engine's thread, one after the other; the object lives until the last of them has.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/accounts.h"
#include "api/exchange.h"
#include "api/generation/writer.h"
#include "api/stoppable.h"
#include "governance/policy/policy.h"

namespace qw::api {

struct AnswerSpec {
  bool stream = false;
  bool chat = true;                        // the text is told apart into reasoning, answer and tool calls
  bool starts_in_reasoning = false;        // chat: the prompt already opened it
  bool parse_tools = false;                // chat: tools were offered
  json::Value tools;                       // chat: the tools, for the types of their parameters
  bool certain_calls = false;              // chat: a grammar holds calls in JSON to their form
  std::vector<std::string> stops;          // the caller's stop strings
  std::vector<std::int64_t> prompt_sizes;  // tokens of each prompt
  std::size_t choices_per_prompt = 1;      // choices i * this to (i + 1) * this - 1 answer prompt i
  std::shared_ptr<Charge> charge;          // settled when all choices have ended, before the end is told
  json::Object audit;                      // what the audit log is told beside the outcome; empty: nothing
  json::Object content;                    // what is kept of it, encrypted, beside what was answered; empty: nothing
  json::Object asked;  // kept with it: what was asked, as it came, where the policy answers instead of a model
  const governance::Policy* policy = nullptr;  // that answers follow; null: none. Must outlive the answer
  GuardCounts input_findings, retrieval_findings;
  bool minor = false;    // the policy's part for minors, too
  bool refused = false;  // nothing is computed: every choice is `reply`
  std::string reply;
  bool helps = false;   // the reply is an answer, and no refusal
  std::string preface;  // what the service says in front of the text of every choice; "": nothing
  json::Object notes;   // for the audit log: what was counted of whoever asks, and what he was told
};

class Answer final : public Stoppable, public std::enable_shared_from_this<Answer> {
 public:
  Answer(std::shared_ptr<Exchange> exchange, ModelLease model, std::unique_ptr<AnswerWriter> writer, AnswerSpec spec,
         std::size_t choices);
  ~Answer() override;
  // Sends what a stream begins with. Call once, before any choice can produce text.
  void begin();
  // Whether the log-probability of the token that ends a choice is told: of texts, not of chats.
  bool tells_stop() const;
  // Whether receivers want the tokens that were drawn (TextSink::keep_drawn).
  bool keeps_drawn() const;
  // The receiver of choice `index`.
  std::shared_ptr<TextReceiver> receiver(std::size_t index);
  // Remembers a running request, so that all are cancelled when the client goes away.
  void running(engine::RequestId id);
  // Instead of choices that run: all of them end with the policy's reply (AnswerSpec::refused).
  void refuse();
  // Used too when a later choice could not be submitted.
  void abandon(const ApiError& error) override;

 private:
  class Choice;
  struct State;
  void prompt(std::size_t index, std::vector<TokenDetail> tokens);
  engine::Verdict piece(std::size_t index, TextPiece piece);
  void ended(std::size_t index, const engine::Finished& finished, std::int32_t stop);
  void complete(bool entered);
  void drawn(std::size_t index, std::vector<engine::TokenId> tokens);
  std::optional<store::Content> seal_content();
  json::Object audit_record() const;
  void finish();
  std::unique_ptr<State> state_;
};

}  // namespace qw::api
