#include <gtest/gtest.h>
#include <unistd.h>
#include <zip.h>
#include <zlib.h>

#include <filesystem>
#include <random>

#include "governance/label/internal/carrier.h"
#include "governance/label/label_file.h"
#include "governance/label/notice.h"
#include "governance/label/statement.h"
#include "governance/label/visible_label.h"

namespace qw::governance {
namespace {

// Codes of providers as they stand in files of services (the credit codes check).
constexpr const char* kProducer = "001191110102MAD55U9H0F10002";
constexpr const char* kOther = "001191440300708461136T1XGW3";

AigcLabel label_of(const std::string& producer, const std::string& id) {
  AigcLabel out;
  out.producer = producer;
  out.produce_id = id;
  return out;
}

LabelVerdict verdict(LabelFormat format, std::string_view file) { return read_labels(format, file).verdict; }

std::string labelled(LabelFormat format, std::string_view file, const AigcLabel& label) {
  auto out = with_label(format, file, label);
  EXPECT_TRUE(out) << (out ? "" : out.error().message);
  return out ? *out : "";
}

// ---- files
// -----------------------------------------------------------------------------------------------------------

std::string be(std::uint32_t value, int width) {
  std::string out;
  for (int shift = 8 * (width - 1); shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
  return out;
}

std::string chunk(const std::string& type, const std::string& data) {
  const std::string body = type + data;
  return be(static_cast<std::uint32_t>(data.size()), 4) + body +
         be(static_cast<std::uint32_t>(
                crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()))),
            4);
}

std::string packed(const std::string& text) {
  uLongf size = compressBound(text.size());
  std::string out(size, '\0');
  compress(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(text.data()), text.size());
  out.resize(size);
  return out;
}

const std::string kPngXmp("XML:com.adobe.xmp\0", 18);

// One black pixel.
std::string png(const std::string& between = "") {
  return "\x89PNG\r\n\x1A\n" + chunk("IHDR", be(1, 4) + be(1, 4) + std::string("\x08\0\0\0\0", 5)) + between +
         chunk("IDAT", packed(std::string(2, '\0'))) + chunk("IEND", "");
}

std::string jpeg(const std::string& between = "") {
  return "\xFF\xD8\xFF\xE0" + be(7, 2) + std::string("JFIF\0", 5) + between + "\xFF\xDA" + be(2, 2) + "picture\xFF\xD9";
}

std::string xmp(const std::string& inner) {
  return "<?xpacket begin=\"\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?><x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><r:RDF "
         "xmlns:r=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><r:Description r:about=\"\" "
         "xmlns:dc=\"http://purl.org/dc/elements/1.1/\" xmlns:g=\"http://www.tc260.org.cn/ns/AIGC/1.0/\"" +
         inner + "</r:Description></r:RDF></x:xmpmeta><?xpacket end=\"w\"?>";
}

std::string archive(const std::vector<std::pair<std::string, std::string>>& parts) {
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

std::string part_of(const std::string& file, const std::string& name) {
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

const std::string kDocument = "<w:document xmlns:w=\"urn:w\"><w:t>text</w:t></w:document>";
const std::string kTypes = "<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"/>";
const std::string kRelationsBegin =
    "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">"
    "<Relationship Id=\"rIdAIGC\" Type=\"urn:document\" Target=\"word/document.xml\"/>";

std::string docx() {
  return archive({{"[Content_Types].xml", kTypes},
                  {"_rels/.rels", kRelationsBegin + "</Relationships>"},
                  {"word/document.xml", kDocument}});
}

std::string pdf(const std::string& info) {
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
std::vector<Sample> samples() {
  return {
      {LabelFormat::kJson, "{\"a\": [1, {\"AIGC\": 2}], \"b\": \"}\"}"},
      {LabelFormat::kMarkdown, "# Title\n\ntext\n"},
      {LabelFormat::kHtml, "<!doctype html><html><head><title><meta name=AIGC></title></head><body>x</body></html>"},
      {LabelFormat::kOoxml, docx()},
      {LabelFormat::kPdf, pdf("<< /Title (T) >>")},
      {LabelFormat::kPng, png()},
      {LabelFormat::kJpeg, jpeg()}};
}

// ---- the label itself
// ------------------------------------------------------------------------------------------------

TEST(AigcLabelTest, ProvidersCodesAreChecked) {
  EXPECT_TRUE(is_provider_code(kProducer));
  EXPECT_TRUE(is_provider_code(kOther));
  EXPECT_TRUE(is_provider_code("001191110102MAD55U9H0F10000"));
  EXPECT_FALSE(is_provider_code("001191110102MAD55U9H0G10002"));  // the credit code's last character
  EXPECT_FALSE(is_provider_code("001191110102MAD55U9H0F30002"));  // no such service
  EXPECT_FALSE(is_provider_code("001191110102MAD55U9H0F1000a"));
  EXPECT_FALSE(is_provider_code("001191110102MAD55U9H0F1000"));
}

TEST(AigcLabelTest, FaultsAreNamed) {
  EXPECT_EQ(fault_of(label_of(kProducer, "1")), "");
  EXPECT_EQ(fault_of(label_of("Vendor", "1")), "");
  EXPECT_EQ(fault_of(label_of("", "1")), "ContentProducer is empty");
  EXPECT_EQ(fault_of(label_of("Vendor", "")), "ProduceID is empty");
  EXPECT_EQ(fault_of(label_of("A B", "1")), "ContentProducer has characters outside 0x21 to 0x7E");
  EXPECT_EQ(fault_of(label_of("公司", "1")), "ContentProducer has characters outside 0x21 to 0x7E");
  EXPECT_EQ(fault_of(label_of("001191110102MAD55U9H0G10002", "1")),
            "the provider's code 001191110102MAD55U9H0G10002 does not check");
  AigcLabel odd = label_of("Vendor", "1");
  odd.label = "4";
  EXPECT_EQ(fault_of(odd), "Label is none of \"1\", \"2\" and \"3\"");
}

TEST(AigcLabelTest, IsExactlySevenTexts) {
  const AigcLabel label = label_of(kProducer, "9f0c8a52");
  EXPECT_EQ(compact_json(label),
            "{\"Label\":\"1\",\"ContentProducer\":\"001191110102MAD55U9H0F10002\",\"ProduceID\":\"9f0c8a52\","
            "\"ReservedCode1\":\"\",\"ContentPropagator\":\"\",\"PropagateID\":\"\",\"ReservedCode2\":\"\"}");
  json::Object object = to_json(label);
  EXPECT_EQ(*read_aigc_label(json::Value(object)), label);
  object.set("More", "x");
  EXPECT_FALSE(read_aigc_label(json::Value(object)));
  object.erase("More");
  object.set("Label", 1);
  EXPECT_FALSE(read_aigc_label(json::Value(object)));
  EXPECT_FALSE(read_aigc_label(json::Value("x")));
}

TEST(AigcLabelTest, NumbersOfContentAreInOrderAndOfVersionSeven) {
  const std::string first = new_produce_id(), second = new_produce_id();
  ASSERT_EQ(first.size(), 36u);
  EXPECT_EQ(first[14], '7');
  EXPECT_NE(std::string("89ab").find(first[19]), std::string::npos);
  EXPECT_NE(first, second);
  EXPECT_LE(first.substr(0, 13), second.substr(0, 13));
}

TEST(AigcLabelTest, WordsAreLookedForAtBothEnds) {
  EXPECT_TRUE(has_explicit_words("\n 本内容由人工智能生成。" + std::string(500, 'x')));
  EXPECT_TRUE(has_explicit_words(std::string(500, 'x') + "（AI生成）\n"));
  EXPECT_TRUE(has_explicit_words("AI合成"));
  EXPECT_FALSE(has_explicit_words(std::string(65, 'x') + "人工智能生成" + std::string(65, 'x')));
  EXPECT_FALSE(has_explicit_words("人工智能" + std::string(200, 'x') + "生成"));
  EXPECT_FALSE(has_explicit_words("generated by AI"));
  EXPECT_FALSE(has_explicit_words(""));
}

// ---- every format
// ----------------------------------------------------------------------------------------------------

TEST(LabelFileTest, EveryFormatIsLabelledOnceAndKeepsItsProducer) {
  for (const auto& [format, file] : samples()) {
    SCOPED_TRACE(name_of(format));
    EXPECT_EQ(verdict(format, file), LabelVerdict::kNotFound);
    const std::string once = labelled(format, file, label_of(kProducer, "first"));
    const LabelReport first = read_labels(format, once);
    ASSERT_EQ(first.verdict, LabelVerdict::kCompliant) << first.finding;
    EXPECT_EQ(first.labels, std::vector{label_of(kProducer, "first")});
    const std::string twice = labelled(format, once, label_of(kOther, "second"));
    AigcLabel both = label_of(kProducer, "first");
    both.propagator = kOther;
    both.propagate_id = "second";
    EXPECT_EQ(read_labels(format, twice).labels, std::vector{both});
    EXPECT_EQ(labelled(format, once, label_of(kOther, "second")), twice);  // the same bytes every time
  }
}

TEST(LabelFileTest, StatementsAreVerifiedAndChangesAreFound) {
  const auto folder = std::filesystem::temp_directory_path() / ("label_test." + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const auto ours = SigningKey::create(folder / "ours"), theirs = SigningKey::create(folder / "theirs");
  std::filesystem::remove_all(folder);
  ASSERT_TRUE(ours && theirs);
  const PublicKey keys[] = {ours->public_key(), theirs->public_key()};
  for (const auto& [format, file] : samples()) {
    SCOPED_TRACE(name_of(format));
    const auto once = with_signed_label(format, file, label_of(kProducer, "first"), "qwen3-0.6b", *ours);
    ASSERT_TRUE(once) << once.error().message;
    const auto twice = with_signed_label(format, *once, label_of(kOther, "second"), "", *theirs);
    ASSERT_TRUE(twice) << twice.error().message;
    const auto checks = check_statements(format, *twice, keys);
    ASSERT_TRUE(checks && checks->size() == 2) << (checks ? "" : checks.error().message);
    for (const StatementCheck& one : *checks) EXPECT_EQ(one.fault, "");
    EXPECT_TRUE((*checks)[0].producers && !(*checks)[1].producers);
    EXPECT_EQ((*checks)[0].statement.model, "qwen3-0.6b");
    EXPECT_EQ(check_statements(format, *once, {})->at(0).fault, "its key " + keys[0].id() + " is none of those given");
    EXPECT_TRUE(check_statements(format, labelled(format, file, label_of("x", "1")), keys)->empty());
    EXPECT_FALSE(check_statements(format, file, keys));
    // Whose content and number it is.
    AigcLabel other = read_labels(format, *once).labels[0];
    other.produce_id = "another";
    EXPECT_EQ(check_statements(format, *internal::relabelled(format, *once, other), keys)->at(0).fault,
              "its signature is not of what it and the label say");
    std::size_t found = 0;
    for (std::size_t at = 0; at < once->size(); ++at) {
      std::string changed = *once;
      changed[at] = static_cast<char>(changed[at] ^ 1);
      const auto check = check_statements(format, changed, keys);
      found += !check || check->size() != 1 || !check->at(0).fault.empty();
    }
    // Of packed files some bytes say nothing (dates, versions that are needed).
    const bool exact = format != LabelFormat::kOoxml && format != LabelFormat::kPdf;
    EXPECT_GE(found * 100, once->size() * (exact ? 100 : 70));
  }
  EXPECT_FALSE(with_signed_label(LabelFormat::kJson, "{}", label_of("x", "1"), "two words", *ours));
}

TEST(LabelFileTest, BrokenStatementsAreErrorsAndOtherDataIsNot) {
  for (const char* other : {"", "x", "{}", "[1]", "{\"SecurityData\":{}}"}) {
    const auto read = ProvenanceStatement::read(other);
    EXPECT_TRUE(read && !*read) << other;
  }
  ProvenanceStatement statement;
  statement.time = "2026-11-29T00:00:00Z";
  const std::string good = statement.text();
  ASSERT_TRUE(ProvenanceStatement::read(good)->has_value());
  for (const auto& [from, to] :
       {std::pair("\"Version\":1", "\"Version\":2"), {"\"Key\":\"0", "\"Key\":\"g"}, {"{\"Prov", " {\"Prov"}}) {
    std::string bad = good;
    bad.replace(bad.find(from), std::string(from).size(), to);
    EXPECT_FALSE(ProvenanceStatement::read(bad)) << bad;
  }
}

TEST(LabelFileTest, AnyValuesComeBack) {
  AigcLabel label = label_of("a\"b\\c<d>&'e%#:{}[]", "x--y]]>z?>");
  label.reserved1 = "{\"SecurityData\":{\"Type\":\"TC260PG\"}}";
  for (const auto& [format, file] : samples()) {
    SCOPED_TRACE(name_of(format));
    EXPECT_EQ(read_labels(format, labelled(format, file, label)).labels, std::vector{label});
  }
}

TEST(LabelFileTest, FaultyLabelsAreNotWritten) {
  for (const auto& [format, file] : samples()) {
    const auto out = with_label(format, file, label_of("", "1"));
    ASSERT_FALSE(out);
    EXPECT_EQ(out.error().kind, ErrorKind::kUsage);
  }
}

// Cut or changed anywhere: a verdict, and never a second label.
TEST(LabelFileTest, DamagedFilesGetAVerdict) {
  std::mt19937 random(7);
  for (const auto& [format, file] : samples()) {
    SCOPED_TRACE(name_of(format));
    const std::string whole = labelled(format, file, label_of(kProducer, "1"));
    for (std::size_t cut = 0; cut < whole.size(); cut += 1 + whole.size() / 150)
      (void)read_labels(format, whole.substr(0, cut));
    for (int i = 0; i < 300; ++i) {
      std::string changed = whole;
      changed[random() % changed.size()] = static_cast<char>(random());
      if (const auto again = with_label(format, changed, label_of(kOther, "2"))) {
        EXPECT_EQ(read_labels(format, *again).labels.size(), 1u);
      } else {
        EXPECT_EQ(again.error().message.find('\n'), std::string::npos);
      }
    }
  }
}

TEST(LabelFileTest, FormatsAreToldByContentAndName) {
  EXPECT_EQ(format_of("x.bin", png()), LabelFormat::kPng);
  EXPECT_EQ(format_of("x.json", pdf("")), LabelFormat::kPdf);
  EXPECT_EQ(format_of("x", docx()), LabelFormat::kOoxml);
  EXPECT_EQ(format_of("x", jpeg()), LabelFormat::kJpeg);
  EXPECT_EQ(format_of("README.MD", "text"), LabelFormat::kMarkdown);
  EXPECT_EQ(format_of("x.html", "text"), LabelFormat::kHtml);
  EXPECT_EQ(format_of("x.txt", "text"), std::nullopt);
}

// ---- one by one
// ------------------------------------------------------------------------------------------------------

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

// ---- what people see
// ------------------------------------------------------------------------------------------------

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
