#include "api/generation/input_guard.h"

#include <utility>

#include "api/audit_entry.h"
#include "api/service_metrics.h"
#include "tokenizer/prompt.h"

namespace qw::api {
namespace {

class Screen {
 public:
  explicit Screen(const governance::GuardRules& rules) : rules_(rules) {}
  std::string text(const std::string& in) { return taken(guard_text(rules_, in, findings_)); }

  // What a message says stands in these members, at any depth; the others name and point.
  void message(json::Value& value) {
    if (value.is_array()) {
      for (json::Value& item : value.as_array()) message(item);
    } else if (value.is_object()) {
      for (auto& [key, member] : value.as_object()) {
        if (key == "arguments")
          arguments(member);
        else if (member.is_string() && (key == "content" || key == "text" || key == "reasoning_content"))
          member = text(member.as_string());
        else
          message(member);
      }
    }
  }
  Screened done() {
    Screened out;
    add_counts(out.counts, findings_);
    out.blocked = blocked_;
    return out;
  }

 private:
  void arguments(json::Value& value) {
    if (value.is_string()) {
      value = taken(guard_json(rules_, value.as_string(), findings_));
    } else {
      auto shown = json::parse(taken(guard_json(rules_, json::dump(value), findings_)));
      if (shown) value = std::move(*shown);  // what JSON was is JSON
    }
  }
  std::string taken(governance::Guarded guarded) {
    blocked_ = blocked_ || guarded.blocked;
    return std::move(guarded.text);
  }
  const governance::GuardRules& rules_;
  std::vector<governance::GuardFinding> findings_;
  bool blocked_ = false;
};

ApiError blocked(const governance::Profile& profile, const GuardCounts& counts, const char* param) {
  std::string why;
  if (profile.tells_client)
    for (const GuardCount& one : counts)
      if (one.action == governance::GuardAction::kBlock) why += (why.empty() ? " (" : ", ") + one.kind;
  ApiError error = bad_request(
      param, "What is asked is not answered here, by the policy of this service" + why + (why.empty() ? "." : ")."));
  error.code = kContentFilter;
  return error;
}

void refuse(const ServedModel& model, const std::shared_ptr<Exchange>& exchange, const GuardCounts& counts,
            const ApiError& error) {
  json::Object entry;
  if (exchange->audit() != nullptr) {
    entry = audit_entry("refusal", *exchange, model, {});
    entry.set("input_findings", to_json(counts));
  }
  keep(*exchange, std::move(entry),
       [exchange, error](const Status& kept) { exchange->send_error(kept ? error : not_kept()); });
}

Screened screen_with(const governance::GuardRules& rules, ChatRequest& request, const ServedModel&) {
  return screen(rules, request);
}
Screened screen_with(const governance::GuardRules& rules, TextRequest& request, const ServedModel& model) {
  return screen(rules, request, *model.tokenizer);
}

template <class Request>
std::shared_ptr<const Request> let_in_by(const ServedModel& model, std::shared_ptr<const Request> asked,
                                         const char* param, const std::shared_ptr<Exchange>& exchange,
                                         AnswerSpec& spec) {
  spec.policy = exchange->policy();
  if (spec.policy == nullptr) return asked;
  if (asked->logprobs && spec.policy->output().changes()) {  // which name what is covered
    exchange->send_error(bad_request("logprobs", "By the policy of this service, answers have no log-probabilities."));
    return nullptr;
  }
  if (spec.policy->input().empty()) return asked;
  auto shown = std::make_shared<Request>(*asked);
  Screened found = screen_with(spec.policy->input(), *shown, model);
  if (exchange->metrics() != nullptr) exchange->metrics()->found("input", found.counts, found.blocked);
  const governance::Profile& profile = spec.policy->profile();
  if (found.blocked && profile.input.reply.empty()) {
    refuse(model, exchange, found.counts, blocked(profile, found.counts, param));
    return nullptr;
  }
  spec.refused = found.blocked;
  spec.input_findings = std::move(found.counts);
  return shown;
}

}  // namespace

std::shared_ptr<const ChatRequest> let_in(const ServedModel& model, std::shared_ptr<const ChatRequest> asked,
                                          const std::shared_ptr<Exchange>& exchange, AnswerSpec& spec) {
  return let_in_by(model, std::move(asked), "messages", exchange, spec);
}
std::shared_ptr<const TextRequest> let_in(const ServedModel& model, std::shared_ptr<const TextRequest> asked,
                                          const std::shared_ptr<Exchange>& exchange, AnswerSpec& spec) {
  return let_in_by(model, std::move(asked), "prompt", exchange, spec);
}

Screened screen(const governance::GuardRules& rules, ChatRequest& request) {
  Screen screen(rules);
  for (json::Value& message : request.messages) screen.message(message);
  request.prefix = screen.text(request.prefix);
  return screen.done();
}

Screened screen(const governance::GuardRules& rules, TextRequest& request, const tokenizer::Tokenizer& tokenizer) {
  Screen screen(rules);
  for (std::string& text : request.prompts) text = screen.text(text);
  if (request.suffix) request.suffix = screen.text(*request.suffix);
  for (auto& ids : request.prompt_ids) {
    const std::string text = tokenizer.decode(ids, false);
    const std::string shown = screen.text(text);
    if (shown != text) ids = tokenizer::encode_prompt(tokenizer, shown, false);
  }
  return screen.done();
}

}  // namespace qw::api
