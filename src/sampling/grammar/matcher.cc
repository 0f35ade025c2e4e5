#include "sampling/grammar/matcher.h"

#include <utility>

namespace qw::sampling::grammar {

Matcher::Matcher(std::shared_ptr<const TokenClasses> classes)
    : classes_(std::move(classes)), runner_(classes_->grammar()) {
  past_.emplace_back();
  runner_.enter(classes_->grammar().start(), Stacks::kBottom, past_.back());
}

bool Matcher::accept(std::string_view bytes) {
  Configurations now = past_.back();
  for (const char c : bytes) {
    runner_.step(now, static_cast<std::uint8_t>(c), scratch_);
    if (runner_.overflow() || scratch_.dead()) return false;
    std::swap(now, scratch_);
  }
  past_.push_back(std::move(now));
  return true;
}

void Matcher::roll_back(std::size_t steps) {
  QW_CHECK(steps <= this->steps());
  past_.resize(past_.size() - steps);
}

}  // namespace qw::sampling::grammar
