#include "api/error.h"

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"

namespace qw::api {

ApiError bad_request(std::string param, std::string message) {
  return {400, "invalid_request_error", std::move(message), std::move(param), ""};
}

ApiError model_not_found(const std::string& model) {
  return {404, "invalid_request_error", "The model `" + model + "` does not exist.", "model", "model_not_found"};
}

ApiError from_internal(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kUsage:
    case ErrorKind::kBadInput: return bad_request("", error.message);
    case ErrorKind::kResource: return {503, "overloaded_error", error.message, "", "overloaded"};
    case ErrorKind::kRefused: return {403, "permission_error", error.message, "", ""};
    case ErrorKind::kInterrupted: return {503, "server_error", error.message, "", ""};
    case ErrorKind::kFailed: break;
  }
  return {500, "server_error", error.message, "", ""};
}

ApiError from_store(const Error& error) {
  if (error.kind == ErrorKind::kBadInput || error.kind == ErrorKind::kUsage)
    return bad_request("", error.message + ".");
  if (error.kind == ErrorKind::kRefused)
    return {409, "invalid_request_error", error.message + ".", "", "not_possible", -1};
  base::log_error("store: " + error.message);
  return {503, "server_error", "The store cannot be reached.", "", "store_unavailable"};
}

std::int64_t retry_after_of(std::int64_t wait_us) {
  return std::max<std::int64_t>(1, (wait_us + base::kSecondUs - 1) / base::kSecondUs);
}

}  // namespace qw::api
