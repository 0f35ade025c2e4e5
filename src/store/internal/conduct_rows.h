// Rows of conduct and of minors, within a transaction of the caller.
#pragma once

#include "store/conduct.h"
#include "store/internal/work.h"

namespace qw::store {

#define QW_CONDUCT_COLUMNS                                                                                             \
  "subject, standing, until_us, per_minute, in_a_row, today, total, last_us, used_us, since_us, seen_us, reminded_us, " \
  "slow_tat_us, day"

Conduct conduct_of(const Row& r);  // of QW_CONDUCT_COLUMNS
Minor minor_of(const Row& r);      // of subject, age, consent, created_us

}  // namespace qw::store
