#include "train/internal/subgroup.h"

#include <algorithm>

namespace qw::train {

Status OverExchange::gather(float* floats, std::span<const Range> ranges) {
  const auto bytes = [&](int r) {
    const Range range = ranges[static_cast<std::size_t>(r)];
    return std::as_writable_bytes(std::span(floats + range.begin, static_cast<std::size_t>(range.length())));
  };
  std::vector<Sent> sent;
  std::vector<Received> received;
  for (int r = 0; r < size(); ++r) {
    if (r == rank()) continue;
    sent.push_back({r, bytes(rank())});
    received.push_back({r, bytes(r)});
  }
  return exchange(sent, received);
}

Status OverExchange::add_up(std::span<double> values) {
  std::vector<std::vector<double>> all(static_cast<std::size_t>(size()),
                                       std::vector<double>(values.begin(), values.end()));
  std::vector<Sent> sent;
  std::vector<Received> received;
  for (int r = 0; r < size(); ++r) {
    if (r == rank()) continue;
    sent.push_back({r, std::as_bytes(values)});
    received.push_back({r, std::as_writable_bytes(std::span(all[static_cast<std::size_t>(r)]))});
  }
  QW_TRY(exchange(sent, received));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = 0;
    for (const auto& of : all) values[i] += of[i];
  }
  return {};
}

Status OverExchange::broadcast(std::span<std::byte> bytes) {
  std::vector<Sent> sent;
  std::vector<Received> received;
  for (int r = 1; rank() == 0 && r < size(); ++r) sent.push_back({r, bytes});
  if (rank() != 0) received.push_back({0, bytes});
  return exchange(sent, received);
}

Subgroup::Subgroup(Communicator& all, std::vector<int> members) : all_(all), members_(std::move(members)) {
  const auto own = std::find(members_.begin(), members_.end(), all.rank());
  QW_CHECK(own != members_.end());
  rank_ = static_cast<int>(own - members_.begin());
}

Status Subgroup::exchange(std::span<const Sent> sent, std::span<const Received> received) {
  const auto of_all = [this](int r) { return members_[static_cast<std::size_t>(r)]; };
  std::vector<Sent> out;
  std::vector<Received> in;
  for (const Sent& s : sent) out.push_back({of_all(s.to), s.bytes});
  for (const Received& r : received) in.push_back({of_all(r.from), r.bytes});
  return all_.exchange(out, in);
}

}  // namespace qw::train
