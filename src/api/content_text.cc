#include "api/content_text.h"

#include <utility>

namespace qw::api {

bool content_text(const json::Value* content, const PartText& part_text, std::string& out) {
  if (content == nullptr || content->is_null()) return true;
  if (content->is_string()) {
    out = content->as_string();
    return true;
  }
  if (!content->is_array()) return false;
  bool first = true;
  for (const json::Value& part : content->as_array()) {
    std::string text;
    if (!part_text(part, text)) return false;
    if (!std::exchange(first, false)) out += "\n";
    out += text;
  }
  return true;
}

}  // namespace qw::api
