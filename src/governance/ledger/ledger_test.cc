#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "governance/ledger/compute_ledger.h"
#include "governance/ledger/dataset_ledger.h"
#include "governance/ledger/licence.h"

namespace qw::governance {
namespace {

using testing::Contains;
using testing::HasSubstr;

json::Object trained(double flops, const std::string& weights) {
  return {{"format", "qianwen-compute-1"},
          {"state", "finished"},
          {"flops", json::Object{{"learning", flops}, {"evaluation", 5.0}}},
          {"outputs", json::Array{json::Object{{"weights_sha256", weights}}}},
          {"parent", nullptr}};
}
json::Object child_of(json::Object child, const std::string& weights, json::Value record, const std::string& why = "") {
  json::Object parent{{"name", "older"}, {"weights_sha256", weights}, {"record", std::move(record)}};
  if (!why.empty()) parent.set("no_record", why);
  child.set("parent", std::move(parent));
  return child;
}
const ThresholdReading& reading(const std::vector<ThresholdReading>& all, std::string_view id) {
  for (const auto& one : all)
    if (one.threshold->id == id) return one;
  return all.front();
}

TEST(ComputeLedger, SumsWhatAModelComesFrom) {
  const auto lineage = lineage_of(
      json::Value(child_of(child_of(trained(3, "c"), "b", child_of(trained(20, "b"), "a", trained(100, "a"))), "b",
                           child_of(trained(20, "b"), "a", trained(100, "a")))));
  ASSERT_TRUE(lineage) << lineage.error().message;
  ASSERT_EQ(lineage->generations.size(), 3u);
  EXPECT_EQ(lineage->total, 123);
  EXPECT_EQ(lineage->own, 123);  // all of it was done here
  EXPECT_EQ(lineage->before, 0);
  EXPECT_EQ(lineage->generations[1].total, 120);
}

TEST(ComputeLedger, AStatementIsTheOriginalThatAThirdIsOf) {
  const json::Object statement =
      to_json(ComputeStatement{6e22, "Anna", "6ND of the report", "2026-11-29T09:00:00Z", "q"});
  const auto lineage = lineage_of(json::Value(child_of(trained(3.5e22, "c"), "q", statement)));
  ASSERT_TRUE(lineage) << lineage.error().message;
  EXPECT_EQ(lineage->generations[1].by, "Anna");
  EXPECT_EQ(lineage->own, 3.5e22);
  EXPECT_EQ(lineage->before, 6e22);
  const auto readings = read_thresholds(*lineage);
  EXPECT_EQ(reading(readings, "third").level, Level::kOver);
  EXPECT_DOUBLE_EQ(*reading(readings, "third").at, 2e22);
  EXPECT_EQ(reading(readings, "1e23").level, Level::kNear);
  EXPECT_EQ(reading(readings, "1e25").level, Level::kBelow);
}

TEST(ComputeLedger, WhatIsUnknownStaysSo) {
  const auto lineage =
      lineage_of(json::Value(child_of(trained(2e22, "c"), "x", nullptr, "there is no record beside these weights")));
  ASSERT_TRUE(lineage);
  EXPECT_FALSE(lineage->total);
  EXPECT_FALSE(lineage->before);
  EXPECT_EQ(lineage->generations[1].why_unknown, "there is no record beside these weights");
  const auto readings = read_thresholds(*lineage);
  EXPECT_EQ(reading(readings, "1e23").level, Level::kUnknown);
  EXPECT_EQ(reading(readings, "third").level, Level::kHalf);  // of a third of 1e23
  EXPECT_THAT(reading(readings, "third").note, HasSubstr("unknown"));
  const auto huge = lineage_of(json::Value(child_of(trained(2e23, "c"), "x", nullptr)));
  EXPECT_EQ(reading(read_thresholds(*huge), "1e23").level, Level::kOver);  // its own part alone is
}

TEST(ComputeLedger, ARunThatGoesOnIsForetold) {
  json::Object running = trained(4e22, "");
  running.set("state", "running");
  running.set("steps", 100);
  running.set("planned_steps", 240);
  const auto lineage = lineage_of(json::Value(running));
  ASSERT_TRUE(lineage);
  const auto readings = read_thresholds(*lineage);
  const auto& r = reading(readings, "1e23");
  EXPECT_EQ(r.level, Level::kBelow);
  EXPECT_EQ(r.at_end, Level::kNear);
  EXPECT_EQ(reading(read_thresholds(*lineage), "third").level, Level::kBelow);  // there is no original
}

TEST(ComputeLedger, RefusesForgedAndBrokenRecords) {
  const auto message = [](json::Object record) { return lineage_of(json::Value(std::move(record))).error().message; };
  EXPECT_THAT(message(child_of(trained(3, "c"), "other", trained(100, "a"))), HasSubstr("other weights"));
  EXPECT_THAT(message({{"format", "x"}}), HasSubstr("not a record"));
  EXPECT_THAT(message({{"format", "qianwen-compute-1"}}), HasSubstr("flops is missing"));
  EXPECT_THAT(message(trained(-1, "a")), HasSubstr("not a number of operations"));
  EXPECT_FALSE(lineage_of(std::string_view("[]")));
  json::Object old = trained(3, "a");
  old.find("flops")->as_object().set("uncounted_steps", 7);
  EXPECT_FALSE(lineage_of(json::Value(old))->total);
}

TEST(DatasetLedger, TellsWhatIsThereAndWhatIsNot) {
  const auto ledger = DatasetLedger::parse(R"({"format": "qianwen-ledger-1", "sources": [{"name": "web", "origin": "o",
    "licence": "CC0-1.0", "train": {"tokens": 900000000}, "heldout": {"tokens": 200000000}, "files": [{"file": "a.txt", "sha256": "aa"}],
    "provenance": {"kind": "crawled", "purchased": false, "personal_data": "yes", "languages": ["zh", "en"],
                   "filters": {"sampled": 100, "illegal": 6, "passed": 94}}}]})");
  ASSERT_TRUE(ledger) << ledger.error().message;
  const json::Value& source = ledger->sources()[0];
  EXPECT_EQ(ledger->tokens(), 1'100'000'000);
  EXPECT_STREQ(ledger->size_band(), "1 billion to 10 trillion tokens");
  EXPECT_EQ(field_text(source, "provenance.languages"), "zh; en");
  EXPECT_EQ(field_text(source, "provenance.purchased"), "no");
  EXPECT_EQ(field_text(source, "files"), "a.txt sha256 aa");
  EXPECT_FALSE(field_text(source, "provenance.publisher"));
  const auto names = [&](unsigned regimes) {
    std::vector<std::string> out;
    for (const auto* field : missing_fields(source, regimes)) out.emplace_back(field->key);
    return out;
  };
  EXPECT_THAT(names(kEuSummary), Contains("provenance.crawler.robots"));
  EXPECT_THAT(names(kEuSummary), testing::Not(Contains("provenance.generator.model")));  // of synthetic sources only
  EXPECT_THAT(names(kAb2013), Contains("provenance.first_used"));
  EXPECT_THAT(warnings_of(source), testing::ElementsAre(HasSubstr("more than 5 %"), HasSubstr("no legal basis")));
}

