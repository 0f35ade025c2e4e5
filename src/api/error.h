// An error on the wire: HTTP status and the four fields of OpenAI's error body. Other protocols shape it their way.
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>

#include "base/result.h"
#include "net/http.h"

namespace qw::api {

struct ApiError {
  int status = 500;
  std::string type = "server_error";   // invalid_request_error, authentication_error, ...
  std::string message;
  std::string param;                   // the request field at fault; "" gives null
  std::string code;                    // "" gives null
  std::int64_t retry_after_s = 1;      // of 429 and 503: when to try again; -1: waiting does not help
};

// The code of what a policy does not let through; protocols that have a word of their own for it say that.
inline constexpr const char* kContentFilter = "content_filter";

template <class T>
using ApiResult = tl::expected<T, ApiError>;

ApiError bad_request(std::string param, std::string message);
ApiError model_not_found(const std::string& model);
// What an internal error means to a client: usage and bad input are the request's fault, resource is "try later".
ApiError from_internal(const Error& error);
// The same of the store's errors: what it refuses is a conflict (409), and what it cannot do is told in the log alone.
ApiError from_store(const Error& error);
// Retry-After for a wait of so many microseconds: whole seconds, at least one.
std::int64_t retry_after_of(std::int64_t wait_us);

}  // namespace qw::api
