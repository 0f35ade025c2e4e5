// What a profile may say, what is asked of the service, and that a signature is of what it says.
#include "governance/policy/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "base/file.h"
#include "governance/audit/audit_log.h"
#include "governance/policy/approvals.h"
#include "governance/policy/stop_list.h"

namespace qw::governance {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string wrong_with(std::string_view members) {
  const auto read =
      Profile::parse(R"({"profile": "p", "version": 1, "date": "2026-11-29")" + std::string(members) + "}");
  return read ? "" : read.error().message;
}

TEST(Profile, IsReadStrictly) {
  EXPECT_EQ(wrong_with(""), "");
  EXPECT_EQ(wrong_with(R"(, "labels": [])"), "labels: is not known here");
  EXPECT_EQ(wrong_with(R"(, "watermark": {"force": true})"), "watermark.force: is not known here");
  EXPECT_EQ(wrong_with(R"(, "watermark": {"forced": true})"), "watermark: is forced, and there is none");
  EXPECT_EQ(wrong_with(R"(, "implicit_label": "gb")"), "implicit_label: must be none, gb45438 or c2pa");
  EXPECT_THAT(wrong_with(R"(, "guard": {"output": {"pii": {"phone": "mask"}}})"),
              HasSubstr("guard.output.pii: \"phone\" is no kind of personal data"));
  EXPECT_EQ(wrong_with(R"(, "guard": {"output": {"pii": {"email": "hide"}}})"),
            "guard.output.pii.email: must be flag, mask or block");
  EXPECT_EQ(wrong_with(R"(, "keyword_packs": [{"file": "../x", "action": "block"}])"),
            "keyword_packs.file: must be below the folder of packs");
  EXPECT_EQ(wrong_with(R"(, "keyword_packs": [{"file": "x"}])"), "keyword_packs.action: is missing");
  EXPECT_EQ(wrong_with(R"(, "required_approvals": ["a", "a"])"), "required_approvals: has a twice");
  EXPECT_EQ(wrong_with(R"(, "operator_duties": ["cooking"])"), "operator_duties: cooking is no duty");
  EXPECT_EQ(wrong_with(R"(, "incident_clocks": {"serious": 0})"),
            "incident_clocks: must be an object of names and hours");
  EXPECT_EQ(wrong_with(R"(, "retention": {"logs_days": 1.5})"),
            "the profile: its numbers are whole, and its names are of ASCII");
  EXPECT_EQ(wrong_with(R"(, "signature": {"public": "00", "sig": "00"})"),
            "signature: must be a public key and a signature in hexadecimal");
  EXPECT_EQ(Profile::parse(R"({"profile": "p", "date": "2026-11-29"})").error().message, "version: is missing");
  EXPECT_EQ(Profile::parse("[]").error().message, "the profile: must be an object");
}

TEST(Profile, WhatItSaysOfConductIsReadStrictly) {
  EXPECT_EQ(wrong_with(R"(, "strikes": {"action": "shout"})"), "strikes.action: must be warn, slow or suspend");
  EXPECT_EQ(wrong_with(R"(, "strikes": {"steps": [{"action": "warn"}]})"), "strikes.steps: needs in_a_row or a_day");
  EXPECT_EQ(wrong_with(R"(, "strikes": {"steps": [{"in_a_row": 2, "hours": 1}]})"),
            "strikes.steps.hours: is not known here");
  EXPECT_EQ(wrong_with(R"(, "crisis": {"reply": "x"})"), "crisis.helplines: is missing");
  EXPECT_EQ(wrong_with(R"(, "crisis": {"reply": "x", "helplines": []})"), "crisis.helplines: must name where help is");
  EXPECT_EQ(wrong_with(R"(, "crisis": {"helplines": [{"name": "a", "contact": "1"}]})"), "crisis.reply: is missing");
  EXPECT_THAT(
      wrong_with(R"(, "crisis": {"keywords": ["#x"], "reply": "x", "helplines": [{"name": "a", "contact": "1"}]})"),
      HasSubstr("crisis.keywords: has a text that is no keyword"));
  EXPECT_EQ(wrong_with(R"(, "minors": {"ages": [18, 14]})"), "minors.ages: must rise");
  EXPECT_EQ(wrong_with(R"(, "minors": {"ages": [18], "companions": false})"),
            "minors: companions are forbidden, and companion.personas and companion.models name none");
  EXPECT_EQ(wrong_with(R"(, "minors": {"ages": [18], "minutes_a_day": 0})"),
            "minors.minutes_a_day: must be a whole number from 1 to 1440");
  EXPECT_EQ(wrong_with(R"(, "companion": {"only_companions": true})"),
            "companion.only_companions: needs personas or models, which tell who is one");
  EXPECT_EQ(wrong_with(R"(, "utc_offset_min": 900)"), "utc_offset_min: must be a whole number from -720 to 840");
  const auto p = Profile::parse(R"({"profile": "p", "version": 1, "date": "2026-11-29",
      "strikes": {"in_a_row": 3, "steps": [{"a_day": 9, "action": "slow", "per_minute": 2, "minutes": 5}]},
      "crisis": {"keywords": ["end it"], "reply": "Wait.", "helplines": [{"name": "A", "contact": "1", "hours": "24/7"},
                                                                       {"name": "B", "contact": "2"}]}})");
  ASSERT_TRUE(p) << p.error().message;
  ASSERT_EQ(p->strikes.size(), 2u);
  EXPECT_EQ(p->strikes[0].measure, store::Measure::kSuspend);
  EXPECT_EQ(p->strikes[1].per_minute, 2);
  EXPECT_EQ(p->crisis->text(), "Wait.\n\nA: 1 (24/7)\nB: 2");
}

TEST(Profile, LaterKindsOverrideRegions) {
  const auto p = Profile::parse(R"({"profile": "p", "version": 1, "date": "2026-11-29",
      "guard": {"output": {"pii": {"eu": "flag", "iban": "block"}}}})");
  ASSERT_TRUE(p) << p.error().message;
  EXPECT_TRUE(p->output.pii.has(PiiKind::kEmail));
  EXPECT_EQ(p->output.on_pii[static_cast<std::size_t>(PiiKind::kEmail)], GuardAction::kFlag);
  EXPECT_EQ(p->output.on_pii[static_cast<std::size_t>(PiiKind::kIban)], GuardAction::kBlock);
  EXPECT_TRUE(p->input.pii.empty());
}

