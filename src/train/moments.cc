#include "train/internal/moments.h"

#include <algorithm>

#include "train/internal/dynamic_code.h"

namespace qw::train {
namespace {

using Range = Communicator::Range;

bool are_codes(Moment moment) { return moment == Moment::kFirstCodes || moment == Moment::kSecondCodes; }

std::int64_t whole_bytes(const Optimizer& optimizer, Moment moment, std::size_t p) {
  return whole_shape(optimizer, moment, p).elements() * (are_codes(moment) ? 1 : 4);
}

// Bytes of the whole that stand for these numbers of the parameter.
Range bytes_of(const Optimizer& optimizer, Moment moment, std::size_t p, Range numbers) {
  if (numbers.length() == 0) return {};
  if (are_codes(moment)) return numbers;
  if (updates_whole(optimizer.rules()[p])) return {0, whole_bytes(optimizer, moment, p)};
  if (optimizer.codes(p) == 0) return {4 * numbers.begin, 4 * numbers.end};
  const auto block = [](std::int64_t i) { return (i + DynamicCode::kBlock - 1) / DynamicCode::kBlock; };
  return {4 * block(numbers.begin), 4 * block(numbers.end)};
}

}  // namespace

tensor::Shape whole_shape(const Optimizer& optimizer, Moment moment, std::size_t p) {
  if (are_codes(moment)) return tensor::Shape{optimizer.codes(p)};
  return moment == Moment::kFirst ? optimizer.first_shape(p) : optimizer.second_shape(p);
}

std::span<std::byte> held(Optimizer& optimizer, Moment moment, std::size_t p) {
  switch (moment) {
    case Moment::kFirst:
      return std::as_writable_bytes(optimizer.first_moments().tensor(p));
    case Moment::kSecond:
      return std::as_writable_bytes(optimizer.second_moments().tensor(p));
    case Moment::kFirstCodes:
      return std::as_writable_bytes(optimizer.first_codes(p));
    case Moment::kSecondCodes:
      return std::as_writable_bytes(optimizer.second_codes(p));
  }
  return {};
}

Status collect(GradientSum& share, Optimizer& optimizer, Moment moment, std::size_t p, std::vector<std::byte>& whole) {
  const std::span<std::byte> own = held(optimizer, moment, p);
  const auto there = [&](int rank) { return bytes_of(optimizer, moment, p, share.owned_by(rank, p)); };
  std::vector<Communicator::Sent> sent;
  std::vector<Communicator::Received> received;
  if (share.rank() > 0) {
    if (!own.empty()) sent.push_back({0, own});
    return share.ranks()->exchange(sent, received);
  }
  whole.resize(static_cast<std::size_t>(whole_bytes(optimizer, moment, p)));
  std::copy(own.begin(), own.end(), whole.begin() + there(0).begin);
  for (int r = 1; r < share.size(); ++r)
    if (const Range range = there(r); range.length() > 0)
      received.push_back({r, std::span(whole).subspan(static_cast<std::size_t>(range.begin),
                                                      static_cast<std::size_t>(range.length()))});
  return share.ranks()->exchange(sent, received);
}

void take_share(const GradientSum& share, Optimizer& optimizer, Moment moment, std::size_t p,
                std::span<const std::byte> whole) {
  const std::span<std::byte> own = held(optimizer, moment, p);
  const Range range = bytes_of(optimizer, moment, p, share.owned_by(share.rank(), p));
  QW_CHECK(range.length() == std::ssize(own));
  std::copy_n(whole.begin() + range.begin, range.length(), own.begin());
}

}  // namespace qw::train
