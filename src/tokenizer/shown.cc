#include "tokenizer/internal/shown.h"

#include "json/value.h"
#include "base/utf8.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {
namespace {

constexpr std::size_t kMaxBytes = 120;  // a line of a terminal, more or less; long enough for the known regexes

}  // namespace

std::string shown(std::string_view text) {
  std::string valid;
  base::append_valid_utf8(valid, text.substr(0, kMaxBytes), text.size() <= kMaxBytes);
  if (text.size() > kMaxBytes) valid += "...";
  return json::dump(json::Value(valid));
}

std::string shown_token(std::string_view bytes) { return shown(bytes_to_letters(bytes.substr(0, kMaxBytes))); }

}  // namespace qw::tokenizer
