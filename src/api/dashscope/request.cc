#include "api/dashscope/request.h"

#include <limits>

#include "api/content_text.h"
#include "api/field_reader.h"
#include "api/openai/output_form.h"
#include "api/tasks.h"

namespace qw::api::dashscope {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t kMostStops = 16, kMostTexts = 2048;
constexpr const char* kMessagesShape =
    R"({"type": "array", "items": {"type": "object", "properties": {"role": {"type": "string"},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object", "required": ["text"],
          "properties": {"text": {"type": "string"}}}}]}}}})";
constexpr const char* kStopShape =
    R"({"anyOf": [{"type": "string"}, {"type": "array", "maxItems": 16, "items": {"anyOf": [{"type": "string"},
        {"type": "integer", "minimum": 0}, {"type": "array", "items": {"type": "integer", "minimum": 0}}]}}]})";
constexpr const char* kToolsShape =
    R"({"type": "array", "items": {"type": "object", "required": ["function"], "properties": {
        "function": {"type": "object", "required": ["name"], "properties": {
          "name": {"type": "string", "minLength": 1}}}}}})";
constexpr const char* kTextsShape =
    R"({"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "maxItems": 2048, "items": {"anyOf": [
        {"type": "string"}, {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}]}}]})";

// A text, or parts {"text": ...} without a type.
bool plain_text(const json::Value* content, std::string& out) {
  return content_text(
      content,
      [](const json::Value& part, std::string& to) {
        const json::Value* text = part.find("text");
        if (text == nullptr || !text->is_string()) return false;
        to = text->as_string();
        return true;
      },
      out);
}

void read_messages(FieldReader& in, const json::Array& messages, ChatRequest& out) {
  for (const json::Value& message : messages) {
    if (!message.is_object()) return in.reject("input.messages", "'input.messages' must hold objects.");
    std::string text;
    if (!plain_text(message.find("content"), text))
      return in.reject("input.messages", "Contents must be texts, or parts with a 'text'; these are models of text.");
    json::Object copy = message.as_object();
    copy.set("content", text);
    out.messages.push_back(std::move(copy));
  }
  const json::Value* partial = out.messages.empty() ? nullptr : out.messages.back().find("partial");
  if (partial == nullptr || !(*partial == json::Value(true))) return;
  if (text_member(out.messages.back(), "role") != "assistant")
    return in.reject("input.messages", "Only an assistant's message can be partial.");
  out.prefix = text_member(out.messages.back(), "content");
  out.messages.pop_back();
}

void read_input(FieldReader& in, ChatRequest& out) {
  const json::Object* input = in.object("input");
  if (input == nullptr) return in.reject("input", "'input' is required.");
  FieldReader sub(*input);
  const json::Array* messages = sub.array("messages", kMessagesShape);
  const auto prompt = sub.text("prompt");
  const json::Array* history = sub.array("history");  // as the first models had it
  if (messages != nullptr) read_messages(in, *messages, out);
  if (messages == nullptr && prompt) {
    if (history != nullptr) {
      for (const json::Value& turn : *history) {
        out.messages.push_back(json::Object{{"role", "user"}, {"content", text_member(turn, "user")}});
        out.messages.push_back(json::Object{{"role", "assistant"}, {"content", text_member(turn, "bot")}});
      }
    }
    out.messages.push_back(json::Object{{"role", "user"}, {"content", *prompt}});
  }
  if (sub.error()) in.reject("input." + sub.error()->param, sub.error()->message);
  if (out.messages.empty()) in.reject("input", "'input' must have 'messages' or a 'prompt'.");
}

// A string, strings, or sequences of token ids.
void read_stops(FieldReader& in, SamplingFields& out) {
  const json::Value* stop = in.any("stop", kStopShape);
  if (stop == nullptr) return;
  const auto wrong = [&] { in.reject("stop", "'stop' must be a string, strings, or lists of token ids."); };
  if (!stop->is_string() && !stop->is_array()) return wrong();
  const json::Array list = stop->is_string() ? json::Array{*stop} : stop->as_array();
  if (list.size() > kMostStops) return in.reject("stop", "'stop' may hold at most 16 entries.");
  for (const json::Value& one : list) {
    if (one.is_string()) {
      if (!one.as_string().empty()) out.stop.push_back(one.as_string());
      continue;
    }
    const json::Array ids = one.is_array() ? one.as_array() : json::Array{one};
    std::vector<sampling::TokenId> sequence;
    for (const json::Value& id : ids) {
      if (!id.is_int() || id.as_int() < 0 || id.as_int() > kMost) return wrong();
      sequence.push_back(static_cast<sampling::TokenId>(id.as_int()));
    }
    if (sequence.size() == 1) out.stop_token_ids.push_back(sequence[0]);
    if (sequence.size() > 1) out.stop_sequences.push_back(std::move(sequence));
  }
}

void read_tools(FieldReader& in, DashscopeChat& out) {
  const json::Array* tools = in.array("tools", kToolsShape);
  if (tools != nullptr && !tools->empty()) {
    for (const json::Value& tool : *tools) {
      const json::Value* function = tool.find("function");
      if (function == nullptr || text_member(*function, "name").empty())
        return in.reject("tools", "Each tool must be {\"type\": \"function\", \"function\": {\"name\": ...}}.");
    }
    out.tools = json::Value(*tools);
    out.message_format = true;  // a call has no place in a text
  }
  out.tool_choice = openai::read_tool_choice(in, out.tools ? &*out.tools : nullptr);
  out.parallel_tool_calls = in.boolean("parallel_tool_calls").value_or(true);
}

