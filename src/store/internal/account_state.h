// What limits and budgets of the subjects of some requests say, read under lock, changed in memory, written back.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "store/internal/admission.h"
#include "store/internal/database.h"
#include "store/ledger.h"

namespace qw::store {

struct SubjectState {
  Rate requests, tokens;  // limit 0: none
  std::int64_t concurrency = 0, running = 0;
  std::vector<Budget> budgets;
  bool changed = false;
};
// By subject; only those that have limits or budgets.
using Subjects = std::map<std::string, SubjectState>;

// Locks in the order of names, so that no two transactions wait for each other. Budgets whose period has passed begin
// anew.
Result<Subjects> load_subjects(Connection& c, const std::set<std::string>& names, std::int64_t now_us);
Status save_subjects(Connection& c, const Subjects& subjects);

// A part of a reservation: `kind` "subject" (a place among those that run, and microseconds of its token rate), "payer"
// (a subject whose budgets alone are charged) or "budget" (`target`: its id).
struct Share {
  std::string kind, target;
  std::int64_t amount = 0;
};
struct Decision {
  Admission admission;  // reservation still empty
  std::vector<Share> shares;
};
// Decides one request and takes what it may have out of `subjects`. `price`: nullptr if its model has none.
Decision decide(const Asked& asked, const std::vector<std::string>& names, const Price* price, Subjects& subjects,
                std::int64_t now_us);

}  // namespace qw::store
