// How people use the service, as far as a policy counts it: strikes for what it blocks, how long they have been at it,
// and who is a minor. A person is whoever has a key (its user; a key that is nobody's is a person of its own), and has
// one row here, which all services over the store share.
//
// Errors: kBadInput for whom nobody knows; kFailed where the database fails. Threads: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace qw::store {

class Work;

enum class Measure : std::uint8_t { kWarn, kSlow, kSuspend };  // the later, the harder
const char* name_of(Measure measure);                          // "warn", "slow", "suspend"

// What so many strikes lead to: in a row (nothing else was asked in between), or in a day. 0: not by these.
struct StrikeStep {
  std::int64_t in_a_row = 0, a_day = 0;
  Measure measure = Measure::kSuspend;
  std::int64_t minutes = 60;    // of slowing and suspending
  std::int64_t per_minute = 1;  // requests of whoever is slowed
};

struct ConductRules {
  std::vector<StrikeStep> strikes;    // of those reached the hardest counts
  std::int64_t utc_offset_min = 0;    // of where days begin at midnight
  std::int64_t pause_min = 15;        // a longer one ends a use
  std::int64_t reminder_min = 0;      // of continuous use, after which a reminder is due; 0: never
  std::int64_t minutes_a_day = 0;     // of use; 0: any
  bool empty() const { return strikes.empty() && reminder_min == 0 && minutes_a_day == 0; }
};

struct Conduct {
  std::string subject;          // id of a user or a key
  std::string standing;         // "", "warned", "slowed" or "suspended"
  std::int64_t until_us = 0;    // of the latter two
  std::int64_t per_minute = 0;  // of "slowed"
  std::int64_t in_a_row = 0, today = 0, total = 0;  // strikes
  std::int64_t last_us = 0;                         // of the last strike; 0: there was none
  std::int64_t used_us = 0;                         // today
  std::int64_t since_us = 0, seen_us = 0;           // when the use that goes on began, and when it was last seen
};

struct Meeting {  // a request
  std::string subject;
  bool violates = false;     // the policy blocks what is asked
  bool may_remind = true;    // if a reminder is due it is given with the answer
  ConductRules rules;
};
struct Met {
  enum class Verdict : std::uint8_t { kGo, kSlowed, kSuspended, kUsedUp } verdict = Verdict::kGo;
  std::int64_t wait_us = 0;  // of the latter three
  bool reminds = false;      // now; the next one is due after as long again
  bool measured = false;     // this request led to its standing
  Conduct conduct;
};

// A user, key or project whose requests are a minor's.
struct Minor {
  std::string subject;
  std::int64_t age = 0;     // years; 0: not known
  bool consent = false;     // a guardian's is there
  std::int64_t created_us = 0;
};

class ConductBook {
 public:
  explicit ConductBook(Work& work) : work_(work) {}

  // Counts a request and says what becomes of it. One that is not to go on counts as no use, and is no strike.
  Result<Met> meet(const Meeting& meeting);
  // Those who ever had a strike, or of one standing; the latest strike first.
  Result<std::vector<Conduct>> list(const std::string& standing, std::int64_t most);
  Result<Conduct> find(const std::string& subject);
  // Ends what was done to them, and forgets what is counted towards more.
  Result<Conduct> lift(const std::string& subject);

  Result<Minor> set_minor(const std::string& subject, std::int64_t age, bool consent);
  Result<std::vector<Minor>> minors();
  Status unset_minor(const std::string& subject);  // also if it was none

 private:
  Work& work_;
};

}  // namespace qw::store
