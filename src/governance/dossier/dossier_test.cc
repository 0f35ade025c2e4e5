#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>

#include "base/file.h"
#include "governance/dossier/documents.h"
#include "governance/dossier/manifest.h"

namespace qw::governance {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const char* const kCompute =
    R"({"format": "qianwen-compute-1", "state": "finished", "method": "texts", "steps": 10, "tokens": 5000,
  "flops": {"learning": 123456789012345, "evaluation": 5, "spent": 123456789012350, "method": "counted"},
  "cumulative_flops": 1.234e14, "device_hours": 0.0123, "energy": {"kwh": 0.5, "basis": "estimated"}, "parent": null,
  "outputs": [{"folder": "model", "weights_sha256": "abc"}]})";
const char* const kData = R"({"format": "qianwen-ledger-1", "sources": [
  {"name": "poems", "origin": "a <library>", "licence": "CC0-1.0", "train": {"tokens": 4000}, "processing": ["copies dropped"],
   "provenance": {"kind": "public", "languages": ["zh"], "collected_from": "2025"}},
  {"name": "unsaid", "origin": "o", "licence": "l", "train": {"tokens": 1}}]})";

DossierInput whole() {
  DossierInput in;
  ModelEvidence m;
  m.name = "mini";
  m.facts = in.evidence.add("facts.json", "facts",
                            R"({"architecture": "qwen3", "parameters": 7000000, "licence": "apache-2.0"})");
  m.compute = in.evidence.add("compute.json", "compute", kCompute);
  m.data = in.evidence.add("data.json", "data", kData);
  in.models.push_back(m);
  in.operator_facts =
      in.evidence.add("operator.json", "operator", R"({"provider": "Example & Co", "purpose": "<b>poems</b>"})");
  in.now = 1795942800;
  return in;
}

TEST(Dossier, EveryFigureNamesItsEvidenceAndWhatIsUnknownSaysSo) {
  const DossierInput in = whole();
  const std::string page = html_of(technical_documentation(in), in.evidence);
  EXPECT_THAT(page, HasSubstr("1.2e+14 FLOP <a class=\"e\" href=\"evidence/E2-compute.json\""));
  EXPECT_THAT(page, HasSubstr("[E2 /flops/learning]"));
  EXPECT_THAT(page, HasSubstr("[E3 /sources/0/licence]"));
  EXPECT_THAT(page, HasSubstr("not recorded"));
  EXPECT_THAT(page, HasSubstr("a &lt;library&gt;"));
  EXPECT_THAT(html_of(model_card(in), in.evidence), HasSubstr("&lt;b&gt;poems&lt;/b&gt;"));
  EXPECT_THAT(html_of(model_card(in), in.evidence), Not(HasSubstr("<b>")));
  EXPECT_THAT(html_of(filing_outline(in), in.evidence), HasSubstr("未记录"));
}

TEST(Dossier, LinesOfATextAreKeptAndWhatNoPageMayHoldIsLeftOut) {
  Document document;
  document.title = "one\ntwo\x01\t<three>";
  EXPECT_THAT(html_of(document, EvidenceSet()), HasSubstr("<h1>one<br>two\t&lt;three&gt;</h1>"));
}

TEST(Dossier, TheSummaryHasTheSourcesByTheirKind) {
  const DossierInput in = whole();
  const Document summary = training_summary(in);
  std::vector<std::string> with_rows;
  for (const Section& section : summary.sections)
    if (!section.tables.empty()) with_rows.push_back(section.title);
  EXPECT_THAT(with_rows, ElementsAre("2.1 Publicly available data sets", "Sources whose kind is not recorded"));
  const std::string page = html_of(summary, in.evidence);
  EXPECT_THAT(page, HasSubstr("less than 1 billion tokens"));
  EXPECT_THAT(page, HasSubstr("The ledger of the data lists no such source."));
}

TEST(Dossier, WithoutAnythingEverythingIsNotRecorded) {
  DossierInput in;
  in.models.push_back({"bare", {}, {}, {}});
  for (const Document& document : make_documents(in)) {
    for (const Section& section : document.sections)
      for (const Line& line : section.lines)
        EXPECT_TRUE(!line.cell.recorded || line.title == "Model") << document.name << " " << line.title;
    EXPECT_THAT(html_of(document, in.evidence), HasSubstr("</html>"));
  }
}

