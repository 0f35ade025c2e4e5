#include <algorithm>

#include "data/internal/sieve.h"
#include "data/internal/units.h"

namespace qw::data {
namespace {

constexpr std::size_t kShingle = 5;  // units: short enough that one changed word spoils five runs only
constexpr std::uint32_t kNoMinimum = 0xFFFFFFFFu;

}  // namespace

// Few rows a band find less similar texts: sixteen bands of eight find 95 % of what is 0.8 similar, 32 of four those of
// 0.6.
NearCopies::NearCopies(double similarity) : similarity_(similarity), bands_(similarity < 0.75 ? kMostBands : 16) {}

void NearCopies::sign(const std::vector<std::uint64_t>& units, Signature& out) const {
  auto& minima = out.minima;
  minima.fill(kNoMinimum);
  each_run(units, kShingle, [&](std::uint64_t run) {
    std::uint32_t& least = minima[run % kMinima];
    least = std::min(least, static_cast<std::uint32_t>(run >> 32) & 0x7FFFFFFFu);
  });
  const auto filled = minima;
  for (std::size_t bin = 0; bin < kMinima; ++bin)  // at least one is full
    for (std::uint64_t probe = bin; minima[bin] == kNoMinimum;) {
      probe = probe * 6364136223846793005u + 1442695040888963407u + bin;
      minima[bin] = filled[(probe >> 33) % kMinima];
    }
  const std::size_t rows = kMinima / bands_;
  for (std::size_t b = 0; b < bands_; ++b) {
    std::uint64_t hash = b + 1;
    for (std::size_t i = b * rows; i < (b + 1) * rows; ++i) hash = mixed(hash ^ minima[i]);
    out.bands[b] = hash;
  }
}

void NearCopies::expect(const Signature& signature) const {
  for (std::size_t b = 0; b < bands_; ++b) first_in_.expect(signature.bands[b]);
}

bool NearCopies::seen(const Signature& signature) {
  for (std::size_t b = 0; b < bands_; ++b) {
    const std::uint32_t* const found = first_in_.find(signature.bands[b]);
    if (found == nullptr) continue;
    const auto& other = kept_[*found];
    std::size_t equal = 0;
    for (std::size_t i = 0; i < kMinima; ++i) equal += signature.minima[i] == other[i] ? 1 : 0;
    if (static_cast<double>(equal) >= similarity_ * static_cast<double>(kMinima)) return true;
  }
  const auto number = static_cast<std::uint32_t>(kept_.size());
  kept_.push_back(signature.minima);
  for (std::size_t b = 0; b < bands_; ++b) first_in_.at(signature.bands[b], number);
  return false;
}

bool NearCopies::seen(const std::vector<std::uint64_t>& units) {
  if (units.empty()) return false;
  Signature signature;
  sign(units, signature);
  return seen(signature);
}

}  // namespace qw::data
