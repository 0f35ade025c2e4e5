#include "data/clean_text.h"

#ifdef QW_HAVE_ICU
#include <unicode/translit.h>
#include <unicode/unistr.h>
#endif

namespace qw::data {
namespace {

// Bounds of the second byte by first byte (Unicode 15, table 3-7); the others are 80..BF.
struct Lead {
  int length;
  unsigned char low, high;
};

Lead lead_of(unsigned char c) {
  if (c < 0x80) return {1, 0, 0};
  if (c >= 0xC2 && c <= 0xDF) return {2, 0x80, 0xBF};
  if (c == 0xE0) return {3, 0xA0, 0xBF};
  if (c == 0xED) return {3, 0x80, 0x9F};
  if (c >= 0xE1 && c <= 0xEF) return {3, 0x80, 0xBF};
  if (c == 0xF0) return {4, 0x90, 0xBF};
  if (c >= 0xF1 && c <= 0xF3) return {4, 0x80, 0xBF};
  if (c == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

std::size_t utf8_character(std::string_view text, std::size_t at, std::size_t* bad) {
  const Lead lead = lead_of(static_cast<unsigned char>(text[at]));
  *bad = 1;
  if (lead.length == 0) return 0;
  for (int i = 1; i < lead.length; ++i) {
    const std::size_t where = at + static_cast<std::size_t>(i);
    if (where >= text.size()) return 0;
    const auto c = static_cast<unsigned char>(text[where]);
    const unsigned char low = i == 1 ? lead.low : 0x80, high = i == 1 ? lead.high : 0xBF;
    if (c < low || c > high) return 0;
    ++*bad;
  }
  return static_cast<std::size_t>(lead.length);
}

bool is_valid_utf8(std::string_view text) {
  std::size_t bad = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t n = utf8_character(text, at, &bad);
    if (n == 0) return false;
    at += n;
  }
  return true;
}

std::uint64_t replace_invalid_utf8(std::string& text) {
  if (is_valid_utf8(text)) return 0;
  std::string out;
  out.reserve(text.size());
  std::uint64_t replaced = 0;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t bad = 0;
    const std::size_t n = utf8_character(text, at, &bad);
    if (n > 0) {
      out.append(text, at, n);
      at += n;
    } else {
      out += "\xEF\xBF\xBD";
      at += bad;
      ++replaced;
    }
  }
  text = std::move(out);
  return replaced;
}

void normalise_line_ends(std::string& text) {
  if (text.find('\r') == std::string::npos) return;
  std::size_t to = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r') {
      text[to++] = '\n';
      if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
    } else {
      text[to++] = text[i];
    }
  }
  text.resize(to);
}

#ifdef QW_HAVE_ICU
struct HanConverter::State {
  std::unique_ptr<icu::Transliterator> transform;
};

Result<HanConverter> HanConverter::create(HanScript to) {
  UErrorCode code = U_ZERO_ERROR;
  auto state = std::make_unique<State>();
  const char* const name = to == HanScript::kSimplified ? "Hant-Hans" : "Hans-Hant";
  state->transform.reset(icu::Transliterator::createInstance(name, UTRANS_FORWARD, code));
  if (U_FAILURE(code) || state->transform == nullptr)
    return fail(ErrorKind::kFailed, std::string("ICU has no transform ") + name + ": " + u_errorName(code));
  return HanConverter(std::move(state));
}

std::string HanConverter::convert(std::string_view utf8) const {
  auto text = icu::UnicodeString::fromUTF8(icu::StringPiece(utf8.data(), static_cast<std::int32_t>(utf8.size())));
  state_->transform->transliterate(text);
  std::string out;
  text.toUTF8String(out);
  return out;
}
#else
struct HanConverter::State {};

Result<HanConverter> HanConverter::create(HanScript) {
  return fail(ErrorKind::kUsage, "conversion of the Chinese script needs a build with ICU (libicu-dev)");
}

std::string HanConverter::convert(std::string_view utf8) const { return std::string(utf8); }
#endif

HanConverter::HanConverter(std::unique_ptr<State> state) : state_(std::move(state)) {}
HanConverter::HanConverter(HanConverter&&) noexcept = default;
HanConverter& HanConverter::operator=(HanConverter&&) noexcept = default;
HanConverter::~HanConverter() = default;

}  // namespace qw::data