class PolicyFiles : public testing::Test {
 protected:
  PolicyFiles() {
    folder_ = std::filesystem::path(testing::TempDir()) / "qw_policy_test";
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~PolicyFiles() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
};

TEST_F(PolicyFiles, ASignatureIsOfWhatTheProfileSays) {
  const auto key = SigningKey::create(folder_ / "key");
  ASSERT_TRUE(key) << key.error().message;
  const auto other = SigningKey::create(folder_ / "other");
  const auto plain = Profile::parse(shipped_profile("eu-public"));
  ASSERT_TRUE(plain) << plain.error().message;
  EXPECT_FALSE(plain->signed_by(key->public_key()));
  const std::string file = plain->signed_file(*key);
  const auto sealed = Profile::parse(file);
  ASSERT_TRUE(sealed) << sealed.error().message;
  EXPECT_TRUE(sealed->signed_by(key->public_key()));
  EXPECT_FALSE(sealed->signed_by(other->public_key()));
  EXPECT_EQ(sealed->hash, plain->hash);
  for (std::size_t at = file.find("183"); at != std::string::npos; at = file.find("183", at + 1)) {
    std::string changed = file;
    changed.replace(at, 3, "182");
    const auto read = Profile::parse(changed);
    if (read) {
      EXPECT_FALSE(read->signed_by(key->public_key()));
    }
  }
}

// Everything that the program ships can be read, and needs nothing but what its documents say.
TEST_F(PolicyFiles, TheShippedOnesAskForWhatAServiceCanHave) {
  ASSERT_TRUE(base::write_file_atomically(folder_ / "cn-keywords.txt", "[a]\n词\n"));
  for (const std::string& name : shipped_profiles()) {
    auto profile = Profile::parse(shipped_profile(name));
    ASSERT_TRUE(profile) << name << ": " << profile.error().message;
    EXPECT_EQ(profile->name, name);
    const auto policy = Policy::load(*profile, folder_);
    ASSERT_TRUE(policy) << name << ": " << policy.error().message;
    EXPECT_THAT((*policy)->unmet({.audit_log = true, .labels = true, .accounts = true, .watermark = "synthid"}),
                IsEmpty())
        << name;
    EXPECT_EQ((*policy)->unmet({}).empty(), name == "internal") << name;
  }
  EXPECT_EQ(shipped_profile("mars-public"), "");
}

TEST_F(PolicyFiles, WhatCannotBeHonouredIsNamed) {
  const auto profile = Profile::parse(R"({"profile": "p", "version": 1, "date": "2026-11-29", "implicit_label": "c2pa",
      "watermark": {"scheme": "gumbel", "forced": true}, "crypto": "sm3/sm2", "strikes": {"a_day": 5},
      "operator_duties": ["strikes"]})");
  ASSERT_TRUE(profile) << profile.error().message;
  const auto policy = Policy::load(*profile, "");
  EXPECT_THAT((*policy)->unmet({.audit_log = true, .labels = true, .watermark = "synthid"}),
              ElementsAre(HasSubstr("labels in metadata (c2pa), which this service does not do"), HasSubstr("sm3/sm2"),
                          HasSubstr("the watermark gumbel, and the key in use is of synthid")));
}

