#include "api/file_lines.h"

#include <algorithm>
#include <utility>

namespace qw::api {

Result<std::optional<std::string>> FileLines::next() {
  for (;;) {
    const auto end = pending_.find('\n', at_);
    if (end != std::string::npos || (ended_ && at_ < pending_.size())) {
      const auto stop = std::min(end, pending_.size());
      std::string line = pending_.substr(at_, stop - at_);
      at_ = std::min(stop + 1, pending_.size());
      ++number_;
      if (line.find_first_not_of(" \t\r") != std::string::npos) return std::optional<std::string>(std::move(line));
      continue;
    }
    if (ended_) return std::optional<std::string>();
    if (pending_.size() - at_ > kMostLineBytes)
      return fail(ErrorKind::kBadInput, "line " + std::to_string(number_ + 1) + " is longer than " +
                                            std::to_string(kMostLineBytes) + " bytes");
    pending_.erase(0, std::exchange(at_, 0));
    QW_ASSIGN(const std::string piece, files_.read(id_, offset_));
    ended_ = piece.empty();
    offset_ += static_cast<std::int64_t>(piece.size());
    pending_ += piece;
  }
}

}  // namespace qw::api
