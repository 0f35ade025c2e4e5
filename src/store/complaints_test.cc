// Complaints, and what a person may take along or have erased: over both engines.
#include "store/complaints.h"

#include "store/internal/test_stores.h"

namespace qw::store {
namespace {

constexpr std::int64_t kDay = 86'400'000'000;

class ComplaintsTest : public test::OnEngine {
 protected:
  void SetUp() override {
    test::OnEngine::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    Store& s = open();
    ASSERT_TRUE(s.tenants().add_organisation("o"));
    project_ = s.tenants().add_project("o", "p")->id;
    ann_ = s.tenants().add_user("o", "ann", {"member"})->id;
    ann_key_ = s.tenants().add_key({"p", "ann", "phone", {"*"}, {}, {}, 0})->key;
  }
  Complaints& complaints() { return store_->complaints(); }
  FiledComplaint filed(const std::string& text, std::int64_t days = 15) {
    auto made = complaints().add({project_, ann_, "content 7", "ann@x.y", text, days});
    EXPECT_TRUE(made) << made.error().message;
    now_us_ += 1'000'000;
    return *made;
  }
  std::string project_, ann_;
  Key ann_key_;
};
INSTANTIATE_TEST_SUITE_P(Both, ComplaintsTest, testing::Values(test::Engine::kSqlite, test::Engine::kPostgres),
                         test::engine_name);

TEST_P(ComplaintsTest, AreFoundByTheirReceiptAnsweredAndClosedOnce) {
  const FiledComplaint one = filed("it was rude");
  EXPECT_EQ(one.complaint.due_us - one.complaint.created_us, 15 * kDay);
  EXPECT_EQ(complaints().find_by_receipt(one.complaint.id, one.receipt)->text, "it was rude");
  EXPECT_FALSE(complaints().find_by_receipt(one.complaint.id, "guess"));
  EXPECT_EQ(complaints().appeal(one.complaint.id, {"", "", "", "", "no"}).error().kind, ErrorKind::kRefused);
  const auto answered = complaints().answer(one.complaint.id, "sorry", "bo");
  ASSERT_TRUE(answered) << answered.error().message;
  EXPECT_EQ(answered->status, "answered");
  EXPECT_EQ(answered->answered_by, "bo");
  EXPECT_EQ(complaints().answer(one.complaint.id, "again", "bo").error().kind, ErrorKind::kRefused);
  const auto closed = complaints().close(one.complaint.id, "done", "bo");
  ASSERT_TRUE(closed);
  EXPECT_EQ(closed->answer, "sorry") << "the answer stays";
  EXPECT_EQ(complaints().close(one.complaint.id, "done", "bo").error().kind, ErrorKind::kRefused);
  EXPECT_EQ(complaints().answer("cmp_none", "x", "bo").error().kind, ErrorKind::kBadInput);
}

TEST_P(ComplaintsTest, AnAnswerCanBeAppealedAgainstOnce) {
  const FiledComplaint one = filed("wrong");
  ASSERT_TRUE(complaints().answer(one.complaint.id, "right", "bo"));
  const auto appeal = complaints().appeal(one.complaint.id, {"", "", "", "", "wrong still", 10});
  ASSERT_TRUE(appeal) << appeal.error().message;
  EXPECT_EQ(appeal->complaint.kind, "appeal");
  EXPECT_EQ(appeal->complaint.appeal_of, one.complaint.id);
  EXPECT_EQ(appeal->complaint.user_id, ann_);
  EXPECT_EQ(appeal->complaint.contact, "ann@x.y");
  EXPECT_EQ(complaints().appeal(one.complaint.id, {"", "", "", "", "again"}).error().kind, ErrorKind::kRefused);
  ASSERT_TRUE(complaints().answer(appeal->complaint.id, "final", "bo"));
  EXPECT_EQ(complaints().appeal(appeal->complaint.id, {"", "", "", "", "no"}).error().kind, ErrorKind::kRefused);
}

TEST_P(ComplaintsTest, ListsByStatusAndDeadlinePageByPage) {
  const std::string first = filed("a", 1).complaint.id, second = filed("b", 2).complaint.id,
                    third = filed("c", 3).complaint.id;
  ASSERT_TRUE(complaints().add({"", "", "", "", "of nobody"}));
  const auto ids = [&](const ComplaintFilter& f, const std::string& after = "", std::int64_t most = 10) {
    std::vector<std::string> out;
    const auto listed = complaints().list(f, after, most);
    for (const Complaint& one : *listed) out.push_back(one.text);
    return out;
  };
  using Texts = std::vector<std::string>;
  EXPECT_EQ(ids({}), (Texts{"a", "b", "c", "of nobody"}));
  EXPECT_EQ(ids({}, first, 2), (Texts{"b", "c"}));
  EXPECT_EQ(ids({.user_id = ann_}), (Texts{"a", "b", "c"}));
  now_us_ += 2 * kDay + 1;
  EXPECT_EQ(ids({.overdue = true}), (Texts{"a", "b"}));
  ASSERT_TRUE(complaints().answer(first, "x", "bo"));
  EXPECT_EQ(ids({.overdue = true}), (Texts{"b"}));
  EXPECT_EQ(ids({.status = "answered"}), (Texts{"a"}));
  EXPECT_EQ(ids({.status = "open", .project_id = project_}), (Texts{"b", "c"}));
}

TEST_P(ComplaintsTest, RefusesWhatIsNoText) {
  const auto kind = [&](NewComplaint c) { return complaints().add(c).error().kind; };
  EXPECT_EQ(kind({"", "", "", "", ""}), ErrorKind::kBadInput);
  EXPECT_EQ(kind({"", "", "", "", std::string(Complaints::kMostText + 1, 'x')}), ErrorKind::kBadInput);
  EXPECT_EQ(kind({"", "", "", "", "\xFF"}), ErrorKind::kBadInput);
  EXPECT_EQ(kind({"", "", "", "", std::string("a\0b", 3)}), ErrorKind::kBadInput);
  EXPECT_EQ(kind({"", "", "", "", "x", 0}), ErrorKind::kBadInput);
}

TEST_P(ComplaintsTest, APersonsDataAreGivenAndErased) {
  Store& s = *store_;
  filed("my words");
  const File file = *s.files().begin(project_, "a.txt", "user_data");
  ASSERT_TRUE(s.files().append(file.id, "secret"));
  ASSERT_TRUE(s.files().complete(file.id));
  ASSERT_TRUE(s.documents().add({"resp_1", project_, "response", "", 0, 0, "{}"}));
  const auto job = s.jobs().add("batch_", project_, "batch", "{}");
  ASSERT_TRUE(job);
  now_us_ += 1'000'000;
  const File lines = *s.files().begin(project_, "set.jsonl", "fine-tune");
  ASSERT_TRUE(s.files().append(lines.id, "my question"));
  Feedback said;
  said.project_id = project_, said.rating = "down", said.by_user = ann_, said.prompt = "my question";
  const Feedback given = *s.feedback().add(said);
  DatasetVersion version;
  version.project_id = project_, version.name = "set", version.examples_file = lines.id;
  const auto set = s.feedback().add_dataset(version, {{given.id, "digest"}});
  ASSERT_TRUE(set) << set.error().message;
  auto& data = s.personal_data();
  const auto subject = data.subject_of(ann_key_);
  ASSERT_TRUE(subject) << subject.error().message;
  EXPECT_EQ(subject->project_id, project_) << "nobody else works there";
  const auto held = data.collect(*subject, 100);
  ASSERT_TRUE(held) << held.error().message;
  EXPECT_EQ(held->user->name, "ann");
  EXPECT_EQ(held->keys.size(), 1u);
  EXPECT_EQ(held->complaints.at(0).text, "my words");
  EXPECT_EQ(held->files.at(0).name, "a.txt");
  EXPECT_EQ(held->documents.at(0).id, "resp_1");
  EXPECT_EQ(held->jobs.size(), 1u);
  EXPECT_EQ(held->feedback.at(0).prompt, "my question");
  EXPECT_EQ(held->datasets.at(0).id, set->id);
  EXPECT_FALSE(held->more);

  EXPECT_EQ(data.erase(*subject).error().kind, ErrorKind::kRefused) << "a job is not finished";
  EXPECT_EQ(s.tenants().user(ann_)->name, "ann") << "nothing was erased";
  ASSERT_TRUE(s.jobs().cancel(project_, "batch", job->id));
  const auto erased = data.erase(*subject);
  ASSERT_TRUE(erased) << erased.error().message;
  EXPECT_EQ(erased->documents + erased->jobs + erased->complaints + erased->keys + erased->users, 5);
  EXPECT_EQ(erased->files, 2);
  EXPECT_EQ(erased->feedback + erased->datasets, 2);
  const User user = *s.tenants().user(ann_);
  EXPECT_EQ(user.name, "erased-" + ann_);
  EXPECT_TRUE(user.disabled);
  const auto left = data.collect(*subject, 100);
  ASSERT_TRUE(left);
  EXPECT_TRUE(left->files.empty() && left->documents.empty() && left->jobs.empty());
  EXPECT_EQ(left->feedback.at(0).status, "erased");
  EXPECT_EQ(left->feedback.at(0).prompt, "");
  EXPECT_TRUE(left->datasets.at(0).erased && left->datasets.at(0).examples_file.empty());
  EXPECT_EQ(left->complaints.at(0).text, "");
  EXPECT_EQ(left->complaints.at(0).status, "open");
  EXPECT_GT(left->complaints.at(0).erased_us, 0);
  EXPECT_FALSE(s.tenants().key(ann_key_.id)->revoked_us == 0);
}

TEST_P(ComplaintsTest, EverybodyHasASaltUntilErased) {
  Store& s = *store_;
  const NewKey ann = *s.tenants().add_key({"p", "ann", "other", {"*"}, {}, {}, 0});
  const NewKey nobodys = *s.tenants().add_key({"p", "", "a service", {"*"}, {}, {}, 0});
  const std::string first = (*s.tenants().principal_of_key(ann.secret))->salt;
  EXPECT_EQ(first.size(), 64u);
  EXPECT_EQ((*s.tenants().principal_of_key(ann.secret))->salt, first);
  const std::string project = (*s.tenants().principal_of_key(nobodys.secret))->salt;
  EXPECT_NE(project, first);
  ASSERT_TRUE(s.personal_data().erase({ann_, ""}));
  EXPECT_EQ((*s.tenants().principal_of_key(nobodys.secret))->salt, project);
  EXPECT_EQ(s.personal_data().erase({"", project_})->salts, 1);
  EXPECT_NE((*s.tenants().principal_of_key(nobodys.secret))->salt, project);
}

TEST_P(ComplaintsTest, WhatOneSaidOfAnswersGoesWithoutTheProject) {
  Store& s = *store_;
  Feedback said;
  said.project_id = project_, said.rating = "up", said.by_user = ann_, said.comment = "mine";
  ASSERT_TRUE(s.feedback().add(said));
  now_us_ += 1'000'000;
  said.by_user = "usr_other", said.comment = "another's";
  ASSERT_TRUE(s.feedback().add(said));
  EXPECT_EQ(s.personal_data().collect({ann_, ""}, 10)->feedback.size(), 1u);
  EXPECT_EQ(s.personal_data().erase({ann_, ""})->feedback, 1);
  const auto left = *s.feedback().list(project_, "", "", 10);
  EXPECT_EQ(left.at(0).comment, "");
  EXPECT_EQ(left.at(1).comment, "another's");
}

TEST_P(ComplaintsTest, AProjectThatOthersShareIsNotErasedWithAUser) {
  Store& s = *store_;
  ASSERT_TRUE(s.tenants().add_key({"p", "", "a service", {"*"}, {}, {}, 0}));
  ASSERT_TRUE(s.documents().add({"resp_1", project_, "response", "", 0, 0, "{}"}));
  const auto subject = s.personal_data().subject_of(ann_key_);
  ASSERT_TRUE(subject);
  EXPECT_EQ(subject->project_id, "");
  ASSERT_TRUE(s.personal_data().erase(*subject));
  EXPECT_TRUE(s.documents().find(project_, "response", "resp_1"));
}

TEST_P(ComplaintsTest, TheLastOwnerIsNotErased) {
  Store& s = *store_;
  const User owner = *s.tenants().add_user("o", "boss", {"owner"});
  EXPECT_EQ(s.personal_data().erase({owner.id, ""}).error().kind, ErrorKind::kRefused);
  EXPECT_EQ(s.tenants().user(owner.id)->name, "boss");
  ASSERT_TRUE(s.tenants().add_user("o", "other", {"owner"}));
  EXPECT_TRUE(s.personal_data().erase({owner.id, ""}));
}

class ConductTest : public ComplaintsTest {
 protected:
  static constexpr std::int64_t kMinute = 60'000'000;
  Met meet(bool violates = false, const std::string& who = "usr_1") {
    const auto met = store_->conduct().meet({who, violates, true, rules_});
    EXPECT_TRUE(met) << met.error().message;
    return *met;
  }
  using Verdict = Met::Verdict;
  ConductRules rules_;
};
INSTANTIATE_TEST_SUITE_P(Both, ConductTest, testing::Values(test::Engine::kSqlite, test::Engine::kPostgres),
                         test::engine_name);

TEST_P(ConductTest, StrikesWarnSlowAndSuspendForATime) {
  rules_.strikes = {{1, 0, Measure::kWarn}, {2, 0, Measure::kSlow, 10, 2}, {3, 4, Measure::kSuspend, 60}};
  Met met = meet(true);
  EXPECT_TRUE(met.measured);
  EXPECT_EQ(met.conduct.standing, "warned");
  met = meet(false);
  EXPECT_EQ(met.conduct.standing, "");
  EXPECT_EQ(met.conduct.in_a_row, 0);
  EXPECT_EQ(met.conduct.today, 1);
  meet(true);
  met = meet(true);
  EXPECT_EQ(met.conduct.standing, "slowed");
  EXPECT_EQ(meet().verdict, Verdict::kGo) << "the first of the slow ones";
  met = meet();
  EXPECT_EQ(met.verdict, Verdict::kSlowed);
  EXPECT_EQ(met.wait_us, 30 * 1'000'000);
  now_us_ += kMinute / 2;
  met = meet(true);  // the fourth of the day
  EXPECT_EQ(met.verdict, Verdict::kGo);
  EXPECT_EQ(met.conduct.standing, "suspended");
  met = meet(true);
  EXPECT_EQ(met.verdict, Verdict::kSuspended);
  EXPECT_EQ(met.wait_us, 60 * kMinute);
  EXPECT_EQ(met.conduct.total, 4) << "what does not go on is not counted";
  EXPECT_EQ(meet(false, "usr_2").verdict, Verdict::kGo);
  // Another service over the same store, and the same one after a start, know it.
  Store& other = open();
  EXPECT_EQ(other.conduct().meet({"usr_1", false, true, rules_})->verdict, Verdict::kSuspended);
  EXPECT_EQ(other.conduct().list("suspended", 10)->size(), 1u);
  EXPECT_EQ(other.conduct().lift("usr_1")->standing, "");
  EXPECT_EQ(meet(false).verdict, Verdict::kGo);
  EXPECT_EQ(other.conduct().list("suspended", 10)->size(), 0u);
  EXPECT_EQ(other.conduct().list("", 10)->size(), 1u);
  EXPECT_FALSE(other.conduct().lift("nobody"));
  for (int i = 0; i < 3; ++i) met = meet(true);
  EXPECT_EQ(met.conduct.standing, "suspended");
  now_us_ += 60 * kMinute;
  met = meet();
  EXPECT_EQ(met.verdict, Verdict::kGo);
  EXPECT_EQ(met.conduct.standing, "");
}

TEST_P(ConductTest, ADayEndsWhereItsClockSays) {
  rules_.strikes = {{0, 2, Measure::kSuspend, 1}};
  rules_.utc_offset_min = 480;
  now_us_ = 20'000 * kDay + 16 * 60 * kMinute - kMinute;  // 23:59 at +08:00
  meet(true);
  now_us_ += 2 * kMinute;
  EXPECT_EQ(meet(true).conduct.today, 1);
  EXPECT_EQ(meet(true).conduct.standing, "suspended");
}

TEST_P(ConductTest, RemindsAfterContinuousUseAndEndsTheDaysTime) {
  rules_.reminder_min = 120;
  rules_.pause_min = 15;
  now_us_ = 20'000 * kDay;
  int reminded = 0;
  for (int minute = 0; minute <= 240; minute += 10, now_us_ += 10 * kMinute)
    if (meet().reminds) {
      ++reminded;
      EXPECT_EQ(minute % 120, 0) << minute;
    }
  EXPECT_EQ(reminded, 2);
  now_us_ += 20 * kMinute;  // a pause: it begins anew
  EXPECT_FALSE(meet().reminds);
  rules_.minutes_a_day = 250;
  now_us_ += 10 * kMinute;
  const Met met = meet();
  EXPECT_EQ(met.verdict, Verdict::kUsedUp) << met.conduct.used_us / kMinute;
  EXPECT_EQ(met.wait_us, 20'001 * kDay - now_us_);
  now_us_ = 20'001 * kDay;
  EXPECT_EQ(meet().verdict, Verdict::kGo);
  EXPECT_EQ(meet(false, "usr_2").conduct.used_us, 0);
}

TEST_P(ConductTest, WhoIsAMinorIsKnownWithTheKey) {
  Store& s = *store_;
  const NewKey key = *s.tenants().add_key({"p", "ann", "other", {"*"}, {}, {}, 0});
  EXPECT_FALSE((*s.tenants().principal_of_key(key.secret))->minor);
  ASSERT_TRUE(s.conduct().set_minor(project_, 16, false));
  EXPECT_EQ((*s.tenants().principal_of_key(key.secret))->minor->age, 16);
  ASSERT_TRUE(s.conduct().set_minor(ann_, 13, true));
  EXPECT_EQ((*s.tenants().principal_of_key(key.secret))->minor->age, 13);
  ASSERT_TRUE(s.conduct().set_minor(ann_, 17, true));
  EXPECT_EQ((*s.tenants().principal_of_key(key.secret))->minor->age, 16);
  EXPECT_EQ(s.conduct().minors()->size(), 2u);
  EXPECT_FALSE(s.conduct().set_minor(ann_, 121, true));
  EXPECT_EQ(s.personal_data().collect({ann_, ""}, 10)->minors.size(), 1u);
  ASSERT_TRUE(s.personal_data().erase({ann_, ""}));
  EXPECT_EQ(s.conduct().minors()->size(), 1u);
  ASSERT_TRUE(s.conduct().unset_minor(project_));
  EXPECT_EQ(s.conduct().minors()->size(), 0u);
}

TEST_P(ComplaintsTest, AreCounted) {
  EXPECT_EQ(store_->complaints().count()->total(), 0);
  const FiledComplaint one = filed("first");
  filed("second");
  ASSERT_TRUE(store_->complaints().answer(one.complaint.id, "so", "ann"));
  now_us_ += std::int64_t{4000} * 86'400'000'000;
  const ComplaintCounts n = *store_->complaints().count();
  EXPECT_EQ(n.total(), 2);
  EXPECT_EQ(n.open, 1);
  EXPECT_EQ(n.answered, 1);
  EXPECT_EQ(n.overdue, 1);
  EXPECT_EQ(n.appeals + n.closed + n.erased, 0);
}

TEST_P(ComplaintsTest, ContentsAreKeptListedTurnedAndErased) {
  Contents& contents = store_->contents();
  const std::string bytes("\0body\xff", 6);
  ASSERT_TRUE(contents.add({"cnt_1", "p1", "u1", "ck-1", std::string("w\0", 2), bytes}));
  now_us_ += 10;
  ASSERT_TRUE(contents.add({"cnt_2", "p1", "", "ck-1", "w", "b", 0, now_us_ + 1000}));
  ASSERT_TRUE(contents.add({"cnt_3", "p2", "u1", "ck-2", "w", "b"}));
  EXPECT_EQ(contents.find("cnt_1")->body, bytes);
  EXPECT_EQ(contents.find("cnt_1")->wrapped.size(), 2u);
  EXPECT_FALSE(contents.find("cnt_9"));
  const auto listed = [&](const ContentFilter& filter, const std::string& after = "", std::int64_t most = 10) {
    std::string out;
    const auto page = contents.list(filter, after, most);
    if (!page) return page.error().message;
    for (const Content& one : *page) out += one.id.back();
    return out;
  };
  EXPECT_EQ(listed({}), "123");
  EXPECT_EQ(listed({}, "cnt_1", 1), "2");
  EXPECT_EQ(listed({.project_id = "p1"}), "12");
  EXPECT_EQ(listed({.user_id = "u1"}), "13");
  EXPECT_EQ(listed({.not_under = "ck-1"}), "3");
  EXPECT_EQ(listed({.from_us = now_us_}), "23");
  EXPECT_EQ(listed({.to_us = now_us_}), "1");
  const Content before = *contents.find("cnt_1");
  EXPECT_TRUE(*contents.rewrap(before, "ck-2", "x"));
  EXPECT_FALSE(*contents.rewrap(before, "ck-3", "y")) << "somebody else was faster";
  EXPECT_EQ(contents.find("cnt_1")->key_id, "ck-2");
  EXPECT_EQ(*contents.sweep(), 0);
  now_us_ += 1000;
  EXPECT_EQ(*contents.sweep(), 1);
  EXPECT_EQ(listed({}), "13");
  ASSERT_TRUE(contents.erase("cnt_3"));
  const Content gone = *contents.find("cnt_3");
  EXPECT_EQ(gone.erased_us, now_us_);
  EXPECT_TRUE(gone.wrapped.empty() && gone.body.empty());
  EXPECT_FALSE(*contents.rewrap(gone, "ck-3", "y"));
  ASSERT_TRUE(store_->backup(folder_ / "b"));
  auto other = Store::open((folder_ / "other.db").string());
  ASSERT_TRUE(other);
  ASSERT_TRUE((*other)->restore(folder_ / "b"));
  EXPECT_EQ((*other)->contents().find("cnt_1")->body, bytes);
  EXPECT_EQ(store_->personal_data().collect({"", "p1"}, 10)->contents.size(), 1u);
  EXPECT_EQ(store_->personal_data().erase({"", "p1"})->contents, 1);
  EXPECT_EQ(listed({}), "");
}

TEST_P(ComplaintsTest, ABackupHasThem) {
  const FiledComplaint one = filed("kept");
  ASSERT_TRUE(store_->backup(folder_ / "b"));
  auto other = Store::open((folder_ / "other.db").string());
  ASSERT_TRUE(other);
  ASSERT_TRUE((*other)->restore(folder_ / "b"));
  EXPECT_EQ((*other)->complaints().find_by_receipt(one.complaint.id, one.receipt)->text, "kept");
}

}  // namespace
}  // namespace qw::store
