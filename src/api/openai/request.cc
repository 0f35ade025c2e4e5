#include "api/openai/request.h"

#include <limits>

#include "api/field_reader.h"
#include "api/openai/output_form.h"
#include "api/tasks.h"

namespace qw::api::openai {
namespace {

// OpenAI allows 4; agent frameworks send more, and each costs only a state of an automaton.
constexpr std::size_t kMaxStops = 16;
constexpr std::int64_t kMaxChoices = 16;
constexpr std::size_t kMaxInputs = 2048;  // of an embeddings request, as OpenAI has it
constexpr std::int64_t kMaxId = std::numeric_limits<sampling::TokenId>::max();

// Fields that this server takes without acting on them: they name the caller or tune somebody else's infrastructure.
constexpr std::initializer_list<const char*> kInformative = {
    "user",      "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "prediction"};

// What is read piece by piece below, for those who read about it.
constexpr const char* kStopShape =
    R"({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": 16}]})";
constexpr const char* kIdsShape =
    R"({"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2147483647}})";
constexpr const char* kTextsOrIdsShape =
    R"({"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}},
        {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0, "maximum": 2147483647}},
        {"type": "array", "minItems": 1, "items": {"type": "array",
          "items": {"type": "integer", "minimum": 0, "maximum": 2147483647}}}]})";
constexpr const char* kMessagesShape =
    R"({"type": "array", "minItems": 1, "items": {"type": "object", "required": ["role"], "properties": {
        "role": {"type": "string", "enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {"anyOf": [{"type": "string"}, {"type": "null"}, {"type": "array", "items": {"type": "object",
          "properties": {"type": {"const": "text"}, "text": {"type": "string"}}, "required": ["type", "text"]}}]},
        "reasoning_content": {"type": ["string", "null"]}, "tool_calls": {"type": ["array", "null"]},
        "tool_call_id": {"type": "string"}, "partial": {"type": "boolean"}}}})";
constexpr const char* kToolsShape =
    R"({"type": "array", "items": {"type": "object", "required": ["type", "function"], "properties": {
        "type": {"const": "function"}, "function": {"type": "object", "required": ["name"], "properties": {
          "name": {"type": "string"}, "description": {"type": "string"}, "parameters": {"type": "object"},
          "strict": {"type": ["boolean", "null"]}}}}}})";
constexpr const char* kTextsShape =
    R"({"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "maxItems": 2048, "items": {"type": "string"}}]})";
constexpr const char* kDocumentsShape =
    R"({"type": "array", "minItems": 1, "maxItems": 2048, "items": {"anyOf": [{"type": "string"},
        {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}]}})";

void read_stops(FieldReader& in, SamplingFields& out) {
  const json::Value* stop = in.any("stop", kStopShape);
  if (stop == nullptr) return;
  if (stop->is_string()) {
    if (!stop->as_string().empty()) out.stop.push_back(stop->as_string());
    return;
  }
  if (!stop->is_array()) return in.reject("stop", "'stop' must be a string or an array of strings.");
  if (stop->as_array().size() > kMaxStops) {
    return in.reject("stop", "'stop' may hold at most " + std::to_string(kMaxStops) + " strings.");
  }
  for (const json::Value& item : stop->as_array()) {
    if (!item.is_string()) return in.reject("stop", "'stop' must be a string or an array of strings.");
    if (!item.as_string().empty()) out.stop.push_back(item.as_string());
  }
}

std::vector<sampling::TokenId> read_ids(FieldReader& in, const char* name, const json::Array& items) {
  std::vector<sampling::TokenId> ids;
  for (const json::Value& item : items) {
    if (!item.is_int() || item.as_int() < 0 || item.as_int() > kMaxId) {
      in.reject(name, std::string("'") + name + "' must hold token ids.");
      return {};
    }
    ids.push_back(static_cast<sampling::TokenId>(item.as_int()));
  }
  return ids;
}

void read_sampling(FieldReader& in, SamplingFields& out) {
  out.temperature = in.number("temperature", 0, 2);
  out.top_p = in.number("top_p", 0, 1);
  out.min_p = in.number("min_p", 0, 1);
  out.top_k = in.integer("top_k", -1, kMaxId);  // -1 and 0 mean off, as in other servers
  out.repetition_penalty = in.number("repetition_penalty", 0.01, 10);
  out.presence_penalty = in.number("presence_penalty", -2, 2);
  out.frequency_penalty = in.number("frequency_penalty", -2, 2);
  out.seed = in.integer("seed", std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max());
  out.min_tokens = in.integer("min_tokens", 0, kMaxId);
  out.ignore_eos = in.boolean("ignore_eos").value_or(false);
  read_stops(in, out);
  read_logit_bias(in, out);
  if (const json::Array* ids = in.array("stop_token_ids", kIdsShape))
    out.stop_token_ids = read_ids(in, "stop_token_ids", *ids);
}

