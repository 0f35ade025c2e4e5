// Small files of every format that carries labels, for the tests of them.
#pragma once

#include <gtest/gtest.h>
#include <zip.h>
#include <zlib.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "governance/label/label_file.h"

namespace qw::governance::label_test {

// Codes of providers as they stand in files of services (the credit codes check).
inline constexpr const char* kProducer = "001191110102MAD55U9H0F10002";
inline constexpr const char* kOther = "001191440300708461136T1XGW3";

inline AigcLabel label_of(const std::string& producer, const std::string& id) {
  AigcLabel out;
  out.producer = producer;
  out.produce_id = id;
  return out;
}

inline LabelVerdict verdict(LabelFormat format, std::string_view file) { return read_labels(format, file).verdict; }

inline std::string labelled(LabelFormat format, std::string_view file, const AigcLabel& label) {
  auto out = with_label(format, file, label);
  EXPECT_TRUE(out) << (out ? "" : out.error().message);
  return out ? *out : "";
}

inline std::string be(std::uint32_t value, int width) {
  std::string out;
  for (int shift = 8 * (width - 1); shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
  return out;
}

inline std::string chunk(const std::string& type, const std::string& data) {
  const std::string body = type + data;
  return be(static_cast<std::uint32_t>(data.size()), 4) + body +
         be(static_cast<std::uint32_t>(
                crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()))),
            4);
}

inline std::string packed(const std::string& text) {
  uLongf size = compressBound(text.size());
  std::string out(size, '\0');
  compress(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(text.data()), text.size());
  out.resize(size);
  return out;
}

inline const std::string kPngXmp("XML:com.adobe.xmp\0", 18);

// One black pixel.
inline std::string png(const std::string& between = "") {
  return "\x89PNG\r\n\x1A\n" + chunk("IHDR", be(1, 4) + be(1, 4) + std::string("\x08\0\0\0\0", 5)) + between +
         chunk("IDAT", packed(std::string(2, '\0'))) + chunk("IEND", "");
}

inline std::string jpeg(const std::string& between = "") {
  return "\xFF\xD8\xFF\xE0" + be(7, 2) + std::string("JFIF\0", 5) + between + "\xFF\xDA" + be(2, 2) + "picture\xFF\xD9";
}

inline std::string xmp(const std::string& inner) {
  return "<?xpacket begin=\"\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?><x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><r:RDF "
         "xmlns:r=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><r:Description r:about=\"\" "
         "xmlns:dc=\"http://purl.org/dc/elements/1.1/\" xmlns:g=\"http://www.tc260.org.cn/ns/AIGC/1.0/\"" +
         inner + "</r:Description></r:RDF></x:xmpmeta><?xpacket end=\"w\"?>";
}

inline std::string archive(const std::vector<std::pair<std::string, std::string>>& parts) {
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* source = zip_source_buffer_create(nullptr, 0, 0, &error);
  zip_source_keep(source);
  zip_t* zip = zip_open_from_source(source, ZIP_TRUNCATE, &error);
  for (const auto& [name, text] : parts)
    zip_file_add(zip, name.c_str(), zip_source_buffer(zip, text.data(), text.size(), 0), ZIP_FL_ENC_UTF_8);
  EXPECT_EQ(zip_close(zip), 0);
  zip_stat_t known{};
  zip_source_stat(source, &known);
  zip_source_open(source);
  std::string out(known.size, '\0');
  zip_source_read(source, out.data(), out.size());
  zip_source_close(source);
  zip_source_free(source);
  return out;
}

inline std::string part_of(const std::string& file, const std::string& name) {
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* source = zip_source_buffer_create(file.data(), file.size(), 0, &error);
  zip_t* zip = zip_open_from_source(source, ZIP_RDONLY, &error);
  std::string out(1 << 16, '\0');
  zip_file_t* opened = zip_fopen(zip, name.c_str(), 0);
  EXPECT_NE(opened, nullptr) << name;
  if (opened == nullptr) return "";
  out.resize(static_cast<std::size_t>(zip_fread(opened, out.data(), out.size())));
  zip_fclose(opened);
  zip_discard(zip);
  return out;
}

inline const std::string kDocument = "<w:document xmlns:w=\"urn:w\"><w:t>text</w:t></w:document>";
inline const std::string kTypes = "<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"/>";
inline const std::string kRelationsBegin =
    "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">"
    "<Relationship Id=\"rIdAIGC\" Type=\"urn:document\" Target=\"word/document.xml\"/>";

inline std::string docx() {
  return archive({{"[Content_Types].xml", kTypes},
                  {"_rels/.rels", kRelationsBegin + "</Relationships>"},
                  {"word/document.xml", kDocument}});
}

inline std::string pdf(const std::string& info) {
  std::string out = "%PDF-1.4\n";
  std::vector<std::size_t> at;
  const auto add = [&](const std::string& object) {
    at.push_back(out.size());
    out += std::to_string(at.size()) + " 0 obj\n" + object + "\nendobj\n";
  };
  add("<< /Type /Catalog /Pages 2 0 R >>");
  add("<< /Type /Pages /Kids [3 0 R] /Count 1 >>");
  add("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 10 10] >>");
  if (!info.empty()) add(info);
  const std::size_t table = out.size();
  out += "xref\n0 " + std::to_string(at.size() + 1) + "\n0000000000 65535 f \n";
  for (const std::size_t place : at) {
    char line[32];
    std::snprintf(line, sizeof(line), "%010zu 00000 n \n", place);
    out += line;
  }
  return out + "trailer\n<< /Size " + std::to_string(at.size() + 1) + " /Root 1 0 R" +
         (info.empty() ? "" : " /Info 4 0 R") + " >>\nstartxref\n" + std::to_string(table) + "\n%%EOF\n";
}

struct Sample {
  LabelFormat format;
  std::string file;
};
inline std::vector<Sample> samples() {
  return {
      {LabelFormat::kJson, "{\"a\": [1, {\"AIGC\": 2}], \"b\": \"}\"}"},
      {LabelFormat::kMarkdown, "# Title\n\ntext\n"},
      {LabelFormat::kHtml, "<!doctype html><html><head><title><meta name=AIGC></title></head><body>x</body></html>"},
      {LabelFormat::kOoxml, docx()},
      {LabelFormat::kPdf, pdf("<< /Title (T) >>")},
      {LabelFormat::kPng, png()},
      {LabelFormat::kJpeg, jpeg()}};
}

}  // namespace qw::governance::label_test
