#include "guard_model.h"

#include <algorithm>
#include <array>
#include <future>

#include "api/prompt.h"
#include "base/utf8.h"
#include "chat/guard_output.h"
#include "engine/scores.h"

namespace qw::app {
namespace {

using governance::TextClass;
using models::HeadKind;

constexpr const char* kSafe = "safe";
// Bytes of a piece, and from the beginning of one to that of the next: never more tokens than a small model reads.
constexpr std::size_t kPiece = 768, kStride = 576;
constexpr std::int64_t kCacheTokens = 8192;  // of all pieces that are read together
constexpr std::int64_t kVerdictTokens = 128;
// What Qwen3Guard calls the kinds of its verdicts; others cannot be listed before one occurs.
constexpr std::array kGuardKinds = {"Violent",
                                    "Non-violent Illegal Acts",
                                    "Sexual Content or Sexual Acts",
                                    "PII",
                                    "Suicide & Self-Harm",
                                    "Unethical Acts",
                                    "Politically Sensitive Topics",
                                    "Copyright Violation",
                                    "Jailbreak"};
constexpr double kControversial = 0.5;  // of 1: a finding where the policy is strict

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

std::vector<std::string> pieces_of(std::string_view text) {
  std::vector<std::string> out;
  for (std::size_t at = 0;; at += kStride) {
    std::size_t begin = std::min(at, text.size());
    while (begin > 0 && begin < text.size() && continues(text[begin])) --begin;
    std::size_t end = std::min(begin + kPiece, text.size());
    while (end < text.size() && continues(text[end])) --end;
    base::append_valid_utf8(out.emplace_back(), text.substr(begin, end - begin), true);
    if (end == text.size()) return out;
  }
}

void raise(std::vector<TextClass>& all, const std::vector<TextClass>& more) {
  for (const TextClass& one : more) {
    const auto at = std::find_if(all.begin(), all.end(), [&](const TextClass& known) { return known.name == one.name; });
    if (at == all.end())
      all.push_back(one);
    else
      at->score = std::max(at->score, one.score);
  }
}

std::vector<TextClass> scores_of_verdict(const chat::GuardVerdict& verdict) {
  std::vector<TextClass> out;
  for (const char* kind : kGuardKinds) out.push_back({kind, 0});
  if (verdict.safety == chat::Safety::kSafe) return out;
  const double score = verdict.safety == chat::Safety::kUnsafe ? 1 : kControversial;
  std::vector<TextClass> said;
  for (const std::string& category : verdict.categories) said.push_back({category, score});
  if (said.empty()) said.push_back({std::string(chat::safety_name(verdict.safety)), score});
  raise(out, said);
  return out;
}

class Both final : public api::Moderator {
 public:
  Both(api::Moderator& words, api::Moderator& model)
      : words_(words), model_(model), name_(words.name() + "+" + model.name()) {}
  const std::string& name() const override { return name_; }
  void judge(std::vector<std::string> texts, Then then) override {
    words_.judge(texts, [this, texts, then](Result<std::vector<Judgement>> first) mutable {
      if (!first) return then(std::move(first));
      model_.judge(std::move(texts), [first = std::move(*first), then](Result<std::vector<Judgement>> second) mutable {
        if (!second) return then(std::move(second));
        for (std::size_t i = 0; i < first.size(); ++i)
          for (api::ModerationCategory& one : (*second)[i]) merge(first[i], one);
        then(std::move(first));
      });
    });
  }

