#include "chat/output_parser.h"

#include <algorithm>
#include <optional>

#include "chat/internal/text.h"
#include "chat/internal/tool_call.h"

namespace qw::chat {

namespace {

using internal::kCallClose;
using internal::kCallOpen;
using internal::kFunctionClose;
using internal::kFunctionOpen;

constexpr std::string_view kThinkOpen = "<think>", kThinkClose = "</think>";
constexpr std::string_view kSpace = " \t\r\n";

// Length of the longest end of `text` that a marker could go on from.
std::size_t held_back(std::string_view text, std::initializer_list<std::string_view> markers) {
  std::size_t most = 0;
  for (std::string_view marker : markers)
    for (std::size_t n = std::min(marker.size() - 1, text.size()); n > most; --n)
      if (text.ends_with(marker.substr(0, n))) most = n;
  return most;
}

// True if `text` is a proper beginning of `marker`.
bool may_become(std::string_view text, std::string_view marker) {
  return text.size() < marker.size() && marker.starts_with(text);
}

std::size_t skip_space(std::string_view text, std::size_t at) {
  return std::min(text.find_first_not_of(kSpace, at), text.size());
}

}  // namespace

bool prompt_opens_reasoning(std::string_view prompt) {
  return internal::strip(prompt, internal::Side::kRight).ends_with(kThinkOpen);
}

OutputParser::OutputParser(OutputOptions options)
    : options_(std::move(options)),
      state_(!options_.reasoning            ? State::kContent
             : options_.starts_in_reasoning ? State::kReasoning
                                            : State::kStart) {}

std::vector<OutputEvent> OutputParser::push(std::string_view piece) {
  buffer_ += piece;
  run(false);
  return std::exchange(events_, {});
}

std::vector<OutputEvent> OutputParser::finish(bool cut) {
  if (cut && options_.tool_calls) cut_off();
  run(true);
  if (!space_.empty() && !after_call_) flush_space();
  space_.clear();
  return std::exchange(events_, {});
}

void OutputParser::run(bool final) {
  // A call that was opened and never written still has to be decided.
  while ((!buffer_.empty() || (final && state_ == State::kToolCall)) && step(final)) {
  }
}

bool OutputParser::step(bool final) {
  switch (state_) {
    case State::kStart:
      return step_start(final);
    case State::kReasoning:
      return step_reasoning(final);
    case State::kAfterReasoning: {
      // The blank line between reasoning and answer belongs to neither.
      buffer_.erase(0, std::min(buffer_.find_first_not_of('\n'), buffer_.size()));
      if (buffer_.empty()) return false;
      state_ = State::kContent;
      return true;
    }
    case State::kContent:
      return step_content(final);
    case State::kToolCall:
      return step_tool_call(final);
  }
  return false;
}

// Neighbouring pieces of one kind within a push become one event.
void OutputParser::emit(OutputEvent::Kind kind, std::string_view text) {
  if (text.empty()) return;
  if (!events_.empty() && events_.back().kind == kind) {
    events_.back().text += text;
  } else {
    events_.push_back({kind, std::string(text), -1});
  }
}

void OutputParser::flush_space() {
  emit(OutputEvent::Kind::kContent, space_);
  space_.clear();
}

void OutputParser::content(std::string_view text) {
  if (text.empty()) return;
  flush_space();
  after_call_ = false;
  emit(OutputEvent::Kind::kContent, text);
}

bool OutputParser::step_start(bool final) {
  const std::size_t at = skip_space(buffer_, 0);
  const std::string_view text = std::string_view(buffer_).substr(at);
  if (text.starts_with(kThinkOpen)) {
    buffer_.erase(0, at + kThinkOpen.size());
    reasoning_begun_ = true;
    state_ = State::kReasoning;
    scanned_ = 0;
    return true;
  }
  if (may_become(text, kThinkOpen) && !final) return false;
  state_ = State::kContent;
  return true;
}

// Newlines at both ends of the reasoning frame it; templates put them back.
bool OutputParser::step_reasoning(bool final) {
  if (!reasoning_begun_) {  // some models open the block again that the prompt has opened
    const std::size_t at = skip_space(buffer_, 0);
    const std::string_view text = std::string_view(buffer_).substr(at);
    if (may_become(text, kThinkOpen) && !final) return false;
    if (text.starts_with(kThinkOpen)) buffer_.erase(0, at + kThinkOpen.size());
    reasoning_begun_ = true;
    return true;
  }
  if (scanned_ == 0) {  // nothing of it emitted so far
    buffer_.erase(0, std::min(buffer_.find_first_not_of('\n'), buffer_.size()));
    if (buffer_.empty()) return false;
  }
  const std::size_t close = buffer_.find(kThinkClose);
  std::size_t end = close;
  if (close == std::string::npos) end = buffer_.size() - (final ? 0 : held_back(buffer_, {kThinkClose}));
  std::size_t shown = end;
  while (shown > 0 && buffer_[shown - 1] == '\n') --shown;
  emit(OutputEvent::Kind::kReasoning, std::string_view(buffer_).substr(0, shown));
  if (shown > 0) scanned_ = 1;
  if (close != std::string::npos) {
    buffer_.erase(0, close + kThinkClose.size());
    scanned_ = 0;
    state_ = State::kAfterReasoning;
    return true;
  }
  buffer_.erase(0, final ? buffer_.size() : shown);
  return false;
}

bool OutputParser::step_content(bool final) {
  if (!options_.tool_calls) {
    content(buffer_);
    buffer_.clear();
    return false;
  }
  const std::size_t call = buffer_.find(kCallOpen), function = buffer_.find(kFunctionOpen);
  const std::size_t marker = std::min(call, function);
  std::size_t end = marker;
  if (marker == std::string::npos) end = buffer_.size() - (final ? 0 : held_back(buffer_, {kCallOpen, kFunctionOpen}));
  const std::string_view text = std::string_view(buffer_).substr(0, end);
  const std::size_t last = text.find_last_not_of(kSpace);
  const std::size_t shown = last == std::string_view::npos ? 0 : last + 1;
  content(text.substr(0, shown));
  space_ += text.substr(shown);
  if (marker == std::string::npos) {
    buffer_.erase(0, end);
    return false;
  }
  opening_ = call < function ? std::string(kCallOpen) : std::string();
  buffer_.erase(0, marker + opening_.size());
  scanned_ = 0;
  nesting_ = 0;
  in_string_ = escaped_ = false;
  state_ = State::kToolCall;
  certain_ = options_.certain && !opening_.empty() ? Certain::kHead : Certain::kNot;
  return true;
}

// Arguments as far as they are there; true when that is all of them.
bool OutputParser::tell_arguments() {
  std::size_t at = 0;
  bool whole = false;
  while (at < buffer_.size() && !whole) {
    const char c = buffer_[at++];
    if (in_string_) {
      if (c == '"' && !escaped_) in_string_ = false;
      escaped_ = c == '\\' && !escaped_;
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++nesting_;
    } else if (c == '}' || c == ']') {
      whole = --nesting_ == 0;
    }
  }
  if (at > 0) events_.push_back({OutputEvent::Kind::kToolCallArguments, buffer_.substr(0, at), calls_});
  buffer_.erase(0, at);
  return whole;
}

void OutputParser::end_certain_call(bool cut) {
  events_.push_back({OutputEvent::Kind::kToolCallEnd, {}, calls_++, cut});
  certain_ = Certain::kTag;
}

// One transition of a call that goes out while it is written.
bool OutputParser::step_certain_call(bool final) {
  const std::size_t at = skip_space(buffer_, 0);
  switch (certain_) {
    case Certain::kHead: {
      internal::CallHead head = internal::read_call_head(buffer_);
      if (head.outcome == internal::CallHead::Outcome::kMore && !final) return false;
      if (head.outcome != internal::CallHead::Outcome::kFound) {
        certain_ = Certain::kNot;  // it will be looked at as a whole
        return true;
      }
      buffer_.erase(0, head.length);
      space_.clear();
      after_call_ = true;
      events_.push_back({OutputEvent::Kind::kToolCallBegin, std::move(head.name), calls_});
      certain_ = Certain::kArguments;
      return true;
    }
    case Certain::kArguments:
      if (tell_arguments()) {
        certain_ = Certain::kBrace;
        return true;
      }
      if (final) end_certain_call(true);
      return final;
    case Certain::kBrace:
      if (at == buffer_.size() && !final) return false;
      end_certain_call(at == buffer_.size());
      if (buffer_[at] == '}') buffer_.erase(0, at + 1);
      return true;
    default:
      if (may_become(std::string_view(buffer_).substr(at), kCallClose) && !final) return false;
      if (std::string_view(buffer_).substr(at).starts_with(kCallClose)) buffer_.erase(0, at + kCallClose.size());
      state_ = State::kContent;
      return true;
  }
}

namespace {

// Where a call that ends at `end` really ends: </tool_call> after it is part of it. Npos: cannot be told yet.
std::size_t with_closing_tag(std::string_view text, std::size_t end, bool final) {
  const std::size_t next = skip_space(text, end);
  const std::string_view rest = text.substr(next);
  if (rest.starts_with(kCallClose)) return next + kCallClose.size();
  if (may_become(rest, kCallClose) && !final) return std::string_view::npos;
  return end;
}

struct Attempt {
  enum class Outcome { kMore, kCall, kNone } outcome = Outcome::kMore;
  internal::ToolCall call;
  std::size_t length = 0;
};

struct Scanner {
  std::size_t* at;
  int* nesting;
  bool* in_string;
  bool* escaped;
};

// Follows a JSON object that starts at `begin`; strings may hold anything but the closing tag at the start of a line.
Attempt attempt_json(std::string_view text, std::size_t begin, Scanner s, bool final) {
  *s.at = std::max(*s.at, begin);
  while (*s.at < text.size()) {
    const char c = text[*s.at];
    if (c == '<' && text[*s.at - 1] == '\n') {
      const std::string_view rest = text.substr(*s.at);
      if (rest.starts_with(kCallClose)) return {Attempt::Outcome::kNone, {}, 0};
      if (may_become(rest, kCallClose) && !final) return {};
    }
    if (*s.in_string) {
      if (*s.escaped) {
        *s.escaped = false;
      } else if (c == '\\') {
        *s.escaped = true;
      } else if (c == '"') {
        *s.in_string = false;
      }
    } else if (c == '"') {
      *s.in_string = true;
    } else if (c == '{' || c == '[') {
      ++*s.nesting;
    } else if ((c == '}' || c == ']') && --*s.nesting == 0) {
      const std::size_t object_end = *s.at + 1;
      const std::size_t end = with_closing_tag(text, object_end, final);
      if (end == std::string_view::npos) {
        ++*s.nesting;  // this bracket will be looked at again
        return {};
      }
      auto call = internal::read_json_call(text.substr(begin, object_end - begin));
      if (!call) return {Attempt::Outcome::kNone, {}, 0};
      return {Attempt::Outcome::kCall, std::move(*call), end};
    }
    ++*s.at;
  }
  return final ? Attempt{Attempt::Outcome::kNone, {}, 0} : Attempt{};
}

// False as soon as what follows "<function=" cannot be a call any more, so that prose about it is not held back.
bool may_be_xml(std::string_view text) {
  constexpr std::size_t kMaxName = 256;  // longer than any function name an API accepts
  const std::size_t name_end = text.find_first_of(">\n");
  if (std::min(name_end, text.size()) > kFunctionOpen.size() + kMaxName) return false;
  if (name_end == std::string_view::npos) return true;
  if (text[name_end] == '\n') return false;
  const std::string_view rest = text.substr(skip_space(text, name_end + 1));
  for (std::string_view next : {std::string_view("<parameter="), kFunctionClose, kCallClose})
    if (rest.starts_with(next) || may_become(rest, next)) return true;
  return false;
}

// Tries at each new </function>; at the end of the text, with missing closing tags made up for.
Attempt attempt_xml(std::string_view text, std::size_t begin, std::size_t* scanned, const json::Value& tools,
                    bool final) {
  if (!may_be_xml(text.substr(begin))) return {Attempt::Outcome::kNone, {}, 0};
  for (;;) {
    const std::size_t close = text.find(kFunctionClose, std::max(*scanned, begin));
    if (close == std::string_view::npos) {
      // The tag may have begun to arrive.
      *scanned = std::max(begin, text.size() - std::min(text.size(), kFunctionClose.size() - 1));
      break;
    }
    const std::size_t function_end = close + kFunctionClose.size();
    auto call = internal::read_xml_call(text.substr(begin, function_end - begin), tools, true);
    if (call && begin + call->length == function_end) {
      const std::size_t end = with_closing_tag(text, function_end, final);
      if (end == std::string_view::npos) return {};
      return {Attempt::Outcome::kCall, std::move(call->call), end};
    }
    *scanned = function_end;
  }
  if (!final) return {};
  auto call = internal::read_xml_call(text.substr(begin), tools, false);
  if (!call) return {Attempt::Outcome::kNone, {}, 0};
  const std::size_t end = with_closing_tag(text, begin + call->length, true);
  return {Attempt::Outcome::kCall, std::move(call->call), end};
}

}  // namespace

bool OutputParser::step_tool_call(bool final) {
  if (certain_ != Certain::kNot) return step_certain_call(final);
  const std::size_t begin = skip_space(buffer_, 0);
  const std::string_view body = std::string_view(buffer_).substr(begin);
  Attempt attempt;
  if (body.starts_with("{") && !opening_.empty()) {
    attempt = attempt_json(buffer_, begin, {&scanned_, &nesting_, &in_string_, &escaped_}, final);
  } else if (body.starts_with(kFunctionOpen)) {
    attempt = attempt_xml(buffer_, begin, &scanned_, options_.tools, final);
  } else if (final || !may_become(body, kFunctionOpen)) {
    attempt.outcome = Attempt::Outcome::kNone;
  }
  if (attempt.outcome == Attempt::Outcome::kMore) return false;
  state_ = State::kContent;
  if (attempt.outcome == Attempt::Outcome::kNone) {
    // Not a call: its first marker is text, and what follows is looked at afresh.
    const std::string marker = opening_.empty() ? buffer_.substr(0, kFunctionOpen.size()) : opening_;
    if (opening_.empty()) buffer_.erase(0, marker.size());
    content(marker);
    return true;
  }
  call(std::move(attempt.call.name), std::move(attempt.call.arguments), false);
  buffer_.erase(0, attempt.length);
  return true;
}

void OutputParser::call(std::string name, std::string arguments, bool cut) {
  space_.clear();
  after_call_ = true;
  events_.push_back({OutputEvent::Kind::kToolCallBegin, std::move(name), calls_, cut});
  if (!arguments.empty()) events_.push_back({OutputEvent::Kind::kToolCallArguments, std::move(arguments), calls_, cut});
  events_.push_back({OutputEvent::Kind::kToolCallEnd, {}, calls_, cut});
  ++calls_;
}

// The closing tag of a call that is whole, as much of it as is missing.
void OutputParser::close_call() { buffer_ += kCallClose.substr(held_back(buffer_, {kCallClose})); }

// Takes what an output that was cut off left of a call, unless nothing but closing tags is missing.
void OutputParser::cut_off() {
  if (state_ == State::kContent) {
    // A single character may be anything; more of a marker, or what follows a call or begins a line, was to be one.
    const std::size_t held = held_back(buffer_, {kCallOpen, kFunctionOpen});
    if (held > 1 || after_call_ || space_.ends_with('\n')) buffer_.erase(buffer_.size() - held);
    return;
  }
  if (state_ != State::kToolCall) return;
  if (certain_ == Certain::kArguments || certain_ == Certain::kBrace) end_certain_call(true);
  if (certain_ == Certain::kTag) {  // no more than its closing tag is missing
    buffer_.clear();
    state_ = State::kContent;
    return;
  }
  certain_ = Certain::kNot;
  const std::size_t begin = skip_space(buffer_, 0);
  const std::string_view body = std::string_view(buffer_).substr(begin);
  std::optional<internal::ToolCall> rest;
  if (body.starts_with("{")) {
    if (attempt_json(buffer_, begin, {&scanned_, &nesting_, &in_string_, &escaped_}, true).outcome ==
        Attempt::Outcome::kCall) {
      scanned_ = 0;  // once more, from its beginning
      nesting_ = 0;
      in_string_ = escaped_ = false;
      return close_call();
    }
    rest = internal::read_cut_json_call(body);
  } else if (body.starts_with(kFunctionOpen)) {
    if (internal::read_xml_call(body, options_.tools, true)) return close_call();
    rest = internal::read_cut_xml_call(body, options_.tools);
  }
  buffer_.clear();
  state_ = State::kContent;
  if (rest) call(std::move(rest->name), std::move(rest->arguments), true);
}

ParsedOutput parse_output(std::string_view text, const OutputOptions& options) {
  OutputParser parser(options);
  std::vector<OutputEvent> events = parser.push(text);
  std::vector<OutputEvent> rest = parser.finish();
  events.insert(events.end(), rest.begin(), rest.end());
  ParsedOutput out;
  for (OutputEvent& e : events) {
    switch (e.kind) {
      case OutputEvent::Kind::kReasoning:
        out.reasoning += e.text;
        break;
      case OutputEvent::Kind::kContent:
        out.content += e.text;
        break;
      case OutputEvent::Kind::kToolCallBegin:
        out.tool_calls.push_back({std::move(e.text), {}});
        break;
      case OutputEvent::Kind::kToolCallArguments:
        out.tool_calls.back().arguments += e.text;
        break;
      case OutputEvent::Kind::kToolCallEnd:
        break;
    }
  }
  return out;
}

}  // namespace qw::chat
