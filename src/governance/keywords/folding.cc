#include "governance/keywords/folding.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#if QW_HAVE_ICU
#include <unicode/translit.h>
#include <unicode/unistr.h>
#endif

namespace qw::governance {
namespace {

// Planes 0 to 2 and the ideographs of plane 3.
constexpr std::uint32_t kTabled = 0x33480;

// Small letters of Cyrillic and Greek that are read as Latin ones, from the confusables of Unicode's UTS #39.
constexpr std::pair<std::u32string_view, std::u32string_view> kLookAlikes = {
    U"авсԁеԍнһіјкӏмопԛрѕтгуѵԝхѡ"
    U"αβγικνορτυχωϳϲ",
    U"abcdeghhijklmonqpstryvwxw"
    U"abyiknoptuxwjc"};

bool is_accent(std::uint32_t code) {
  return (code >= 0x300 && code <= 0x36F) || (code >= 0x1AB0 && code <= 0x1AFF) || (code >= 0x1DC0 && code <= 0x1DFF) ||
         (code >= 0x20D0 && code <= 0x20FF) || (code >= 0xFE20 && code <= 0xFE2F);
}

bool is_ideographic(std::uint32_t code) {  // of letters without case
  return (code >= 0x1100 && code <= 0x11FF) || (code >= 0x2E80 && code <= 0xA4CF) ||
         (code >= 0xA960 && code <= 0xA97F) || (code >= 0xAC00 && code <= 0xD7FF) ||
         (code >= 0xF900 && code <= 0xFAFF) || (code >= 0x1AFF0 && code <= 0x1B2FF) || code >= 0x20000;
}

// Folds to itself: most of the table, which need not be asked for.
bool is_plain_ideograph(std::uint32_t code) {
  return (code >= 0x3400 && code <= 0x9FFF && !(code >= 0x4DC0 && code <= 0x4DFF)) ||
         (code >= 0xAC00 && code <= 0xD7A3) || (code >= 0x20000 && code <= 0x2F7FF) || code >= 0x30000;
}

bool hides(std::uint32_t code) {
  constexpr std::u32string_view kSigns = U"*_.|-~+/\\^`'=·•・‧∙⋅";
  return kSigns.find(static_cast<char32_t>(code)) != kSigns.npos;
}

SymbolKind kind_of(std::uint32_t code) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_ND:
      return SymbolKind::kWord;
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_NL:
      return is_ideographic(code) ? SymbolKind::kIdeograph : SymbolKind::kLetter;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return SymbolKind::kLetter;
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return SymbolKind::kBlank;
    case UTF8PROC_CATEGORY_SO:
      return SymbolKind::kGap;
    default:
      return hides(code) ? SymbolKind::kGap : SymbolKind::kSign;
  }
}

// At most as many code points as the longest compatibility form has (18).
struct Folded {
  std::array<std::uint32_t, 32> codes{};
  std::size_t count = 0;
};

Folded fold(std::uint32_t code) {
  std::array<utf8proc_uint8_t, 4> bytes{};
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code), bytes.data());
  std::array<utf8proc_int32_t, 64> parts{};
  constexpr auto kApart = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE |
                                                         UTF8PROC_CASEFOLD | UTF8PROC_IGNORE);
  auto count =
      utf8proc_decompose(bytes.data(), size, parts.data(), static_cast<utf8proc_ssize_t>(parts.size()), kApart);
  Folded out;
  if (count < 0 || count > static_cast<utf8proc_ssize_t>(parts.size())) return out;
  const auto end = std::remove_if(parts.begin(), parts.begin() + count,
                                  [](utf8proc_int32_t part) { return is_accent(static_cast<std::uint32_t>(part)); });
  count = utf8proc_normalize_utf32(parts.data(), end - parts.begin(),
                                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  for (utf8proc_ssize_t i = 0; i < count && out.count < out.codes.size(); ++i) {
    auto part = static_cast<std::uint32_t>(parts[static_cast<std::size_t>(i)]);
    const auto alike = kLookAlikes.first.find(static_cast<char32_t>(part));
    if (alike != kLookAlikes.first.npos) part = kLookAlikes.second[alike];
    out.codes[out.count++] = part;
  }
  return out;
}

