// PDF of pages, by a program that lays out HTML and is installed beside this one: WeasyPrint, else Chromium. A library
// that does so would be in the process that serves strangers, with its parsers of fonts, for something that is made a
// few times a year.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/result.h"

namespace qw::app {

struct PdfTool {
  std::string path;
  bool weasyprint = false;
};
// Nothing: there is none in PATH.
std::optional<PdfTool> find_pdf_tool();
extern const char* const kPdfTools;  // their names, for messages

// kFailed: it ended with an error or took more than two minutes; its last line is in the message.
Status write_pdf(const PdfTool& tool, const std::filesystem::path& html, const std::filesystem::path& pdf);

}  // namespace qw::app
