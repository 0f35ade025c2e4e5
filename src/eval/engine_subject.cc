#include "eval/engine_subject.h"

#include <algorithm>
#include <cmath>
#include <deque>

#include "chat/prompt.h"
#include "eval/internal/words.h"
#include "sampling/text_stream.h"
#include "tokenizer/prompt.h"

namespace qw::eval {

struct Target {
  std::int64_t position = 0;  // the row that tells how likely `id` is after it
  tokenizer::TokenId id = 0;
  std::size_t result = 0;
};

namespace {

using tokenizer::TokenId;

// Requests handed to the engine at once: enough to fill its steps.
constexpr std::size_t kWindow = 64;
// Choices of one question stand together; one with the same tokens but the last is among the jobs before.
constexpr std::size_t kLookBack = 16;

double log_sum_exp(std::span<const float> logits) {
  const float most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - most);
  return most + std::log(sum);
}

// Keeps up to kWindow requests in the engine: `next` gives one, or nothing; `done` takes those that ended, in their
// order.
template <class Sink>
Status run_window(engine::Engine& engine, std::size_t count, const std::atomic<bool>* interrupted,
                  const std::function<std::pair<engine::Request, std::shared_ptr<Sink>>(std::size_t)>& make,
                  const std::function<void(std::size_t, Sink&)>& done) {
  std::deque<std::pair<engine::RequestId, std::shared_ptr<Sink>>> open;
  std::size_t next = 0, ended = 0;
  std::optional<Error> error;
  while (ended < count) {
    while (!error && next < count && open.size() < kWindow) {
      auto [request, sink] = make(next++);
      request.sink = sink;
      auto id = engine.submit(std::move(request));
      if (!id) {
        error = id.error();
        break;
      }
      open.emplace_back(*id, std::move(sink));
    }
    if (!error && interrupted != nullptr && interrupted->load()) error = Error{ErrorKind::kInterrupted, "interrupted"};
    if (error) {
      for (const auto& [id, sink] : open) engine.cancel(id);
      while (std::any_of(open.begin(), open.end(), [](const auto& o) { return !o.second->finished; })) engine.step();
      return tl::unexpected(*error);
    }
    if (!open.front().second->finished) {
      engine.step();
      continue;
    }
    Sink& sink = *open.front().second;
    if (sink.finished->error) error = *sink.finished->error;
    if (!error) done(ended, sink);
    open.pop_front();
    ++ended;
  }
  return error ? Status(tl::unexpected(*error)) : Status();
}

// Reads of the rows what the targets ask.
class Reader final : public engine::Sink {
 public:
  Reader(std::span<const Target> targets, std::span<Likelihood> results) : targets_(targets), results_(results) {}
  engine::Verdict on_token(const engine::TokenEvent&) noexcept override { return engine::Verdict::kContinue; }
  void on_row(const engine::RowEvent& e) noexcept override {
    if (next_ == targets_.size() || targets_[next_].position != e.position) return;
    const double all = log_sum_exp(e.row);
    const auto top = static_cast<TokenId>(std::max_element(e.row.begin(), e.row.end()) - e.row.begin());
    for (; next_ < targets_.size() && targets_[next_].position == e.position; ++next_) {
      const Target& t = targets_[next_];
      Likelihood& r = results_[t.result];
      r.sum += e.row[static_cast<std::size_t>(t.id)] - all;
      r.greedy = r.greedy && t.id == top;
      ++r.tokens;
    }
  }
  void on_finished(const engine::Finished& f) noexcept override { finished = f; }
  std::optional<engine::Finished> finished;

 private:
  std::span<const Target> targets_;  // by position
  std::span<Likelihood> results_;
  std::size_t next_ = 0;
};

class Writer final : public engine::Sink {
 public:
  Writer(const tokenizer::Tokenizer& tokenizer, const sampling::SamplingParams& params) : stream_(tokenizer, params) {}
  engine::Verdict on_token(const engine::TokenEvent& e) noexcept override {
    if (!e.stop) text += stream_.push(e.id);
    return stream_.stopped() ? engine::Verdict::kStop : engine::Verdict::kContinue;
  }
  void on_finished(const engine::Finished& f) noexcept override {
    text += stream_.finish();
    finished = f;
  }
  std::string text;
  std::optional<engine::Finished> finished;

 private:
  sampling::TextStream stream_;
};

}  // namespace

