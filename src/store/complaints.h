// What people complain of, and appeals against what was answered: with a deadline, a status, and a receipt by which
// somebody without a key can look again.
//
// Errors: kBadInput for what does not exist or makes no sense; kRefused if it was answered or closed already, or a
// receipt is another's; kFailed where the database fails. Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace qw::store {

class Work;

struct Complaint {
  std::string id, project_id, user_id;  // the last two "": nobody known
  std::string kind;                     // "complaint", "appeal"
  std::string appeal_of;                // of an appeal: the complaint
  std::string about;                    // what it concerns: the number of a content, a response, a page; may be ""
  std::string contact, text;            // "" once erased
  std::string status;                   // "open", "answered", "closed"
  std::string answer, answered_by;
  std::int64_t created_us = 0, due_us = 0, answered_us = 0, closed_us = 0, erased_us = 0;  // 0: not yet
};
struct NewComplaint {
  std::string project_id, user_id, about, contact, text;
  std::int64_t days = 30;  // within which it is to be answered
};
struct FiledComplaint {
  Complaint complaint;
  std::string receipt;  // the only time it is seen
};
struct ComplaintCounts {
  std::int64_t open = 0, answered = 0, closed = 0, appeals = 0, overdue = 0, erased = 0;
  std::int64_t total() const { return open + answered + closed; }
};
struct ComplaintFilter {
  std::string status = {}, project_id = {}, user_id = {};  // "": all
  bool overdue = false;                                    // open ones behind their deadline only
};

class Complaints {
 public:
  explicit Complaints(Work& work) : work_(work) {}

  static constexpr std::size_t kMostText = 20'000, kMostShort = 500;  // bytes
  static constexpr std::int64_t kMostOpen = 100'000;                  // so that nobody fills the disk

  // kResource: too many are open.
  Result<FiledComplaint> add(const NewComplaint& complaint);
  // Of a complaint that was answered or closed, once. It may be of whoever has its receipt, or is its user.
  Result<FiledComplaint> appeal(const std::string& id, const NewComplaint& appeal);
  Result<Complaint> find(const std::string& id);
  Result<Complaint> find_by_receipt(const std::string& id, const std::string& receipt);
  // Oldest first, after the one called `after` ("": from the start).
  Result<std::vector<Complaint>> list(const ComplaintFilter& filter, const std::string& after, std::int64_t most);
  Result<ComplaintCounts> count();
  Result<Complaint> answer(const std::string& id, const std::string& text, const std::string& by);
  // Without an answer of its own (it was withdrawn, is spam, is settled otherwise): `why` says so.
  Result<Complaint> close(const std::string& id, const std::string& why, const std::string& by);

 private:
  Work& work_;
};

}  // namespace qw::store