#if QW_HAVE_ICU
// What each traditional character alone is written as.
Result<std::vector<std::pair<std::uint32_t, std::uint32_t>>> simplified() {
  UErrorCode error = U_ZERO_ERROR;
  const std::unique_ptr<icu::Transliterator> rules(
      icu::Transliterator::createInstance("Traditional-Simplified", UTRANS_FORWARD, error));
  if (rules == nullptr || U_FAILURE(error))
    return fail(ErrorKind::kUsage, std::string("ICU has no rules for simplified Chinese: ") + u_errorName(error));
  std::vector<std::pair<std::uint32_t, std::uint32_t>> out;
  for (const auto& [first, last] : {std::pair(0x3400, 0x9FFF), std::pair(0x20000, 0x2A6DF)}) {
    for (std::int32_t code = first; code <= last; ++code) {
      icu::UnicodeString text(static_cast<UChar32>(code));
      rules->transliterate(text);
      if (text.countChar32() == 1 && text.char32At(0) != code)
        out.emplace_back(static_cast<std::uint32_t>(code), static_cast<std::uint32_t>(text.char32At(0)));
    }
  }
  return out;
}
#endif

}  // namespace

void Folding::add(std::uint32_t code, std::uint32_t simplified) {
  if (is_plain_ideograph(code) && is_plain_ideograph(simplified)) {
    one_.push_back(Symbol::of(simplified, SymbolKind::kIdeograph));
    return;
  }
  Folded folded;
  if (kind_of(code) == SymbolKind::kBlank) {
    folded = {{' '}, 1};
  } else {
    folded = fold(simplified);
  }
  const auto symbol = [](std::uint32_t part) {
    const SymbolKind kind = kind_of(part);
    return Symbol::of(kind == SymbolKind::kBlank ? std::uint32_t{' '} : part, kind);
  };
  one_.push_back(folded.count == 1 ? symbol(folded.codes[0]) : Symbol{});
  if (folded.count < 2) return;
  several_.push_back({code, static_cast<std::uint32_t>(parts_.size()), static_cast<std::uint32_t>(folded.count)});
  for (std::size_t i = 0; i < folded.count; ++i) parts_.push_back(symbol(folded.codes[i]));
}

std::span<const Symbol> Folding::several(std::uint32_t code) const {
  const auto at = std::lower_bound(several_.begin(), several_.end(), code,
                                   [](const Entry& entry, std::uint32_t sought) { return entry.code < sought; });
  if (at == several_.end() || at->code != code) return {};
  return std::span(parts_).subspan(at->begin, at->count);
}

Result<Folding> Folding::make(bool simplify) {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> changed;  // ascending
  if (simplify) {
#if QW_HAVE_ICU
    QW_ASSIGN(changed, simplified());
#else
    return fail(ErrorKind::kUsage, "traditional Chinese needs ICU, which this program was built without");
#endif
  }
  Folding out;
  out.one_.reserve(kTabled);
  auto next = changed.begin();
  for (std::uint32_t code = 0; code < kTabled; ++code) {
    std::uint32_t simple = code;
    if (next != changed.end() && next->first == code) simple = (next++)->second;
    const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    out.add(surrogate ? 0xFFFD : code, surrogate ? 0xFFFD : simple);
  }
  return out;
}

Result<const Folding*> Folding::get(bool simplify) {
  static const Result<Folding> plain = make(false);
  if (!simplify) return &*plain;
  static const Result<Folding> simplifying = make(true);
  if (!simplifying) return tl::unexpected(simplifying.error());
  return &*simplifying;
}

}  // namespace qw::governance
