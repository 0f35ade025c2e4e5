// Any bytes are lists of expressions or an error of one line; a text has the same matches wherever it is cut, none of
// which begins in what was let go of before it was found.
#include <algorithm>
#include <string_view>

#include "base/result.h"
#include "governance/patterns/pattern_scanner.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  using namespace qw::governance;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto half = bytes.find('\0');
  const std::string_view text = half == std::string_view::npos ? bytes : bytes.substr(half + 1);
  const auto list = PatternList::parse(bytes.substr(0, half));
  if (!list) {
    QW_CHECK(list.error().message.find('\n') == std::string::npos);
    return 0;
  }
  std::vector<PatternHit> whole;
  PatternScanner scanner(*list);
  scanner.push(text, whole);
  scanner.finish(whole);
  std::sort(whole.begin(), whole.end());
  for (const std::size_t step : {std::size_t{1}, std::size_t{3}}) {
    std::vector<PatternHit> pieces;
    PatternScanner cut(*list);
    std::uint64_t let_go = 0;
    for (std::size_t at = 0; at < text.size(); at += step) {
      const std::size_t before = pieces.size();
      cut.push(text.substr(at, step), pieces);
      for (std::size_t i = before; i < pieces.size(); ++i) QW_CHECK(pieces[i].begin >= let_go);
      QW_CHECK(cut.settled() >= let_go && cut.settled() <= at + step);
      let_go = cut.settled();
    }
    cut.finish(pieces);
    std::sort(pieces.begin(), pieces.end());
    QW_CHECK(pieces == whole);
  }
  return 0;
}
