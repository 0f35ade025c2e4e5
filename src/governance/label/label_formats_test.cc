// What is particular to one format of files.
#include "governance/label/internal/carrier.h"
#include "governance/label/internal/test_files.h"
#include "governance/label/notice.h"

namespace qw::governance {
namespace {

using namespace label_test;

TEST(LabelFileTest, JsonKeepsItsTextAndTellsOfTwo) {
  const std::string json = compact_json(label_of("V", "1"));
  EXPECT_EQ(labelled(LabelFormat::kJson, "{}", label_of("V", "1")), "{\"AIGC\":" + json + "}");
  EXPECT_EQ(labelled(LabelFormat::kJson, " { \"a\" : 1.50 }\n", label_of("V", "1")),
            " {\"AIGC\":" + json + ", \"a\" : 1.50 }\n");
  EXPECT_EQ(verdict(LabelFormat::kJson, "{\"x\":\"\\\"}\",\"AIGC\":" + json + "}"), LabelVerdict::kCompliant);
  EXPECT_EQ(verdict(LabelFormat::kJson, "{\"AIGC\":" + json + ",\"AIGC\":" + json + "}"), LabelVerdict::kNoncompliant);
  EXPECT_EQ(verdict(LabelFormat::kJson, "{\"AIGC\":" + json + ",\"\\u0041IGC\":" + json + "}"),
            LabelVerdict::kNoncompliant);
  EXPECT_EQ(verdict(LabelFormat::kJson, "{\"AIGC\":null}"), LabelVerdict::kNoncompliant);
  EXPECT_EQ(verdict(LabelFormat::kJson, "[1]"), LabelVerdict::kInconclusive);
  EXPECT_EQ(verdict(LabelFormat::kJson, "{"), LabelVerdict::kInconclusive);
}

TEST(LabelFileTest, MarkdownReadsTheGuidesForm) {
  const std::string guide =
      "---\nAIGC:\n  Label: \"1\"\n  ContentProducer: \"001191110102MAD55U9H0F10002\"\n"
      "  ProduceID: \"9f0c8a52-6c1e-4d1b-9a53-0f6b2f7f0a11\"\n  ReservedCode1: \"\"\n  ContentPropagator: \"\"\n"
      "  PropagateID: \"\"\n  ReservedCode2: \"\"\n---\n# Text\n";
  EXPECT_EQ(read_labels(LabelFormat::kMarkdown, guide).labels,
            std::vector{label_of(kProducer, "9f0c8a52-6c1e-4d1b-9a53-0f6b2f7f0a11")});
  EXPECT_EQ(labelled(LabelFormat::kMarkdown, "# Text\n", label_of(kProducer, "9f0c8a52-6c1e-4d1b-9a53-0f6b2f7f0a11")),
            guide);
  std::string windows = guide;
  for (std::size_t at = 0; (at = windows.find('\n', at)) != std::string::npos; at += 2) windows.insert(at, "\r");
  EXPECT_EQ(verdict(LabelFormat::kMarkdown, windows), LabelVerdict::kCompliant);
}

TEST(LabelFileTest, MarkdownKeepsItsFrontMatter) {
  const AigcLabel label = label_of("V", "1");
  const std::string out = labelled(LabelFormat::kMarkdown, "---\ntitle: 'a: b'\n---\ntext\n", label);
  EXPECT_TRUE(out.starts_with("---\nAIGC:\n  Label: \"1\"\n")) << out;
  EXPECT_TRUE(out.ends_with("  ReservedCode2: \"\"\ntitle: 'a: b'\n---\ntext\n")) << out;
  const std::string flow = "---\nAIGC: " + compact_json(label) + "\n---\n";
  EXPECT_EQ(read_labels(LabelFormat::kMarkdown, flow).labels, std::vector{label});
  EXPECT_EQ(verdict(LabelFormat::kMarkdown, "---\nAIGC:\n  Label: \"1\"\n---\n"), LabelVerdict::kNoncompliant);
  EXPECT_EQ(verdict(LabelFormat::kMarkdown, out + out), LabelVerdict::kCompliant);  // what comes later is text
  EXPECT_EQ(verdict(LabelFormat::kMarkdown,
                    "---\nAIGC: " + compact_json(label) + "\n\"AIGC\": " + compact_json(label) + "\n---\n"),
            LabelVerdict::kNoncompliant);
  EXPECT_EQ(verdict(LabelFormat::kMarkdown, "text\n---\nAIGC:\n---\n"), LabelVerdict::kNotFound);
  EXPECT_EQ(verdict(LabelFormat::kMarkdown, "---\nAIGC:\n"), LabelVerdict::kNotFound);  // a rule
}

TEST(LabelFileTest, HtmlSeesWhatBrowsersSee) {
  const AigcLabel label = label_of("V", "1");
  std::string meta = labelled(LabelFormat::kHtml, "", label);
  const auto found = [](const std::string& page) { return verdict(LabelFormat::kHtml, page); };
  EXPECT_EQ(found("<html>" + meta + "</html>"), LabelVerdict::kCompliant);
  EXPECT_EQ(found("<!-- " + meta + " -->"), LabelVerdict::kNotFound);
  EXPECT_EQ(found("<script>'" + meta + "'</script>"), LabelVerdict::kNotFound);
  EXPECT_EQ(found("<script>'</scripts>" + meta + "'</SCRIPT >"), LabelVerdict::kNotFound);
  EXPECT_EQ(found("<script>" + meta), LabelVerdict::kInconclusive);
  EXPECT_EQ(found("<metadata name=AIGC>"), LabelVerdict::kNotFound);
  EXPECT_EQ(found("<META NAME='AIGC' CONTENT='" + compact_json(label) + "'/>"), LabelVerdict::kCompliant);
  EXPECT_EQ(found("<meta content='x' name = AIGC >"), LabelVerdict::kNoncompliant);
  EXPECT_EQ(found(meta + meta), LabelVerdict::kNoncompliant);
  EXPECT_TRUE(labelled(LabelFormat::kHtml, "<!DOCTYPE html><HTML><Head lang='>'><p>", label)
                  .starts_with("<!DOCTYPE html><HTML><Head lang='>'><meta name=\"AIGC\""));
}

TEST(LabelFileTest, XmpIsMergedNotReplaced) {
  const AigcLabel label = label_of("V", "1");
  const std::string with_title = xmp("><dc:title>Chart &amp; more</dc:title>");
  for (const bool compressed : {false, true}) {
    const std::string data =
        kPngXmp + std::string(compressed ? "\1\0\0\0" : "\0\0\0\0", 4) + (compressed ? packed(with_title) : with_title);
    const std::string out = labelled(LabelFormat::kPng, png(chunk("iTXt", data)), label);
    EXPECT_EQ(verdict(LabelFormat::kPng, out), LabelVerdict::kCompliant);
    EXPECT_NE(out.find("<dc:title>Chart &amp; more</dc:title>"), std::string::npos);
  }
  const std::string segment = std::string("http://ns.adobe.com/xap/1.0/\0", 29) + with_title;
  const std::string app1 = "\xFF\xE1" + be(static_cast<std::uint32_t>(segment.size() + 2), 2) + segment;
  const std::string out = labelled(LabelFormat::kJpeg, jpeg(app1), label);
  EXPECT_EQ(verdict(LabelFormat::kJpeg, out), LabelVerdict::kCompliant);
  EXPECT_NE(out.find("Chart &amp; more"), std::string::npos);
}

TEST(LabelFileTest, XmpLabelsAreFoundInEveryForm) {
  const std::string json =
      "{&quot;Label&quot;:&quot;1&quot;,&quot;ContentProducer&quot;:&quot;V&quot;,&quot;ProduceID&quot;:&quot;1&quot;,"
      "&quot;ReservedCode1&quot;:&quot;&quot;,&quot;ContentPropagator&quot;:&quot;&quot;,&quot;PropagateID&quot;:&quot;"
      "&quot;,"
      "&quot;ReservedCode2&quot;:&quot;&quot;}";
  const auto with = [](const std::string& packet) {
    return verdict(LabelFormat::kPng, png(chunk("iTXt", kPngXmp + std::string(4, '\0') + packet)));
  };
  EXPECT_EQ(with(xmp("><g:AIGC>" + json + "</g:AIGC>")), LabelVerdict::kCompliant);  // any prefix of the namespace
  EXPECT_EQ(with(xmp(" g:AIGC=\"" + json + "\">")), LabelVerdict::kCompliant);
  EXPECT_EQ(with(xmp(" g:AIGC=\"" + json + "\"><g:AIGC>" + json + "</g:AIGC>")), LabelVerdict::kNoncompliant);
  EXPECT_EQ(with(xmp("><dc:AIGC>" + json + "</dc:AIGC>")), LabelVerdict::kNotFound);
  EXPECT_EQ(with("<x"), LabelVerdict::kInconclusive);
  std::string deep = "><dc:a>";
  for (int i = 0; i < 100; ++i) deep += "<dc:a>";
  for (int i = 0; i < 101; ++i) deep += "</dc:a>";
  EXPECT_EQ(with(xmp(deep)), LabelVerdict::kInconclusive);
}

TEST(LabelFileTest, PngChecksumsAreLookedAt) {
  std::string file = png();
  file[20] ^= 1;
  EXPECT_EQ(read_labels(LabelFormat::kPng, file).finding, "the checksum of a chunk of the image is wrong");
}

TEST(LabelFileTest, OoxmlKeepsItsPartsAndProperties) {
  const std::string first = labelled(LabelFormat::kOoxml, docx(), label_of("V", "1"));
  EXPECT_EQ(part_of(first, "word/document.xml"), kDocument);
  EXPECT_NE(part_of(first, "[Content_Types].xml").find("PartName=\"/docProps/custom.xml\""), std::string::npos);
  EXPECT_NE(part_of(first, "_rels/.rels").find("Id=\"rIdAIGC_\""), std::string::npos);  // the other was taken

  const std::string own = archive(
      {{"[Content_Types].xml", kTypes},
       {"_rels/.rels", kRelationsBegin +
                           "<Relationship Id=\"r2\" Type=\"http://schemas.openxmlformats.org/officeDocument/"
                           "2006/relationships/custom-properties\" Target=\"/props/mine.xml\"/></Relationships>"},
       {"props/mine.xml",
        "<Properties xmlns=\"urn:p\" xmlns:vt=\"urn:v\"><property pid=\"7\" name=\"Other\">"
        "<vt:lpwstr>kept</vt:lpwstr></property></Properties>"}});
  const std::string second = labelled(LabelFormat::kOoxml, own, label_of("V", "1"));
  const std::string properties = part_of(second, "props/mine.xml");
  EXPECT_NE(properties.find("<vt:lpwstr>kept</vt:lpwstr>"), std::string::npos);
  EXPECT_NE(properties.find("pid=\"8\" name=\"AIGC\""), std::string::npos) << properties;
  EXPECT_EQ(part_of(second, "[Content_Types].xml"), kTypes);
  EXPECT_EQ(verdict(LabelFormat::kOoxml, archive({{"a", "b"}})), LabelVerdict::kInconclusive);
}

TEST(LabelFileTest, PdfKeepsItsInformation) {
  for (const std::string& info : {std::string(), std::string("<< /Title (Old) >>")}) {
    const std::string out = labelled(LabelFormat::kPdf, pdf(info), label_of("V", "1"));
    EXPECT_EQ(verdict(LabelFormat::kPdf, out), LabelVerdict::kCompliant);
    EXPECT_EQ(out.find("(Old)") != std::string::npos, !info.empty());
  }
  EXPECT_EQ(verdict(LabelFormat::kPdf, pdf("<< /AIGC 5 >>")), LabelVerdict::kNoncompliant);
  EXPECT_EQ(verdict(LabelFormat::kPdf, pdf("<< /AIGC (a) /AIGC (b) >>")), LabelVerdict::kInconclusive);
  EXPECT_EQ(verdict(LabelFormat::kPdf, "%PDF-1.4\nnothing"), LabelVerdict::kInconclusive);
}

TEST(NoticeTest, StandsWhereReadersBegin) {
  const auto with = [](NoticeForm form, const std::string& file) { return *with_notice(form, file, "AI 生成 <1>"); };
  EXPECT_EQ(with(NoticeForm::kText, "text"), "AI 生成 <1>\n\ntext");
  EXPECT_EQ(with(NoticeForm::kMarkdown, "---\na: b\n---\ntext"), "---\na: b\n---\n> AI 生成 <1>\n\ntext");
  const std::string page =
      with(NoticeForm::kHtml, "<html><head><title>t</title></head><body class=x>text</body></html>");
  EXPECT_EQ(
      page,
      "<html><head><title>t</title></head><body class=x><p role=\"note\">AI 生成 &lt;1&gt;</p>text</body></html>");
  EXPECT_EQ(with(NoticeForm::kHtml, page), page);
  for (const NoticeForm form : {NoticeForm::kText, NoticeForm::kMarkdown, NoticeForm::kHtml}) {
    EXPECT_FALSE(*tells_readers(form, "<script>AI 生成</script><!-- AI 生成 -->" + std::string(100, 'x')) &&
                 form == NoticeForm::kHtml);
    EXPECT_TRUE(*tells_readers(form, *with_notice(form, std::string(200, 'x'), notice_in("zh"))));
    EXPECT_FALSE(*tells_readers(form, std::string(200, 'x')));
  }
  EXPECT_EQ(notice_in("xx"), nullptr);
  EXPECT_FALSE(with_notice(NoticeForm::kHtml, "<!--", "x"));
}

}  // namespace
}  // namespace qw::governance