 private:
  static void merge(Judgement& all, api::ModerationCategory& one) {
    for (api::ModerationCategory& known : all) {
      if (known.name != one.name) continue;
      known.flagged = known.flagged || one.flagged;
      known.score = std::max(known.score, one.score);
      return;
    }
    all.push_back(std::move(one));
  }
  api::Moderator &words_, &model_;
  const std::string name_;
};

}  // namespace

Result<std::unique_ptr<GuardModel>> GuardModel::load(const std::string& model, int threads) {
  engine::LoadOptions options;
  options.threads = threads;
  options.cache_tokens = kCacheTokens;
  QW_ASSIGN(ReadyModel ready, load_model(model, options));
  const models::HeadTraits& head = ready.loaded->model().traits().head;
  const bool classes = head.kind == HeadKind::kClasses &&
                       std::find(head.labels.begin(), head.labels.end(), kSafe) != head.labels.end();
  if (!classes && head.kind != HeadKind::kLanguage && head.kind != HeadKind::kGuard)
    return fail(ErrorKind::kBadInput, model + ": no guard model: it writes no verdicts and has no class \"safe\"");
  if (!ready.chat_template) return fail(ErrorKind::kBadInput, model + ": has no chat template");
  ready.loaded->engine().start();
  return std::unique_ptr<GuardModel>(new GuardModel(served_name(model), std::move(ready)));
}

Result<std::vector<engine::TokenId>> GuardModel::prompt_of(std::string_view piece, bool answer_follows) const {
  const json::Array messages{json::Object{{"role", "user"}, {"content", std::string(piece)}}};
  const chat::Conversation conversation{messages, {}, answer_follows, {{"enable_thinking", false}}};
  QW_ASSIGN(auto prompt, api::chat_prompt(*model_.chat_template, conversation, *model_.tokenizer));
  return std::move(prompt.ids);  // the engine refuses what is longer than the model reads
}

GuardModel::Scores GuardModel::scores_of(std::span<const float> row) const {
  const models::HeadTraits& head = model_.loaded->model().traits().head;
  Scores out;
  if (head.kind == HeadKind::kClasses) {
    const auto p = engine::softmax(row);
    for (std::size_t i = 0; i < p.size() && i < head.labels.size(); ++i)
      if (head.labels[i] != kSafe) out.push_back({head.labels[i], p[i]});
    return out;
  }
  // Levels and kinds of queries stand behind those of answers.
  row = row.subspan(head.response_levels.size() + head.response_categories.size());
  const auto levels = engine::softmax(row.first(head.query_levels.size()));
  const auto kinds = engine::softmax(row.subspan(head.query_levels.size()));
  double unsafe = 0;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    if (head.query_levels[i] == "Unsafe") unsafe += levels[i];
    if (head.query_levels[i] == "Controversial") unsafe += kControversial * levels[i];
  }
  const auto likeliest = static_cast<std::size_t>(std::max_element(kinds.begin(), kinds.end()) - kinds.begin());
  for (std::size_t i = 0; i < kinds.size() && i < head.query_categories.size(); ++i)
    out.push_back({head.query_categories[i], i == likeliest ? unsafe : 0});
  return out;
}

Result<GuardModel::Scores> GuardModel::by_row(const std::vector<std::string>& pieces) const {
  std::vector<engine::Request> requests;
  for (const std::string& piece : pieces) {
    engine::Request& request = requests.emplace_back();
    QW_ASSIGN(request.prompt, prompt_of(piece, false));
    request.wanted = engine::Wanted::kLastRow;
  }
  QW_ASSIGN(const auto read, engine::read(model_.loaded->engine(), std::move(requests)));
  Scores out;
  for (const engine::Reading& one : read) {
    if (one.count == 0) return fail(ErrorKind::kFailed, name_ + ": was stopped");
    raise(out, scores_of(one.row(0)));
  }
  return out;
}

Result<GuardModel::Scores> GuardModel::by_verdict(const std::vector<std::string>& pieces) const {
  Scores out;
  for (const std::string& piece : pieces) {
    engine::Request request;
    QW_ASSIGN(request.prompt, prompt_of(piece, true));
    request.params.temperature = 0;
    request.params.stop_ids = model_.defaults.stop_ids;
    request.max_tokens = kVerdictTokens;
    QW_ASSIGN(const auto done, engine::generate(model_.loaded->engine(), std::move(request)));
    const auto verdict = chat::parse_guard_output(model_.tokenizer->decode(done.tokens, true));
    if (!verdict) return fail(ErrorKind::kFailed, name_ + ": " + verdict.error().message);
    raise(out, scores_of_verdict(*verdict));
  }
  return out;
}

Result<std::vector<TextClass>> GuardModel::classify(std::string_view text) const {
  const auto pieces = pieces_of(text);
  // On a thread of its own: threads that serve wake engines once they have handed in all that they have, so one that
  // waited for an engine here would wait for ever.
  const auto ask = [&]() -> Result<Scores> {
    if (model_.loaded->model().traits().head.kind == HeadKind::kLanguage) return by_verdict(pieces);
    return by_row(pieces);
  };
  return std::async(std::launch::async, ask).get();
}

void GuardModel::judge(std::vector<std::string> texts, Then then) {
  std::vector<Judgement> out;
  for (const std::string& text : texts) {
    const auto classes = classify(text);
    if (!classes) return then(tl::unexpected(classes.error()));
    Judgement& judgement = out.emplace_back();
    for (const TextClass& one : *classes) judgement.push_back({one.name, one.score >= 0.5, one.score});
  }
  then(std::move(out));
}

std::unique_ptr<api::Moderator> both(api::Moderator& words, api::Moderator& model) {
  return std::make_unique<Both>(words, model);
}

}  // namespace qw::app
