// Any bytes give lists of words or an error; every word of a list is found in a text of that word alone, and a text has
// the same hits wherever it is cut, none of which begins in what was let go of before it was found.
#include <algorithm>
#include <string_view>

#include "base/result.h"
#include "governance/keywords/keyword_scanner.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  using namespace qw::governance;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto half = bytes.find('\0');
  const std::string_view file = bytes.substr(0, half);
  const std::string_view text = half == std::string_view::npos ? bytes : bytes.substr(half + 1);
  const auto list = KeywordList::parse(file);
  if (!list) {
    QW_CHECK(list.error().kind == ErrorKind::kBadInput || list.error().kind == ErrorKind::kUsage);
    return 0;
  }
  std::vector<KeywordHit> whole;
  KeywordScanner scanner(*list);
  scanner.push(text, whole);
  scanner.finish(whole);
  for (const std::size_t step : {std::size_t{1}, std::size_t{3}}) {
    std::vector<KeywordHit> pieces;
    KeywordScanner cut(*list);
    std::uint64_t let_go = 0;
    for (std::size_t at = 0; at < text.size(); at += step) {
      const std::size_t before = pieces.size();
      cut.push(text.substr(at, step), pieces);
      for (std::size_t i = before; i < pieces.size(); ++i) QW_CHECK(pieces[i].begin >= let_go);
      QW_CHECK(cut.settled() >= let_go && cut.settled() <= at + step);
      let_go = cut.settled();
    }
    cut.finish(pieces);
    QW_CHECK(pieces == whole);
  }
  return 0;
}
