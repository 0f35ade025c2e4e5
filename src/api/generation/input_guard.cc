#include "api/generation/input_guard.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "api/accounts.h"
#include "api/audit_entry.h"
#include "api/generation/conduct.h"
#include "api/generation/screening.h"
#include "api/preparation.h"
#include "api/service_metrics.h"
#include "base/log.h"

namespace qw::api {
namespace {

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

// What was asked as it came, before anything in it was covered or cut off: for whoever looks at it again.
json::Object words_of(const ChatRequest& request, const ServedModel&) {
  json::Object out{{"messages", request.messages}};
  if (!request.prefix.empty()) out.set("prefix", request.prefix);
  if (const json::Value* documents = request.template_variables.find_set("documents"); documents != nullptr)
    out.set("documents", *documents);
  return out;
}
json::Object words_of(const TextRequest& request, const ServedModel& model) {
  json::Array prompts;
  for (const std::string& text : request.prompts) prompts.emplace_back(text);
  for (const auto& ids : request.prompt_ids) prompts.emplace_back(model.tokenizer->decode(ids, false));
  json::Object out{{"prompts", std::move(prompts)}};
  if (request.suffix) out.set("suffix", *request.suffix);
  return out;
}

// Of each message its content, or the whole of it where that is no text; of each prompt its text.
json::Array hashes_of(const json::Object& words, const Exchange& exchange) {
  json::Array out;
  for (const char* name : {"messages", "prompts"}) {
    const json::Value* list = words.find(name);
    if (list == nullptr) continue;
    for (const json::Value& one : list->as_array()) {
      const json::Value* content = one.is_object() ? one.find("content") : &one;
      const bool plain = content != nullptr && content->is_string();
      out.emplace_back(
          concealed(exchange, plain ? content->as_string() : json::dump(one, json::WriteStyle::compact())));
    }
  }
  return out;
}

// Answers with the error, once the request is on record and what was asked is kept as the policy says.
void refuse(const ServedModel& model, const std::shared_ptr<Exchange>& exchange, const AnswerSpec& spec,
            const json::Object& words, const ApiError& error) {
  json::Object entry;
  if (exchange->audit() != nullptr) {
    entry = audit_entry("refusal", *exchange, model, {});
    entry.set("input_findings", to_json(spec.input_findings));
    if (!spec.retrieval_findings.empty()) entry.set("retrieval_findings", to_json(spec.retrieval_findings));
    for (const auto& [name, value] : spec.notes) entry.set(name, value);
  }
  const auto told = [exchange, error](const Status& kept) { exchange->send_error(kept ? error : not_kept()); };
  if (!keeps_content(*exchange)) return keep(*exchange, std::move(entry), told);
  store::Content content = seal(*exchange, {{"version", 1}, {"asked", words}}, entry);
  exchange->accounts()->keep(std::move(content), [exchange, entry = std::move(entry), told](bool entered) mutable {
    if (entered) return keep(*exchange, std::move(entry), told);
    exchange->send_error(
        {500, "server_error", "The store cannot be reached; this request was not answered.", "", "store_unavailable"});
  });
}

Screened screen_with(const governance::GuardRules& rules, ChatRequest& request, const ServedModel&) {
  return screen(rules, request);
}
Screened screen_with(const governance::GuardRules& rules, TextRequest& request, const ServedModel& model) {
  return screen(rules, request, *model.tokenizer);
}
// Completions are of one text, whoever wrote it.
bool has_retrieved(const TextRequest&) { return false; }
Screened screen_retrieved(const governance::GuardRules&, const std::string&, TextRequest&) { return {}; }

bool makes_companion(const governance::GuardRules&, const TextRequest&) { return false; }

// One request on its way in.
template <class Request>
class Entrance : public std::enable_shared_from_this<Entrance<Request>> {
 public:
  Entrance(ModelLease model, std::shared_ptr<const Request> asked, const char* param,
           std::shared_ptr<Exchange> exchange, LetIn<Request> then)
      : model_(std::move(model)),
        asked_(std::move(asked)),
        original_(asked_),
        param_(param),
        exchange_(std::move(exchange)),
        then_(std::move(then)) {}