// What is a minor's is added to what is everybody's, and of two actions the harder counts.
TEST_F(PolicyFiles, MinorsHaveAPartOfTheirOwn) {
  ASSERT_TRUE(base::write_file_atomically(folder_ / "words", "[hard]\nvile\n[crisis]\nend it\n"));
  ASSERT_TRUE(base::write_file_atomically(folder_ / "mild", "[mild]\ndarn\n"));
  const auto profile = Profile::parse(R"({"profile": "p", "version": 1, "date": "2026-11-29",
      "guard": {"output": {"pii": {"email": "block", "iban": "flag"}}},
      "keyword_packs": [{"file": "words", "action": "flag"}],
      "crisis": {"keywords": ["no way out"], "reply": "Wait.", "helplines": [{"name": "A", "contact": "1"}]},
      "companion": {"reminder_min": 120, "pause_min": 5, "personas": ["girlfriend"]},
      "strikes": {"in_a_row": 3}, "utc_offset_min": 480,
      "minors": {"ages": [14, 18], "guard": {"output": {"pii": {"email": "mask", "iban": "mask"}}},
                 "keyword_packs": [{"file": "mild", "action": "block"}], "companions": false,
                 "minutes_a_day": 60, "reminder_min": 30}})");
  ASSERT_TRUE(profile) << profile.error().message;
  const auto loaded = Policy::load(*profile, folder_);
  ASSERT_TRUE(loaded) << loaded.error().message;
  const Policy& p = **loaded;
  const auto action = [&](PiiKind kind, bool minor) { return p.output(minor).on_pii[static_cast<std::size_t>(kind)]; };
  EXPECT_EQ(action(PiiKind::kEmail, true), GuardAction::kBlock);
  EXPECT_EQ(action(PiiKind::kIban, false), GuardAction::kFlag);
  EXPECT_EQ(action(PiiKind::kIban, true), GuardAction::kCover);
  std::vector<GuardFinding> found;
  EXPECT_FALSE(guard_text(p.input(false), "darn", found).blocked);
  EXPECT_TRUE(guard_text(p.input(true), "darn", found).blocked);
  EXPECT_FALSE(guard_text(p.crisis(), "vile", found).blocked);
  for (const char* text : {"I want to end it", "there is NO WAY OUT"}) {
    EXPECT_TRUE(guard_text(p.crisis(), text, found).blocked) << text;
    EXPECT_FALSE(guard_text(p.input(), text, found).blocked) << text;  // who is in danger is answered
    EXPECT_TRUE(guard_text(p.output(), text, found).blocked) << text;
    EXPECT_EQ(found.back().kind, kCrisisFinding);
  }
  EXPECT_TRUE(guard_text(p.personas(), "You are my girlfriend", found).blocked);
  EXPECT_TRUE(p.is_minor(0) && p.is_minor(17) && !p.is_minor(18));
  EXPECT_TRUE(p.needs_consent(13) && !p.needs_consent(14));
  EXPECT_EQ(p.conduct(false).reminder_min, 120);
  EXPECT_EQ(p.conduct(false).minutes_a_day, 0);
  EXPECT_EQ(p.conduct(true).reminder_min, 30);
  EXPECT_EQ(p.conduct(true).minutes_a_day, 60);
  EXPECT_EQ(p.conduct(true).pause_min, 5);
  EXPECT_EQ(p.conduct(true).utc_offset_min, 480);
  EXPECT_THAT(p.unmet({}), testing::Contains(HasSubstr("counting strikes, which needs to know who asks (--store)")));
  EXPECT_THAT(p.unmet({.accounts = true, .watermark = ""}), IsEmpty());
}

