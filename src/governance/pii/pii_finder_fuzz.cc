// Any bytes: what is found does not depend on where they are cut, lies in order, does not overlap, and begins in
// nothing that was let go of.
#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "governance/pii/pii_finder.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  using namespace qw::governance;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const PiiSet all = *PiiSet::parse("all");
  std::vector<PiiHit> whole;
  PiiFinder finder(all);
  finder.push(text, whole);
  finder.finish(whole);
  std::uint64_t end = 0;
  for (const PiiHit& hit : whole) {
    QW_CHECK(hit.begin >= end && hit.end > hit.begin && hit.end <= size);
    end = hit.end;
  }
  for (const std::size_t step : {std::size_t{1}, std::size_t{5}}) {
    std::vector<PiiHit> pieces;
    PiiFinder cut(all);
    std::uint64_t let_go = 0;
    for (std::size_t at = 0; at < size; at += step) {
      const std::size_t before = pieces.size();
      cut.push(text.substr(at, step), pieces);
      for (std::size_t i = before; i < pieces.size(); ++i) QW_CHECK(pieces[i].begin >= let_go);
      QW_CHECK(cut.settled() >= let_go);
      let_go = cut.settled();
    }
    cut.finish(pieces);
    QW_CHECK(pieces == whole);
  }
  QW_CHECK(masked(text, whole).size() == size);
  return 0;
}
