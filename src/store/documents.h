// Stored answers and conversations: texts by id, each of a project, a kind ("response", "conversation", "item") and
// perhaps with a parent. Their form belongs to whoever writes them.
//
// Errors: kBadInput for what does not exist or exists already; kFailed where the database fails. Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace qw::store {

class Work;

struct Document {
  std::string id, project_id, kind, parent;
  std::int64_t created_us = 0, expires_us = 0;  // expires 0: never
  std::string body;
};

class Documents {
 public:
  explicit Documents(Work& work) : work_(work) {}

  Result<Document> add(Document document);  // created_us is set here
  Status change(const std::string& project_id, const std::string& id, const std::string& body);
  Result<Document> find(const std::string& project_id, const std::string& kind,
                        const std::string& id);  // not what has expired
  // Children of a document, oldest first, after the one called `after` ("": from the start).
  Result<std::vector<Document>> children(const std::string& project_id, const std::string& parent,
                                         const std::string& after, std::int64_t most);
  // With its children.
  Status remove(const std::string& project_id, const std::string& id);
  Result<std::int64_t> sweep();  // what has expired; returns how many

 private:
  Work& work_;
};

}  // namespace qw::store
