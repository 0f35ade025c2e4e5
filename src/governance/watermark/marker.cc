#include "governance/watermark/marker.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "governance/watermark/mark_function.h"

namespace qw::governance {
namespace {

using sampling::Candidate;
using sampling::History;

class Marker final : public sampling::LogitsProcessor {
 public:
  Marker(std::shared_ptr<const MarkKey> key, std::optional<TokenId> restart)
      : key_(std::move(key)), function_(*key_), restart_(restart) {
    recent_.reserve(kContextsRemembered);
  }

  Status prepare(const History& prompt, std::int64_t) override {
    begin_ = prompt.tokens.size();
    last_.assign(static_cast<std::size_t>(key_->context), 0);
    return {};
  }
  Status apply(std::span<float>, const History&) override { return {}; }

  std::optional<std::size_t> draw(std::span<Candidate> candidates, const History& history,
                                  std::span<const TokenId> guessed) override {
    const auto context = context_of(history.tokens, guessed);
    if (!context || std::find(recent_.begin(), recent_.end(), context->id) != recent_.end()) return std::nullopt;
    if (key_->scheme == MarkScheme::kGumbel) return race(candidates, *context);
    bits_.resize(candidates.size());
    for (std::size_t i = 0; i < candidates.size(); ++i) bits_[i] = function_.bits(*context, candidates[i].id);
    synthid_tournament(candidates, bits_, key_->layers, key_->leaves, weights_);
    return std::nullopt;
  }

  Status accept(TokenId id) override {
    const auto size = static_cast<std::size_t>(key_->context);
    if (written_ >= size) remember(function_.context(last_).id);
    std::rotate(last_.begin(), last_.begin() + 1, last_.end());
    last_.back() = id;
    ++written_;
    if (restart_ == id) {
      begin_ += written_;
      written_ = 0;
      recent_.clear();
      next_ = 0;
    }
    return {};
  }

 private:
  // Of the token behind `tokens` and `guessed`; nothing while the text is shorter than a context.
  std::optional<MarkFunction::Context> context_of(std::span<const TokenId> tokens, std::span<const TokenId> guessed) {
    const auto size = static_cast<std::size_t>(key_->context);
    if (tokens.size() - begin_ + guessed.size() < size) return std::nullopt;
    std::array<TokenId, kMostContext> window;
    const std::size_t ahead = std::min(size, guessed.size()), before = size - ahead;
    std::copy_n(tokens.end() - static_cast<std::ptrdiff_t>(before), before, window.begin());
    std::copy_n(guessed.end() - static_cast<std::ptrdiff_t>(ahead), ahead,
                window.begin() + static_cast<std::ptrdiff_t>(before));
    return function_.context(std::span(window).first(size));
  }

  // The first to arrive where each candidate takes an exponential time of rate `weight`: the largest of
  // log(weight) + Gumbel noise, without a logarithm of the weight.
  std::size_t race(std::span<const Candidate> candidates, const MarkFunction::Context& context) const {
    std::size_t first = 0;
    double least = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const double u = function_.uniform(context, candidates[i].id), weight = candidates[i].weight;
      // -log(u) is at least 1 - u: most candidates are out of the race without a logarithm.
      if (1 - u >= least * weight) continue;
      const double time = -std::log(u) / weight;
      if (time < least) least = time, first = i;
    }
    return first;
  }

  void remember(std::uint64_t id) {
    if (recent_.size() < kContextsRemembered) return recent_.push_back(id);
    recent_[next_] = id;
    next_ = (next_ + 1) % kContextsRemembered;
  }

  std::shared_ptr<const MarkKey> key_;
  MarkFunction function_;
  std::optional<TokenId> restart_;
  std::size_t begin_ = 0, written_ = 0;  // where the text begins in the tokens so far, and how many it has
  std::vector<TokenId> last_;            // `context` tokens
  std::vector<std::uint64_t> recent_;    // a ring once it is full
  std::size_t next_ = 0;
  std::vector<std::uint32_t> bits_;
  std::vector<double> weights_;
};

// Sums in eight fixed parts, so that the result does not depend on how the compiler vectorises.
constexpr std::size_t kParts = 8;

}  // namespace

std::unique_ptr<sampling::LogitsProcessor> make_marker(std::shared_ptr<const MarkKey> key,
                                                       std::optional<tokenizer::TokenId> restart) {
  return std::make_unique<Marker>(std::move(key), restart);
}

// The tournament in closed form: among `leaves` draws from p, one with g = 1 wins if there is any. With two leaves the
// factor of a token is 1 + g - mass, where mass is how likely g = 1 is.
//
// One pass a layer: it applies the factors of the layer and finds the mass of the next. No branches, as bits are as
// good as random.
void synthid_tournament(std::span<Candidate> candidates, std::span<const std::uint32_t> bits, std::int32_t layers,
                        std::int32_t leaves, std::vector<double>& weights) {
  const std::size_t n = candidates.size();
  weights.resize(n);
  for (std::size_t i = 0; i < n; ++i) weights[i] = candidates[i].weight;
  double* const w = weights.data();
  const std::uint32_t* const b = bits.data();
  double total = 0;
  // Weights times 1 - g and g of the layer before, by `lost` and `won`; the sum of what then has g of layer l.
  const auto pass = [&](std::int32_t before, double lost, double won, std::int32_t l) {
    std::array<double, kParts> parts{};
    const double gain = won - lost;
    const auto one = [&](std::size_t i, double& part) {
      w[i] *= lost + gain * static_cast<double>(static_cast<std::int32_t>(b[i] >> before & 1));
      part += w[i] * static_cast<double>(static_cast<std::int32_t>(b[i] >> l & 1));
    };
    std::size_t i = 0;
    for (; i + kParts <= n; i += kParts)
      for (std::size_t j = 0; j < kParts; ++j) one(i + j, parts[j]);
    for (std::size_t j = 0; i < n; ++i, ++j) one(i, parts[j]);
    double sum = 0;
    for (const double part : parts) sum += part;
    return sum;
  };
  for (std::size_t i = 0; i < n; ++i) total += w[i];
  double lost = 1, won = 1;
  std::int32_t before = 0;
  for (std::int32_t l = 0; l < layers; ++l) {
    const double marked = pass(before, lost, won, l), mass = std::min(marked / total, 1.0);
    before = l;
    lost = won = 1;
    if (mass <= 0 || mass >= 1) continue;  // all alike: nobody wins anything
    won = leaves == 2 ? 2 - mass : (1 - std::pow(1 - mass, leaves)) / mass;
    lost = leaves == 2 ? 1 - mass : std::pow(1 - mass, leaves - 1);
    total = marked * won + (total - marked) * lost;
  }
  pass(before, lost, won, 0);
  for (std::size_t i = 0; i < n; ++i) candidates[i].weight = w[i];
}

}  // namespace qw::governance
