// Words that tell readers of a text that it was generated (GB 45438-2025 section 5; EU AI Act article 50): put at its
// beginning, and looked for at both ends.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace qw::governance {

enum class NoticeForm : std::uint8_t { kText, kMarkdown, kHtml };

// By language: zh, en, it. nullptr: there is none.
const char* notice_in(std::string_view language);

// The text with the notice as its first paragraph: of Markdown behind front matter, of HTML as the first element of the
// body. What begins with it already stays as it is. kBadInput: the HTML cannot be read to its end.
Result<std::string> with_notice(NoticeForm form, std::string_view file, std::string_view notice);

// Whether readers are told by words of GB 45438: has_explicit_words() of what they see of the file.
Result<bool> tells_readers(NoticeForm form, std::string_view file);

}  // namespace qw::governance
