// What the store holds of a person, or of a project: to be given to them, or erased at their word. What was counted for
// accounts (the ledger's rows) stays, under ids that then name nobody; so do the statuses and deadlines of complaints,
// without their words.
//
// Errors: kBadInput for who does not exist; kRefused while jobs of the project run, and for the last owner; kFailed
// where the database fails. Threads: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "store/complaints.h"
#include "store/conduct.h"
#include "store/contents.h"
#include "store/documents.h"
#include "store/feedback.h"
#include "store/files.h"
#include "store/jobs.h"
#include "store/tenants.h"

namespace qw::store {

struct DataSubject {
  std::string user_id;     // "": nobody's own
  std::string project_id;  // "": nothing of a project
};
struct HeldData {
  std::optional<User> user;
  std::vector<Key> keys;  // the user's
  std::int64_t sessions = 0, usage_rows = 0;
  std::vector<Complaint> complaints;  // the user's; without one, the project's
  std::vector<File> files;            // of the project, as all below; contents by Files::read
  std::vector<Document> documents;
  std::vector<Job> jobs;
  std::vector<Feedback> feedback;        // the user's; with a project, all of the project's
  std::vector<DatasetVersion> datasets;  // that have some of it
  std::vector<Conduct> conduct;          // the user's, and that of keys that are nobody's
  std::vector<Minor> minors;             // what is noted of their age
  std::vector<Content> contents;         // encrypted, of the user, or all of the project's
  bool more = false;                     // there is more than was asked for of one of these lists
};
struct ErasedData {
  std::int64_t users = 0, keys = 0, sessions = 0, complaints = 0, files = 0, documents = 0, jobs = 0;
  std::int64_t feedback = 0, datasets = 0, salts = 0, contents = 0;
};

class PersonalData {
 public:
  explicit PersonalData(Work& work) : work_(work) {}

  // Whose data a key's holder may take along or erase: his own and, if nobody else has a key of the project or works in
  // it, the project's; of a key that is nobody's, the project's.
  Result<DataSubject> subject_of(const Key& key);
  // At most `most` of each list.
  Result<HeldData> collect(const DataSubject& subject, std::int64_t most);
  // In one transaction. A user's row stays, disabled, with a name that is made of its id.
  Result<ErasedData> erase(const DataSubject& subject);

 private:
  Work& work_;
};

}  // namespace qw::store
