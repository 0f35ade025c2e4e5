// Characters and words as the published evaluation scripts count them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qw::eval {

// As Python's str.strip() and str.lower(), over Unicode.
std::string_view strip_end(std::string_view text);
std::string_view strip(std::string_view text);
std::string lower(std::string_view text);
// Without the characters of string.punctuation (the 32 of ASCII), or of string.digits.
std::string without_punctuation(std::string_view text);
std::string without_digits(std::string_view text);
std::size_t characters(std::string_view text);
// Pieces between white space, as len(re.split(r"\s+", text)) counts them: an empty text has one, and white space at an
// end gives an empty piece more.
std::size_t count_words(std::string_view text);

// SQuAD: lower case, no punctuation, no articles (a, an, the), one blank between words.
std::vector<std::string> squad_words(std::string_view text);
// Which marks are no part of a Chinese answer: those of CMRC 2018's script, or all (MLQA's).
enum class Marks : std::uint8_t { kCmrc, kAll };
// Each Han character is a word, as is what stands between them, blanks and marks; marks go; lower case.
std::vector<std::string> mixed_words(std::string_view text, Marks marks);
// The text without marks and white space at its ends, in lower case.
std::string mixed_text(std::string_view text, Marks marks);

// 2pr / (p + r) of what two lists have in common, each word as often as it stands in both (SQuAD).
double bag_f1(const std::vector<std::string>& answer, const std::vector<std::string>& target);
// The same of the longest run of words that stands in both (CMRC).
double run_f1(const std::vector<std::string>& answer, const std::vector<std::string>& target);

}  // namespace qw::eval
