#include "api/openai/tokens.h"

#include <limits>

#include "api/auth.h"
#include "api/field_reader.h"
#include "api/generation/launch.h"
#include "api/openai/api.h"
#include "tokenizer/prompt.h"

namespace qw::api::openai {
namespace {

// The fields of a conversation, which the reader of chats judges.
constexpr const char* kChatFields[] = {"model", "messages", "tools", "chat_template_kwargs", "enable_thinking"};

void tokenize_with(const ModelLease& model, const TokenizeRequest& request, const std::shared_ptr<Exchange>& exchange) {
  std::vector<tokenizer::TokenId> ids;
  if (!request.chat) {
    ids = request.special ? tokenizer::encode_prompt(*model->tokenizer, request.prompt, false)
                          : model->tokenizer->encode(request.prompt);
  } else if (model->chat_template == nullptr) {
    return exchange->send_error(bad_request("model", "The model `" + model->id + "` has no chat template."));
  } else {
    auto prompt = prompt_of(*model, *request.chat);
    if (!prompt) return exchange->send_error(prompt.error());
    ids = std::move(prompt->ids);
  }
  json::Array tokens, strings;
  for (const auto id : ids) {
    tokens.emplace_back(std::int64_t{id});
    if (request.strings) strings.emplace_back(model->tokenizer->decode(std::span(&id, 1), false));
  }
  name_ignored(*exchange, request.ignored);
  exchange->send_json(200,
                      json::Object{{"count", static_cast<std::int64_t>(ids.size())},
                                   {"max_model_len", model->engine->max_sequence_tokens()},
                                   {"tokens", std::move(tokens)},
                                   {"token_strs", request.strings ? json::Value(std::move(strings)) : json::Value()}});
}

void detokenize_with(const ModelLease& model, const DetokenizeRequest& request,
                     const std::shared_ptr<Exchange>& exchange) {
  for (const auto id : request.tokens)
    if (id >= model->tokenizer->vocab_size())
      return exchange->send_error(
          bad_request("tokens", "token id " + std::to_string(id) + " is outside the vocabulary."));
  name_ignored(*exchange, request.ignored);
  exchange->send_json(200, json::Object{{"prompt", model->tokenizer->decode(request.tokens, false)}});
}

}  // namespace

ApiResult<TokenizeRequest> read_tokenize_request(const json::Object& body) {
  FieldReader in(body);
  TokenizeRequest out;
  out.model = in.text("model").value_or("");
  out.strings = in.boolean("return_token_strs").value_or(false);
  out.special = in.boolean("add_special_tokens").value_or(true);
  in.one_of({"prompt", "messages"});
  const auto prompt = in.text("prompt");
  const bool chats = in.array("messages") != nullptr;
  out.prompt = prompt.value_or("");
  const bool opens = in.boolean("add_generation_prompt").value_or(true);
  const bool goes_on = in.boolean("continue_final_message").value_or(false);
  in.refuse({"chat_template"});  // a model's own is used
  for (const char* name : kChatFields) in.known({name});
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  if (!chats) return out;
  json::Object chat;
  for (const char* name : kChatFields)
    if (const json::Value* value = body.find(name)) chat.set(name, *value);
  if (goes_on) {
    json::Array& messages = chat.find("messages")->as_array();
    if (messages.empty() || !messages.back().is_object())
      return tl::unexpected(bad_request("messages", "There is no message to go on with."));
    messages.back().as_object().set("partial", true);
  }
  auto read = read_chat_request(chat);
  if (!read) return tl::unexpected(read.error());
  read->opens_answer = opens || goes_on;
  out.chat = std::move(*read);
  return out;
}

ApiResult<DetokenizeRequest> read_detokenize_request(const json::Object& body) {
  FieldReader in(body);
  DetokenizeRequest out;
  out.model = in.text("model").value_or("");
  const json::Array* tokens = in.array("tokens", R"({"type": "array", "items": {"type": "integer", "minimum": 0}})");
  if (tokens == nullptr) in.reject("tokens", "'tokens' is required.");
  if (tokens != nullptr)
    for (const json::Value& token : *tokens) {
      const bool fine =
          token.is_int() && token.as_int() >= 0 && token.as_int() <= std::numeric_limits<sampling::TokenId>::max();
      if (!fine) in.reject("tokens", "'tokens' must hold token ids.");
      if (fine) out.tokens.push_back(static_cast<sampling::TokenId>(token.as_int()));
    }
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  return out;
}

void Api::tokenize(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const {
  auto request = read_tokenize_request(body);
  if (!request) return exchange->send_error(request.error());
  const auto entry = allowed_model(*exchange, models_, request->model);
  if (!entry) return exchange->send_error(entry.error());
  with_model(*entry, exchange, [exchange, request = std::move(*request)](const ModelLease& model) {
    tokenize_with(model, request, exchange);
  });
}

void Api::detokenize(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const {
  auto request = read_detokenize_request(body);
  if (!request) return exchange->send_error(request.error());
  const auto entry = allowed_model(*exchange, models_, request->model);
  if (!entry) return exchange->send_error(entry.error());
  with_model(*entry, exchange, [exchange, request = std::move(*request)](const ModelLease& model) {
    detokenize_with(model, request, exchange);
  });
}

}  // namespace qw::api::openai
