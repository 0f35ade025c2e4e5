// One stage between what the parser of an answer tells and the protocol's writer: what a policy looks for in the
// reasoning, in the answer and in calls of tools is told of, covered, or ends the choice. Every protocol has the same.
//
// Reasoning and each stretch of the answer between calls are a text each (governance/guard/text_guard.h), so only what
// may still become a finding waits. A call is let through whole, once its arguments are.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/generation/guard_counts.h"
#include "chat/output_parser.h"

namespace qw::api {

class OutputGuard {  // of one choice
 public:
  explicit OutputGuard(const governance::GuardRules& rules) : rules_(&rules) {}  // which must outlive this
  // What goes on, in order.
  std::vector<chat::OutputEvent> pass(const chat::OutputEvent& event);
  std::vector<chat::OutputEvent> finish();
  bool blocked() const { return blocked_; }  // nothing goes on any more
  const GuardCounts& counts() const { return counts_; }

 private:
  void end_text(std::vector<chat::OutputEvent>& out);
  void end_call(std::vector<chat::OutputEvent>& out, bool cut);
  void emit(std::vector<chat::OutputEvent>& out, chat::OutputEvent::Kind kind, std::string text);

  const governance::GuardRules* rules_;
  std::optional<governance::TextGuard> text_;  // of the stretch that is being written
  chat::OutputEvent::Kind kind_ = chat::OutputEvent::Kind::kContent;
  std::optional<chat::OutputEvent> call_;  // that is open
  std::string arguments_;
  std::vector<governance::GuardFinding> findings_;
  GuardCounts counts_;
  bool blocked_ = false;
};

}  // namespace qw::api