TEST(Dossier, WhatWasWrittenAnewHasTheTrainingOfItsSource) {
  DossierInput in;
  ModelEvidence m;
  m.name = "small";
  m.compute = in.evidence.add("c.json", "c",
                              std::string(R"({"format": "qianwen-compute-derived-1", "cumulative_flops": 5e20,
      "outputs": [{"weights_sha256": "q"}], "parent": {"name": "mini", "weights_sha256": "abc", "record": )") +
                                  kCompute + "}}");
  in.models.push_back(m);
  const std::string page = html_of(model_card(in), in.evidence);
  EXPECT_THAT(page, HasSubstr("[E1 /parent/record/flops/learning]"));
  EXPECT_THAT(page, HasSubstr("5.0e+20 FLOP"));
  EXPECT_THAT(page, HasSubstr("[E1 /outputs/0/weights_sha256]"));
}

TEST(Dossier, ThePublicPageHasTheFieldsOfThePolicy) {
  DossierInput in = whole();
  const Profile profile = *Profile::parse(shipped_profile("cn-public"));
  in.policy = &profile;
  const Document page = transparency_page(in);
  EXPECT_EQ(page.language, "zh");
  std::vector<std::string> titles;
  for (const Line& line : page.sections[0].lines) titles.push_back(line.title);
  EXPECT_EQ(titles.size(), profile.public_page_fields.size());
  EXPECT_THAT(titles, testing::Contains("备案号"));
}

TEST(Dossier, FiguresAreOfTwoDigits) {
  EvidenceSet set;
  const auto e =
      set.add("x.json", "x", R"({"a": 123.4, "b": 98765, "c": 1.234e23, "d": 0.0123, "e": 7, "f": 0, "g": "t"})");
  EXPECT_EQ(set.rounded(e, "a", "h").text, "120 h");
  EXPECT_EQ(set.rounded(e, "b", "").text, "99000");
  EXPECT_EQ(set.rounded(e, "c", "FLOP").text, "1.2e+23 FLOP");
  EXPECT_EQ(set.rounded(e, "d", "").text, "0.012");
  EXPECT_EQ(set.rounded(e, "e", "").text, "7");
  EXPECT_EQ(set.rounded(e, "f", "").text, "0");
  EXPECT_FALSE(set.rounded(e, "g", "").recorded);
}

TEST(Dossier, TheOperatorsWordsAreReadStrictly) {
  EXPECT_TRUE(parse_operator_facts(R"({"provider": "x"})"));
  EXPECT_THAT(parse_operator_facts(R"({"provder": "x"})").error().message, HasSubstr("\"provder\" is not known"));
  EXPECT_FALSE(parse_operator_facts(R"({"provider": 1})"));
  EXPECT_FALSE(parse_operator_facts("[]"));
}

class ManifestTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "qw_manifest_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    std::filesystem::create_directories(folder_ / "d/evidence");
    write("a.html", "a");
    write("evidence/E1.json", "{}");
    key_.emplace(*SigningKey::create(folder_ / "key"));
    ASSERT_TRUE(write_manifest(folder_ / "d", *key_, "2026-11-29T09:00:00Z"));
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& name, const std::string& text) { std::ofstream(folder_ / "d" / name) << text; }
  std::vector<std::string> findings() {
    auto report = verify_manifest(folder_ / "d", key_->public_key());
    EXPECT_TRUE(report) << report.error().message;
    return report ? report->findings : std::vector<std::string>{"error"};
  }
  std::filesystem::path folder_;
  std::optional<SigningKey> key_;
};

TEST_F(ManifestTest, WhatWasSignedIsWhole) {
  EXPECT_THAT(findings(), IsEmpty());
  EXPECT_EQ(verify_manifest(folder_ / "d", key_->public_key())->files, 2u);
}

TEST_F(ManifestTest, ChangesAreFound) {
  write("a.html", "b");
  std::filesystem::remove(folder_ / "d/evidence/E1.json");
  write("evidence/E2.json", "{}");
  std::filesystem::create_symlink("/etc/passwd", folder_ / "d/link");
  EXPECT_THAT(findings(), ElementsAre("a.html: changed", "evidence/E1.json: missing, or no file",
                                      "evidence/E2.json: was added", "link: was added"));
}

TEST_F(ManifestTest, AnotherKeyOrAChangedListIsFound) {
  const SigningKey other = *SigningKey::create(folder_ / "other");
  const auto report = verify_manifest(folder_ / "d", other.public_key());
  ASSERT_TRUE(report);
  EXPECT_THAT(report->findings, ElementsAre(HasSubstr("not signed by the key")));
  // Who changes a file and its hash in the list has not the key.
  std::string text = *base::read_file(folder_ / "d" / kManifestFile);
  const auto at = text.find("\"sha256\": \"") + 11;
  text[at] = text[at] == '0' ? '1' : '0';
  write(kManifestFile, text);
  EXPECT_THAT(findings(), testing::Contains(HasSubstr("not signed by the key")));
}

TEST_F(ManifestTest, NamesThatLeadOutAreNotFollowed) {
  write(
      kManifestFile,
      R"({"format": "qianwen-dossier-1", "files": [{"name": "../key", "sha256": "x"}, {"name": "/etc/passwd"}, {"name": 5}]})");
  EXPECT_THAT(findings(), testing::Contains(HasSubstr("leads out of the folder")));
  write(kManifestFile, "{}");
  EXPECT_FALSE(verify_manifest(folder_ / "d", key_->public_key()));
  write(kManifestFile, R"({"format": "qianwen-dossier-1", "files": [], "x": 1.5})");
  EXPECT_THAT(findings(), testing::Contains(HasSubstr("not signed by the key")));
}

}  // namespace
}  // namespace qw::governance
