// HTTP messages as values. This room knows nothing of language models.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qw::net {

using Headers = std::vector<std::pair<std::string, std::string>>;

// First header of that name (case-insensitive), or "" if absent.
std::string_view find_header(const Headers& headers, std::string_view name);

struct Request {
  std::string method;   // "GET", "POST", ... as sent
  std::string path;     // percent-decoded, begins with '/', without the query
  std::string query;    // raw text after '?', may be empty
  Headers headers;      // in order of arrival
  std::string body;
  std::string remote;   // "127.0.0.1:52114"
};

struct Response {
  int status = 200;
  Headers headers;      // Content-Length, Date, Server and Connection are added by the server
  std::string body;
};

// Decodes %XX in a path; false if malformed or if it decodes to a NUL byte.
bool percent_decode(std::string_view text, std::string& out);

// Value of the first `name` in a query, decoded ('+' is a space); "" if it has none; nothing if the name does not occur
// or its value is malformed.
std::optional<std::string> query_value(std::string_view query, std::string_view name);

}  // namespace qw::net
