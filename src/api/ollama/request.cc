#include "api/ollama/request.h"

#include <limits>

#include "api/field_reader.h"

namespace qw::api::ollama {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t kMostStops = 16;
constexpr const char* kMessagesShape =
    R"({"type": "array", "items": {"type": "object", "required": ["role"], "properties": {"role": {"type": "string"},
        "content": {"type": "string"}, "images": {"type": "array", "maxItems": 0}}}})";
constexpr const char* kToolsShape =
    R"({"type": "array", "items": {"type": "object", "required": ["function"], "properties": {
        "function": {"type": "object", "required": ["name"], "properties": {
          "name": {"type": "string", "minLength": 1}}}}}})";

void read_stops(FieldReader& in, std::vector<std::string>& out) {
  const json::Value* stop = in.any(
      "stop", R"({"anyOf": [{"type": "string"}, {"type": "array", "maxItems": 16, "items": {"type": "string"}}]})");
  if (stop == nullptr) return;
  const json::Array list = stop->is_array() ? stop->as_array() : json::Array{*stop};
  if (list.size() > kMostStops) return in.reject("stop", "'stop' may hold at most 16 strings.");
  for (const json::Value& one : list) {
    if (!one.is_string()) return in.reject("stop", "'stop' must be a string or an array of strings.");
    if (!one.as_string().empty()) out.push_back(one.as_string());
  }
}

void read_options(FieldReader& in, GenerationRequest& out) {
  const json::Object* options = in.object("options");
  if (options == nullptr) return;
  FieldReader sub(*options);
  out.sampling.temperature = sub.number("temperature", 0, 2);
  out.sampling.top_k = sub.integer("top_k", -1, kMost);
  out.sampling.top_p = sub.number("top_p", 0, 1);
  out.sampling.min_p = sub.number("min_p", 0, 1);
  out.sampling.seed =
      sub.integer("seed", std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max());
  out.sampling.repetition_penalty = sub.number("repeat_penalty", 0.01, 10);
  out.sampling.presence_penalty = sub.number("presence_penalty", -2, 2);
  out.sampling.frequency_penalty = sub.number("frequency_penalty", -2, 2);
  const auto limit = sub.integer("num_predict", -2, kMost);  // -1 and -2: as many as there is room for
  if (limit && *limit > 0) out.max_tokens = *limit;
  read_stops(sub, out.sampling.stop);
  if (sub.error()) in.reject("options." + sub.error()->param, sub.error()->message);
  for (const std::string& name : sub.unknown()) out.ignored.push_back("options." + name);
}

void read_format(FieldReader& in, GenerationRequest& out) {
  const json::Value* format = in.any("format", R"({"anyOf": [{"enum": ["", "json"]}, {"type": "object"}]})");
  if (format == nullptr || *format == json::Value("")) return;
  using Form = sampling::ConstraintSpec::Form;
  if (*format == json::Value("json")) {
    out.output.form.form = Form::kJsonObject;
  } else if (format->is_object()) {
    out.output.form.form = Form::kJsonSchema;
    out.output.form.schema = *format;
    out.output.place = "format";
  } else {
    in.reject("format", "'format' must be \"json\" or a JSON Schema.");
  }
}

void read_think(FieldReader& in, ChatRequest& out) {
  out.output.breaks_loops = in.boolean("loop_breaker");
  const json::Value* think = in.any("think", R"({"type": ["boolean", "string"]})");
  if (think == nullptr) return;
  if (think->is_bool()) {
    out.template_variables.set("enable_thinking", *think);
  } else if (think->is_string()) {
    out.template_variables.set("enable_thinking", true);
    out.template_variables.set("reasoning_effort", *think);
  } else {
    in.reject("think", "'think' must be a boolean or a level.");
  }
}

void read_common(FieldReader& in, GenerationRequest& out) {
  out.model = model_name(in.text("model").value_or(""));
  out.stream = in.boolean("stream").value_or(true);
  out.logprobs = in.boolean("logprobs").value_or(false);
  out.top_logprobs = static_cast<std::int32_t>(in.integer("top_logprobs", 0, 20).value_or(0));
  if (out.top_logprobs > 0) out.logprobs = true;
  read_options(in, out);
  read_format(in, out);
  if (const json::Array* images = in.array("images", R"({"type": "array", "maxItems": 0})");
      images != nullptr && !images->empty())
    in.reject("images", "Images are not supported; these are models of text.");
  in.known({"keep_alive", "truncate", "shift"});
}

