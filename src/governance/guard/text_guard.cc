#include "governance/guard/text_guard.h"

#include <algorithm>

namespace qw::governance {
namespace {

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

}  // namespace

TextGuard::TextGuard(const GuardRules& rules) : rules_(rules), finder_(rules.pii) {
  if (rules_.keywords != nullptr) scanner_.emplace_back(*rules_.keywords);
}

std::string TextGuard::push(std::string_view piece, std::vector<GuardFinding>& findings) {
  held_ += piece;
  covered_.resize(held_.size());
  std::uint64_t settled = begin_ + held_.size();
  for (KeywordScanner& scanner : scanner_) {
    scanner.push(piece, words_);
    settled = std::min(settled, scanner.settled());
  }
  finder_.push(piece, data_);
  note(findings);
  return let_go(std::min(settled, finder_.settled()));
}

std::string TextGuard::finish(std::vector<GuardFinding>& findings) {
  for (KeywordScanner& scanner : scanner_) scanner.finish(words_);
  finder_.finish(data_);
  note(findings);
  return let_go(begin_ + held_.size());
}

// Everything found begins in what is held.
void TextGuard::note(std::vector<GuardFinding>& findings) {
  const std::size_t first = findings.size();
  const auto add = [&](std::uint64_t begin, std::uint64_t end, std::string kind, std::uint32_t line) {
    findings.push_back({begin, end, std::move(kind), held_.substr(begin - begin_, end - begin), line});
  };
  for (const KeywordHit& hit : words_) {
    add(hit.begin, hit.end, "keyword/" + rules_.keywords->categories()[hit.category],
        rules_.keywords->line_of(hit.keyword));
    if (rules_.on_keyword == GuardAction::kCover)
      std::fill(covered_.begin() + static_cast<std::ptrdiff_t>(hit.begin - begin_),
                covered_.begin() + static_cast<std::ptrdiff_t>(hit.end - begin_), true);
  }
  for (const PiiHit& hit : data_) {
    add(hit.begin, hit.end, std::string("pii/") + name_of(hit.kind), 0);
    if (rules_.on_pii != GuardAction::kCover) continue;
    const std::string& text = findings.back().text;
    const std::string shown = masked(text, {{0, text.size(), hit.kind}});
    for (std::size_t i = 0; i < text.size(); ++i)
      if (shown[i] != text[i]) covered_[hit.begin - begin_ + i] = true;
  }
  words_.clear();
  data_.clear();
  std::sort(findings.begin() + static_cast<std::ptrdiff_t>(first), findings.end(),
            [](const GuardFinding& a, const GuardFinding& b) { return a.begin < b.begin; });
}

std::string TextGuard::let_go(std::uint64_t until) {
  std::string out;
  const std::size_t size = until - begin_;
  for (std::size_t i = 0; i < size; ++i) {
    if (!covered_[i])
      out += held_[i];
    else if (!continues(held_[i]))
      out += '*';
  }
  held_.erase(0, size);
  covered_.erase(covered_.begin(), covered_.begin() + static_cast<std::ptrdiff_t>(size));
  begin_ = until;
  return out;
}

}  // namespace qw::governance