TEST_F(PolicyFiles, PatternsAreOfTheProfileAndOfPacks) {
  const auto rules = [](const std::string& rest) {
    return Profile::parse(R"({"profile": "p", "version": 1, "date": "2026-11-29", )" + rest + "}");
  };
  const auto own = [&](const std::string& expression) {
    return rules(R"("patterns": [{"category": "codes", "action": "mask", "where": "output", "expressions": [")" +
                 expression + R"("]}])");
  };
  if (!own("a")) GTEST_SKIP() << own("a").error().message;  // built without RE2
  EXPECT_EQ(own("a(").error().message, "patterns.expressions: expression 1: a(: missing ): a(");
  EXPECT_THAT(rules(R"("patterns": [{"action": "flag"}])").error().message, HasSubstr("category: is missing"));
  const auto profile = rules(R"("patterns": [{"category": "codes", "action": "mask", "longest": 12,
      "where": "output", "expressions": ["pro-\\d{4}"]}], "pattern_packs": [{"file": "p.txt", "action": "block"}])");
  ASSERT_TRUE(profile) << profile.error().message;
  ASSERT_TRUE(base::write_file_atomically(folder_ / "p.txt", "keys akia[a-z0-9]{4}\nkeys (\n"));
  EXPECT_THAT(Policy::load(*profile, folder_).error().message, HasSubstr("p.txt: line 2: (: missing ): ("));
  ASSERT_TRUE(base::write_file_atomically(folder_ / "p.txt", "keys akia[a-z0-9]{4}\n"));
  const auto policy = Policy::load(*profile, folder_);
  ASSERT_TRUE(policy) << policy.error().message;
  std::vector<GuardFinding> found;
  EXPECT_EQ(guard_text((*policy)->output(), "PRO-1234 and AKIA00XX!", found).text, "******** and ");
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].kind, "pattern/codes");
  EXPECT_EQ(found[1].kind, "pattern/keys");
  EXPECT_EQ(guard_text((*policy)->input(), "PRO-1234", found).text, "PRO-1234");
  ASSERT_TRUE(base::write_file_atomically(folder_ / "p.txt", "keys akia[a-z0-9]{5}\n"));
  EXPECT_NE((*policy)->hash(), (*Policy::load(*profile, folder_))->hash());
}

