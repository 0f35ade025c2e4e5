#include "api/generation/drawing.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "api/field_reader.h"
#include "governance/watermark/marker.h"

namespace qw::api {
namespace {

using sampling::TokenId;
using Form = sampling::ConstraintSpec::Form;

constexpr const char* kForms[] = {"free", "json_object", "json_schema", "regex", "ebnf", "choice"};
constexpr const char* kModes[] = {"none", "auto", "required", "named"};
constexpr std::int64_t kMostKept = 1'000'000'000;

// Outputs of fewer tokens are never found to repeat themselves.
std::int32_t fewest_repeating(const sampling::LoopLimits& limits) {
  return limits.copies > 1 ? std::min(limits.in_thinking, limits.in_answer) : 1;
}

json::Array ids_as_json(const std::vector<TokenId>& ids) {
  json::Array out;
  out.reserve(ids.size());
  for (const TokenId id : ids) out.emplace_back(std::int64_t{id});
  return out;
}

// Reads members of what was kept; the first that is wrong is remembered.
class KeptReader {
 public:
  explicit KeptReader(const json::Value& value) : value_(value) {
    if (!value.is_object()) wrong("must be an object");
  }
  const json::Value* find(const char* name) {
    const json::Value* found = value_.find(name);
    if (found == nullptr) wrong(std::string(name) + " is missing");
    return found;
  }
  std::int64_t integer(const char* name, std::int64_t low, std::int64_t high) {
    const json::Value* found = find(name);
    return found == nullptr ? low : integer_of(*found, name, low, high);
  }
  std::int64_t integer_of(const json::Value& value, const char* name, std::int64_t low, std::int64_t high) {
    if (value.is_int() && value.as_int() >= low && value.as_int() <= high) return value.as_int();
    wrong(std::string(name) + " is out of range");
    return low;
  }
  float number(const char* name) {
    const json::Value* found = find(name);
    if (found != nullptr && found->is_number()) return static_cast<float>(found->as_double());
    wrong(std::string(name) + " must be a number");
    return 0;
  }
  bool flag(const char* name) {
    const json::Value* found = find(name);
    if (found != nullptr && found->is_bool()) return found->as_bool();
    wrong(std::string(name) + " must be true or false");
    return false;
  }
  std::string text(const char* name) {
    const json::Value* found = find(name);
    if (found != nullptr && found->is_string()) return found->as_string();
    wrong(std::string(name) + " must be a text");
    return {};
  }
  const json::Array& list(const char* name) {
    static const json::Array none;
    const json::Value* found = find(name);
    if (found != nullptr && found->is_array()) return found->as_array();
    wrong(std::string(name) + " must be a list");
    return none;
  }
  std::vector<std::string> texts(const char* name) {
    std::vector<std::string> out;
    for (const json::Value& one : list(name)) {
      if (!one.is_string())
        wrong(std::string(name) + " must be texts");
      else
        out.push_back(one.as_string());
    }
    return out;
  }
  std::vector<TokenId> ids_of(const json::Value& value, const char* name) {
    std::vector<TokenId> out;
    if (!value.is_array())
      wrong(std::string(name) + " must be ids of tokens");
    else
      for (const json::Value& one : value.as_array())
        out.push_back(static_cast<TokenId>(integer_of(one, name, 0, std::numeric_limits<TokenId>::max())));
    return out;
  }
  std::size_t name_in(const char* name, std::span<const char* const> known) {
    const std::string given = text(name);
    const auto at = std::find(known.begin(), known.end(), given);
    if (at != known.end()) return static_cast<std::size_t>(at - known.begin());
    wrong(std::string(name) + " is none of those that are known");
    return 0;
  }
  void wrong(const std::string& what) {
    if (status_) status_ = fail(ErrorKind::kBadInput, "what was kept of the request: " + what);
  }
  const Status& status() const { return status_; }

