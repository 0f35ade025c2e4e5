// Rows of contents, within a transaction of the caller.
#pragma once

#include "store/contents.h"
#include "store/internal/work.h"

namespace qw::store {

#define QW_CONTENT_COLUMNS "id, project_id, user_id, key_id, wrapped, body, created_us, expires_us, erased_us"

Content content_of(const Row& r);  // of QW_CONTENT_COLUMNS
Status insert_content(Connection& c, const Content& content, std::int64_t now);
// What is left of a content that is erased; `where` goes on from "WHERE erased_us = 0 AND ", its $1 is `now`.
Result<std::int64_t> erase_contents(Connection& c, const std::string& where, std::vector<Value> values);

}  // namespace qw::store