TEST_F(PolicyFiles, PacksAreAPartOfWhatIsFollowed) {
  const auto profile = Profile::parse(R"({"profile": "p", "version": 1, "date": "2026-11-29",
      "keyword_packs": [{"file": "words", "action": "block", "categories": {"mild": "flag"}, "where": "output"}]})");
  ASSERT_TRUE(profile) << profile.error().message;
  EXPECT_THAT(Policy::load(*profile, "").error().message, HasSubstr("--policy-packs"));
  EXPECT_FALSE(Policy::load(*profile, folder_));
  ASSERT_TRUE(base::write_file_atomically(folder_ / "words", "[hard]\nvile\n"));
  EXPECT_THAT(Policy::load(*profile, folder_).error().message, HasSubstr("has no category mild"));
  ASSERT_TRUE(base::write_file_atomically(folder_ / "words", "[hard]\nvile\n[mild]\ndarn\n"));
  const auto one = Policy::load(*profile, folder_);
  ASSERT_TRUE(one) << one.error().message;
  EXPECT_TRUE((*one)->input().empty());
  std::vector<GuardFinding> findings;
  EXPECT_EQ(guard_text((*one)->output(), "darn, how vile it is", findings).text, "darn, how ");
  EXPECT_EQ(findings.size(), 2u);
  ASSERT_TRUE(base::write_file_atomically(folder_ / "words", "[hard]\nviler\n[mild]\ndarn\n"));
  EXPECT_NE((*one)->hash(), (*Policy::load(*profile, folder_))->hash());

  PolicySet set;
  EXPECT_EQ(set.of("a"), nullptr);
  set.add("a", std::move(*Policy::load(*profile, folder_)));
  EXPECT_EQ(set.of("b"), nullptr);
  set.add("", std::move(*Policy::load(*Profile::parse(shipped_profile("internal")), "")));
  EXPECT_EQ(set.of("a")->profile().name, "p");
  EXPECT_EQ(set.of("b")->profile().name, "internal");
}

class NoModel final : public TextClassifier {
 public:
  const std::string& name() const override { return name_; }
  Result<std::vector<TextClass>> classify(std::string_view) const override { return std::vector<TextClass>{}; }

 private:
  const std::string name_ = "mini-guard";
};

TEST_F(PolicyFiles, AGuardModelIsAskedThatTheProfileNames) {
  const auto profile = [](const std::string& model) {
    return *Profile::parse(R"({"profile": "p", "version": 1, "date": "2026-11-29",
        "guard": {"model": ")" +
                           model + R"(", "strictness": "loose", "output": {"model": "block"}}})");
  };
  const NoModel model;
  const auto one = Policy::load(profile("mini-guard"), "", &model);
  ASSERT_TRUE(one) << one.error().message;
  EXPECT_EQ((*one)->output().classes.model, &model);
  EXPECT_EQ((*one)->output().classes.action, GuardAction::kBlock);
  EXPECT_EQ((*one)->output().classes.threshold, 0.9);
  EXPECT_EQ((*one)->input().classes.action, GuardAction::kFlag);
  EXPECT_THAT((*one)->unmet({.guard_model = &model}), IsEmpty());
  EXPECT_THAT((*one)->unmet({}), ElementsAre(HasSubstr("--guard-model mini-guard")));
  const auto other = Policy::load(profile("qwen3guard"), "", &model);
  EXPECT_TRUE((*other)->input().empty());
  EXPECT_THAT((*other)->unmet({.guard_model = &model}), ElementsAre(HasSubstr("the guard model qwen3guard")));
  EXPECT_EQ(wrong_with(R"(, "guard": {"input": {"model": "mask"}})"), "guard.input.model: must be flag or block");
}

