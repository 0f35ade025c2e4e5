// Any bytes are a profile or an error of one line; what is one is written and read again as the same.
#include <cstdint>

#include "base/result.h"
#include "governance/audit/log_files.h"
#include "governance/policy/policy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw::governance;
  const auto profile = Profile::parse({reinterpret_cast<const char*>(data), size});
  if (!profile) {
    QW_CHECK(!profile.error().message.empty() && profile.error().message.find('\n') == std::string::npos);
    return 0;
  }
  const auto again = Profile::parse(canonical(profile->document));
  QW_CHECK(again && again->hash == profile->hash && !again->signature);
  const auto policy = Policy::load(*profile, "");
  QW_CHECK(policy.has_value() == profile->packs.empty());
  if (policy)
    for (const std::string& line : (*policy)->unmet({})) QW_CHECK(line.find('\n') == std::string::npos);
  return 0;
}
