// The text of a message's content, which every protocol gives as a string or as parts of its own form.
#pragma once

#include <functional>
#include <string>

#include "json/value.h"

namespace qw::api {

// Takes the text of one part; false: it is no part of text.
using PartText = std::function<bool(const json::Value& part, std::string& text)>;

// False: it is neither a string nor parts of text. Absent and null are no text. Parts are joined by newlines, as
// chat/messages joins those of OpenAI's messages.
bool content_text(const json::Value* content, const PartText& part_text, std::string& out);

}  // namespace qw::api