  void enter() {
    spec_.policy = exchange_->policy();
    if (spec_.policy == nullptr) return then_(std::move(asked_), std::move(spec_));
    spec_.minor = is_minor(*exchange_, *spec_.policy);
    if (spec_.minor) spec_.notes.set("minor", true);
    if (const auto no = not_for_minors()) return exchange_->send_error(*no);
    if (asked_->logprobs && spec_.policy->output(spec_.minor).changes())  // which name what is covered
      return exchange_->send_error(
          bad_request("logprobs", "By the policy of this service, answers have no log-probabilities."));
    look_at_what_was_brought();
    look();
    Meeting meeting{subject_of(*exchange_), blocked_ && !danger_, true, spec_.policy->conduct(spec_.minor)};
    Meeting end_user{end_user_of(*exchange_), meeting.violates, false, {}};
    if (profile().strikes_of != "key" && !end_user.subject.empty() && !meeting.rules.strikes.empty()) {
      end_user.rules.strikes = meeting.rules.strikes;
      end_user.rules.utc_offset_min = meeting.rules.utc_offset_min;
      if (profile().strikes_of == "end_user") meeting.rules.strikes.clear();
    }
    if (meeting.subject.empty() || (meeting.rules.empty() && end_user.rules.empty())) return decide();
    meeting.may_remind = !profile().companion.only_companions || is_companion();
    prepare(exchange_, true, [self = this->shared_from_this(), meeting, end_user] {
      for (const Meeting& one : {end_user, meeting})
        if (!one.rules.empty() && !self->meets(one)) return;
      self->decide();
    });
  }