 private:
  const json::Value& value_;
  Status status_;
};

json::Object kept_params(const sampling::SamplingParams& p) {
  json::Array bias;
  for (const auto& [id, by] : p.logit_bias) bias.push_back(json::Array{std::int64_t{id}, double{by}});
  json::Array stops;
  for (const std::string& stop : p.stop) stops.emplace_back(stop);
  return json::Object{{"temperature", double{p.temperature}},
                      {"top_k", std::int64_t{p.top_k}},
                      {"top_p", double{p.top_p}},
                      {"min_p", double{p.min_p}},
                      {"repetition_penalty", double{p.repetition_penalty}},
                      {"presence_penalty", double{p.presence_penalty}},
                      {"frequency_penalty", double{p.frequency_penalty}},
                      {"logit_bias", std::move(bias)},
                      {"seed", std::to_string(p.seed)},
                      {"stop_ids", ids_as_json(p.stop_ids)},
                      {"stop", std::move(stops)},
                      {"min_tokens", std::int64_t{p.min_tokens}}};
}

Result<sampling::SamplingParams> params_from(const json::Value& kept) {
  KeptReader in(kept);
  sampling::SamplingParams p;
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  p.temperature = in.number("temperature");
  p.top_k = static_cast<std::int32_t>(in.integer("top_k", 0, kMost));
  p.top_p = in.number("top_p");
  p.min_p = in.number("min_p");
  p.repetition_penalty = in.number("repetition_penalty");
  p.presence_penalty = in.number("presence_penalty");
  p.frequency_penalty = in.number("frequency_penalty");
  for (const json::Value& one : in.list("logit_bias")) {
    if (!one.is_array() || one.as_array().size() != 2 || !one.as_array()[1].is_number()) {
      in.wrong("logit_bias must be pairs");
      break;
    }
    p.logit_bias.emplace_back(static_cast<TokenId>(in.integer_of(one.as_array()[0], "logit_bias", 0, kMost)),
                              static_cast<float>(one.as_array()[1].as_double()));
  }
  const std::string seed = in.text("seed");
  if (seed.empty() || seed.size() > 20 || seed.find_first_not_of("0123456789") != std::string::npos ||
      (seed.size() == 20 && seed > "18446744073709551615"))
    in.wrong("seed must be a number in digits");
  if (const json::Value* ids = in.find("stop_ids"); ids != nullptr) p.stop_ids = in.ids_of(*ids, "stop_ids");
  p.stop = in.texts("stop");
  p.min_tokens = static_cast<std::int32_t>(in.integer("min_tokens", 0, kMost));
  QW_TRY(Status(in.status()));
  p.seed = std::stoull(seed);
  return p;
}

}  // namespace

bool marks(const Drawing& d) { return d.mark != nullptr && d.params.temperature > 0 && d.params.top_k != 1; }

engine::Request request_of(const Drawing& d, const ServedModel& model, std::size_t prompt, std::int64_t choice,
                           std::shared_ptr<sampling::LoopWatch>& loops) {
  engine::Request request;
  request.prompt = d.prompts[prompt];
  request.params = d.params;
  request.params.seed += static_cast<std::uint64_t>(choice);  // choices differ, and each is repeatable
  request.max_tokens = d.limits[prompt];
  if (d.limits[prompt] == 0) request.wanted = engine::Wanted::kPrompt;
  request.adapter = model.adapter;
  loops = d.limits[prompt] < fewest_repeating(model.loops) ? nullptr : d.rules->loop_watch();
  request.processors = d.rules->processors(d.params.stop_ids, d.limits[prompt], loops);
  if (marks(d)) request.processors.push_back(governance::make_marker(d.mark, model.tokenizer->find("</think>")));
  return request;
}

json::Object kept_rules(const ConstraintRequest& request) {
  const sampling::ConstraintSpec& form = request.output->form;
  json::Array choices, among;
  for (const std::string& choice : form.choices) choices.emplace_back(choice);
  for (const std::string& name : request.choice.among) among.emplace_back(name);
  const auto& budget = request.output->thinking_budget;
  return json::Object{{"form", kForms[static_cast<std::size_t>(form.form)]},
                      {"schema", form.schema},
                      {"text", form.text},
                      {"choices", std::move(choices)},
                      {"thinking_budget", budget ? json::Value(*budget) : json::Value()},
                      {"tools", request.tools == nullptr ? json::Value() : *request.tools},
                      {"tool_choice", kModes[static_cast<std::size_t>(request.choice.mode)]},
                      {"tool_name", request.choice.name},
                      {"tool_names", std::move(among)},
                      {"parallel_calls", request.parallel_calls},
                      {"opens_reasoning", request.opens_reasoning},
                      {"may_think", request.may_think},
                      {"breaks_loops", request.breaks_loops}};
}

Result<OutputRules> rules_from(const ServedModel& model, const json::Value& kept) {
  KeptReader in(kept);
  OutputForm output;
  output.form.form = static_cast<Form>(in.name_in("form", kForms));
  if (const json::Value* schema = in.find("schema"); schema != nullptr) output.form.schema = *schema;
  output.form.text = in.text("text");
  output.form.choices = in.texts("choices");
  if (const json::Value* budget = in.find("thinking_budget"); budget != nullptr && !budget->is_null())
    output.thinking_budget = in.integer("thinking_budget", 0, kMostKept);
  ConstraintRequest request;
  request.output = &output;
  request.choice.mode = static_cast<ToolChoice::Mode>(in.name_in("tool_choice", kModes));
  request.choice.name = in.text("tool_name");
  request.choice.among = in.texts("tool_names");
  request.parallel_calls = in.flag("parallel_calls");
  request.opens_reasoning = in.flag("opens_reasoning");
  request.may_think = in.flag("may_think");
  request.breaks_loops = in.flag("breaks_loops");
  if (const json::Value* tools = in.find("tools"); tools != nullptr && !tools->is_null()) {
    request.tools = tools;
    if (!tools->is_array())
      in.wrong("tools must be a list");
    else
      for (const json::Value& tool : tools->as_array())
        if (const json::Value* function = tool.find("function");
            function == nullptr || text_member(*function, "name").empty())
          in.wrong("tools must be functions with names");
  }
  QW_TRY(Status(in.status()));
  auto rules = OutputRules::make(model, request);
  if (!rules) return fail(ErrorKind::kBadInput, rules.error().message);
  return std::move(*rules);
}

json::Object kept_drawing(const Drawing& d, const tokenizer::Tokenizer& tokenizer, json::Object kept) {
  json::Array prompts, texts, limits;
  for (const auto& ids : d.prompts) {
    prompts.emplace_back(ids_as_json(ids));
    texts.emplace_back(tokenizer.decode(ids, false));
  }
  for (const std::int64_t limit : d.limits) limits.emplace_back(limit);
  return json::Object{{"version", 1},
                      {"prompt_texts", std::move(texts)},
                      {"prompts", std::move(prompts)},
                      {"limits", std::move(limits)},
                      {"choices", d.n},
                      {"sampling", kept_params(d.params)},
                      {"rules", std::move(kept)}};
}

Result<Drawing> drawing_from(const ServedModel& model, const json::Value& kept) {
  KeptReader in(kept);
  Drawing out;
  (void)in.integer("version", 1, 1);
  for (const json::Value& ids : in.list("prompts")) {
    out.prompts.push_back(in.ids_of(ids, "prompts"));
    if (out.prompts.back().empty()) in.wrong("a prompt is empty");
  }
  for (const json::Value& limit : in.list("limits")) out.limits.push_back(in.integer_of(limit, "limits", 0, kMostKept));
  out.n = in.integer("choices", 1, 1024);
  if (out.prompts.empty() || out.limits.size() != out.prompts.size()) in.wrong("prompts and limits must be as many");
  const json::Value *params = in.find("sampling"), *rules = in.find("rules");
  QW_TRY(Status(in.status()));
  QW_ASSIGN(out.params, params_from(*params));
  QW_ASSIGN(OutputRules made, rules_from(model, *rules));
  out.rules = std::make_shared<const OutputRules>(std::move(made));
  return out;
}

}  // namespace qw::api
