// Any request body gives a request within its stated bounds or an error that can be sent, and its messages the
// variables of a template or an error; whatever was read can be turned into sampling parameters.
#include <string_view>

#include "api/anthropic/request.h"
#include "api/dashscope/request.h"
#include "api/ollama/request.h"
#include "api/openai/fine_tuning/job.h"
#include "api/openai/moderations.h"
#include "api/openai/request.h"
#include "api/openai/responses/request.h"
#include "api/openai/tokens.h"
#include "api/provenance.h"
#include "base/result.h"
#include "chat/messages.h"
#include "net/http.h"

namespace {

using namespace qw;

template <typename Request>
void use(const api::ApiResult<Request>& request) {
  if (!request) {
    QW_CHECK(request.error().status >= 400 && request.error().status < 500);
    return;
  }
  QW_CHECK(request->n >= 1 && request->top_logprobs >= 0);
  (void)api::sampling_params(*request, {});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::string decoded;
  (void)net::percent_decode(text, decoded);
  const auto value = json::parse(text);
  if (!value || !value->is_object()) return 0;
  const json::Object* body = &value->as_object();
  const auto chat = api::openai::read_chat_request(*body);
  use(chat);
  use(api::openai::read_completion_request(*body));
  use(api::anthropic::read_messages(*body, false));
  use(api::ollama::read_chat(*body));
  use(api::openai::read_response_request(*body));
  if (const auto generate = api::ollama::read_generate(*body)) QW_CHECK(!generate->chat || !generate->text);
  for (const bool multimodal : {false, true}) {
    const auto generation = api::dashscope::read_generation(*body, multimodal, multimodal);
    use(generation);
    if (generation)
      (void)chat::template_variables({generation->messages, generation->tools, true, generation->template_variables});
  }
  if (const auto texts = api::dashscope::read_embedding(*body)) QW_CHECK(!texts->texts.empty());
  if (const auto ranked = api::dashscope::read_rerank(*body)) QW_CHECK(!ranked->documents.empty());
  if (const auto embedding = api::openai::read_embedding_request(*body)) {
    QW_CHECK(embedding->texts.empty() != embedding->ids.empty());
  } else {
    QW_CHECK(embedding.error().status == 400);
  }
  if (const auto score = api::openai::read_score_request(*body))
    QW_CHECK(score->queries.size() == 1 || score->queries.size() == score->documents.size());
  if (const auto tokens = api::openai::read_tokenize_request(*body); tokens && tokens->chat)
    QW_CHECK(tokens->prompt.empty());
  if (const auto tune = api::openai::read_fine_tune_request(*body)) {
    store::Job job;
    job.id = "ftjob-1";
    job.spec = api::openai::fine_tune_spec(*tune, tune->model, store::Principal{});
    const auto ask = api::openai::fine_tune_ask(job);
    QW_CHECK(ask.epochs == tune->epochs && ask.batch_size == tune->batch_size &&
             ask.training_file == tune->training_file);
    (void)api::openai::fine_tune_object(job);
  }
  (void)api::openai::read_detokenize_request(*body);
  if (const auto texts = api::openai::read_moderation_request(*body)) QW_CHECK(!texts->texts.empty());
  if (const auto texts = api::read_provenance_request(*body)) QW_CHECK(!texts->texts.empty());
  if (const auto rerank = api::openai::read_rerank_request(*body)) QW_CHECK(!rerank->documents.empty());
  if (chat) {
    const auto variables = chat::template_variables({chat->messages, chat->tools, true, chat->template_variables});
    if (variables) QW_CHECK(variables->find("messages") != nullptr);
  }
  return 0;
}
