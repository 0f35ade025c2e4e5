#include "governance/watermark/detector.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <unordered_set>

#include "base/rng.h"
#include "base/utf8.h"

namespace qw::governance {
namespace {

// Windows of these numbers of scored tokens, each half over the one before.
constexpr std::array<std::int64_t, 4> kWindows = {50, 100, 200, 400};

// Weights of the layers: evenly from 10 to 1, scaled so that they sum to their number.
std::array<double, kMostLayers> layer_weights(std::int32_t layers) {
  std::array<double, kMostLayers> w{};
  double sum = 0;
  for (std::int32_t l = 0; l < layers; ++l)
    sum += w[static_cast<std::size_t>(l)] = layers == 1 ? 1 : 10 - 9.0 * l / (layers - 1);
  for (double& x : w) x *= layers / sum;
  return w;
}

// The scores of tokens under one key.
class Scorer {
 public:
  explicit Scorer(const MarkKey& key) : key_(key), function_(key), weights_(layer_weights(key.layers)) {}

  double score(const MarkFunction::Context& context, TokenId token) const {
    if (key_.scheme == MarkScheme::kGumbel) return -std::log1p(-function_.uniform(context, token));
    const std::uint32_t bits = function_.bits(context, token);
    double sum = 0;
    for (std::int32_t l = 0; l < key_.layers; ++l)
      if (bits >> l & 1) sum += weights_[static_cast<std::size_t>(l)];
    return sum / key_.layers;
  }
  const MarkFunction& function() const { return function_; }

  // Of n tokens whose scores sum to this.
  double statistic(std::int64_t n, double sum) const {
    const auto count = static_cast<double>(n);
    if (key_.scheme == MarkScheme::kGumbel) return sum / count;
    return (sum - count * key_.null_mean) / std::sqrt(count * key_.null_variance);
  }
  double p_value(std::int64_t n, double sum) const {
    return key_.scheme == MarkScheme::kGumbel ? gamma_tail(n, sum) : normal_tail(statistic(n, sum));
  }

