// Contents of audited requests, encrypted by whoever keeps them here (the keys are not in the store): what went in and
// what came out of an answer. The audit log has the hash of each body; a content that is erased loses its key and its
// body, and its row says when.
//
// Errors: kBadInput for what does not exist; kFailed where the database fails. Threads: any.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace qw::store {

class Work;

struct Content {
  std::string id, project_id, user_id;                         // user "": the key's is nobody's
  std::string key_id, wrapped, body;                           // bytes; the last two "" once erased
  std::int64_t created_us = 0, expires_us = 0, erased_us = 0;  // expires 0: never; erased 0: it is there
};
struct ContentFilter {
  std::string project_id = {}, user_id = {};  // "": all
  std::string not_under = {};                 // only what is encrypted under another master key than this; "": all
  std::int64_t from_us = 0, to_us = 0;        // of when it was kept; to 0: no end
};

class Contents {
 public:
  explicit Contents(Work& work) : work_(work) {}

  Status add(const Content& content) { return add(std::span(&content, 1)); }  // created_us is set here
  Status add(std::span<const Content> contents);                              // all, or none
  Result<Content> find(const std::string& id);
  // Those that are there, oldest first, after the one called `after` ("": from the start).
  Result<std::vector<Content>> list(const ContentFilter& filter, const std::string& after, std::int64_t most);
  // Its key, encrypted under another master key. False: it was erased meanwhile, or others were faster.
  Result<bool> rewrap(const Content& before, const std::string& key_id, const std::string& wrapped);
  Status erase(const std::string& id);
  // Erases what has expired; returns how many.
  Result<std::int64_t> sweep();

 private:
  Work& work_;
};

}  // namespace qw::store