 private:
  using Meeting = store::Meeting;
  // False: the request does not go on, and was answered.
  bool meets(const Meeting& meeting) {
    const auto met = exchange_->accounts()->store().conduct().meet(meeting);
    if (!met) {
      base::log_error("store: " + met.error().message);
      exchange_->send_error({503, "server_error", "The accounts cannot be reached.", "", "store_unavailable"});
      return false;
    }
    if (const auto wait = held_back(*met, *exchange_)) {
      exchange_->send_error(*wait);
      return false;
    }
    count(*met, meeting);
    return true;
  }
  const governance::Profile& profile() const { return spec_.policy->profile(); }
  bool is_companion() const {
    const auto& models = profile().companion.models;
    return std::find(models.begin(), models.end(), model_->id) != models.end() ||
           (!spec_.policy->personas().empty() && makes_companion(spec_.policy->personas(), *asked_));
  }
  std::optional<ApiError> not_for_minors() const {
    if (!spec_.minor) return std::nullopt;
    if (needs_consent(*exchange_, *spec_.policy))
      return ApiError{403, "permission_error", "By the policy of this service a guardian has to agree first.",
                      "",  "guardian_consent", -1};
    if (profile().minors->companions || !is_companion()) return std::nullopt;
    return ApiError{403,    "permission_error", "By the policy of this service no companion is played for minors.",
                    param_, "not_for_minors",   -1};
  }
  // What tools and searches brought; who asks does not answer for that.
  void look_at_what_was_brought() {
    const governance::GuardRules& rules = spec_.policy->retrieval();
    if (rules.empty() || !has_retrieved(*asked_)) return;
    auto shown = std::make_shared<Request>(*asked_);
    Screened found = screen_retrieved(rules, profile().retrieval.reply, *shown);
    asked_ = std::move(shown);
    brought_ = found.blocked;
    if (exchange_->metrics() != nullptr) exchange_->metrics()->found("retrieval", found.counts, found.blocked);
    spec_.retrieval_findings = std::move(found.counts);
  }
  // What is asked, as the rules have it.
  void look() {
    danger_ = !spec_.policy->crisis().empty() && speaks_of(spec_.policy->crisis(), *asked_, *model_);
    const governance::GuardRules& rules = spec_.policy->input(spec_.minor);
    if (rules.empty()) return;
    auto shown = std::make_shared<Request>(*asked_);
    Screened found = screen_with(rules, *shown, *model_);
    asked_ = std::move(shown);
    blocked_ = found.blocked;
    if (exchange_->metrics() != nullptr) exchange_->metrics()->found("input", found.counts, found.blocked);
    spec_.input_findings = std::move(found.counts);
  }
  void count(const store::Met& met, const Meeting& meeting) {
    const bool counts = !meeting.rules.strikes.empty();
    const char* note = meeting.subject == end_user_of(*exchange_) ? "conduct_of_end_user" : "conduct";
    if (meeting.violates && counts) spec_.notes.set(note, conduct_note(met.conduct));
    if (met.measured && warning_.empty()) exchange_->add_header("X-Conduct", met.conduct.standing);
    if (met.measured && warning_.empty()) warning_ = warning_of(met.conduct);
    if (!met.reminds) return;
    const std::string& own = profile().companion.reminder;
    spec_.preface = own.empty() ? kReminder : own;
    spec_.notes.set("reminder", true);
    exchange_->announce("ai_reminder", spec_.preface);
  }
  void decide() {
    const bool helps = danger_ && profile().crisis->instead;
    if (brought_ && !blocked_ && !helps) return refuse_with(blocked(profile(), spec_.retrieval_findings, param_));
    if (danger_) {
      spec_.notes.set("crisis", "request");
      exchange_->announce("helplines", helplines_of(*profile().crisis));
      if (profile().crisis->instead) return answer(profile().crisis->text(), true);
      spec_.preface = profile().crisis->text() + (spec_.preface.empty() ? "" : "\n\n" + spec_.preface);
    } else if (blocked_ && profile().input.reply.empty()) {
      ApiError error = blocked(profile(), spec_.input_findings, param_);
      error.message += warning_;
      return refuse_with(error);
    }
    if (blocked_) return answer(danger_ ? profile().crisis->text() : profile().input.reply + warning_, danger_);
    then_(std::move(asked_), std::move(spec_));
  }
  void refuse_with(const ApiError& error) {
    const json::Object words = note_words();
    refuse(*model_, exchange_, spec_, words, error);
  }
  // What the policy answers instead of a model.
  json::Object note_words() {
    json::Object words = words_of(*original_, *model_);
    if (exchange_->audit() != nullptr && content_of(*exchange_) != ContentKept::kDropped)
      spec_.notes.set("asked_hmac", hashes_of(words, *exchange_));
    return words;
  }
  void answer(std::string text, bool helps) {
    spec_.asked = note_words();
    spec_.refused = true;
    spec_.helps = helps;
    spec_.reply = std::move(text);
    if (helps) spec_.preface.clear();
    then_(std::move(asked_), std::move(spec_));
  }

  const ModelLease model_;
  std::shared_ptr<const Request> asked_;
  const std::shared_ptr<const Request> original_;  // before anything in it was covered
  const char* param_;
  const std::shared_ptr<Exchange> exchange_;
  const LetIn<Request> then_;
  AnswerSpec spec_;
  bool blocked_ = false, danger_ = false;
  bool brought_ = false;  // something that the rules for what tools bring block
  std::string warning_;
};

}  // namespace

void let_in(const ModelLease& model, std::shared_ptr<const ChatRequest> asked,
            const std::shared_ptr<Exchange>& exchange, LetIn<ChatRequest> then) {
  std::make_shared<Entrance<ChatRequest>>(model, std::move(asked), "messages", exchange, std::move(then))->enter();
}
void let_in(const ModelLease& model, std::shared_ptr<const TextRequest> asked,
            const std::shared_ptr<Exchange>& exchange, LetIn<TextRequest> then) {
  std::make_shared<Entrance<TextRequest>>(model, std::move(asked), "prompt", exchange, std::move(then))->enter();
}

}  // namespace qw::api
