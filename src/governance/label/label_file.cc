#include "governance/label/label_file.h"

#include <algorithm>

#include "governance/label/internal/carrier.h"

namespace qw::governance {
namespace {

using internal::Carrier;
using internal::Carriers;

struct Format {
  LabelFormat format;
  const char* name;
  std::vector<std::string_view> endings;
  std::string_view magic;
  Result<Carriers> (*read)(std::string_view file);
  Result<std::string> (*write)(std::string_view file, const AigcLabel& label);
};

const std::vector<Format>& formats() {
  using namespace internal;
  static const std::vector<Format> all = {
      {LabelFormat::kJson, "json", {".json"}, "", read_json, write_json},
      {LabelFormat::kMarkdown, "markdown", {".md", ".markdown"}, "", read_markdown, write_markdown},
      {LabelFormat::kHtml, "html", {".html", ".htm"}, "", read_html, write_html},
      {LabelFormat::kOoxml, "ooxml", {".docx", ".xlsx", ".pptx"}, "PK\x03\x04", read_ooxml, write_ooxml},
      {LabelFormat::kPdf, "pdf", {".pdf"}, "%PDF-", read_pdf, write_pdf},
      {LabelFormat::kPng, "png", {".png"}, "\x89PNG\r\n\x1A\n", read_png, write_png},
      {LabelFormat::kJpeg, "jpeg", {".jpg", ".jpeg"}, "\xFF\xD8\xFF", read_jpeg, write_jpeg},
  };
  return all;
}

const Format& entry_of(LabelFormat format) { return formats()[static_cast<std::size_t>(format)]; }

}  // namespace

namespace internal {

Result<std::string> relabelled(LabelFormat format, std::string_view file, const AigcLabel& label) {
  QW_ASSIGN(std::string out, entry_of(format).write(file, label));
  const LabelReport after = read_labels(format, out);
  if (after.verdict != LabelVerdict::kCompliant || !(after.labels[0] == label))
    return fail(ErrorKind::kFailed, "the label could not be read back from the file");
  return out;
}

Carrier carrier_of(const json::Value& object) {
  auto label = read_aigc_label(object);
  if (!label) return {{}, std::move(label).error().message};
  std::string fault = fault_of(*label);
  return {std::move(*label), std::move(fault)};
}

Carrier carrier_of_text(std::string_view text) {
  const auto value = json::parse(text);
  return value ? carrier_of(*value) : Carrier{{}, "AIGC is no JSON: " + value.error().message};
}

}  // namespace internal

const char* name_of(LabelFormat format) { return entry_of(format).name; }

std::optional<LabelFormat> format_of(std::string_view name, std::string_view file) {
  for (const Format& f : formats())
    if (!f.magic.empty() && file.starts_with(f.magic)) return f.format;
  std::string lower(name);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  for (const Format& f : formats())
    for (const std::string_view ending : f.endings)
      if (lower.ends_with(ending)) return f.format;
  return std::nullopt;
}

const char* name_of(LabelVerdict verdict) {
  constexpr const char* kNames[] = {"compliant", "noncompliant", "not_found", "inconclusive"};
  return kNames[static_cast<std::size_t>(verdict)];
}

LabelReport read_labels(LabelFormat format, std::string_view file) {
  if (file.size() > kMostLabelledBytes)
    return {
        LabelVerdict::kInconclusive, {}, "the file is longer than " + std::to_string(kMostLabelledBytes) + " bytes"};
  const auto carriers = entry_of(format).read(file);
  if (!carriers) return {LabelVerdict::kInconclusive, {}, carriers.error().message};
  LabelReport out;
  for (const Carrier& one : *carriers) {
    if (one.fault.empty())
      out.labels.push_back(one.label);
    else
      out.finding = one.fault;
  }
  if (carriers->size() > 1) out.finding = "the file has " + std::to_string(carriers->size()) + " labels";
  if (!out.finding.empty())
    out.verdict = LabelVerdict::kNoncompliant;
  else if (!carriers->empty())
    out.verdict = LabelVerdict::kCompliant;
  return out;
}

Result<std::string> with_label(LabelFormat format, std::string_view file, const AigcLabel& label) {
  if (const std::string fault = fault_of(label); !fault.empty()) return fail(ErrorKind::kUsage, fault);
  const LabelReport before = read_labels(format, file);
  if (!before.finding.empty()) return fail(ErrorKind::kBadInput, before.finding);
  AigcLabel fresh = label;
  if (!before.labels.empty()) {
    fresh = before.labels[0];
    fresh.propagator = label.producer;
    fresh.propagate_id = label.produce_id;
    fresh.reserved2 = label.reserved1;
  }
  return internal::relabelled(format, file, fresh);
}

}  // namespace qw::governance