TEST(DatasetLedger, RefusesWhatIsNone) {
  EXPECT_FALSE(DatasetLedger::parse("{}"));
  EXPECT_FALSE(DatasetLedger::parse(R"({"format": "qianwen-ledger-1", "sources": {}})"));
  EXPECT_FALSE(DatasetLedger::parse(R"({"format": "qianwen-ledger-1", "sources": [1]})"));
}

TEST(Licences, FamiliesOfWhatPeopleWrite) {
  using Family = LicenceFamily;
  const std::pair<const char*, Family> cases[] = {{"Apache-2.0", Family::kPermissive},
                                                  {"mit", Family::kPermissive},
                                                  {"mitigated", Family::kUnknown},
                                                  {"CC-BY-4.0", Family::kPermissive},
                                                  {"CC-BY-SA-4.0", Family::kShareAlike},
                                                  {"CC-BY-NC-SA-4.0", Family::kNonCommercial},
                                                  {"CC-BY-ND-4.0", Family::kNoDerivatives},
                                                  {"public domain (collection: MIT)", Family::kPermissive},
                                                  {"public domain (CC0 editions)", Family::kPublicDomain},
                                                  {"GPL-3.0-or-later", Family::kCopyleft},
                                                  {"GPL-3.0-only OR MIT", Family::kPermissive},
                                                  {"MIT AND CC-BY-NC-4.0", Family::kNonCommercial},
                                                  {"qwen-research", Family::kNonCommercial},
                                                  {"Tongyi Qianwen LICENSE AGREEMENT", Family::kCommunity},
                                                  {"as the uploader has it", Family::kUnknown},
                                                  {"  ", Family::kMissing}};
  for (const auto& [text, family] : cases)
    EXPECT_EQ(family_name(licence_family(text)), std::string(family_name(family))) << text;
}

TEST(Licences, WhatStandsInTheWay) {
  const auto texts = [](const std::vector<LicensedPart>& parts) {
    std::vector<std::string> out;
    for (const auto& one : licence_findings(parts)) out.push_back(one.text);
    return out;
  };
  EXPECT_THAT(texts({{"base", "Apache-2.0"}, {"data", "CC0-1.0"}}), testing::IsEmpty());
  EXPECT_THAT(texts({{"base", ""}}), testing::ElementsAre("base: no licence is stated"));
  EXPECT_THAT(texts({{"base", "CC-BY-ND-4.0"}}), testing::ElementsAre(HasSubstr("may be given on")));
  EXPECT_THAT(texts({{"base", "qwen-research"}, {"data", "CC-BY-SA-4.0"}}),
              testing::ElementsAre(HasSubstr("not for commercial use"), HasSubstr("the same licence"),
                                   HasSubstr("which base (qwen-research) does not allow")));
  EXPECT_THAT(texts({{"a", "GPL-3.0"}, {"b", "ODbL-1.0"}}), Contains(HasSubstr("each ask for their own licence")));
}

}  // namespace
}  // namespace qw::governance
