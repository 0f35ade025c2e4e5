// What is done to text before it is tokenised: line ends, invalid UTF-8, and the script of Chinese.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace qw::data {

enum class InvalidUtf8 : std::uint8_t {
  kReplace,  // each ill-formed part becomes U+FFFD (Unicode "maximal subpart" practice, as Python's errors="replace")
  kDrop,     // the document is left out and counted
  kRefuse,   // the build stops with the line number
};

// Replaces ill-formed parts by U+FFFD; returns how many there were.
std::uint64_t replace_invalid_utf8(std::string& text);

// "\r\n" and lone "\r" become "\n".
void normalise_line_ends(std::string& text);

enum class HanScript : std::uint8_t { kSimplified, kTraditional };

// Turns Chinese characters into those of one script (ICU's Hant-Hans and Hans-Hant transforms; other text is
// untouched). Not thread-safe; make one for each thread. kUsage when the build has no ICU.
class HanConverter {
 public:
  static Result<HanConverter> create(HanScript to);
  HanConverter(HanConverter&&) noexcept;
  HanConverter& operator=(HanConverter&&) noexcept;
  ~HanConverter();
  std::string convert(std::string_view utf8) const;

 private:
  struct State;
  explicit HanConverter(std::unique_ptr<State>);
  std::unique_ptr<State> state_;
};

}  // namespace qw::data
