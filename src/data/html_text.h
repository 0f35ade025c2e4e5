// What of a page or a Markdown file is text to learn from.
#pragma once

#include <string>
#include <string_view>

namespace qw::data {

// The text of an HTML page: a line for each block, blank lines between paragraphs and the like, character references
// resolved, white space as a browser folds it but within <pre>. What is no text of the page goes: scripts, styles,
// comments, forms, and what pages mark as not theirs (nav, header, footer, aside). Any bytes are a page; time and
// memory are linear.
std::string html_text(std::string_view page);

// A Markdown file as it is, without the data in front ("---" to "---") and without HTML comments.
std::string markdown_text(std::string_view file);

}  // namespace qw::data
