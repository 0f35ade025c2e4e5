// What is rolled out, what people think of answers, and data sets: over both engines.
#include "store/feedback.h"

#include "store/internal/test_stores.h"

namespace qw::store {
namespace {

class FeedbackTest : public test::OnEngine {
 protected:
  void SetUp() override {
    OnEngine::SetUp();
    if (IsSkipped()) return;
    open();
    ASSERT_TRUE(store_->tenants().add_organisation("o").has_value());
    p_ = store_->tenants().add_project("o", "p")->id;
    q_ = store_->tenants().add_project("o", "q")->id;
  }
  Feedback given(const std::string& rating = "down", const std::string& correction = "") {
    now_us_ += 1;
    Feedback f;
    f.project_id = p_;
    f.answer_id = "chatcmpl-1";
    f.model = "mini";
    f.rating = rating;
    f.comment = "why";
    f.correction = correction;
    f.by_key = "key_1";
    f.prompt = "[]";
    f.answer = "no";
    const auto made = store_->feedback().add(f);
    EXPECT_TRUE(made.has_value()) << made.error().message;
    return *made;
  }
  Rollout rollout() {
    Rollout r;
    r.project_id = p_;
    r.name = "support";
    r.stable = "mini";
    return r;
  }
  std::string p_, q_;
};
INSTANTIATE_TEST_SUITE_P(Both, FeedbackTest, testing::Values(test::Engine::kSqlite, test::Engine::kPostgres),
                         test::engine_name);

TEST_P(FeedbackTest, IsDecidedOnceAndStaysItsProjects) {
  FeedbackBook& book = store_->feedback();
  const Feedback one = given(), two = given("up");
  EXPECT_EQ(one.status, "open");
  EXPECT_FALSE(book.find(q_, one.id).has_value());
  EXPECT_FALSE(book.decide(q_, one.id, "accepted", "r", "", "d").has_value());
  EXPECT_EQ(book.list(p_, "open", "", 10)->size(), 2u);
  EXPECT_EQ(book.list(p_, "", one.id, 10)->at(0).id, two.id);
  EXPECT_EQ(book.edit(p_, one.id, "yes", "rev")->correction, "yes");
  const auto accepted = book.decide(p_, one.id, "accepted", "rev", "good", "digest");
  ASSERT_TRUE(accepted.has_value());
  EXPECT_EQ(accepted->status, "accepted");
  EXPECT_EQ(accepted->reviewer, "rev");
  EXPECT_EQ(accepted->digest, "digest");
  EXPECT_EQ(book.decide(p_, one.id, "rejected", "rev", "", "").error().kind, ErrorKind::kRefused);
  EXPECT_EQ(book.edit(p_, one.id, "late", "rev").error().kind, ErrorKind::kRefused);
  EXPECT_FALSE(book.decide(p_, two.id, "open", "rev", "", "").has_value());
  EXPECT_EQ(book.list(p_, "accepted", "", 10)->size(), 1u);
  EXPECT_TRUE(book.list(q_, "", "", 10)->empty());
}

TEST_P(FeedbackTest, DataSetsAreNumberedAndEraseWhatIsErased) {
  FeedbackBook& book = store_->feedback();
  const Feedback one = given(), two = given();
  DatasetVersion d;
  d.project_id = p_;
  d.name = "corrections";
  d.sha256 = "abc";
  d.examples = 1;
  d.examples_file = "file-1";
  const auto first = book.add_dataset(d, {{one.id, "x"}});
  ASSERT_TRUE(first.has_value()) << first.error().message;
  now_us_ += 1;
  d.examples_file = "file-2";
  const auto second = book.add_dataset(d, {{one.id, "x"}, {two.id, "y"}});
  EXPECT_EQ(first->number, 1);
  EXPECT_EQ(second->number, 2);
  EXPECT_FALSE(book.add_dataset(d, {}).has_value());
  EXPECT_EQ(book.items(second->id)->at(1).digest, "y");
  EXPECT_EQ(book.dataset_of_file(p_, "file-2")->id, second->id);
  EXPECT_FALSE(book.dataset_of_file(q_, "file-2").has_value());
  EXPECT_EQ(book.datasets(p_, "", 10)->at(0).id, second->id);
  EXPECT_EQ(book.datasets(p_, second->id, 10)->at(0).id, first->id);
  const auto marked = book.erase(p_, two.id);
  ASSERT_TRUE(marked.has_value());
  ASSERT_EQ(marked->size(), 1u) << "the other does not have it";
  EXPECT_EQ(marked->at(0).examples_file, "file-2") << "the caller removes it";
  EXPECT_TRUE(book.dataset(p_, second->id)->erased);
  EXPECT_EQ(book.dataset(p_, second->id)->examples_file, "");
  EXPECT_FALSE(book.dataset(p_, first->id)->erased);
  const auto gone = book.find(p_, two.id);
  EXPECT_EQ(gone->status, "erased");
  EXPECT_EQ(gone->answer + gone->prompt + gone->comment + gone->correction, "");
  EXPECT_EQ(book.decide(p_, two.id, "accepted", "r", "", "").error().kind, ErrorKind::kRefused);
  EXPECT_FALSE(book.erase(q_, one.id).has_value());
}

TEST_P(FeedbackTest, ARolloutChangesOneVersionAtATimeAndRemembersAll) {
  Rollouts& rollouts = store_->rollouts();
  const auto made = rollouts.change(rollout(), "create", "key_1", "first");
  ASSERT_TRUE(made.has_value()) << made.error().message;
  EXPECT_EQ(made->version, 1);
  EXPECT_EQ(rollouts.change(rollout(), "create", "key_1", "").error().kind, ErrorKind::kBadInput) << "it is there";
  Rollout next = *made;
  next.candidate = "better";
  next.share = 500;
  next.evaluation = "evaluation-1";
  const auto canary = rollouts.change(next, "canary", "key_1", "");
  ASSERT_TRUE(canary.has_value()) << canary.error().message;
  EXPECT_FALSE(canary->salt.empty());
  EXPECT_EQ(rollouts.change(next, "canary", "key_2", "").error().kind, ErrorKind::kRefused) << "of an older version";
  next = *canary;
  next.share = 2500;
  EXPECT_EQ(rollouts.change(next, "canary", "key_1", "")->salt, canary->salt) << "whom it had stays";
  next = *rollouts.find(p_, "support");
  next.previous = next.stable;
  next.stable = next.candidate;
  next.candidate = "";
  next.share = 1;
  EXPECT_FALSE(rollouts.change(next, "promote", "key_1", "").has_value()) << "a share of nobody";
  next.share = 0;
  ASSERT_TRUE(rollouts.change(next, "promote", "key_1", "").has_value());
  const auto history = rollouts.history(p_, "support", 0, 10);
  ASSERT_EQ(history->size(), 4u);
  EXPECT_EQ(history->at(0).action, "promote");
  EXPECT_EQ(history->at(0).after.stable, "better");
  EXPECT_EQ(history->at(3).reason, "first");
  EXPECT_EQ(rollouts.history(p_, "support", 2, 10)->size(), 1u);
  EXPECT_EQ(rollouts.of_model(p_, "better")->size(), 3u);
  EXPECT_TRUE(rollouts.of_model(q_, "better")->empty());
  EXPECT_EQ(rollouts.all()->size(), 1u);
  EXPECT_TRUE(rollouts.all(q_)->empty());
  EXPECT_EQ(rollouts.remove(*made, "key_1", "").error().kind, ErrorKind::kRefused);
  ASSERT_TRUE(rollouts.remove(*rollouts.find(p_, "support"), "key_1", "over").has_value());
  EXPECT_FALSE(rollouts.find(p_, "support").has_value());
  EXPECT_EQ(rollouts.history(p_, "support", 0, 1)->at(0).action, "remove");
  EXPECT_EQ(rollouts.change(rollout(), "create", "key_1", "again")->version, 1);
  EXPECT_EQ(rollouts.history(p_, "support", 0, 1)->at(0).number, 6);
}

TEST_P(FeedbackTest, BackupsHaveThemToo) {
  const Feedback one = given("up");
  ASSERT_TRUE(store_->rollouts().change(rollout(), "create", "key_1", "").has_value());
  DatasetVersion d;
  d.project_id = p_;
  d.name = "n";
  ASSERT_TRUE(store_->feedback().add_dataset(d, {{one.id, "x"}}).has_value());
  ASSERT_TRUE(store_->backup(folder_ / "backup").has_value());
  auto other = Store::open((folder_ / "other.db").string());
  ASSERT_TRUE((*other)->restore(folder_ / "backup").has_value());
  EXPECT_EQ((*other)->rollouts().history(p_, "support", 0, 9)->size(), 1u);
  EXPECT_EQ((*other)->feedback().find(p_, one.id)->answer, "no");
  EXPECT_EQ((*other)->feedback().datasets(p_, "", 9)->size(), 1u);
}

}  // namespace
}  // namespace qw::store
