// Bodies of type multipart/form-data (RFC 7578 over RFC 2046): what forms and clients upload files with.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace qw::net {

struct FormPart {
  std::string name;          // of the field, as given
  std::string filename;      // "" unless it is a file; the last component of what the client wrote
  std::string content_type;  // "" unless given
  std::string_view body;     // of the text that was parsed; valid as long as that is
};

// `content_type`: the request's header. kBadInput with the reason and, where there is one, the byte: another type, no
// boundary, a part without a name, a body that is cut off, more than kMaxFormParts parts.
Result<std::vector<FormPart>> parse_form(std::string_view content_type, std::string_view body);

// A form of an upload has a file and a handful of fields; thousands of empty parts would only cost memory.
inline constexpr std::size_t kMaxFormParts = 256;

}  // namespace qw::net
