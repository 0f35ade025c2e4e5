// How a protocol writes an answer down. One object per request, told of everything in order by the Answer, under its
// lock, from the engine's thread and the accounts': it must only write, and never block.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "api/error.h"
#include "api/generation/guard_counts.h"
#include "api/served_model.h"
#include "api/text_sink.h"
#include "chat/output_parser.h"
#include "engine/request.h"
#include "store/ledger.h"

namespace qw::api {

enum class EndReason : std::uint8_t { kStop, kLength, kToolCalls, kFiltered };

// How every protocol marks an answer that was ended because it repeated itself: "cut_by": "repetition", beside what it
// says of one that reached its most tokens.
inline constexpr const char *kCutBy = "cut_by", *kRepetition = "repetition";

// In every protocol, of a stream: what it told of a choice before is not to be shown.
inline constexpr const char* kRetract = "retract";

struct ToolCall {
  std::string id, name, arguments;  // arguments: JSON text of an object
  bool cut = false;  // the answer ended in the middle of it: arguments are a beginning of JSON, or nothing
};

// One choice as far as it has come.
struct ChoiceResult {
  std::string content, reasoning;
  std::vector<ToolCall> calls;
  std::vector<TokenDetail> tokens;         // of whole answers, when log-probabilities were asked for
  std::vector<TokenDetail> prompt_tokens;  // but the first, when those of the prompt were asked for
  bool done = false;
  EndReason reason = EndReason::kStop;  // once it is done
  bool repeats = false;                 // it was ended (kLength) because it repeated itself
  std::string stop;                     // the caller's stop string that ended it; "" for every other end
  GuardCounts findings;                 // once it is done
};

struct AnswerRecord {
  ModelLease model;
  std::int64_t created = 0;  // Unix seconds
  std::vector<ChoiceResult> choices;
  // Every prompt counts once, however many choices it has; what was cached of it is what its first choice found. In a
  // stream: what was sent so far; exact from finish() on.
  store::Tokens tokens;
  bool cancelled = false;                  // a choice was: the client left, or the service stops
  std::int64_t drafted = 0, accepted = 0;  // tokens guessed ahead, and those of them that were right
  engine::Timings timings;                 // of the choice that ended last
  bool tells_findings = false;             // whoever asks for timings is told what guards found, too
  GuardCounts input_findings, retrieval_findings;
};

class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;

  // Of streams alone: begin, then events, then the end of each choice.
  virtual void begin(const AnswerRecord& record) = 0;
  // The log-probabilities of its prompt are in the record: before its first event, if they were asked for.
  virtual void prompt_read(const AnswerRecord&, std::size_t) {}
  // The event is in the record already. `tokens`: those behind it, if log-probabilities were asked for.
  virtual void event(const AnswerRecord& record, std::size_t choice, const chat::OutputEvent& event,
                     std::span<const TokenDetail> tokens) = 0;
  // Tokens whose text is held back, or is none.
  virtual void held(const AnswerRecord&, std::size_t, std::span<const TokenDetail>) {}
  // What was streamed of a choice is to be taken back by whoever shows it: it was blocked (kFiltered). The record has
  // none of it any more; one text may follow, and its end.
  virtual void retract(const AnswerRecord& record, std::size_t choice) = 0;
  virtual void choice_ended(const AnswerRecord& record, std::size_t choice) = 0;

  // The last call: the rest of a stream, or the whole answer.
  virtual void finish(const AnswerRecord& record) = 0;
  // Instead of finish. `begun`: as a part of the stream.
  virtual void fail(const ApiError& error, bool begun) = 0;
};

}  // namespace qw::api
