// What a kind of file carries labels in. One source for each kind; label_file.cc makes verdicts of what they find.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "governance/label/aigc_label.h"
#include "governance/label/label_file.h"
#include "governance/label/visible_label.h"

namespace qw::governance::internal {

// A place where a file has a label, and what is wrong with what it holds ("": nothing).
struct Carrier {
  AigcLabel label;
  std::string fault;
};
using Carriers = std::vector<Carrier>;

// The file with exactly this label, whatever it has now, which is one at most. Of a file that has one, what comes out is
// the same whatever that said. kFailed: it could not be read back.
Result<std::string> relabelled(LabelFormat format, std::string_view file, const AigcLabel& label);

Carrier carrier_of(const json::Value& object);   // what AIGC is
Carrier carrier_of_text(std::string_view text);  // the same as JSON

// All carriers of a file; kBadInput: it is not of the format, or cannot be read to its end.
Result<Carriers> read_json(std::string_view file);
Result<Carriers> read_markdown(std::string_view file);
Result<Carriers> read_html(std::string_view file);
Result<Carriers> read_ooxml(std::string_view file);
Result<Carriers> read_pdf(std::string_view file);
Result<Carriers> read_png(std::string_view file);
Result<Carriers> read_jpeg(std::string_view file);

// The file with `label`, in place of the one carrier that it has, or as its first. The file was read before, and has no
// more than one.
Result<std::string> write_json(std::string_view file, const AigcLabel& label);
Result<std::string> write_markdown(std::string_view file, const AigcLabel& label);
Result<std::string> write_html(std::string_view file, const AigcLabel& label);
Result<std::string> write_ooxml(std::string_view file, const AigcLabel& label);
Result<std::string> write_pdf(std::string_view file, const AigcLabel& label);
Result<std::string> write_png(std::string_view file, const AigcLabel& label);
Result<std::string> write_jpeg(std::string_view file, const AigcLabel& label);

// Of word processing documents (kUsage: it is another kind of OOXML): what they say, a line a paragraph, and the
// document with this paragraph first, unless it begins so already.
Result<std::string> docx_text(std::string_view file);
Result<std::string> with_first_paragraph(std::string_view file, const std::string& text);
// Whether the first page says by text behind its drawings that it was generated, and the file with such a mark.
Result<bool> has_pdf_mark(std::string_view file);
Result<std::string> with_pdf_mark(std::string_view file, const VisibleLabel& label);

// Where the text behind front matter begins, and where <body> does (without one: where a label goes).
std::size_t markdown_body(std::string_view file);
Result<std::size_t> html_body(std::string_view file);
std::string html_text(std::string_view html);  // without tags, comments and scripts

}  // namespace qw::governance::internal