void read_common(FieldReader& in, GenerationRequest& out, bool& include_usage) {
  out.model = in.text("model").value_or("");
  read_sampling(in, out.sampling);
  out.cache_salt = in.text("cache_salt").value_or("");
  out.n = in.integer("n", 1, kMaxChoices).value_or(1);
  out.stream = in.boolean("stream").value_or(false);
  out.timings = in.boolean("timings").value_or(false);
  if (const json::Object* options = in.object("stream_options")) {
    FieldReader sub(*options);
    include_usage = sub.boolean("include_usage").value_or(false);
    if (sub.error()) in.reject("stream_options.include_usage", sub.error()->message);
  }
  out.output = read_output_form(in);
  if (out.sampling.ignore_eos && out.output.form.restricts())
    in.reject("ignore_eos", "'ignore_eos' does not go with an output of a given form, which ends.");
  in.known(kInformative);
  if (!in.boolean("skip_special_tokens").value_or(true))
    in.reject("skip_special_tokens", "'skip_special_tokens': false is not supported.");
}

// Known fields that would change the answer and that this server does not honour must not be dropped silently.
void refuse_unsupported(FieldReader& in) {
  in.refuse({"functions", "function_call", "audio", "web_search_options", "moderation"});
  if (const json::Array* modalities = in.array("modalities", R"({"const": ["text"]})")) {
    if (modalities->size() != 1 || !(*modalities)[0].is_string() || (*modalities)[0].as_string() != "text") {
      in.reject("modalities", "Only the modality 'text' is supported.");
    }
  }
}

void read_tools(FieldReader& in, ChatRequest& out) {
  if (const json::Array* tools = in.array("tools", kToolsShape)) {
    for (const json::Value& tool : *tools) {
      const json::Value* function = tool.find("function");
      const json::Value* name = function != nullptr ? function->find("name") : nullptr;
      if (name == nullptr || !name->is_string()) {
        return in.reject("tools", "Each tool must be {\"type\": \"function\", \"function\": {\"name\": ...}}.");
      }
    }
    if (!tools->empty()) out.tools = json::Value(*tools);
  }
  out.tool_choice = read_tool_choice(in, out.tools ? &*out.tools : nullptr);
  out.parallel_tool_calls = in.boolean("parallel_tool_calls").value_or(true);
}

void read_template_variables(FieldReader& in, ChatRequest& out) {
  if (const json::Object* kwargs = in.object("chat_template_kwargs", R"({"type": "object"})")) {
    for (const auto& [key, value] : *kwargs) out.template_variables.set(key, value);
  }
  if (const auto thinking = in.boolean("enable_thinking")) out.template_variables.set("enable_thinking", *thinking);
  if (const auto effort = in.choice("reasoning_effort", kEfforts)) set_effort(*effort, out);
}

// A string, strings, token ids, or lists of token ids.
void read_texts(FieldReader& in, const char* name, std::vector<std::string>& texts,
                std::vector<std::vector<sampling::TokenId>>& ids) {
  const json::Value* value = in.any(name, kTextsOrIdsShape);
  const auto quoted = [&](const char* rest) { return std::string("'") + name + "' " + rest; };
  if (value == nullptr) return in.reject(name, quoted("is required."));
  const std::string shape = quoted("must be a string, an array of strings, or token ids.");
  if (value->is_string()) {
    texts.push_back(value->as_string());
    return;
  }
  if (!value->is_array() || value->as_array().empty()) return in.reject(name, shape);
  const json::Array& items = value->as_array();
  if (items[0].is_int()) {
    ids.push_back(read_ids(in, name, items));
    return;
  }
  for (const json::Value& item : items) {
    if (item.is_string() && ids.empty()) {
      texts.push_back(item.as_string());
    } else if (item.is_array() && texts.empty()) {
      ids.push_back(read_ids(in, name, item.as_array()));
    } else {
      return in.reject(name, shape);
    }
  }
}

// The last message may be the beginning of the answer: {"role": "assistant", "partial": true}, also as "prefix".
void take_prefix(FieldReader& in, ChatRequest& out) {
  if (out.messages.empty() || !out.messages.back().is_object()) return;
  const json::Object& last = out.messages.back().as_object();
  const auto says = [&](const char* name) {
    const json::Value* value = last.find(name);
    return value != nullptr && *value == json::Value(true);
  };
  if (!says("partial") && !says("prefix")) return;
  const json::Value *role = last.find("role"), *content = last.find("content");
  if (role == nullptr || !(*role == json::Value("assistant")) || content == nullptr || !content->is_string())
    return in.reject("messages", "Only an assistant's message with text can be partial.");
  out.prefix = content->as_string();
  out.messages.pop_back();
  if (out.messages.empty()) in.reject("messages", "A partial message needs one before it.");
}

// A text, or several, under the one of the names that is there; they mean the same.
std::vector<std::string> read_pair_side(FieldReader& in, std::initializer_list<const char*> names) {
  std::vector<std::string> out;
  const char* name = in.one_of(names, kTextsShape);
  if (name == nullptr) return out;
  const json::Value* value = in.any(name);
  const auto wrong = [&] {
    in.reject(name, std::string("'") + name + "' must be a text, or 1 to " + std::to_string(kMaxInputs) + " texts.");
  };
  if (value != nullptr && value->is_string()) out.push_back(value->as_string());
  if (value != nullptr && value->is_array())
    for (const json::Value& one : value->as_array()) {
      if (!one.is_string()) wrong();
      if (one.is_string()) out.push_back(one.as_string());
    }
  if (out.empty() || out.size() > kMaxInputs) wrong();
  return out;
}

}  // namespace