void refuse_images(FieldReader& in, const json::Array& messages) {
  for (const json::Value& message : messages) {
    const json::Value* images = message.find("images");
    if (images != nullptr && images->is_array() && !images->as_array().empty())
      return in.reject("messages", "Images are not supported; these are models of text.");
  }
}

}  // namespace

std::string model_name(std::string name) {
  constexpr std::string_view kLatest = ":latest";
  if (name.ends_with(kLatest)) name.resize(name.size() - kLatest.size());
  return name;
}

ApiResult<ChatRequest> read_chat(const json::Object& body) {
  FieldReader in(body);
  ChatRequest out;
  read_common(in, out);
  read_think(in, out);
  if (const json::Array* messages = in.array("messages", kMessagesShape)) out.messages = *messages;
  refuse_images(in, out.messages);
  if (const json::Array* tools = in.array("tools", kToolsShape); tools != nullptr && !tools->empty()) {
    for (const json::Value& tool : *tools) {
      const json::Value* function = tool.find("function");
      if (function == nullptr || text_member(*function, "name").empty())
        in.reject("tools", "Each tool must be {\"type\": \"function\", \"function\": {\"name\": ...}}.");
    }
    out.tools = json::Value(*tools);
  }
  if (in.error()) return tl::unexpected(*in.error());
  for (const std::string& name : in.unknown()) out.ignored.push_back(name);
  return out;
}

ApiResult<GenerateRequest> read_generate(const json::Object& body) {
  FieldReader in(body);
  GenerateRequest out;
  ChatRequest chat;
  read_common(in, chat);
  read_think(in, chat);
  out.model = chat.model;
  const std::string prompt = in.text("prompt").value_or("");
  const auto system = in.text("system"), suffix = in.text("suffix");
  const bool raw = in.boolean("raw").value_or(false);
  in.refuse({"template", "context"});  // a model's own is used; /api/chat takes conversations
  if (in.error()) return tl::unexpected(*in.error());
  for (const std::string& name : in.unknown()) chat.ignored.push_back(name);
  if (prompt.empty() && !suffix) return out;
  if (raw || suffix) {
    TextRequest text;
    static_cast<GenerationRequest&>(text) = chat;
    text.prompts = {prompt};
    text.suffix = suffix;
    out.text = std::move(text);
    return out;
  }
  if (system && !system->empty()) chat.messages.push_back(json::Object{{"role", "system"}, {"content", *system}});
  chat.messages.push_back(json::Object{{"role", "user"}, {"content", prompt}});
  out.chat = std::move(chat);
  return out;
}

ApiResult<std::string> read_show(const json::Object& body) {
  FieldReader in(body);
  const std::string old_name = in.text("name").value_or("");
  std::string name = in.text("model").value_or(old_name);
  in.known({"verbose", "options", "system", "template"});
  if (in.error()) return tl::unexpected(*in.error());
  return model_name(std::move(name));
}

ApiResult<EmbeddingRequest> read_embed(const json::Object& body, bool one) {
  FieldReader in(body);
  EmbeddingRequest out;
  out.model = model_name(in.text("model").value_or(""));
  const char* field = one ? "prompt" : "input";
  const json::Value* input = in.any(
      field, one ? R"({"type": "string"})"
                 : R"({"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]})");
  const json::Array list = input == nullptr            ? json::Array{}
                           : input->is_array() && !one ? input->as_array()
                                                       : json::Array{*input};
  for (const json::Value& text : list) {
    if (!text.is_string()) in.reject(field, std::string("'") + field + "' must be a text" + (one ? "." : " or texts."));
    if (text.is_string()) out.texts.push_back(text.as_string());
  }
  if (list.empty()) in.reject(field, std::string("'") + field + "' is required.");
  out.width = in.integer("dimensions", 1, 1 << 20);
  in.known({"keep_alive", "truncate", "options"});
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  return out;
}

}  // namespace qw::api::ollama
