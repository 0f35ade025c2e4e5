// Files that clients leave with the service, in parts, in the database: every replica sees them.
//
// Errors: kBadInput for what makes no sense or does not exist; kFailed where the database fails. Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace qw::store {

class Work;

struct File {
  std::string id, project_id, name, purpose;
  std::int64_t bytes = 0;
  bool complete = false;                        // false: parts are still being added
  std::int64_t created_us = 0, expires_us = 0;  // 0: never
};

class Files {
 public:
  explicit Files(Work& work) : work_(work) {}

  // A file without content; then append as often as needed (memory is one part), then complete.
  Result<File> begin(const std::string& project_id, const std::string& name, const std::string& purpose,
                     std::int64_t expires_us = 0);
  Status append(const std::string& id, std::string_view bytes);
  Result<File> complete(const std::string& id);

  Result<File> find(const std::string& project_id, const std::string& id);
  // The complete ones, newest first (or oldest first), of one purpose or all (""), after the file `after` ("": from the
  // start).
  Result<std::vector<File>> list(const std::string& project_id, const std::string& purpose, const std::string& after,
                                 std::int64_t most, bool oldest_first = false);
  // Up to one part's bytes from `offset` on; empty at the end.
  Result<std::string> read(const std::string& id, std::int64_t offset);
  Status remove(const std::string& project_id, const std::string& id);
  // What has expired, and what was never completed within a day. Returns how many.
  Result<std::int64_t> sweep();

  static constexpr std::int64_t kPartBytes = 1 << 20;  // append splits what is longer

 private:
  Work& work_;
};

}  // namespace qw::store