std::string_view context_proper(std::string_view context) { return strip_end(context); }

struct EngineSubject::Job {
  std::vector<TokenId> input;
  std::vector<Target> targets;
};

Result<std::vector<EngineSubject::Part>> EngineSubject::parts_of(const Prompt& prompt) const {
  if (prompt.messages.empty()) return std::vector<Part>{{prompt.text, true}};
  if (options_.chat_template == nullptr) return fail(ErrorKind::kUsage, "the model has no chat template");
  json::Object variables = options_.template_variables;
  variables.set("messages", prompt.messages);
  variables.set("add_generation_prompt", true);
  const tokenizer::TokenizerSpec& spec = tokenizer_.spec();
  const auto name = [&](const char* variable, std::optional<TokenId> id) {
    if (id) variables.set(variable, std::string(tokenizer_.token_bytes(*id)));
  };
  name("bos_token", spec.bos);
  name("eos_token", spec.eos);
  name("pad_token", spec.pad);
  auto pieces = chat::render_prompt(*options_.chat_template, variables, tokenizer::control_tokens(tokenizer_));
  if (!pieces) return in_context("the chat template refused", std::move(pieces).error());
  std::vector<Part> parts;
  for (chat::PromptPiece& piece : *pieces) parts.push_back({std::move(piece.text), piece.plain});
  return parts;
}

std::vector<TokenId> EngineSubject::encode(const std::vector<Part>& parts) const {
  std::vector<tokenizer::PromptPart> views;
  for (const Part& part : parts) views.push_back({part.text, part.plain});
  return tokenizer::encode_prompt(tokenizer_, views);
}

Result<TokenId> EngineSubject::prefix() const {
  const tokenizer::TokenizerSpec& spec = tokenizer_.spec();
  if (spec.bos) return *spec.bos;
  if (spec.eos) return *spec.eos;
  return fail(
      ErrorKind::kBadInput,
      "the tokenizer names no token that begins or ends a text, which a text with nothing before it is read after");
}

// As lm-evaluation-harness cuts them: white space at the end of the context belongs to the continuation; both are
// encoded together, and what the context alone has of tokens is the context.
Result<EngineSubject::Split> EngineSubject::split(const Pair& pair) const {
  QW_ASSIGN(auto parts, parts_of(pair.context));
  std::string& last = parts.back().text;
  const std::size_t kept = context_proper(last).size();
  const std::string continuation = last.substr(kept) + pair.continuation;
  last.resize(kept);
  if (parts.size() == 1 && last.empty()) {
    QW_ASSIGN(const TokenId first, prefix());
    Split out{{first}, 1};
    const auto ids = tokenizer_.encode(continuation, false);
    out.ids.insert(out.ids.end(), ids.begin(), ids.end());
    return out;
  }
  Split out;
  out.context = encode(parts).size();
  if (parts.back().plain) {
    last += continuation;
  } else {
    parts.push_back({continuation, true});
  }
  out.ids = encode(parts);
  return out;
}

Status EngineSubject::run(std::vector<Job>& jobs, std::span<Likelihood> results, const Progress& progress) {
  for (Job& job : jobs)
    std::stable_sort(job.targets.begin(), job.targets.end(),
                     [](const Target& a, const Target& b) { return a.position < b.position; });
  return run_window<Reader>(
      engine_, jobs.size(), options_.interrupted,
      [&](std::size_t i) {
        engine::Request request;
        request.prompt = jobs[i].input;
        request.wanted = engine::Wanted::kEveryRow;
        request.first_row = jobs[i].targets.front().position;
        request.adapter = options_.adapter;
        return std::pair(std::move(request), std::make_shared<Reader>(jobs[i].targets, results));
      },
      [&](std::size_t i, Reader&) {
        if (progress) progress(i + 1, jobs.size());
      });
}

