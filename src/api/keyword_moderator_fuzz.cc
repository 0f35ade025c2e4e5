// Any bytes give lists of words or an error; every word of a list is found in a text of that word alone, and what was
// found in a text is found when more is said after it.
#include <algorithm>
#include <string_view>

#include "api/keyword_moderator.h"
#include "base/result.h"

namespace {

bool flagged(const qw::api::KeywordModerator& lists, const std::string& text) {
  bool any = false;
  for (const auto& category : lists.judge(std::string_view(text))) {
    QW_CHECK(category.flagged == (category.score == 1));
    any = any || category.flagged;
  }
  return any;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto half = bytes.find('\0');
  const std::string_view file = bytes.substr(0, half);
  const std::string text(half == std::string_view::npos ? bytes : bytes.substr(half + 1));
  const auto lists = api::KeywordModerator::parse(file);
  if (!lists) {
    QW_CHECK(lists.error().kind == ErrorKind::kBadInput);
    return 0;
  }
  const std::string folded = api::folded_text(text);
  QW_CHECK(folded.front() == ' ' && folded.back() == ' ');
  for (std::size_t at = 0; at < file.size();) {
    const auto end = std::min(file.find('\n', at), file.size());
    const std::string line(file.substr(at, end - at));
    at = end + 1;
    const auto first = line.find_first_not_of(" \t\r");
    if (first != std::string::npos && line[first] != '#' && line[first] != '[') QW_CHECK(flagged(**lists, line));
  }
  QW_CHECK(!flagged(**lists, text) || flagged(**lists, text + " . " + text));
  return 0;
}
