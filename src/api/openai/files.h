// What clients leave with the service: /v1/files, and /v1/uploads for files that come in parts. Kept in the store, so
// every replica has them; a service without one refuses (501).
#pragma once

#include <memory>
#include <string>

#include "api/background.h"
#include "api/exchange.h"
#include "json/value.h"
#include "net/http_server.h"
#include "store/store.h"

namespace qw::api::openai {

using SharedRequest = std::shared_ptr<const net::Request>;

class FilesApi {
 public:
  // `background` must outlive this object and what it began.
  explicit FilesApi(Background& background) : background_(background) {}
  // True if the path belongs here; the exchange is then answered, now or later.
  bool handle(const SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  Background& background_;
};

json::Value file_object(const store::File& file);

// What the handlers of stored things share
// -----------------------------------------------------------------------------

// The store of the exchange's accounts; null after answering that there is none.
store::Store* store_of(Exchange& exchange);
// "There is no ..." of the store becomes 404, everything else 503.
ApiError store_error(const Error& error);
// Runs `work` in the background, or answers that too much waits there.
void in_background(Background& background, const std::shared_ptr<Exchange>& exchange, std::function<void()> work);
// {"object": "list", "data": items, "first_id", "last_id", "has_more"}
json::Value list_object(json::Array items, bool has_more);
// limit, order and after of a query. 1 <= limit <= `most`.
struct ListQuery {
  std::int64_t limit = 0;
  std::string after;
  bool oldest_first = false;
};
ApiResult<ListQuery> read_list_query(const net::Request& request, std::int64_t usual, std::int64_t most);
// The project that owns what the exchange's key leaves here.
const std::string& project_of(const Exchange& exchange);

}  // namespace qw::api::openai