Result<std::vector<Likelihood>> EngineSubject::likelihoods(std::span<const Pair> pairs, const Progress& progress) {
  std::vector<Likelihood> results(pairs.size());
  std::vector<Job> jobs;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    QW_ASSIGN(Split s, split(pairs[i]));
    if (s.ids.size() <= s.context)
      return fail(ErrorKind::kBadInput,
                  "the continuation '" + pairs[i].continuation + "' has no token of its own after its context");
    const std::size_t wanted = s.ids.size() - s.context, most = static_cast<std::size_t>(options_.context) + 1;
    if (wanted >= most)
      return fail(ErrorKind::kResource, "a continuation has " + std::to_string(wanted) +
                                            " tokens, and the context is " + std::to_string(most - 1));
    if (s.ids.size() > most) {
      ++shortened_;
      s.ids.erase(s.ids.begin(), s.ids.end() - static_cast<std::ptrdiff_t>(most));
    }
    std::vector<TokenId> targets(s.ids.end() - static_cast<std::ptrdiff_t>(wanted), s.ids.end());
    s.ids.pop_back();
    const std::size_t from = jobs.size() > kLookBack ? jobs.size() - kLookBack : 0;
    const auto same = std::find_if(jobs.begin() + static_cast<std::ptrdiff_t>(from), jobs.end(),
                                   [&](const Job& j) { return j.input == s.ids; });
    Job& job = same != jobs.end() ? *same : jobs.emplace_back(Job{std::move(s.ids), {}});
    const auto first = static_cast<std::int64_t>(job.input.size() - wanted);
    for (std::size_t k = 0; k < wanted; ++k)
      job.targets.push_back({first + static_cast<std::int64_t>(k), targets[k], i});
  }
  QW_TRY(run(jobs, results, progress));
  return results;
}

// The first window holds as many tokens as fit behind the one that begins a text; each of the next as many new ones as
// fit, the last one with more of the text before it.
Result<std::vector<Likelihood>> EngineSubject::texts(std::span<const std::string> texts, const Progress& progress) {
  std::vector<Likelihood> results(texts.size());
  QW_ASSIGN(const TokenId first, prefix());
  const auto longest = static_cast<std::size_t>(options_.context);
  std::vector<Job> jobs;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    std::vector<TokenId> ids{first};
    const auto body = tokenizer_.encode(texts[i], false);
    ids.insert(ids.end(), body.begin(), body.end());
    for (std::size_t done = 1; done < ids.size();) {
      const std::size_t end = std::min(ids.size(), done == 1 ? longest + 1 : done + longest);
      const std::size_t begin = end > longest + 1 ? end - longest - 1 : 0;
      Job job{{ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.begin() + static_cast<std::ptrdiff_t>(end) - 1},
              {}};
      for (std::size_t t = done; t < end; ++t)
        job.targets.push_back({static_cast<std::int64_t>(t - 1 - begin), ids[t], i});
      jobs.push_back(std::move(job));
      done = end;
    }
  }
  QW_TRY(run(jobs, results, progress));
  return results;
}

Result<std::vector<std::string>> EngineSubject::answers(std::span<const Question> questions, const Progress& progress) {
  std::vector<engine::Request> requests;
  for (const Question& q : questions) {
    QW_ASSIGN(const auto parts, parts_of(q.prompt));
    engine::Request r;
    r.prompt = encode(parts);
    if (r.prompt.empty()) {
      QW_ASSIGN(const TokenId first, prefix());
      r.prompt.push_back(first);
    }
    const std::int64_t room = options_.context - q.max_tokens;
    if (room < 1)
      return fail(ErrorKind::kUsage, "answers of " + std::to_string(q.max_tokens) +
                                         " tokens leave no room for a question: the context is " +
                                         std::to_string(options_.context));
    if (static_cast<std::int64_t>(r.prompt.size()) > room) {
      ++shortened_;
      r.prompt.erase(r.prompt.begin(), r.prompt.end() - room);
    }
    r.params.temperature = q.temperature;
    r.params.seed = q.seed;
    r.params.stop_ids = options_.stop_ids;
    r.params.stop = q.stop;
    r.max_tokens = q.max_tokens;
    r.adapter = options_.adapter;
    requests.push_back(std::move(r));
  }
  std::vector<std::string> out(questions.size());
  QW_TRY(run_window<Writer>(
      engine_, requests.size(), options_.interrupted,
      [&](std::size_t i) {
        auto sink = std::make_shared<Writer>(tokenizer_, requests[i].params);
        return std::pair(std::move(requests[i]), std::move(sink));
      },
      [&](std::size_t i, Writer& writer) {
        out[i] = std::move(writer.text);
        if (progress) progress(i + 1, questions.size());
      }));
  return out;
}

Result<std::string> EngineSubject::shown(const Prompt& prompt) {
  QW_ASSIGN(const auto parts, parts_of(prompt));
  std::string out;
  for (const Part& part : parts) out += part.text;
  return out;
}

}  // namespace qw::eval
