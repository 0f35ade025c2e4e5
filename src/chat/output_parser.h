// Splits what a model writes into reasoning, answer and tool calls, while it is being written.
//
// Understood: <think> ... </think> at the start (also when the prompt already opened it), tool calls as Hermes JSON
// (<tool_call>{"name": ..., "arguments": {...}}</tool_call>) and as XML (<tool_call><function=NAME><parameter=P> ...
// </function></tool_call>, the outer tags and closing tags being optional as models forget them).
//
// Text goes out as soon as it cannot be part of a marker. A tool call goes out when it is complete and well-formed; one
// that is not becomes answer text, so nothing the model wrote is lost, save the white space that frames the parts.
// Calls in JSON that are `certain` go out while they are written. Of an output that was cut off, a call that was begun
// goes out as far as it came, marked `cut`; before its name, not at all. How the text is cut into pieces makes no
// difference to the joined result. Not thread-safe; copyable.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "json/value.h"

namespace qw::chat {

struct OutputEvent {
  enum class Kind : std::uint8_t {
    kReasoning,          // text: more reasoning
    kContent,            // text: more of the answer
    kToolCallBegin,      // text: the function's name
    kToolCallArguments,  // text: more of the JSON of the arguments object
    kToolCallEnd,
  };
  Kind kind = Kind::kContent;
  std::string text;
  int index = -1;    // of the tool call, counted from 0
  bool cut = false;  // of the tool call: the output ended in the middle of it, and its arguments are a beginning of
                     // JSON. Of a call that goes out while it is written its end alone says so
};

struct OutputOptions {
  bool reasoning = true;             // recognise <think>; false: it is answer text
  bool starts_in_reasoning = false;  // the prompt ended inside an open <think> (see prompt_opens_reasoning)
  bool tool_calls = false;           // recognise tool calls; false: they are answer text
  json::Value tools;                 // the request's tools array or null; types of XML parameters come from it
  bool certain = false;              // what begins as a tool call is one: a grammar holds the model to it
};

// True if a rendered prompt leaves a <think> block open for the model to go on with.
bool prompt_opens_reasoning(std::string_view prompt);

class OutputParser {
 public:
  explicit OutputParser(OutputOptions options);

  std::vector<OutputEvent> push(std::string_view piece);
  // The model is done, or was `cut` off: what was held back is decided. Nothing may be pushed afterwards.
  std::vector<OutputEvent> finish(bool cut = false);
  int tool_calls() const { return calls_; }
  // What was pushed so far ends inside a thinking block.
  bool in_reasoning() const { return state_ == State::kReasoning; }

 private:
  enum class State : std::uint8_t { kStart, kReasoning, kAfterReasoning, kContent, kToolCall };

  void run(bool final);
  bool step(bool final);  // one transition; false: more text is needed
  bool step_start(bool final);
  bool step_reasoning(bool final);
  bool step_content(bool final);
  bool step_tool_call(bool final);
  bool step_certain_call(bool final);
  bool tell_arguments();
  void end_certain_call(bool cut);
  void cut_off();
  void close_call();
  void call(std::string name, std::string arguments, bool cut);
  void emit(OutputEvent::Kind kind, std::string_view text);
  void content(std::string_view text);
  void flush_space();

  OutputOptions options_;
  State state_;
  std::string buffer_;       // not yet decided
  std::string space_;        // white space held back: emitted before text, dropped before a call
  std::string opening_;      // the marker that began the present tool call
  std::size_t scanned_ = 0;  // of buffer_, inside a tool call: nothing can end before here
  int nesting_ = 0;          // JSON scanner's state at scanned_; of a certain call at the beginning of buffer_
  bool in_string_ = false, escaped_ = false;
  bool reasoning_begun_ = false, after_call_ = false;
  enum class Certain : std::uint8_t { kHead, kArguments, kBrace, kTag, kNot };
  Certain certain_ = Certain::kNot;  // how far a call that goes out while it is written has come
  int calls_ = 0;
  std::vector<OutputEvent> events_;
};

// The whole output at once.
struct ParsedToolCall {
  std::string name, arguments;  // arguments: JSON text of an object
};
struct ParsedOutput {
  std::string reasoning, content;
  std::vector<ParsedToolCall> tool_calls;
};
ParsedOutput parse_output(std::string_view text, const OutputOptions& options);

}  // namespace qw::chat
