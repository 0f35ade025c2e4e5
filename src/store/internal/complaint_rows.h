// Rows of complaints, within a transaction of the caller.
#pragma once

#include "store/complaints.h"
#include "store/internal/work.h"

namespace qw::store {

#define QW_COMPLAINT_COLUMNS                                                                                  \
  "id, project_id, user_id, kind, appeal_of, about, contact, text, status, answer, answered_by, created_us, " \
  "due_us, answered_us, closed_us, erased_us"

Complaint complaint_of(const Row& r);

}  // namespace qw::store
