// What rules without a model tell of an answer: whether it refuses, and which choice it takes. Both say so where they
// cannot tell: then somebody else judges.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qw::governance {

enum class Refusal : std::uint8_t { kRefuses, kAnswers, kUnclear };

// By words that refusals in Chinese and English begin with, or say and nothing behind them. Unclear: an empty answer,
// or one that refuses at first and goes on at length ("I cannot ... However, here is how").
Refusal refusal_of(std::string_view answer);
// Of the words and how they are looked for: what a judgement by them names.
const std::string& refusal_rules_hash();

// The index of the one choice among `options` that an answer to "answer with a letter" takes; nothing: none, or
// several.
std::optional<std::int64_t> chosen_letter(std::string_view answer, std::int64_t options);
// How choices are asked for: the question, its options by letters, and what to answer, in the question's language.
std::string choice_prompt(std::string_view question, const std::vector<std::string>& options);

}  // namespace qw::governance
