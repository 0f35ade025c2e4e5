// Responses as they are kept: the document of one that was made, the job of one in the background.
#pragma once

#include <string>

#include "api/deferred.h"
#include "api/error.h"
#include "json/value.h"
#include "store/store.h"

namespace qw::api::openai {

ApiError no_response(const std::string& id);

// What was kept of a response that was made: "response", "input" and "messages".
ApiResult<json::Value> kept_response(store::Store& store, const std::string& project, const std::string& id);

// A response in the background that is not kept: it is still to be made, or was not. 404 for one that was deleted.
ApiResult<json::Object> unmade_response(const store::Job& job);

// As it was when it was asked for: waiting.
ApiResult<json::Object> queued_response(const store::Job& job);

}  // namespace qw::api::openai
