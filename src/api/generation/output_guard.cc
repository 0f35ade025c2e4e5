#include "api/generation/output_guard.h"

#include <utility>

namespace qw::api {

using Kind = chat::OutputEvent::Kind;

std::vector<chat::OutputEvent> OutputGuard::pass(const chat::OutputEvent& event) {
  std::vector<chat::OutputEvent> out;
  if (blocked_) return out;
  switch (event.kind) {
    case Kind::kReasoning:
    case Kind::kContent:
      if (text_ && kind_ != event.kind) end_text(out);
      if (blocked_) break;
      if (!text_) text_.emplace(*rules_);
      kind_ = event.kind;
      emit(out, kind_, text_->push(event.text, findings_));
      blocked_ = text_->blocked();
      break;
    case Kind::kToolCallBegin:
      end_text(out);
      call_ = event;
      arguments_.clear();
      break;
    case Kind::kToolCallArguments:
      arguments_ += event.text;
      break;
    case Kind::kToolCallEnd:
      end_call(out, event.cut);
      break;
  }
  add_counts(counts_, findings_);
  findings_.clear();
  return out;
}

std::vector<chat::OutputEvent> OutputGuard::finish() {
  std::vector<chat::OutputEvent> out;
  if (!blocked_) end_text(out);
  add_counts(counts_, findings_);
  findings_.clear();
  return out;
}

void OutputGuard::emit(std::vector<chat::OutputEvent>& out, Kind kind, std::string text) {
  if (!text.empty()) out.push_back({kind, std::move(text), -1});
}

void OutputGuard::end_text(std::vector<chat::OutputEvent>& out) {
  if (!text_) return;
  emit(out, kind_, text_->finish(findings_));
  blocked_ = text_->blocked();
  text_.reset();
}

void OutputGuard::end_call(std::vector<chat::OutputEvent>& out, bool cut) {
  if (blocked_ || !call_) return;
  chat::OutputEvent begin = std::move(*call_);
  begin.cut = cut;
  call_.reset();
  governance::Guarded name = guard_text(*rules_, begin.text, findings_);
  governance::Guarded arguments = guard_json(*rules_, arguments_, findings_);
  blocked_ = name.blocked || arguments.blocked;
  if (blocked_) return;
  begin.text = std::move(name.text);
  const auto like = [&](Kind kind, std::string text) {
    chat::OutputEvent event = begin;
    event.kind = kind;
    event.text = std::move(text);
    return event;
  };
  out.push_back(begin);
  if (!arguments.text.empty()) out.push_back(like(Kind::kToolCallArguments, std::move(arguments.text)));
  out.push_back(like(Kind::kToolCallEnd, ""));
}

}  // namespace qw::api
