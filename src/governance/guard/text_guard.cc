#include "governance/guard/text_guard.h"

#include <algorithm>
#include <tuple>

#include "base/utf8.h"

namespace qw::governance {
namespace {

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

}  // namespace

const char* name_of(GuardAction action) {
  if (action == GuardAction::kBlock) return "block";
  return action == GuardAction::kCover ? "mask" : "flag";
}

bool GuardRules::changes() const {
  if (classes.model != nullptr && classes.action != GuardAction::kFlag) return true;
  for (const GuardedWords& one : words)
    for (std::uint32_t c = KeywordList::kExcept + 1; c < one.list->categories().size(); ++c)
      if (one.of(c) != GuardAction::kFlag) return true;
  for (const GuardedPatterns& one : patterns)
    for (const GuardAction action : one.by_category)
      if (action != GuardAction::kFlag) return true;
  for (std::size_t i = 0; i < kPiiKinds; ++i)
    if (pii.has(static_cast<PiiKind>(i)) && on_pii[i] != GuardAction::kFlag) return true;
  return false;
}

TextGuard::TextGuard(const GuardRules& rules, std::string_view before) : rules_(&rules), finder_(rules.pii, before) {
  for (const GuardedWords& one : rules.words) scanners_.emplace_back(*one.list);
  for (const GuardedPatterns& one : rules.patterns) patterns_.emplace_back(*one.list);
}

std::string TextGuard::push(std::string_view piece, std::vector<GuardFinding>& findings) {
  if (rules_->classes.model == nullptr) return look_at(piece, findings);
  std::string out;
  while (!piece.empty() && !blocked_) {
    const auto part = piece.substr(0, GuardedClasses::kEvery - came_ % GuardedClasses::kEvery);
    piece.remove_prefix(part.size());
    out += look_at(part, findings);
    came_ += part.size();
    recent_ += part;
    if (recent_.size() > GuardedClasses::kLooksAt) recent_.erase(0, recent_.size() - GuardedClasses::kLooksAt);
    if (!blocked_ && came_ % GuardedClasses::kEvery == 0) ask_model(findings);
  }
  return out;
}

// Keywords, patterns and personal data.
std::string TextGuard::look_at(std::string_view piece, std::vector<GuardFinding>& findings) {
  if (blocked_) return {};
  held_ += piece;
  std::uint64_t settled = begin_ + held_.size();
  std::vector<KeywordHit> words;
  std::vector<PiiHit> data;
  for (std::size_t i = 0; i < scanners_.size(); ++i) {
    scanners_[i].push(piece, words);
    note_words(i, words);
    settled = std::min(settled, scanners_[i].settled());
  }
  std::vector<PatternHit> patterns;
  for (std::size_t i = 0; i < patterns_.size(); ++i) {
    patterns_[i].push(piece, patterns);
    note_patterns(i, patterns);
    settled = std::min(settled, patterns_[i].settled());
  }
  finder_.push(piece, data);
  note_data(data);
  return settle(std::min(settled, finder_.settled()), findings);
}

std::string TextGuard::finish(std::vector<GuardFinding>& findings) {
  if (blocked_) return {};
  ask_model(findings);
  if (blocked_) return {};
  std::vector<KeywordHit> words;
  std::vector<PiiHit> data;
  for (std::size_t i = 0; i < scanners_.size(); ++i) {
    scanners_[i].finish(words);
    note_words(i, words);
  }
  std::vector<PatternHit> patterns;
  for (std::size_t i = 0; i < patterns_.size(); ++i) {
    patterns_[i].finish(patterns);
    note_patterns(i, patterns);
  }
  finder_.finish(data);
  note_data(data);
  return settle(begin_ + held_.size() + 1, findings);
}

// What is asked, and when, depends on the text alone and not on how it is cut.
void TextGuard::ask_model(std::vector<GuardFinding>& findings) {
  const GuardedClasses& rule = rules_->classes;
  if (rule.model == nullptr || asked_at_ == came_) return;
  asked_at_ = came_;
  std::size_t begin = 0;
  while (begin < recent_.size() && continues(recent_[begin])) ++begin;
  std::string text;
  base::append_valid_utf8(text, std::string_view(recent_).substr(begin), false);
  auto classes = rule.model->classify(text);
  if (!classes) classes = std::vector<TextClass>{{"failed", 1}};  // what nobody judged is not harmless
  for (const TextClass& one : *classes) {
    if (one.score < rule.threshold || std::find(told_.begin(), told_.end(), one.name) != told_.end()) continue;
    told_.push_back(one.name);
    findings.push_back({came_ - recent_.size(), came_, "model/" + one.name, rule.action, text, 0});
    blocked_ = blocked_ || rule.action == GuardAction::kBlock;
  }
}

// Everything found begins in what is held.
void TextGuard::note(std::uint64_t begin, std::uint64_t end, std::string kind, GuardAction action, std::uint32_t line) {
  pending_.push_back({begin, end, std::move(kind), action, held_.substr(begin - begin_, end - begin), line});
}

void TextGuard::note_words(std::size_t list, std::vector<KeywordHit>& hits) {
  const GuardedWords& rule = rules_->words[list];
  for (const KeywordHit& hit : hits) {
    note(hit.begin, hit.end, rule.stage + rule.list->categories()[hit.category], rule.of(hit.category),
         rule.list->line_of(hit.keyword));
    if (rule.of(hit.category) == GuardAction::kCover) cover(hit.begin, hit.end);
  }
  hits.clear();
}

void TextGuard::note_patterns(std::size_t list, std::vector<PatternHit>& hits) {
  const GuardedPatterns& rule = rules_->patterns[list];
  for (const PatternHit& hit : hits) {
    const std::uint32_t category = rule.list->category_of(hit.pattern);
    note(hit.begin, hit.end, "pattern/" + rule.list->categories()[category], rule.by_category[category],
         rule.list->line_of(hit.pattern));
    if (rule.by_category[category] == GuardAction::kCover) cover(hit.begin, hit.end);
  }
  hits.clear();
}

void TextGuard::cover(std::uint64_t begin, std::uint64_t end) {
  covered_.resize(held_.size());
  std::fill(covered_.begin() + static_cast<std::ptrdiff_t>(begin - begin_),
            covered_.begin() + static_cast<std::ptrdiff_t>(end - begin_), true);
}

void TextGuard::note_data(std::vector<PiiHit>& hits) {
  for (const PiiHit& hit : hits) {
    const GuardAction action = rules_->on_pii[static_cast<std::size_t>(hit.kind)];
    note(hit.begin, hit.end, std::string("pii/") + name_of(hit.kind), action, 0);
    if (action != GuardAction::kCover) continue;
    const std::string& text = pending_.back().text;
    const std::string shown = masked(text, {{0, text.size(), hit.kind}});
    covered_.resize(held_.size());
    for (std::size_t i = 0; i < text.size(); ++i)
      if (shown[i] != text[i]) covered_[hit.begin - begin_ + i] = true;
  }
  hits.clear();
}

// Nothing that begins before `until` is found later: what begins there is told, and the first that is to be blocked
// ends the text.
std::string TextGuard::settle(std::uint64_t until, std::vector<GuardFinding>& findings) {
  if (pending_.empty()) return let_go(std::min(until, begin_ + held_.size()));
  const auto place = [](const GuardFinding& f) { return std::tie(f.begin, f.end, f.kind, f.line); };
  std::sort(pending_.begin(), pending_.end(),
            [&](const GuardFinding& a, const GuardFinding& b) { return place(a) < place(b); });
  auto told = pending_.begin();
  std::uint64_t end = until;
  for (; told != pending_.end() && told->begin < until && told->begin <= end; ++told) {
    if (told->action == GuardAction::kBlock && !blocked_) {
      blocked_ = true;
      end = told->begin;
    }
  }
  findings.insert(findings.end(), std::make_move_iterator(pending_.begin()), std::make_move_iterator(told));
  pending_.erase(pending_.begin(), told);
  return let_go(std::min(end, begin_ + held_.size()));
}

std::string TextGuard::let_go(std::uint64_t until) {
  const std::size_t size = until - begin_;
  begin_ = until;
  if (covered_.empty()) {
    std::string out = held_.substr(0, size);
    held_.erase(0, size);
    return out;
  }
  std::string out;
  covered_.resize(held_.size());
  for (std::size_t i = 0; i < size; ++i) {
    if (!covered_[i])
      out += held_[i];
    else if (!continues(held_[i]))
      out += '*';
  }
  held_.erase(0, size);
  covered_.erase(covered_.begin(), covered_.begin() + static_cast<std::ptrdiff_t>(size));
  return out;
}

Guarded guard_text(const GuardRules& rules, std::string_view text, std::vector<GuardFinding>& findings,
                   std::string_view before) {
  TextGuard guard(rules, before);
  Guarded out{guard.push(text, findings)};
  out.text += guard.finish(findings);
  out.blocked = guard.blocked();
  return out;
}

}  // namespace qw::governance
