#include "api/screening.h"

#include <algorithm>

#include "api/field_reader.h"
#include "api/openai/files.h"
#include "api/openai/moderations.h"
#include "governance/policy/policy.h"

namespace qw::api {
namespace {

constexpr std::string_view kScreenPath = "/v1/screen";

const char* stage_of(const std::string& kind) {
  if (kind.starts_with("keyword/")) return "keywords";
  if (kind.starts_with("injection/")) return "injection";
  if (kind.starts_with("pattern/")) return "patterns";
  return kind.starts_with("pii/") ? "personal_data" : "guard_model";
}

const char* name_of(ScreenSide side) {
  if (side == ScreenSide::kRetrieval) return "retrieval";
  return side == ScreenSide::kOutput ? "output" : "input";
}

}  // namespace

ApiResult<ScreenRequest> read_screen_request(const json::Object& body) {
  FieldReader in(body);
  ScreenRequest out;
  openai::read_texts(in, out.texts);
  const std::string side = in.choice("side", {"input", "output", "retrieval"}).value_or("input");
  if (side != "input") out.side = side == "output" ? ScreenSide::kOutput : ScreenSide::kRetrieval;
  out.minor = in.boolean("minor").value_or(false);
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  return out;
}

json::Object screened(const governance::Policy& policy, const std::string& text, ScreenSide side, bool minor) {
  using governance::GuardAction;
  const governance::Profile& profile = policy.profile();
  std::vector<governance::GuardFinding> found;
  const bool output = side == ScreenSide::kOutput, input = side == ScreenSide::kInput;
  const governance::GuardRules& rules = output  ? policy.output(minor)
                                        : input ? policy.input(minor)
                                                : policy.retrieval();
  governance::Guarded guarded{text};
  if (!rules.empty()) guarded = governance::guard_text(rules, text, found);
  bool danger = false;
  if (input && !policy.crisis().empty()) {
    std::vector<governance::GuardFinding> crisis;
    danger = governance::guard_text(policy.crisis(), text, crisis).blocked;
  }
  json::Array findings;
  GuardAction hardest = GuardAction::kFlag;
  for (const governance::GuardFinding& one : found) {
    hardest = std::max(hardest, one.action);
    danger = danger || (output && guarded.blocked && one.kind == governance::kCrisisFinding);
    findings.push_back(json::Object{{"stage", stage_of(one.kind)},
                                    {"kind", one.kind},
                                    {"action", name_of(one.action)},
                                    {"begin", static_cast<std::int64_t>(one.begin)},
                                    {"end", static_cast<std::int64_t>(one.end)}});
  }
  const char* action = found.empty() ? "pass" : name_of(guarded.blocked ? GuardAction::kBlock : hardest);
  if (danger && profile.crisis) action = "help";
  json::Object out{{"action", action}, {"findings", std::move(findings)}};
  if (danger && profile.crisis) {
    out.set("reply", profile.crisis->text());
  } else if (guarded.blocked) {
    const governance::GuardSide& stage = output ? profile.output : input ? profile.input : profile.retrieval;
    const std::string& reply = stage.reply;
    if (!reply.empty()) out.set("reply", reply);
  } else {
    out.set("text", guarded.text);
  }
  return out;
}

bool ScreeningApi::handle(const net::Request& http, const std::shared_ptr<Exchange>& exchange) const {
  if (http.path != kScreenPath) return false;
  if (!only("POST", http, *exchange)) return true;
  const auto body = parse_body(http);
  auto request = body ? read_screen_request(*body) : tl::unexpected(body.error());
  if (!request) {
    exchange->send_error(request.error());
    return true;
  }
  const governance::Policy* policy = exchange->policy();
  if (policy == nullptr) {
    exchange->send_error(
        {501, "invalid_request_error", "No policy is followed here (serve --policy).", "", "no_policy"});
    return true;
  }
  name_ignored(*exchange, request->ignored);
  openai::in_background(background_, exchange, [exchange, policy, asked = std::move(*request)] {
    json::Array results;
    for (const std::string& text : asked.texts) results.emplace_back(screened(*policy, text, asked.side, asked.minor));
    const governance::Profile& profile = policy->profile();
    exchange->send_json(200, json::Object{{"object", "screening"},
                                          {"policy", json::Object{{"profile", profile.name},
                                                                  {"version", profile.version},
                                                                  {"sha256", policy->hash()}}},
                                          {"side", name_of(asked.side)},
                                          {"results", std::move(results)}});
  });
  return true;
}

}  // namespace qw::api
