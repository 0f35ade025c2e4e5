#include "served_subject.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/decimal.h"

namespace qw::app {
namespace {

constexpr std::size_t kMaxAnswerBytes = std::size_t{64} << 20;
constexpr std::size_t kMaxStops = 4;  // more are refused by some services
constexpr std::chrono::seconds kPatience{60};
// An answer comes in one piece: nothing is heard until the model has written it.
constexpr std::chrono::minutes kAnswerTime{30};

Error refused(const std::string& what) {
  return {ErrorKind::kUsage,
          "eval: a service does not say how likely " + what + " is: such tasks need the model itself"};
}

constexpr const char* kFiltered = "content_filter";

std::string code_of(const net::Response& response) {
  const auto body = json::parse(response.body);
  const json::Value* error = body ? body->find("error") : nullptr;
  const json::Value* code = error == nullptr ? nullptr : error->find("code");
  return code != nullptr && code->is_string() ? code->as_string() : "";
}

std::string error_of(const net::Response& response) {
  const auto body = json::parse(response.body);
  const json::Value* error = body ? body->find("error") : nullptr;
  const json::Value* message = error == nullptr ? nullptr : error->find("message");
  return "status " + std::to_string(response.status) +
         (message != nullptr && message->is_string() ? ": " + message->as_string() : "");
}

const json::Value* first_of(const json::Value& body, const char* list) {
  const json::Value* items = body.find(list);
  return items != nullptr && items->is_array() && !items->as_array().empty() ? &items->as_array()[0] : nullptr;
}

}  // namespace

Result<std::unique_ptr<ServedSubject>> ServedSubject::open(ServedSubjectOptions options) {
  while (options.address.ends_with('/')) options.address.pop_back();
  if (options.address.ends_with("/v1")) options.address.resize(options.address.size() - 3);
  net::ClientOptions client;
  client.idle_timeout = kAnswerTime;
  QW_ASSIGN(auto http, net::HttpClient::create(client));
  std::unique_ptr<ServedSubject> out(new ServedSubject(std::move(options), std::move(http)));
  QW_ASSIGN(const json::Value models, out->call(out->request("GET", "/v1/models", "")));
  std::string& model = out->options_.model;
  const json::Value* data = models.find("data");
  std::vector<std::string> names;
  if (data != nullptr && data->is_array())
    for (const json::Value& entry : data->as_array())
      if (const json::Value* id = entry.find("id"); id != nullptr && id->is_string()) names.push_back(id->as_string());
  if (names.empty()) return fail(ErrorKind::kBadInput, out->options_.address + ": lists no models");
  if (model.empty()) model = names[0];
  if (std::find(names.begin(), names.end(), model) == names.end())
    return fail(ErrorKind::kBadInput, out->options_.address + ": has no model " + model);
  return out;
}

net::ClientRequest ServedSubject::request(const char* method, const std::string& path, std::string body) const {
  net::ClientRequest out;
  out.method = method;
  out.url = options_.address + path;
  out.headers = {{"Content-Type", "application/json"}};
  if (!options_.key.empty()) out.headers.emplace_back("Authorization", "Bearer " + options_.key);
  out.body = std::move(body);
  return out;
}

Result<json::Value> ServedSubject::call(const net::ClientRequest& request, bool* filtered) const {
  const auto begun = std::chrono::steady_clock::now();
  for (auto pause = std::chrono::milliseconds(250);; pause = std::min(pause * 2, std::chrono::milliseconds(8000))) {
    const auto response = client_.get(request, kMaxAnswerBytes, options_.interrupted);
    if (response && response->status == 200) {
      auto body = json::parse(response->body);
      if (!body) return in_context(request.url, body.error());
      return std::move(*body);
    }
    if (response && filtered != nullptr && response->status == 400 && code_of(*response) == kFiltered) {
      *filtered = true;
      return json::Value();
    }
    const bool later =
        response ? response->status == 429 || response->status == 503 : response.error().kind == ErrorKind::kFailed;
    if (!later || std::chrono::steady_clock::now() - begun > kPatience)
      return response ? fail(ErrorKind::kFailed, request.url + ": " + error_of(*response))
                      : tl::unexpected(response.error());
    std::this_thread::sleep_for(pause);
  }
}

Result<std::string> ServedSubject::answer(const eval::Question& q) const {
  json::Object body{{"model", options_.model}, {"max_tokens", q.max_tokens}};
  body.set("temperature", q.temperature > 0 ? json::Value(base::shortest(q.temperature)) : json::Value(0));
  if (q.temperature > 0) body.set("seed", static_cast<std::int64_t>(q.seed));
  if (!q.stop.empty())
    body.set("stop", json::Array(q.stop.begin(),
                                 q.stop.begin() + static_cast<std::ptrdiff_t>(std::min(kMaxStops, q.stop.size()))));
  const bool chat = !q.prompt.messages.empty();
  if (chat) {
    body.set("messages", q.prompt.messages);
    if (!options_.template_variables.empty()) body.set("chat_template_kwargs", options_.template_variables);
  } else {
    body.set("prompt", q.prompt.text);
  }
  const net::ClientRequest asked = request("POST", chat ? "/v1/chat/completions" : "/v1/completions", json::dump(body));
  bool filtered = false;
  QW_ASSIGN(const json::Value said, call(asked, options_.blocked.empty() ? nullptr : &filtered));
  if (filtered) return options_.blocked;
  const json::Value* choice = first_of(said, "choices");
  const json::Value* reason = choice == nullptr ? nullptr : choice->find("finish_reason");
  filtered = reason != nullptr && *reason == json::Value(kFiltered);
  if (choice != nullptr && chat) choice = choice->find("message");
  const json::Value* text = choice == nullptr ? nullptr : choice->find(chat ? "content" : "text");
  if (text == nullptr) return fail(ErrorKind::kBadInput, asked.url + ": an answer without text");
  std::string out = text->is_string() ? text->as_string() : "";  // null: nothing but thoughts
  if (filtered && !options_.blocked.empty()) return options_.blocked + out;
  for (const std::string& stop : q.stop) out.resize(std::min(out.size(), out.find(stop)));
  return out;
}

Result<json::Array> ServedSubject::tokens_of(const std::string& text) const {
  const net::ClientRequest asked =
      request("POST", "/tokenize", json::dump(json::Object{{"model", options_.model}, {"prompt", text}}));
  QW_ASSIGN(json::Value said, call(asked));
  json::Value* tokens = said.is_object() ? said.as_object().find("tokens") : nullptr;
  if (tokens == nullptr || !tokens->is_array()) return fail(ErrorKind::kBadInput, asked.url + ": tells no tokens");
  return std::move(tokens->as_array());
}

// The cut between context and continuation is that of a model of this machine (eval/engine_subject.cc).
Result<eval::Likelihood> ServedSubject::likelihood(const eval::Pair& pair) const {
  if (!pair.context.messages.empty()) return tl::unexpected(refused("what follows a conversation"));
  const std::string& text = pair.context.text;
  const std::string before(eval::context_proper(text));
  if (before.empty()) return tl::unexpected(refused("a text with nothing before it"));
  QW_ASSIGN(const json::Array context, tokens_of(before));
  QW_ASSIGN(json::Array whole, tokens_of(text + pair.continuation));
  if (whole.size() <= context.size())
    return fail(ErrorKind::kBadInput,
                "the continuation '" + pair.continuation + "' has no token of its own after its context");
  const std::size_t n = whole.size();
  const net::ClientRequest asked = request("POST", "/v1/completions",
                                           json::dump(json::Object{{"model", options_.model},
                                                                   {"prompt", std::move(whole)},
                                                                   {"max_tokens", 0},
                                                                   {"temperature", 0},
                                                                   {"echo", true},
                                                                   {"logprobs", 1}}));
  QW_ASSIGN(const json::Value said, call(asked));
  const json::Value* choice = first_of(said, "choices");
  const json::Value* told = choice == nullptr ? nullptr : choice->find("logprobs");
  const auto list = [&](const char* name) -> const json::Array* {
    const json::Value* of = told == nullptr ? nullptr : told->find(name);
    return of != nullptr && of->is_array() && of->as_array().size() >= n ? &of->as_array() : nullptr;
  };
  const json::Array *names = list("tokens"), *values = list("token_logprobs"), *tops = list("top_logprobs");
  eval::Likelihood out;
  for (std::size_t i = context.size(); names != nullptr && values != nullptr && tops != nullptr && i < n; ++i) {
    const json::Value &name = (*names)[i], &value = (*values)[i], &top = (*tops)[i];
    if (!name.is_string() || !value.is_number() || !top.is_object() || top.as_object().empty()) break;
    const auto best =
        std::max_element(top.as_object().begin(), top.as_object().end(), [](const auto& a, const auto& b) {
          return a.second.is_number() && b.second.is_number() && a.second.as_double() < b.second.as_double();
        });
    out.sum += value.as_double();
    out.greedy = out.greedy && best->first == name.as_string();
    ++out.tokens;
  }
  if (out.tokens != static_cast<std::int64_t>(n - context.size()))
    return fail(ErrorKind::kBadInput, asked.url + ": an answer without log-probabilities of the prompt");
  return out;
}

Result<std::vector<eval::Likelihood>> ServedSubject::likelihoods(std::span<const eval::Pair> pairs,
                                                                 const Progress& progress) {
  std::vector<eval::Likelihood> out(pairs.size());
  QW_TRY(each(pairs.size(), progress, [&](std::size_t i) -> Status {
    QW_ASSIGN(out[i], likelihood(pairs[i]));
    return {};
  }));
  return out;
}
Result<std::vector<eval::Likelihood>> ServedSubject::texts(std::span<const std::string>, const Progress&) {
  return tl::unexpected(refused("a whole text"));
}

Result<std::vector<std::string>> ServedSubject::answers(std::span<const eval::Question> questions,
                                                        const Progress& progress) {
  std::vector<std::string> out(questions.size());
  QW_TRY(each(questions.size(), progress, [&](std::size_t i) -> Status {
    QW_ASSIGN(out[i], answer(questions[i]));
    return {};
  }));
  return out;
}

Status ServedSubject::each(std::size_t count, const Progress& progress,
                           const std::function<Status(std::size_t i)>& one) const {
  std::mutex mutex;
  std::size_t next = 0, done = 0;
  std::optional<Error> error;
  const auto work = [&] {
    for (;;) {
      std::size_t mine;
      {
        const std::lock_guard lock(mutex);
        if (error || next == count) return;
        mine = next++;
      }
      const Status status = one(mine);
      const std::lock_guard lock(mutex);
      if (!status) {
        if (!error) error = status.error();
        return;
      }
      ++done;
      if (progress) progress(done, count);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < options_.calls; ++i) threads.emplace_back(work);
  for (std::thread& t : threads) t.join();
  return error ? Status(tl::unexpected(std::move(*error))) : Status();
}

Result<std::string> ServedSubject::shown(const eval::Prompt& prompt) {
  return prompt.messages.empty() ? prompt.text : json::dump(prompt.messages);
}

}  // namespace qw::app
