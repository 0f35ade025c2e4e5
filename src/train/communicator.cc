#include "train/communicator.h"

#include <algorithm>
#include <vector>

namespace qw::train {

Status broadcast(Communicator& ranks, std::string& text) {
  if (ranks.size() == 1) return {};
  std::uint64_t length = text.size();
  QW_TRY(ranks.broadcast(std::as_writable_bytes(std::span(&length, 1))));
  text.resize(length);
  return ranks.broadcast(std::as_writable_bytes(std::span(text.data(), text.size())));
}

Status check_same(Communicator& ranks, const char* what, const std::string& text) {
  if (ranks.size() == 1) return {};
  std::string first = text;
  QW_TRY(broadcast(ranks, first));
  std::vector<double> differs(static_cast<std::size_t>(ranks.size()));
  differs[static_cast<std::size_t>(ranks.rank())] = text != first ? 1 : 0;
  QW_TRY(ranks.add_up(differs));
  const auto other = std::find(differs.begin(), differs.end(), 1.0);
  if (other == differs.end()) return {};
  return fail(ErrorKind::kUsage, std::string("rank ") + std::to_string(other - differs.begin()) + " has another " +
                                     what + " than rank 0" +
                                     (text != first ? ": " + text + " in place of " + first : ""));
}

}  // namespace qw::train