ApiResult<RankRequest> read_score_request(const json::Object& body) {
  FieldReader in(body);
  RankRequest out;
  out.model = in.text("model").value_or("");
  out.queries = read_pair_side(in, {"text_1", "queries"});
  out.documents = read_pair_side(in, {"text_2", "documents"});
  out.instruction = in.text("instruct").value_or(std::string(kDefaultInstruction));
  if (!out.queries.empty() && out.queries.size() != 1 && out.queries.size() != out.documents.size())
    in.reject("text_1", "There must be one first text, or as many as second ones.");
  in.known({"user", "encoding_format"});
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  return out;
}

ApiResult<OpenAiChat> read_chat_request(const json::Object& body) {
  FieldReader in(body);
  OpenAiChat out;
  read_common(in, out, out.include_usage);
  if (const json::Array* messages = in.array("messages", kMessagesShape)) {
    out.messages = *messages;
    if (messages->empty()) in.reject("messages", "'messages' must not be empty.");
    take_prefix(in, out);
  } else {
    in.reject("messages", "'messages' is required.");
  }
  const auto old_limit = in.integer("max_tokens", 1, kMaxId);
  out.max_tokens = in.integer("max_completion_tokens", 1, kMaxId);
  if (!out.max_tokens) out.max_tokens = old_limit;
  out.logprobs = in.boolean("logprobs").value_or(false);
  out.top_logprobs = static_cast<std::int32_t>(in.integer("top_logprobs", 0, 20).value_or(0));
  out.store = in.boolean("store");
  if (out.top_logprobs > 0 && !out.logprobs) in.reject("top_logprobs", "'top_logprobs' needs 'logprobs': true.");
  read_tools(in, out);
  read_template_variables(in, out);
  refuse_unsupported(in);
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  return out;
}

ApiResult<CompletionRequest> read_completion_request(const json::Object& body) {
  FieldReader in(body);
  CompletionRequest out;
  read_common(in, out, out.include_usage);
  read_texts(in, "prompt", out.prompts, out.prompt_ids);
  out.max_tokens = in.integer("max_tokens", 0, kMaxId).value_or(16);  // 16 is this endpoint's documented default
  if (const auto count = in.integer("logprobs", 0, 20)) {
    out.logprobs = true;
    out.top_logprobs = static_cast<std::int32_t>(*count);
  }
  out.echo = in.boolean("echo").value_or(false);
  if (*out.max_tokens == 0 && !out.echo) in.reject("max_tokens", "'max_tokens' may be 0 with 'echo' only.");
  out.suffix = in.text("suffix");
  if (out.suffix && !out.prompt_ids.empty()) in.reject("suffix", "'suffix' goes with prompts that are texts.");
  if (in.integer("best_of", 1, kMaxChoices).value_or(1) > out.n)
    in.reject("best_of", "'best_of' above 'n' is not supported.");
  refuse_unsupported(in);
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  return out;
}

ApiResult<OpenAiEmbedding> read_embedding_request(const json::Object& body) {
  FieldReader in(body);
  OpenAiEmbedding out;
  out.model = in.text("model").value_or("");
  read_texts(in, "input", out.texts, out.ids);
  if (out.texts.size() + out.ids.size() > kMaxInputs)
    in.reject("input", "'input' may hold at most " + std::to_string(kMaxInputs) + " texts.");
  out.width = in.integer("dimensions", 1, kMaxId);
  out.instruction = in.text("instruct").value_or("");
  if (!out.instruction.empty() && !out.ids.empty())
    in.reject("instruct", "'instruct' goes before texts, not token ids.");
  out.base64 = in.choice("encoding_format", {"float", "base64"}) == "base64";
  in.known({"user"});
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  return out;
}

ApiResult<RankRequest> read_rerank_request(const json::Object& body) {
  FieldReader in(body);
  RankRequest out;
  out.model = in.text("model").value_or("");
  const auto query = in.text("query");
  if (!query) in.reject("query", "'query' is required.");
  out.queries = {query.value_or("")};
  out.instruction = in.text("instruct").value_or(std::string(kDefaultInstruction));
  const json::Array* documents = in.array("documents", kDocumentsShape);
  if (documents == nullptr || documents->empty() || documents->size() > kMaxInputs) {
    in.reject("documents", "'documents' must be an array of 1 to " + std::to_string(kMaxInputs) + " texts.");
  } else {
    for (const json::Value& item : *documents) {
      const json::Value* text = item.is_object() ? item.find("text") : &item;
      if (text == nullptr || !text->is_string()) {
        in.reject("documents", "'documents' must hold strings, or objects with a text.");
        break;
      }
      out.documents.push_back(text->as_string());
    }
  }
  out.top_n = in.integer("top_n", 1, kMaxId);
  out.return_documents = in.boolean("return_documents").value_or(false);
  in.known({"user"});
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  return out;
}

}  // namespace qw::api::openai