void read_parameters(FieldReader& in, DashscopeChat& out) {
  out.sampling.temperature = in.number("temperature", 0, 2);
  out.sampling.top_p = in.number("top_p", 0, 1);
  out.sampling.top_k = in.integer("top_k", -1, kMost);
  out.sampling.seed = in.integer("seed", 0, std::numeric_limits<std::int64_t>::max());
  out.sampling.repetition_penalty = in.number("repetition_penalty", 0.01, 10);
  out.sampling.presence_penalty = in.number("presence_penalty", -2, 2);
  out.max_tokens = in.integer("max_completion_tokens", 1, kMost);
  if (const auto old = in.integer("max_tokens", 1, kMost); !out.max_tokens) out.max_tokens = old;
  out.n = in.integer("n", 1, 4).value_or(1);
  out.logprobs = in.boolean("logprobs").value_or(false);
  out.top_logprobs = static_cast<std::int32_t>(in.integer("top_logprobs", 0, 5).value_or(0));
  out.incremental = in.boolean("incremental_output").value_or(false);
  out.message_format = in.choice("result_format", {"text", "message"}) == "message";
  read_stops(in, out.sampling);
  openai::read_logit_bias(in, out.sampling);
  read_tools(in, out);
  out.output = openai::read_output_form(in);
  if (const auto on = in.boolean("enable_thinking")) out.template_variables.set("enable_thinking", *on);
  if (const auto effort = in.choice("reasoning_effort", openai::kEfforts)) openai::set_effort(*effort, out);
  for (const char* name : {"enable_search", "enable_code_interpreter"})
    if (in.boolean(name).value_or(false)) in.reject(name, std::string("'") + name + "' is not supported.");
  in.refuse({"translation_options"});
  in.known({"vl_high_resolution_images"});
}

const json::Object& object_or_empty(FieldReader& in, const char* name) {
  static const json::Object kNone;
  const json::Object* found = in.object(name);
  return found == nullptr ? kNone : *found;
}

void read_texts(FieldReader& in, const char* name, std::vector<std::string>& out) {
  const json::Value* value = in.any(name, kTextsShape);
  const json::Array list = value == nullptr    ? json::Array{}
                           : value->is_array() ? value->as_array()
                                               : json::Array{*value};
  if (list.empty() || list.size() > kMostTexts)
    return in.reject(name, std::string("'input.") + name + "' must hold 1 to 2048 texts.");
  for (const json::Value& text : list) {
    const json::Value* inner = text.is_object() ? text.find("text") : &text;
    if (inner == nullptr || !inner->is_string())
      return in.reject(name, std::string("'input.") + name + "' must hold texts.");
    out.push_back(inner->as_string());
  }
}

template <class T>
ApiResult<T> result(std::initializer_list<FieldReader*> readers, T out) {
  for (FieldReader* reader : readers)
    if (reader->error()) return tl::unexpected(*reader->error());
  for (FieldReader* reader : readers)
    for (std::string& name : reader->unknown()) out.ignored.push_back(std::move(name));
  return out;
}

}  // namespace

bool wants_stream(const net::Headers& headers) {
  return net::find_header(headers, "x-dashscope-sse") == "enable" ||
         net::find_header(headers, "accept").find("text/event-stream") != std::string_view::npos;
}

ApiResult<DashscopeChat> read_generation(const json::Object& body, bool stream, bool multimodal) {
  FieldReader in(body);
  DashscopeChat out;
  out.parts = multimodal;
  out.model = in.text("model").value_or("");
  out.stream = stream;
  FieldReader parameters(object_or_empty(in, "parameters"));
  read_parameters(parameters, out);
  if (multimodal) out.message_format = true;
  read_input(in, out);
  return result({&in, &parameters}, std::move(out));
}

ApiResult<EmbeddingRequest> read_embedding(const json::Object& body) {
  FieldReader in(body);
  FieldReader input(object_or_empty(in, "input")), parameters(object_or_empty(in, "parameters"));
  if (in.any("input") == nullptr) in.reject("input", "'input' is required.");
  EmbeddingRequest out;
  out.model = in.text("model").value_or("");
  read_texts(input, "texts", out.texts);
  out.width = parameters.integer("dimension", 1, kMost);
  const std::string kind = parameters.choice("text_type", {"query", "document"}).value_or("document");
  out.instruction = parameters.text("instruct").value_or(kind == "query" ? std::string(kDefaultInstruction) : "");
  parameters.choice("output_type", {"dense"});
  return result({&in, &input, &parameters}, std::move(out));
}

ApiResult<RankRequest> read_rerank(const json::Object& body) {
  FieldReader in(body);
  FieldReader input(object_or_empty(in, "input")), parameters(object_or_empty(in, "parameters"));
  if (in.any("input") == nullptr) in.reject("input", "'input' is required.");
  RankRequest out;
  out.model = in.text("model").value_or("");
  const auto query = input.text("query");
  if (!query) input.reject("query", "'input.query' is required.");
  out.queries = {query.value_or("")};
  read_texts(input, "documents", out.documents);
  out.top_n = parameters.integer("top_n", 1, kMost);
  out.return_documents = parameters.boolean("return_documents").value_or(false);
  out.instruction = parameters.text("instruct").value_or(std::string(kDefaultInstruction));
  return result({&in, &input, &parameters}, std::move(out));
}

}  // namespace qw::api::dashscope
