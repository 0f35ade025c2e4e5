// What people think of answers, what becomes of it under review, and the data sets that are made of what was accepted.
//
// Texts are whoever's who wrote them: erase() takes them out of everything here, and leaves that there was something,
// by its digest. Errors: kBadInput for what makes no sense or does not exist; kRefused for what was decided already;
// kFailed where the database fails. Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace qw::store {

class Work;

struct Feedback {
  std::string id, project_id;
  std::string answer_id, model;     // the answer, and which model gave it
  std::string rating;               // "up" or "down"
  std::string comment, correction;  // correction: what the answer should have been; "": not said
  std::string status;               // "open", "accepted", "rejected" or "erased"
  std::string by_key, by_user;      // who gave it
  std::string reviewer, note;       // who decided, and why
  std::string prompt, answer;       // messages as JSON; the answer's text
  std::string digest;               // SHA-256 over what was accepted (whoever accepts says); "" before
  std::int64_t created_us = 0, changed_us = 0;
};

struct DatasetVersion {
  std::string id, project_id, name;
  std::int64_t number = 0;  // of the name, from 1
  std::string sha256;       // over its items' digests, in order
  std::int64_t examples = 0, pairs = 0;
  std::string examples_file, pairs_file;  // ids; "": there is none, or it was erased
  std::string examples_sha256, pairs_sha256;
  std::string by_key;
  bool erased = false;  // something of it was: its files are gone
  std::int64_t created_us = 0;
};
struct DatasetItem {
  std::string feedback_id, digest;
};

class FeedbackBook {
 public:
  explicit FeedbackBook(Work& work) : work_(work) {}

  Result<Feedback> add(Feedback feedback);  // id, status and times are set here
  Result<Feedback> find(const std::string& project_id, const std::string& id);
  // Oldest first, of one status or all (""), after the one called `after`.
  Result<std::vector<Feedback>> list(const std::string& project_id, const std::string& status, const std::string& after,
                                     std::int64_t most);
  // An open one gets another correction (edited) and stays open.
  Result<Feedback> edit(const std::string& project_id, const std::string& id, const std::string& correction,
                        const std::string& reviewer);
  // An open one ends as "accepted" (with its digest) or "rejected". kRefused: it is not open.
  Result<Feedback> decide(const std::string& project_id, const std::string& id, const std::string& status,
                          const std::string& reviewer, const std::string& note, const std::string& digest);
  // Its texts go, and the data sets that have them are marked; returns those, whose files the caller removes.
  Result<std::vector<DatasetVersion>> erase(const std::string& project_id, const std::string& id);

  // Number, id and time are set here; items in order.
  Result<DatasetVersion> add_dataset(DatasetVersion version, const std::vector<DatasetItem>& items);
  Result<DatasetVersion> dataset(const std::string& project_id, const std::string& id);
  // The one that has this file; kBadInput: none has.
  Result<DatasetVersion> dataset_of_file(const std::string& project_id, const std::string& file_id);
  Result<std::vector<DatasetVersion>> datasets(const std::string& project_id, const std::string& after,
                                               std::int64_t most);
  Result<std::vector<DatasetItem>> items(const std::string& dataset_id);

 private:
  Work& work_;
};

}  // namespace qw::store
