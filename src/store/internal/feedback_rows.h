// Rows of feedback and of data sets, within a transaction of the caller.
#pragma once

#include "store/feedback.h"
#include "store/internal/work.h"

namespace qw::store {

#define QW_FEEDBACK_COLUMNS                                                                                          \
  "id, project_id, answer_id, model, rating, comment, correction, status, by_key, by_user, reviewer, note, prompt, " \
  "answer, digest, created_us, changed_us"
#define QW_DATASET_COLUMNS                                                                                            \
  "id, project_id, name, number, sha256, examples, pairs, examples_file, pairs_file, examples_sha256, pairs_sha256, " \
  "by_key, erased, created_us"

Feedback feedback_of(const Row& r);       // of QW_FEEDBACK_COLUMNS
DatasetVersion dataset_of(const Row& r);  // of QW_DATASET_COLUMNS

}  // namespace qw::store
