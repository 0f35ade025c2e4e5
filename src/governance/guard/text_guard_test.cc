// What a guard lets through of texts that come in pieces.
#include "governance/guard/text_guard.h"

#include <gtest/gtest.h>

namespace qw::governance {
namespace {

class Guard : public ::testing::Test {
 protected:
  // What comes out of `text`, given in pieces of `size` bytes; findings_ as "kind text".
  std::string through(std::string_view text, std::size_t size) {
    findings_.clear();
    TextGuard guard(rules_);
    std::vector<GuardFinding> findings;
    std::string out;
    for (std::size_t at = 0; at < text.size(); at += size) out += guard.push(text.substr(at, size), findings);
    out += guard.finish(findings);
    for (const auto& one : findings) findings_ += one.kind + " " + one.text + ";";
    return out;
  }
  KeywordList list_ = *KeywordList::parse("[arms]\nbomb\n炸药\n[except]\nbomb squad\n");
  GuardRules rules_{.keywords = &list_, .pii = *PiiSet::parse("all")};
  std::string findings_;
};

constexpr const char* kText = "The bomb squad has 炸 药, a bomb, card 4111 1111 1111 1111 and a@b.org. Bombs are none";
constexpr const char* kFindings =
    "keyword/arms 炸 药;keyword/arms bomb;pii/payment_card 4111 1111 1111 1111;pii/email a@b.org;";

TEST_F(Guard, FlagsAndChangesNothing) {
  for (const std::size_t size : {1, 2, 7, 1000}) {
    EXPECT_EQ(through(kText, size), kText);
    EXPECT_EQ(findings_, kFindings);
  }
}

TEST_F(Guard, CoversWhatIsFound) {
  rules_.on_keyword = rules_.on_pii = GuardAction::kCover;
  for (const std::size_t size : {1, 2, 7, 1000}) {
    EXPECT_EQ(through(kText, size),
              "The bomb squad has ***, a ****, card **** **** **** 1111 and *@b.org. Bombs are none");
    EXPECT_EQ(findings_, kFindings);
  }
}

TEST_F(Guard, HoldsBackOnlyWhatMayBecomeSomething) {
  rules_.pii = {};
  TextGuard guard(rules_);
  std::vector<GuardFinding> findings;
  EXPECT_EQ(guard.push("hello b", findings), "hello ");
  EXPECT_EQ(guard.push("oat ", findings), "boat ");
  EXPECT_EQ(guard.finish(findings), "");
}

}  // namespace
}  // namespace qw::governance
