#include "data/clean_text.h"

#ifdef QW_HAVE_ICU
#include <unicode/translit.h>
#include <unicode/unistr.h>
#endif

#include "base/utf8.h"

namespace qw::data {
std::uint64_t replace_invalid_utf8(std::string& text) {
  if (base::is_valid_utf8(text)) return 0;
  std::string out;
  out.reserve(text.size());
  std::uint64_t replaced = 0;
  for (std::size_t at = 0; at < text.size();) {
    const base::Utf8Char c = base::utf8_at(text, at);
    if (c.code == base::kInvalidCode) {
      out += "\xEF\xBF\xBD";
      ++replaced;
    } else {
      out.append(text, at, c.size);
    }
    at += c.size;
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
