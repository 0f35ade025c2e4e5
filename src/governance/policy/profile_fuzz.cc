// Any bytes are a profile or an error of one line; what is one is written and read again as the same. So are lists of
// what is stopped.
#include <cstdint>

#include "base/result.h"
#include "governance/audit/log_files.h"
#include "governance/policy/policy.h"
#include "governance/policy/stop_list.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw::governance;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto stops = StopList::parse(bytes)) {
    const auto same = StopList::parse(stops->dump());
    QW_CHECK(same && same->dump() == stops->dump());
  }
  const auto profile = Profile::parse(bytes);
  if (!profile) {
    QW_CHECK(!profile.error().message.empty() && profile.error().message.find('\n') == std::string::npos);
    return 0;
  }
  const auto again = Profile::parse(canonical(profile->document));
  QW_CHECK(again && again->hash == profile->hash && !again->signature);
  const auto policy = Policy::load(*profile, "");
  QW_CHECK(policy.has_value() == (profile->packs.empty() && (!profile->minors || profile->minors->packs.empty())));
  if (policy)
    for (const std::string& line : (*policy)->unmet({})) QW_CHECK(line.find('\n') == std::string::npos);
  return 0;
}
