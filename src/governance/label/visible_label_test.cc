// What people see of labels.
#include "governance/label/visible_label.h"

#include "governance/label/internal/test_files.h"
#include "governance/label/notice.h"

namespace qw::governance {
namespace {

using namespace label_test;

std::string seen(LabelFormat format, const std::string& file, MarkText mark) {
  auto out = with_visible_label(format, file, {notice_in(mark == MarkText::kAi ? "it" : "zh"), mark});
  EXPECT_TRUE(out) << (out ? "" : out.error().message);
  return out ? *out : "";
}

// A grey picture of 160 by 96 pixels.
std::string grey_jpeg() {
  constexpr std::string_view kHex =
      "ffd8ffe000104a46494600010100000100010000ffdb004300100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c"
      "3933383740485c4e404457453738506d51575f626768673e4d71797064785c656763ffc0000b08006000a001011100ffc4001500010100"
      "000000000000000000000000000005ffc40014100100000000000000000000000000000000ffda0008010100003f009800000000000000"
      "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000003ffd9";
  std::string out;
  for (std::size_t i = 0; i < kHex.size(); i += 2)
    out += static_cast<char>(std::stoi(std::string(kHex.substr(i, 2)), nullptr, 16));
  return out;
}

// Of one brightness, with alpha.
std::string picture(std::uint32_t width, std::uint32_t height, char light, const std::string& between = "") {
  std::string rows;
  for (std::uint32_t y = 0; y < height; ++y) {
    rows += '\0';
    for (std::uint32_t x = 0; x < width; ++x) rows += std::string(1, light) + '\x80';
  }
  return "\x89PNG\r\n\x1A\n" + chunk("IHDR", be(width, 4) + be(height, 4) + std::string("\x08\x04\0\0\0", 5)) +
         between + chunk("IDAT", packed(rows)) + chunk("IEND", "");
}

TEST(VisibleLabelTest, PicturesCarryAMarkOnceAndKeepWhatElseTheySay) {
  const auto probe = with_visible_label(LabelFormat::kPng, picture(8, 8, 'x'), {});
  if (probe.error().kind == ErrorKind::kUsage) GTEST_SKIP() << probe.error().message;
  EXPECT_EQ(probe.error().message, "the picture has no room for a mark: 8 by 8 pixels");
  for (const MarkText mark : {MarkText::kAiGenerated, MarkText::kAi}) {
    for (const char light : {'\0', '\x70', '\xFF'}) {
      const std::string bare = picture(400, 300, light, chunk("tEXt", std::string("Title\0kept", 10)));
      EXPECT_FALSE(*has_visible_label(LabelFormat::kPng, bare));
      const std::string marked = seen(LabelFormat::kPng, bare, mark);
      EXPECT_TRUE(*has_visible_label(LabelFormat::kPng, marked));
      EXPECT_NE(marked.find("kept"), std::string::npos);
      EXPECT_EQ(seen(LabelFormat::kPng, marked, mark), marked);
      const std::string both = labelled(LabelFormat::kPng, marked, label_of(kProducer, "1"));
      EXPECT_EQ(seen(LabelFormat::kPng, both, mark), both);
      EXPECT_EQ(verdict(LabelFormat::kPng, both), LabelVerdict::kCompliant);
    }
  }
  const std::string unmarked = labelled(LabelFormat::kJpeg, grey_jpeg(), label_of(kProducer, "1"));
  EXPECT_FALSE(*has_visible_label(LabelFormat::kJpeg, unmarked));
  const std::string marked = seen(LabelFormat::kJpeg, unmarked, MarkText::kAiGenerated);
  EXPECT_EQ(verdict(LabelFormat::kJpeg, marked), LabelVerdict::kCompliant);
  EXPECT_EQ(seen(LabelFormat::kJpeg, marked, MarkText::kAiGenerated), marked);
  const std::string turned = std::string(
                                 "\xFF\xD8\xFF\xE1\0\x22"
                                 "Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
                                 38) +
                             grey_jpeg().substr(2);
  EXPECT_NE(with_visible_label(LabelFormat::kJpeg, turned, {notice_in("zh")}).error().message.find("orientation 6"),
            std::string::npos);
  EXPECT_FALSE(has_visible_label(LabelFormat::kJpeg, grey_jpeg().substr(0, 200)));
  EXPECT_FALSE(has_visible_label(LabelFormat::kPng, picture(400, 300, 'x').substr(0, 90)));
}

TEST(VisibleLabelTest, DocumentsSayItFirst) {
  const std::string body = "<w:document xmlns:w=\"urn:w\"><w:body><w:p><w:r><w:t>" + std::string(100, 'x') +
                           "</w:t></w:r></w:p></w:body></w:document>";
  const std::string relations =
      "<Relationships><Relationship Id=\"r\" "
      "Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/"
      "officeDocument\" Target=\"word/document.xml\"/></Relationships>";
  const auto file = [&](const std::string& document) {
    return archive({{"[Content_Types].xml", kTypes}, {"_rels/.rels", relations}, {"word/document.xml", document}});
  };
  EXPECT_FALSE(*has_visible_label(LabelFormat::kOoxml, file(body)));
  const std::string out = seen(LabelFormat::kOoxml, file(body), MarkText::kAiGenerated);
  EXPECT_TRUE(*has_visible_label(LabelFormat::kOoxml, out));
  EXPECT_EQ(part_of(out, "word/document.xml")
                    .find("<w:body><w:p><w:r><w:t xml:space=\"preserve\">" + std::string(notice_in("zh")) +
                          "</w:t></w:r></w:p><w:p>") != std::string::npos,
            true);
  EXPECT_EQ(seen(LabelFormat::kOoxml, out, MarkText::kAiGenerated), out);
  EXPECT_EQ(with_visible_label(LabelFormat::kOoxml, file("<workbook/>"), {"x"}).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(with_visible_label(LabelFormat::kJson, "{}", {"x"}).error().kind, ErrorKind::kUsage);
}

TEST(VisibleLabelTest, PdfPagesCarryAMarkOnce) {
  for (const MarkText mark : {MarkText::kAiGenerated, MarkText::kAi}) {
    EXPECT_FALSE(*has_visible_label(LabelFormat::kPdf, pdf("")));
    const std::string out = seen(LabelFormat::kPdf, pdf(""), mark);
    EXPECT_TRUE(*has_visible_label(LabelFormat::kPdf, out));
    EXPECT_EQ(seen(LabelFormat::kPdf, out, mark), out);
    const std::string both = labelled(LabelFormat::kPdf, out, label_of(kProducer, "1"));
    EXPECT_TRUE(*has_visible_label(LabelFormat::kPdf, both));
    EXPECT_EQ(verdict(LabelFormat::kPdf, both), LabelVerdict::kCompliant);
  }
  EXPECT_FALSE(has_visible_label(LabelFormat::kPdf, "%PDF-1.4\nnothing"));
}

}  // namespace
}  // namespace qw::governance