 private:
  const MarkKey& key_;
  MarkFunction function_;
  std::array<double, kMostLayers> weights_;
};

struct Scored {
  std::int64_t token;
  double sum;  // up to and with this token
};

std::vector<Scored> scores_of(const MarkKey& key, const Scorer& scorer, std::span<const TokenId> tokens) {
  std::vector<Scored> out;
  std::unordered_set<std::uint64_t> seen;
  const auto size = static_cast<std::size_t>(key.context);
  double sum = 0;
  for (std::size_t i = size; i < tokens.size(); ++i) {
    const auto context = scorer.function().context(tokens.subspan(i - size, size));
    if (!seen.insert(context.id).second) continue;
    sum += scorer.score(context, tokens[i]);
    out.push_back({static_cast<std::int64_t>(i), sum});
  }
  return out;
}

bool shows(utf8proc_int32_t code) {
  // Default ignorables that can stand anywhere without being seen: joiners, marks of direction, selectors, tags.
  return !(code == 0xAD || code == 0x180E || (code >= 0x200B && code <= 0x200F) || (code >= 0x202A && code <= 0x202E) ||
           (code >= 0x2060 && code <= 0x206F) || (code >= 0xFE00 && code <= 0xFE0F) || code == 0xFEFF ||
           (code >= 0xE0000 && code <= 0xE0FFF));
}

}  // namespace

double normal_tail(double z) { return 0.5 * std::erfc(z / std::sqrt(2.0)); }

double gamma_tail(std::int64_t n, double sum) {
  // e^-S (1 + S + S^2/2! + ... + S^(n-1)/(n-1)!), from the largest term, so that nothing overflows.
  if (n <= 0 || sum <= 0) return 1;
  double log_term = 0, largest = 0;
  for (std::int64_t k = 1; k < n; ++k) {
    log_term += std::log(sum / static_cast<double>(k));
    largest = std::max(largest, log_term);
  }
  double total = std::exp(-largest);
  log_term = 0;
  for (std::int64_t k = 1; k < n; ++k) {
    log_term += std::log(sum / static_cast<double>(k));
    total += std::exp(log_term - largest);
  }
  return std::min(1.0, std::exp(largest + std::log(total) - sum));
}

double confidence_of(double p) {
  if (p >= 1 / std::exp(1.0)) return 0.5;  // the bound says nothing there
  return p <= 0 ? 1 : 1 / (1 - std::exp(1.0) * p * std::log(p));
}

const char* name_of(MarkVerdict verdict) {
  if (verdict == MarkVerdict::kMarked) return "marked";
  return verdict == MarkVerdict::kNotFound ? "not_found" : "inconclusive";
}

MarkTest test_tokens(const MarkKey& key, std::span<const TokenId> tokens) {
  const Scorer scorer(key);
  const std::vector<Scored> scores = scores_of(key, scorer, tokens);
  MarkTest out;
  out.key = &key;
  out.scored = static_cast<std::int64_t>(scores.size());
  if (scores.empty()) return out;
  const auto sum_before = [&](std::int64_t i) { return i == 0 ? 0 : scores[static_cast<std::size_t>(i - 1)].sum; };
  out.statistic = scorer.statistic(out.scored, scores.back().sum);
  out.p_value = scorer.p_value(out.scored, scores.back().sum);
  out.end = static_cast<std::int64_t>(tokens.size());
  double best = 1;
  std::int64_t best_begin = 0, best_end = 0, windows = 0;
  for (const std::int64_t length : kWindows) {
    for (std::int64_t at = 0; at + length < out.scored; at += length / 2) {
      ++windows;
      const double p = scorer.p_value(length, sum_before(at + length) - sum_before(at));
      if (p >= best) continue;
      best = p;
      best_begin = scores[static_cast<std::size_t>(at)].token - key.context;
      best_end = scores[static_cast<std::size_t>(at + length - 1)].token + 1;
    }
  }
  if (windows == 0) {
    out.p_corrected = out.p_value;
    return out;
  }
  // Half of what may go wrong is left to the whole text, the other half to all windows together.
  const double whole = 2 * out.p_value, part = 2 * best * static_cast<double>(windows);
  out.p_corrected = std::min({1.0, whole, part});
  if (part < whole) out.begin = best_begin, out.end = best_end;
  return out;
}

Detection detect_tokens(std::span<const MarkKey> keys, std::span<const TokenId> tokens, double level) {
  Detection out;
  out.tokens = static_cast<std::int64_t>(tokens.size());
  for (const MarkKey& key : keys) {
    out.tests.push_back(test_tokens(key, tokens));
    MarkTest& test = out.tests.back();
    test.p_corrected = std::min(1.0, test.p_corrected * static_cast<double>(keys.size()));
  }
  std::stable_sort(out.tests.begin(), out.tests.end(),
                   [](const MarkTest& a, const MarkTest& b) { return a.p_corrected < b.p_corrected; });
  if (out.tests.empty() || out.tests[0].scored < kLeastScored) return out;
  const double p = out.tests[0].p_corrected;
  out.verdict = p < level ? MarkVerdict::kMarked : MarkVerdict::kNotFound;
  if (p < level) out.confidence = confidence_of(p);
  return out;
}

std::string visible_text(std::string_view text) {
  std::string shown;
  for (std::size_t at = 0; at < text.size();) {
    const base::Utf8Char c = base::utf8_at(text, at);
    if (c.code == base::kInvalidCode)
      base::append_utf8(shown, 0xFFFD);
    else if (shows(static_cast<utf8proc_int32_t>(c.code)))
      shown.append(text, at, c.size);
    at += c.size;
  }
  utf8proc_uint8_t* composed = nullptr;
  const auto n =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(shown.data()), static_cast<utf8proc_ssize_t>(shown.size()),
                   &composed, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (n < 0) return shown;
  std::string out(reinterpret_cast<const char*>(composed), static_cast<std::size_t>(n));
  std::free(composed);
  return out;
}

Result<Detection> detect_text(std::span<const MarkKey> keys, const tokenizer::Tokenizer& tokenizer,
                              std::string_view text, double level) {
  if (text.size() > kMostDetectBytes)
    return fail(ErrorKind::kUsage, "a text may have at most " + std::to_string(kMostDetectBytes) + " bytes");
  return detect_tokens(keys, tokenizer.encode(visible_text(text), false), level);
}

void calibrate(MarkKey& key) {
  if (key.scheme != MarkScheme::kSynthId) return;
  constexpr int kSamples = 200'000;
  // Vocabularies have some 150,000 tokens; which ids occur makes no difference to a hash that is any good.
  constexpr std::uint64_t kIds = 150'000;
  const Scorer scorer(key);
  base::Rng rng(0x6e756c6c);
  std::array<TokenId, kMostContext> context{};
  double sum = 0, squares = 0;
  for (int i = 0; i < kSamples; ++i) {
    for (std::int32_t c = 0; c < key.context; ++c)
      context[static_cast<std::size_t>(c)] = static_cast<TokenId>(rng.below(kIds));
    const auto made = scorer.function().context(std::span(context).first(static_cast<std::size_t>(key.context)));
    const double s = scorer.score(made, static_cast<TokenId>(rng.below(kIds)));
    sum += s;
    squares += (s - 0.5) * (s - 0.5);
  }
  key.null_mean = sum / kSamples;
  const double off = key.null_mean - 0.5;
  key.null_variance = squares / kSamples - off * off;
}

json::Value to_json(const Detection& d) {
  json::Object out{{"verdict", name_of(d.verdict)}, {"basis", "watermark"}, {"tokens", d.tokens}};
  if (d.verdict == MarkVerdict::kMarked) out.set("confidence", d.confidence);
  if (d.tests.empty()) return out;
  const MarkTest& best = d.tests[0];
  out.set("p_value", best.p_corrected);
  out.set("scored_tokens", best.scored);
  json::Array tests;
  constexpr std::size_t kShown = 8;
  for (std::size_t i = 0; i < d.tests.size() && i < kShown; ++i) {
    const MarkTest& t = d.tests[i];
    tests.push_back(json::Object{{"key", t.key->id},
                                 {"scheme", name_of(t.key->scheme)},
                                 {"statistic", t.statistic},
                                 {"p_value_whole", t.p_value},
                                 {"p_value", t.p_corrected},
                                 {"best_tokens", json::Array{t.begin, t.end}}});
  }
  out.set("tests", std::move(tests));
  out.set("keys_tested", static_cast<std::int64_t>(d.tests.size()));
  return out;
}

}  // namespace qw::governance
