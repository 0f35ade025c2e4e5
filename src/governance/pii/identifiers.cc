#include "governance/pii/identifiers.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

namespace qw::governance {
namespace {

constexpr std::string_view kDigits = "0123456789";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_capital(char c) { return c >= 'A' && c <= 'Z'; }
bool all_digits(std::string_view text) { return std::all_of(text.begin(), text.end(), is_digit); }
int number(std::string_view digits) {
  int out = 0;
  for (const char c : digits) out = 10 * out + (c - '0');
  return out;
}

bool is_date(int year, int month, int day) {
  constexpr std::array<int, 12> kDays = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (year < 1850 || year > 2099 || month < 1 || month > 12 || day < 1) return false;
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return day <= kDays[static_cast<std::size_t>(month - 1)] + (month == 2 && leap ? 1 : 0);
}

bool luhn(std::string_view digits) {
  int sum = 0;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const int digit = digits[digits.size() - 1 - i] - '0';
    sum += i % 2 == 0 ? digit : 2 * digit > 9 ? 2 * digit - 9 : 2 * digit;
  }
  return sum % 10 == 0;
}

// Provinces of GB/T 2260, as the first two digits.
bool is_cn_province(int code) {
  constexpr std::pair<int, int> kRanges[] = {{11, 15}, {21, 23}, {31, 37}, {41, 46},
                                             {50, 54}, {61, 65}, {71, 71}, {81, 83}};
  return std::any_of(std::begin(kRanges), std::end(kRanges),
                     [&](const auto& range) { return code >= range.first && code <= range.second; });
}

// Of the registry of ISO 13616, how long a country's numbers are.
constexpr std::pair<std::string_view, std::size_t> kIbans[] = {
    {"AD", 24}, {"AE", 23}, {"AL", 28}, {"AT", 20}, {"AZ", 28}, {"BA", 20}, {"BE", 16}, {"BG", 22}, {"BH", 22},
    {"BR", 29}, {"BY", 28}, {"CH", 21}, {"CR", 22}, {"CY", 28}, {"CZ", 24}, {"DE", 22}, {"DK", 18}, {"DO", 28},
    {"EE", 20}, {"EG", 29}, {"ES", 24}, {"FI", 18}, {"FO", 18}, {"FR", 27}, {"GB", 22}, {"GE", 22}, {"GI", 23},
    {"GL", 18}, {"GR", 27}, {"GT", 28}, {"HR", 21}, {"HU", 28}, {"IE", 22}, {"IL", 23}, {"IQ", 23}, {"IS", 26},
    {"IT", 27}, {"JO", 30}, {"KW", 30}, {"KZ", 20}, {"LB", 28}, {"LC", 32}, {"LI", 21}, {"LT", 20}, {"LU", 20},
    {"LV", 21}, {"LY", 25}, {"MC", 27}, {"MD", 24}, {"ME", 22}, {"MK", 19}, {"MR", 27}, {"MT", 31}, {"MU", 30},
    {"NL", 18}, {"NO", 15}, {"PK", 24}, {"PL", 28}, {"PS", 29}, {"PT", 25}, {"QA", 29}, {"RO", 24}, {"RS", 22},
    {"SA", 24}, {"SC", 31}, {"SE", 24}, {"SI", 19}, {"SK", 24}, {"SM", 27}, {"ST", 25}, {"SV", 28}, {"TL", 23},
    {"TN", 24}, {"TR", 26}, {"UA", 29}, {"VA", 22}, {"VG", 24}, {"XK", 20}};

// What the characters at odd places of a codice fiscale count, from "A"; a digit counts as the letter of its number.
constexpr std::array<int, 26> kOddPlaces = {1,  0,  5, 7, 9, 13, 15, 17, 19, 21, 2,  4,  18,
                                            20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23};

}  // namespace

bool is_cn_resident_id(std::string_view text) {
  constexpr std::array<int, 17> kWeights = {7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2};
  if (text.size() != 18 || !all_digits(text.substr(0, 17))) return false;
  if (!is_cn_province(number(text.substr(0, 2)))) return false;
  if (!is_date(number(text.substr(6, 4)), number(text.substr(10, 2)), number(text.substr(12, 2)))) return false;
  int sum = 0;
  for (std::size_t i = 0; i < kWeights.size(); ++i) sum += kWeights[i] * (text[i] - '0');
  return text[17] == std::string_view("10X98765432")[static_cast<std::size_t>(sum % 11)];
}

bool is_cn_credit_code(std::string_view text) {
  constexpr std::string_view kAlphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY";
  if (text.size() != 18) return false;
  std::size_t sum = 0, weight = 1;
  for (const char c : text.substr(0, 17)) {
    const auto value = kAlphabet.find(c);
    if (value == kAlphabet.npos) return false;
    sum += value * weight;
    weight = weight * 3 % 31;
  }
  return text[17] == kAlphabet[(31 - sum % 31) % 31];
}

bool is_cn_mobile(std::string_view digits) {
  return digits.size() == 11 && all_digits(digits) && digits[0] == '1' && digits[1] >= '3';
}

bool is_payment_card(std::string_view digits) {
  if (digits.size() < 13 || digits.size() > 19 || !all_digits(digits)) return false;
  const bool network = digits[0] >= '3' && digits[0] <= '6';  // of cards that pay; 62 is China's
  return network && luhn(digits);
}

bool is_iban(std::string_view text) {
  const auto country = std::find_if(std::begin(kIbans), std::end(kIbans),
                                    [&](const auto& one) { return text.substr(0, 2) == one.first; });
  if (country == std::end(kIbans) || text.size() != country->second) return false;
  int rest = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[(i + 4) % text.size()];
    if (is_digit(c))
      rest = (10 * rest + (c - '0')) % 97;
    else if (is_capital(c))
      rest = (100 * rest + (c - 'A' + 10)) % 97;
    else
      return false;
  }
  return rest == 1 && is_digit(text[2]) && is_digit(text[3]);
}

bool is_codice_fiscale(std::string_view text) {
  // Letters and digits by their places; where a digit stands, people of the same number get letters instead.
  constexpr std::string_view kForm = "LLLLLLDDLDDLDDDL", kInstead = "LMNPQRSTUV", kMonths = "ABCDEHLMPRST";
  if (text.size() != kForm.size()) return false;
  std::array<char, 16> plain{};
  int sum = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (!is_digit(c) && !is_capital(c)) return false;
    plain[i] = c;
    if (kForm[i] == 'L' && !is_capital(c)) return false;
    if (kForm[i] == 'D' && is_capital(c)) {
      const auto digit = kInstead.find(c);
      if (digit == kInstead.npos) return false;
      plain[i] = kDigits[digit];
    }
    const int value = is_digit(c) ? c - '0' : c - 'A';
    if (i < 15) sum += i % 2 == 0 ? kOddPlaces[static_cast<std::size_t>(value)] : value;
  }
  const int day = number({plain.data() + 9, 2}) % 40;
  if (kMonths.find(plain[8]) == kMonths.npos || day < 1 || day > 31 || number({plain.data() + 9, 2}) > 71) return false;
  return text[15] == static_cast<char>('A' + sum % 26);
}

bool is_partita_iva(std::string_view digits) {
  return digits.size() == 11 && all_digits(digits) && digits != "00000000000" && luhn(digits);
}

bool is_us_ssn(std::string_view digits) {
  if (digits.size() != 9 || !all_digits(digits)) return false;
  const int area = number(digits.substr(0, 3));
  return area != 0 && area != 666 && area < 900 && digits.substr(3, 2) != "00" && digits.substr(5) != "0000";
}

}  // namespace qw::governance
