// Texts are judged by lists of words that the operator gives (governance/keywords/keyword_list.h).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "api/moderator.h"
#include "governance/keywords/keyword_list.h"

namespace qw::api {

class KeywordModerator final : public Moderator {
 public:
  // Errors as KeywordList::parse has them.
  static Result<std::unique_ptr<KeywordModerator>> parse(std::string_view file);
  const std::string& name() const override;
  void judge(std::vector<std::string> texts, Then then) override;
  // What judge says of one text. Bytes that are no UTF-8 count as U+FFFD.
  Judgement judge(std::string_view text) const;

 private:
  explicit KeywordModerator(governance::KeywordList list) : list_(std::move(list)) {}
  governance::KeywordList list_;
};

}  // namespace qw::api
