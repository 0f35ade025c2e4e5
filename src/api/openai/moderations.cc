#include "api/openai/moderations.h"

#include <algorithm>
#include <array>

#include "api/field_reader.h"
#include "api/openai/files.h"
#include "api/screening.h"
#include "governance/policy/policy.h"

namespace qw::api::openai {
namespace {

constexpr std::size_t kMostTexts = 2048;
// Judging takes a multiple of a text's length in memory; what is longer can be asked in pieces.
constexpr std::size_t kMostTextBytes = 1 << 20;

// Clients read these without asking whether they are there. One that was not looked for is told apart by its empty
// list in category_applied_input_types.
constexpr std::array kOpenAiCategories = {"harassment",
                                          "harassment/threatening",
                                          "hate",
                                          "hate/threatening",
                                          "illicit",
                                          "illicit/violent",
                                          "self-harm",
                                          "self-harm/instructions",
                                          "self-harm/intent",
                                          "sexual",
                                          "sexual/minors",
                                          "violence",
                                          "violence/graphic"};

json::Value result_of(const Moderator::Judgement& judgement) {
  json::Object flags, scores, applied;
  for (const char* name : kOpenAiCategories) {
    flags.set(name, false);
    scores.set(name, 0.0);
    applied.set(name, json::Array{});
  }
  bool any = false;
  for (const ModerationCategory& category : judgement) {
    any = any || category.flagged;
    flags.set(category.name, category.flagged);
    scores.set(category.name, category.score);
    applied.set(category.name, json::Array{"text"});
  }
  return json::Object{{"flagged", any},
                      {"categories", std::move(flags)},
                      {"category_scores", std::move(scores)},
                      {"category_applied_input_types", std::move(applied)}};
}

// By the policy's rules for what is asked: the action, and kinds where clients are told of them.
json::Object verdict_of(const governance::Policy& policy, const std::string& text) {
  const json::Object whole = screened(policy, text, ScreenSide::kInput, /*minor=*/false);
  json::Object out{{"action", *whole.find("action")}};
  if (!policy.profile().tells_client) return out;
  json::Array kinds;
  for (const json::Value& one : whole.find("findings")->as_array()) {
    const json::Value& kind = *one.find("kind");
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
  }
  out.set("kinds", std::move(kinds));
  return out;
}

// `verdicts`: of the policy, as many; none where there is none.
void tell(Exchange& exchange, const std::string& name, const std::vector<Moderator::Judgement>& judgements,
          const std::vector<json::Value>& verdicts) {
  json::Array results;
  for (std::size_t i = 0; i < judgements.size(); ++i) {
    json::Value& result = results.emplace_back(result_of(judgements[i]));
    if (verdicts.empty()) continue;
    if (*verdicts[i].find("action") != json::Value("pass")) result.as_object().set("flagged", true);
    result.as_object().set("policy", verdicts[i]);
  }
  exchange.send_json(200, json::Object{{"id", new_id("modr-")}, {"model", name}, {"results", std::move(results)}});
}

constexpr const char* kInputShape =
    R"({"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "maxItems": 2048, "items": {"anyOf": [
        {"type": "string"}, {"type": "object", "required": ["type", "text"], "properties": {
          "type": {"const": "text"}, "text": {"type": "string"}}}]}}]})";

}  // namespace

void read_texts(FieldReader& in, std::vector<std::string>& out) {
  const json::Value* input = in.any("input", kInputShape);
  if (input == nullptr) return in.reject("input", "'input' is required.");
  const json::Array list = input->is_array() ? input->as_array() : json::Array{*input};
  if (list.empty() || list.size() > kMostTexts) return in.reject("input", "'input' must hold 1 to 2048 texts.");
  for (const json::Value& one : list) {
    const bool part = one.is_object();
    if (part && text_member(one, "type") != "text")
      return in.reject("input", "Parts of type '" + text_member(one, "type") + "' are not supported; only texts are.");
    const json::Value* text = part ? one.find("text") : &one;
    if (text == nullptr || !text->is_string())
      return in.reject("input", "'input' must be a text, texts, or parts of type text.");
    if (text->as_string().size() > kMostTextBytes)
      return in.reject("input", "Each text of 'input' may have at most " + std::to_string(kMostTextBytes) + " bytes.");
    out.push_back(text->as_string());
  }
}

ApiResult<ModerationRequest> read_moderation_request(const json::Object& body) {
  FieldReader in(body);
  ModerationRequest out;
  out.model = in.text("model").value_or("");
  read_texts(in, out.texts);
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  return out;
}

bool ModerationsApi::handle(const net::Request& http, const std::shared_ptr<Exchange>& exchange) const {
  if (http.path != "/v1/moderations") return false;
  if (!only("POST", http, *exchange)) return true;
  const auto answer = [&]() -> void {
    const governance::Policy* policy = exchange->policy();
    if (moderator_ == nullptr && policy == nullptr)
      return exchange->send_error(
          {501, "invalid_request_error",
           "This service judges no texts: it was started without a guard model, without lists of "
           "words and without a policy (serve --guard-model, --moderation-words, --policy).",
           "", "no_moderator"});
    const auto body = parse_body(http);
    if (!body) return exchange->send_error(body.error());
    auto request = read_moderation_request(*body);
    if (!request) return exchange->send_error(request.error());
    // Clients name OpenAI's models; anything else must be what is here.
    const std::string& model = request->model;
    if (!model.empty() && (moderator_ == nullptr || model != moderator_->name()) &&
        !model.starts_with("omni-moderation") && !model.starts_with("text-moderation"))
      return exchange->send_error(model_not_found(model));
    name_ignored(*exchange, request->ignored);
    in_background(background_, exchange,
                  [exchange, policy, moderator = moderator_, texts = std::move(request->texts)]() mutable {
                    // What the policy would do with each, told apart from what is judged for its own sake.
                    std::vector<json::Value> verdicts;
                    if (policy != nullptr)
                      for (const std::string& text : texts) verdicts.emplace_back(verdict_of(*policy, text));
                    if (moderator == nullptr)
                      return tell(*exchange, "policy", std::vector<Moderator::Judgement>(texts.size()), verdicts);
                    moderator->judge(std::move(texts), [exchange, moderator, verdicts](const auto& judgements) {
                      if (!judgements) return exchange->send_error(from_internal(judgements.error()));
                      tell(*exchange, moderator->name(), *judgements, verdicts);
                    });
                  });
  };
  answer();
  return true;
}

}  // namespace qw::api::openai
