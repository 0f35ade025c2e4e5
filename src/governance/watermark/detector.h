// Finds marks in a text, with the probability that a text without them looks so.
//
// Each distinct context of the text is scored once. For SynthID the score of a token is the weighted mean of its bits
// (weights fall evenly from 10 in the first layer to 1 in the last), under the null distribution that was measured for
// the key; for Gumbel it is -ln(1 - u), whose sum has a gamma distribution. Beside the whole text, windows of it are
// tested, which finds a marked part of a longer text; p-values are corrected for all tests that were made (Bonferroni),
// keys included. SynthID's p-values use the normal distribution, which is close to the binomial's here (a window has at
// least 40 tokens of 30 bits).
//
// What it does not find: text that was paraphrased or translated, or had little choice in its words.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "governance/watermark/mark_function.h"
#include "tokenizer/tokenizer.h"

namespace qw::governance {

inline constexpr std::int64_t kLeastScored = 40;          // fewer tokens are no ground for a verdict
inline constexpr std::size_t kMostDetectBytes = 1 << 20;  // of a text

struct MarkTest {
  const MarkKey* key = nullptr;
  std::int64_t scored = 0;  // tokens
  double statistic = 0;     // of the whole text: z (SynthID), sum / tokens (Gumbel, 1 without a mark)
  double p_value = 1;       // of the whole text, this key alone
  double p_corrected = 1;   // the best of all windows and the whole, corrected for these and for the number of keys
  std::int64_t begin = 0, end = 0;  // tokens of the best window
};

enum class MarkVerdict : std::uint8_t { kMarked, kNotFound, kInconclusive };
const char* name_of(MarkVerdict verdict);

struct Detection {
  MarkVerdict verdict = MarkVerdict::kInconclusive;  // inconclusive: too short
  double confidence = 0;  // kMarked: at most this sure, if marked and unmarked were equally likely before
  std::int64_t tokens = 0;
  std::vector<MarkTest> tests;  // by p_corrected, the smallest first
};

// Of tokens as they were drawn.
MarkTest test_tokens(const MarkKey& key, std::span<const TokenId> tokens);
// `level`: p_corrected below it is a mark. `keys` must outlive the result.
Detection detect_tokens(std::span<const MarkKey> keys, std::span<const TokenId> tokens, double level);
// The text as it would have been tokenised, without characters that do not show. kUsage: longer than kMostDetectBytes.
Result<Detection> detect_text(std::span<const MarkKey> keys, const tokenizer::Tokenizer& tokenizer,
                              std::string_view text, double level);

// Measures the key's null distribution on 200,000 random tokens after random contexts.
void calibrate(MarkKey& key);

// The most that a p-value is evidence for: (1 - e p ln p)^-1 (Sellke, Bayarri and Berger, 2001).
double confidence_of(double p);
// P(S >= sum) for a sum of `n` exponential variables of mean 1.
double gamma_tail(std::int64_t n, double sum);
// P(Z >= z).
double normal_tail(double z);

// Without characters that do not show, composed (NFC).
std::string visible_text(std::string_view text);

json::Value to_json(const Detection& detection);

}  // namespace qw::governance