TEST(StopList, SaysWhatIsStopped) {
  using What = Stop::What;
  StopList list;
  EXPECT_EQ(list.hit("m", "", "p"), nullptr);
  EXPECT_TRUE(list.add({What::kModel, "m", "me", "why", 5}));
  EXPECT_FALSE(list.add({What::kModel, "m", "you", "", 6}));
  EXPECT_TRUE(list.add({What::kAdapter, "a", "", "", 5}));
  EXPECT_TRUE(list.add({What::kProject, "p", "", "", 5}));
  EXPECT_NE(list.hit("m", "", ""), nullptr);
  EXPECT_NE(list.hit("x", "m", ""), nullptr);  // an adapter of it
  EXPECT_NE(list.hit("a", "n", ""), nullptr);
  EXPECT_EQ(list.hit("a", "", ""), nullptr);  // a model of that name
  EXPECT_NE(list.hit("n", "", "p"), nullptr);
  EXPECT_EQ(list.hit("n", "", "q"), nullptr);
  const auto again = StopList::parse(list.dump());
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->dump(), list.dump());
  EXPECT_TRUE(list.remove({What::kModel, "m", "", "", 0}));
  EXPECT_FALSE(list.remove({What::kModel, "m", "", "", 0}));
  EXPECT_TRUE(list.add({What::kAll, "", "", "", 5}));
  EXPECT_NE(list.hit("n", "", "q"), nullptr);
  for (const char* broken : {"", "[]", R"({"stopped": [{"what": "all", "name": "x", "since": 1}]})",
                             R"({"stopped": [{"what": "model", "name": "", "since": 1}]})",
                             R"({"stopped": [{"what": "moon", "name": "x", "since": 1}]})",
                             R"({"stopped": [{"what": "all", "since": 1}, {"what": "all", "since": 1}]})"})
    EXPECT_FALSE(StopList::parse(broken)) << broken;
}

// Whoever changes the list at the same time, a service and a command say, loses nothing of the other's.
TEST_F(PolicyFiles, StopsOfSeveralWritersAreAllKept) {
  const auto file = folder_ / "stops";
  constexpr int kWriters = 4, kEach = 25;
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w)
    writers.emplace_back([&, w] {
      for (int i = 0; i < kEach; ++i) {
        const Stop stop{Stop::What::kModel, std::to_string(w) + "-" + std::to_string(i), "", "", 1};
        const auto list = change_stops(file, stop, true);
        ASSERT_TRUE(list && *list);
      }
    });
  for (auto& writer : writers) writer.join();
  const auto list = StopList::read(file);
  ASSERT_TRUE(list);
  EXPECT_EQ(list->all().size(), std::size_t{kWriters} * kEach);
  EXPECT_FALSE(*change_stops(file, list->all()[0], true));  // it was
}

TEST_F(PolicyFiles, ApprovalsAreOfOnePolicyBySomeoneWhoMay) {
  const auto text = [](const char* about) {
    return std::string(
               R"({"profile": "p", "version": 1, "date": "2026-11-29", "required_approvals": ["one", "two"], "about": ")") +
           about + "\"}";
  };
  const auto policy = Policy::load(*Profile::parse(text("a")), ""),
             other = Policy::load(*Profile::parse(text("b")), "");
  const auto key = SigningKey::create(folder_ / "key"), stranger = SigningKey::create(folder_ / "stranger");
  const auto missing = [&] {
    const auto found = missing_approvals(folder_ / "log", **policy, {key->public_key()});
    EXPECT_TRUE(found) << found.error().message;
    return *found;
  };
  EXPECT_THAT(missing(), ElementsAre("one", "two"));  // there is no log yet
  const auto log = AuditLog::open(folder_ / "log", *key);
  ASSERT_TRUE(log) << log.error().message;
  const auto approve = [&](const char* name, const Policy& of, const SigningKey& by, bool withdrawn = false) {
    ASSERT_TRUE((*log)->append_and_wait(signed_approval({name, of.hash(), "somebody", "", withdrawn}, by)));
  };
  approve("one", **policy, *key);
  EXPECT_THAT(missing(), ElementsAre("two"));
  approve("two", **policy, *stranger);
  approve("two", **other, *key);
  json::Object forged = signed_approval({"two", (*policy)->hash(), "somebody", "", true}, *key);
  forged.set("withdrawn", false);
  ASSERT_TRUE((*log)->append_and_wait(std::move(forged)));
  EXPECT_THAT(missing(), ElementsAre("two"));
  approve("two", **policy, *key);
  EXPECT_THAT(missing(), IsEmpty());
  approve("one", **policy, *key, true);
  EXPECT_THAT(missing(), ElementsAre("one"));
}

}  // namespace
}  // namespace qw::governance
