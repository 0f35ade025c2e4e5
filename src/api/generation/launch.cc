#include "api/generation/launch.h"

#include <algorithm>
#include <optional>

#include "api/audit_entry.h"
#include "api/auth.h"
#include "api/generation/answer.h"
#include "api/generation/drawing.h"
#include "api/generation/input_guard.h"
#include "api/generation/output_rules.h"
#include "api/preparation.h"
#include "api/stop_switch.h"
#include "governance/watermark/mark_key.h"
#include "tokenizer/prompt.h"

namespace qw::api {
namespace {

// A model with another head answers neither chats nor completions.
ApiResult<void> check_generates(const ServedModel& model) {
  if (model.engine->generates()) return {};
  return tl::unexpected(bad_request("model", "The model `" + model.id + "` generates no text."));
}

// A prompt must leave room for at least one token, if any is wanted.
ApiResult<std::int64_t> check_length(const ServedModel& model, std::size_t prompt, std::int64_t wanted,
                                     const char* param) {
  const std::int64_t longest = wanted == 0 ? model.engine->max_read_tokens() + 1 : model.engine->max_sequence_tokens();
  const std::int64_t room = longest - static_cast<std::int64_t>(prompt);
  if (prompt == 0) return tl::unexpected(bad_request(param, std::string("'") + param + "' is empty."));
  if (room <= 0) {
    ApiError error =
        bad_request(param, "This model's context is " + std::to_string(model.engine->max_sequence_tokens()) +
                               " tokens; the prompt alone has " + std::to_string(prompt) + ".");
    error.code = "context_length_exceeded";
    return tl::unexpected(std::move(error));
  }
  return std::min(wanted, room);
}

// Biases of tokens that there are.
ApiResult<void> check_bias(const ServedModel& model, const GenerationRequest& request) {
  for (const auto& [id, bias] : request.sampling.logit_bias)
    if (id >= model.engine->vocab())
      return tl::unexpected(
          bad_request("logit_bias", "'logit_bias': token id " + std::to_string(id) + " is outside the vocabulary."));
  return {};
}

// What the choices of a request share.
struct Launch {
  ModelLease model;
  Drawing drawing;
  std::string cache_salt;     // the client's own, beside the tenant's
  bool tells_prompt = false;  // log-probabilities of the prompts, too
  json::Object kept_rules{};  // where the content is kept: those of the output, as JSON
};

// Tells the client and the audit log.
void tell_mark(Exchange& exchange, const Launch& launch, json::Object& audit) {
  const Drawing& drawing = launch.drawing;
  if (drawing.mark == nullptr) return;
  exchange.add_header("X-Watermark", marks(drawing) ? name_of(drawing.mark->scheme) : "none");
  if (!audit.empty()) audit.set("watermark", marks(drawing) ? json::Value(drawing.mark->id) : json::Value());
}

// A machine's answer gets its label, and a number that the audit log knows it by.
void tell_label(Exchange& exchange, json::Object& audit) {
  const std::string& number = exchange.label_answer();
  if (!number.empty() && !audit.empty()) audit.set("produce_id", number);
}

// Submits the choices; the answer takes care of everything that follows.
void submit(const std::shared_ptr<Answer>& answer, const Exchange& exchange, const Launch& launch) {
  const auto& [model, drawing, cache_salt, tells_prompt, kept_rules] = launch;
  answer->begin();
  std::size_t index = 0;
  for (std::size_t p = 0; p < drawing.prompts.size(); ++p) {
    for (std::int64_t i = 0; i < drawing.n; ++i, ++index) {
      std::shared_ptr<sampling::LoopWatch> loops;
      engine::Request request = request_of(drawing, *model, p, i, loops);
      request.prompt_logprobs = tells_prompt;
      set_owner(exchange, request);
      request.cache_salt += cache_salt;
      const auto sink = std::make_shared<TextSink>(*model->tokenizer, request.params, true, answer->receiver(index),
                                                   std::move(loops), answer->tells_stop());
      if (answer->keeps_drawn()) sink->keep_drawn();
      request.sink = sink;
      auto id = model->engine->submit(std::move(request));
      if (!id) return answer->abandon(not_taken(*model, id.error()));
      answer->running(*id);
    }
  }
}

// Reserves the most that the choices can cost, then begins them. `stated`: the client said how long they may be; if
// not, what its budgets leave is shared among them.
void launch(const std::shared_ptr<Exchange>& exchange, AnswerSpec spec, Launch launch, bool stated,
            const WriterFactory& make_writer) {
  const std::size_t choices = launch.drawing.prompts.size() * static_cast<std::size_t>(launch.drawing.n);
  if (const auto most = launch.model->engine->max_requests_of(tenant_of(*exchange));
      static_cast<std::int64_t>(choices) > most)
    return exchange->send_error(bad_request(
        spec.chat ? "n" : "prompt",
        "This asks for " + std::to_string(choices) + " answers; a request may ask for " + std::to_string(most) + "."));
  Need need;
  need.model = launch.model->id;
  need.output_stated = stated;
  for (std::size_t p = 0; p < launch.drawing.prompts.size(); ++p) {
    spec.prompt_sizes.push_back(static_cast<std::int64_t>(launch.drawing.prompts[p].size()));
    need.prompt_tokens += spec.prompt_sizes.back();
    need.output_tokens += launch.drawing.limits[p] * launch.drawing.n;
  }
  spec.choices_per_prompt = static_cast<std::size_t>(launch.drawing.n);
  spec.stops = launch.drawing.params.stop;
  if (exchange->audit() != nullptr) {
    spec.audit = audit_entry("generation", *exchange, *launch.model, launch.drawing.prompts);
    add_sampling(spec.audit, launch.drawing.params);
  }
  if (launch.drawing.rules->restricts()) spec.preface.clear();  // what must have a form has no room for it
  if (!spec.refused) launch.drawing.mark = exchange->mark_key();
  tell_mark(*exchange, launch, spec.audit);
  tell_label(*exchange, spec.audit);
  const auto begin = [exchange, choices, wanted = need.output_tokens](
                         AnswerSpec& answered, Launch& launched, const WriterFactory& writer,
                         std::shared_ptr<Charge> charge, std::int64_t granted) {
    if (granted < wanted) {
      const std::int64_t each = std::max<std::int64_t>(1, granted / static_cast<std::int64_t>(choices));
      for (std::int64_t& limit : launched.drawing.limits) limit = std::min(limit, each);
    }
    if (!launched.kept_rules.empty())
      answered.content = kept_drawing(launched.drawing, *launched.model->tokenizer, std::move(launched.kept_rules));
    if (!answered.content.empty() && !answered.asked.empty()) answered.content.set("asked", std::move(answered.asked));
    answered.charge = std::move(charge);
    const bool refused = answered.refused;
    const auto answer = std::make_shared<Answer>(
        exchange, launched.model, writer({*launched.model, launched.drawing.prompts}), std::move(answered), choices);
    if (StopSwitch* stops = exchange->stops(); stops != nullptr)
      if (const auto stopped = stops->watch(answer, *launched.model, tenant_of(*exchange)))
        return answer->abandon(*stopped);
    if (!refused) return submit(answer, *exchange, launched);
    answer->begin();
    answer->refuse();
  };
  // Without accounts nobody is waited for, and nothing need be kept meanwhile.
  if (exchange->accounts() == nullptr)
    return begin(spec, launch, make_writer, std::make_shared<Charge>(), need.output_tokens);
  admit(exchange, need,
        [begin, spec = std::move(spec), launch = std::move(launch), make_writer](std::shared_ptr<Charge> charge,
                                                                                 std::int64_t granted) mutable {
          begin(spec, launch, make_writer, std::move(charge), granted);
        });
}

sampling::SamplingParams params_of(const ServedModel& model, const GenerationRequest& request) {
  auto params = sampling_params(request, model.defaults);
  if (!request.sampling.seed) params.seed = random_bits();
  for (const auto& ids : request.sampling.stop_sequences) params.stop.push_back(model.tokenizer->decode(ids, false));
  return params;
}

// Who wants an answer that does not end wants it as it comes.
bool breaks_loops(const ServedModel& model, const GenerationRequest& request) {
  return request.output.breaks_loops.value_or(model.breaks_loops && !request.sampling.ignore_eos);
}

// A text and what follows it, in the form that models for code were taught: what is between is asked for. Nothing if
// the vocabulary has no such tokens.
std::optional<std::vector<engine::TokenId>> middle_prompt(const tokenizer::Tokenizer& tokenizer,
                                                          const std::string& before, const std::string& after) {
  const auto prefix = tokenizer.find("<|fim_prefix|>"), suffix = tokenizer.find("<|fim_suffix|>"),
             middle = tokenizer.find("<|fim_middle|>");
  if (!prefix || !suffix || !middle) return std::nullopt;
  std::vector<engine::TokenId> ids{*prefix};
  const auto add = [&](const std::string& text) {
    const auto more = tokenizer::encode_prompt(tokenizer, text, true);
    ids.insert(ids.end(), more.begin(), more.end());
  };
  add(before);
  ids.push_back(*suffix);
  add(after);
  ids.push_back(*middle);
  return ids;
}

// The prompt of a conversation as it is, or, where it is too long and may be shortened, of as much of its end as leaves
// room for the answer: from a message of a user on, and what stands before the first of them stays. `left_out`:
// messages.
ApiResult<ChatPrompt> fitting_prompt(const ServedModel& model, const ChatRequest& request, std::size_t& left_out) {
  left_out = 0;
  auto whole = prompt_of(model, request);
  if (!whole || !request.leaves_out_oldest) return whole;
  const std::int64_t context = model.engine->max_sequence_tokens();
  // Who does not say how long the answer may be gets an eighth of the context.
  const std::int64_t room = context - std::min(request.max_tokens.value_or(context / 8), context / 2);
  const auto fits = [&](const ChatPrompt& prompt) { return static_cast<std::int64_t>(prompt.ids.size()) <= room; };
  if (fits(*whole)) return whole;
  std::vector<std::size_t> users;
  for (std::size_t i = 0; i < request.messages.size(); ++i)
    if (const json::Value* role = request.messages[i].find("role"); role != nullptr && *role == json::Value("user"))
      users.push_back(i);
  const auto from = [&](std::size_t user) {
    ChatRequest shorter = request;
    const auto first = shorter.messages.begin() + static_cast<std::ptrdiff_t>(users[0]);
    shorter.messages.erase(first, first + static_cast<std::ptrdiff_t>(users[user] - users[0]));
    return prompt_of(model, shorter);
  };
  // Fewer messages are a shorter prompt: the first place that fits is found by halving.
  std::size_t low = 1, high = users.empty() ? 0 : users.size() - 1;
  std::optional<ChatPrompt> best;
  while (low <= high && high < users.size()) {
    const std::size_t middle = low + (high - low) / 2;
    auto prompt = from(middle);
    if (!prompt) return prompt;
    if (fits(*prompt)) {
      best = std::move(*prompt);
      left_out = users[middle] - users[0];
      high = middle - 1;
    } else {
      low = middle + 1;
    }
  }
  if (!best) return whole;  // its last message alone is too long: said with the prompt's length
  return std::move(*best);
}

// Makes the rules of an output, elsewhere if that takes long, then goes on with them. `wanted` may point into what
// `then` holds.
template <class Then>
void with_rules(const ModelLease& model, const ConstraintRequest& wanted, const std::shared_ptr<Exchange>& exchange,
                Then then) {
  const auto make = [](const ServedModel& of, const ConstraintRequest& what, Exchange& asking, Then& go_on) {
    auto rules = OutputRules::make(of, what, [&asking] { return asking.reply().closed(); });
    if (!rules) return asking.send_error(rules.error());
    go_on(std::move(*rules));
  };
  if (OutputRules::made_at_once(*model, wanted)) return make(*model, wanted, *exchange, then);
  prepare(exchange, true,
          [model, wanted, exchange, make, then = std::move(then)]() mutable { make(*model, wanted, *exchange, then); });
}

// With the model that chat asked for, loaded, and what was let in.
void chat_with(const ModelLease& model, const std::shared_ptr<const ChatRequest>& asked, AnswerSpec spec,
               const std::shared_ptr<Exchange>& exchange, const WriterFactory& writer) {
  const ChatRequest& request = *asked;
  if (auto fine = check_generates(*model); !fine) return exchange->send_error(fine.error());
  if (auto fine = check_bias(*model, request); !fine) return exchange->send_error(fine.error());
  if (model->chat_template == nullptr) {
    return exchange->send_error(
        bad_request("model", "The model `" + model->id + "` has no chat template; it completes texts only."));
  }
  std::size_t left_out = 0;
  auto prompt = fitting_prompt(*model, request, left_out);
  if (!prompt) return exchange->send_error(prompt.error());
  auto limit = check_length(*model, prompt->ids.size(),
                            request.max_tokens.value_or(model->engine->max_sequence_tokens()), "messages");
  if (!limit) return exchange->send_error(limit.error());
  Launch next{model,
              {params_of(*model, request), {std::move(prompt->ids)}, {*limit}, request.n, nullptr, nullptr},
              request.cache_salt};

  ConstraintRequest wanted{.output = &request.output,
                           .tools = request.tools_allowed() ? &*request.tools : nullptr,
                           .choice = request.tool_choice,
                           .parallel_calls = request.parallel_tool_calls,
                           .opens_reasoning = prompt->opens_reasoning,
                           .may_think = request.thinking_on(),
                           .breaks_loops = breaks_loops(*model, request)};
  if (keeps_content(*exchange)) next.kept_rules = kept_rules(wanted);
  with_rules(model, wanted, exchange,
             [asked, exchange, writer, left_out, next = std::make_shared<Launch>(std::move(next)),
              spec = std::move(spec), opens_reasoning = prompt->opens_reasoning](OutputRules rules) mutable {
               name_list(*exchange, "X-Ignored-Params", asked->ignored);
               name_list(*exchange, "X-Unchecked-Tools", rules.unchecked());
               if (left_out > 0) exchange->add_header("X-Messages-Left-Out", std::to_string(left_out));
               spec.stream = asked->stream;
               spec.starts_in_reasoning = opens_reasoning;
               spec.parse_tools = asked->tools_allowed();
               if (spec.parse_tools) spec.tools = *asked->tools;
               spec.certain_calls = rules.restricts() && next->model->tool_dialect == sampling::ToolDialect::kHermes;
               next->drawing.rules = std::make_shared<const OutputRules>(std::move(rules));
               launch(exchange, std::move(spec), std::move(*next), asked->max_tokens.has_value(), writer);
             });
}

// With the model that complete asked for, loaded, and what was let in.
void complete_with(const ModelLease& model, const std::shared_ptr<const TextRequest>& asked, AnswerSpec spec,
                   const std::shared_ptr<Exchange>& exchange, const WriterFactory& writer) {
  const TextRequest& request = *asked;
  if (auto fine = check_bias(*model, request); !fine) return exchange->send_error(fine.error());
  if (auto fine = check_generates(*model); !fine) return exchange->send_error(fine.error());
  std::vector<std::vector<engine::TokenId>> prompts = request.prompt_ids;
  for (const std::string& text : request.prompts) {
    if (!request.suffix) {
      prompts.push_back(tokenizer::encode_prompt(*model->tokenizer, text, false));
      continue;
    }
    auto ids = middle_prompt(*model->tokenizer, text, *request.suffix);
    if (!ids)
      return exchange->send_error(bad_request("suffix", "The model `" + model->id + "` does not fill in the middle."));
    prompts.push_back(std::move(*ids));
  }
  std::vector<std::int64_t> limits;
  for (const auto& ids : prompts) {
    for (const auto id : ids) {
      if (id >= model->engine->vocab())
        return exchange->send_error(
            bad_request("prompt", "token id " + std::to_string(id) + " is outside the vocabulary."));
    }
    auto limit =
        check_length(*model, ids.size(), request.max_tokens.value_or(model->engine->max_sequence_tokens()), "prompt");
    if (!limit) return exchange->send_error(limit.error());
    limits.push_back(*limit);
  }
  ConstraintRequest wanted;
  wanted.output = &request.output;
  wanted.may_think = false;
  wanted.breaks_loops = breaks_loops(*model, request);
  auto params = params_of(*model, request);
  if (request.suffix) {  // a middle ends where another part of a file would begin
    for (const char* name : {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|repo_name|>",
                             "<|file_sep|>", "<|endoftext|>"})
      if (const auto id = model->tokenizer->find(name)) params.stop_ids.push_back(*id);
  }
  auto next = std::make_shared<Launch>(
      Launch{model,
             {std::move(params), std::move(prompts), std::move(limits), request.n, nullptr, nullptr},
             request.cache_salt});
  if (keeps_content(*exchange)) next->kept_rules = kept_rules(wanted);
  with_rules(model, wanted, exchange,
             [asked, exchange, writer, next, spec = std::move(spec)](OutputRules rules) mutable {
               name_list(*exchange, "X-Ignored-Params", asked->ignored);
               spec.chat = false;
               spec.stream = asked->stream;
               next->tells_prompt = asked->echo && asked->logprobs;
               next->drawing.rules = std::make_shared<const OutputRules>(std::move(rules));
               launch(exchange, std::move(spec), std::move(*next), asked->max_tokens.has_value(), writer);
             });
}

}  // namespace

ApiResult<ChatPrompt> prompt_of(const ServedModel& model, const ChatRequest& request) {
  chat::Conversation conversation{request.messages, {}, request.opens_answer, request.template_variables};
  if (request.tools_allowed()) conversation.tools = request.tools;
  auto prompt = chat_prompt(*model.chat_template, std::move(conversation), *model.tokenizer, request.prefix);
  if (!prompt) return tl::unexpected(bad_request("messages", prompt.error().message));
  return std::move(*prompt);
}

void start_chat(const ModelList& models, const std::shared_ptr<Exchange>& exchange, ChatRequest request,
                WriterFactory writer) {
  const auto entry = allowed_model(*exchange, models, request.model);
  if (!entry) return exchange->send_error(entry.error());
  with_model(*entry, exchange,
             [exchange, asked = std::make_shared<const ChatRequest>(std::move(request)),
              writer = std::move(writer)](const ModelLease& model) {
               let_in(model, asked, exchange,
                      [model, exchange, writer](const std::shared_ptr<const ChatRequest>& let, AnswerSpec spec) {
                        chat_with(model, let, std::move(spec), exchange, writer);
                      });
             });
}

void start_text(const ModelList& models, const std::shared_ptr<Exchange>& exchange, TextRequest request,
                WriterFactory writer) {
  const auto entry = allowed_model(*exchange, models, request.model);
  if (!entry) return exchange->send_error(entry.error());
  with_model(*entry, exchange,
             [exchange, asked = std::make_shared<const TextRequest>(std::move(request)),
              writer = std::move(writer)](const ModelLease& model) {
               let_in(model, asked, exchange,
                      [model, exchange, writer](const std::shared_ptr<const TextRequest>& let, AnswerSpec spec) {
                        complete_with(model, let, std::move(spec), exchange, writer);
                      });
             });
}

}  // namespace qw::api
