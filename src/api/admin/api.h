// /admin/v1: what operations.h offers, over HTTP, for keys with the right "admin".
//
//   GET    /admin/v1/keys?project=P      {"object": "list", "data": [...], "has_more": ..., "next": "..."}
//   POST   /admin/v1/keys                {"project": "P", ...}; Idempotency-Key: so that a repeated one makes no second
//   POST   /admin/v1/keys/KEY/rotate, DELETE /admin/v1/keys/KEY, ...
//   GET    /v1/usage, /v1/usage/rows     the same as below /admin/v1, of the key's own project, for keys with "usage.read"
// Lists come in pages: `limit`, and `after` with the `next` of the page before. /admin/v1/usage/rows?format=csv gives
// CSV, its next page in the header X-Next-After. Each change is a line of the log: what, by whom, from where; no
// secrets.
#pragma once

#include <memory>

#include "api/background.h"
#include "api/exchange.h"

namespace qw::api::admin {

class Api {
 public:
  explicit Api(Background& background) : background_(background) {}  // must outlive this object
  // True if the path belongs here; the exchange is then answered, now or later.
  bool handle(const std::shared_ptr<const net::Request>& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  Background& background_;
};

}  // namespace qw::api::admin
