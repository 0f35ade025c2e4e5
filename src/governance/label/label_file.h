// Labels in files: where each kind of file carries its AIGC object, put there and read back.
//
//   JSON      member "AIGC" of the outermost object
//   Markdown  mapping "AIGC:" in YAML front matter
//   HTML      <meta name="AIGC" content="...">
//   OOXML     (DOCX, XLSX, PPTX) property AIGC of docProps/custom.xml
//   PDF       entry /AIGC of the information dictionary
//   PNG, JPEG element AIGC of http://www.tc260.org.cn/ns/AIGC/1.0/ in the XMP packet
//
// A file has one label: what is labelled keeps its producer, and who passes it on is entered as its propagator. Nothing
// is said to be labelled that was not read back. Files are foreign bytes: sizes are bounded, what cannot be read is
// told of and never guessed at. Sources: TC260-PG-20258A (texts), TC260-PG-20259A (images); for HTML and JSON, which
// these guides leave open, the forms above.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "governance/label/aigc_label.h"

namespace qw::governance {

enum class LabelFormat : std::uint8_t { kJson, kMarkdown, kHtml, kOoxml, kPdf, kPng, kJpeg };
const char* name_of(LabelFormat format);
// By what a file begins with, otherwise by the end of its name; nullopt: neither says.
std::optional<LabelFormat> format_of(std::string_view name, std::string_view file);

enum class LabelVerdict : std::uint8_t { kCompliant, kNoncompliant, kNotFound, kInconclusive };
const char* name_of(LabelVerdict verdict);

struct LabelReport {
  LabelVerdict verdict = LabelVerdict::kNotFound;
  std::vector<AigcLabel> labels;  // as far as they could be read
  std::string finding;            // why kNoncompliant or kInconclusive
};

inline constexpr std::size_t kMostLabelledBytes = 64 << 20;  // of a file, and of each part of it that is unpacked

LabelReport read_labels(LabelFormat format, std::string_view file);

// The file with the label. kUsage: the label is at fault; kBadInput: the file is not of the format, or the labels it
// has are at fault; kFailed: it could not be read back.
Result<std::string> with_label(LabelFormat format, std::string_view file, const AigcLabel& label);

}  // namespace qw::governance
