// Regular expressions as Python's `re` has them, as far as PCRE2 and it agree, over foreign text: steps and memory of a
// match are limited.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace qw::eval {

class Pattern {
 public:
  // kBadInput: what the expression lacks, and where.
  static Result<Pattern> compile(std::string_view source);

  // As re.findall, each match by its groups: the groups of the expression ("" for one that took no part), or the whole
  // match if it has none. kResource: the expression needs too many steps for this text.
  Result<std::vector<std::vector<std::string>>> find_all(std::string_view text) const;
  // As re.sub. `with` may name groups: \1 to \9.
  Result<std::string> replace_all(std::string_view text, std::string_view with) const;

 private:
  struct Impl;
  explicit Pattern(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

}  // namespace qw::eval
