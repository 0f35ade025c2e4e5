// What a complaint is about, opened for whoever decides on it: what was asked and answered, or asked and refused, as
// the store has it, encrypted. Who looked is on record before he sees it.
//
//   GET /admin/v1/contents/{complaint_id}   with the right "contents.read"
//
// A complaint is about the number of an answer (its ProduceID), or about a request by its id (X-Request-Id), which is
// all that somebody has who was refused. An appeal is about what its complaint is about.
#pragma once

#include <memory>

#include "api/background.h"
#include "api/exchange.h"

namespace qw::api {

// True if the path is that route; the exchange is then answered, now or later.
bool handle_complaint_content(Background& background, const std::shared_ptr<const net::Request>& request,
                              const std::shared_ptr<Exchange>& exchange);

}  // namespace qw::api
