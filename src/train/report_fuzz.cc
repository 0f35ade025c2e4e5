// Logs of any bytes: an error that says something, or curves whose steps ascend, and reports of them.
#include <cmath>
#include <string_view>

#include "train/report.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  const auto log = train::parse_run_log({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!log) {
    QW_CHECK(!log.error().message.empty());
    return 0;
  }
  for (const auto& curve : log->curves)
    for (std::size_t i = 0; i < curve.points.size(); ++i) {
      QW_CHECK(std::isfinite(curve.points[i].second));
      QW_CHECK(i == 0 || curve.points[i - 1].first < curve.points[i].first);
    }
  QW_CHECK(!train::report_text(*log, 40, 6).empty());
  QW_CHECK(train::report_html(*log, "<fuzz>").find("<fuzz>") == std::string::npos);
  return 0;
}
