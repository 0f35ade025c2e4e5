// Forms come from clients: the first line is the Content-Type, the rest the body. Parts lie inside the body, in order.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "net/multipart.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto line = text.find('\n');
  // Most inputs should get past the type: without a line the whole text is a body.
  const std::string_view type =
      line == std::string_view::npos ? "multipart/form-data; boundary=b" : text.substr(0, line);
  const std::string_view body = line == std::string_view::npos ? text : text.substr(line + 1);
  const auto parts = qw::net::parse_form(type, body);
  if (!parts) return 0;
  if (parts->size() > qw::net::kMaxFormParts) std::abort();
  const char* last = body.data();
  for (const auto& part : *parts) {
    if (part.body.empty()) continue;
    if (part.body.data() < last || part.body.data() + part.body.size() > body.data() + body.size()) std::abort();
    last = part.body.data() + part.body.size();
  }
  return 0;
}
