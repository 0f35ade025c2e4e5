#include "chat/guard_output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qw::chat {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(GuardOutput, TheTwoFormsOfTheModelCard) {
  const auto query = parse_guard_output("Safety: Unsafe\nCategories: Violent");
  ASSERT_TRUE(query) << query.error().message;
  EXPECT_EQ(safety_name(query->safety), "Unsafe");
  EXPECT_THAT(query->categories, ElementsAre("Violent"));
  EXPECT_FALSE(query->refusal);
  const auto answer = parse_guard_output("Safety: Safe\nCategories: None\nRefusal: Yes\n");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->safety, Safety::kSafe);
  EXPECT_TRUE(answer->categories.empty());
  EXPECT_EQ(answer->refusal, true);
}

TEST(GuardOutput, SeveralCategoriesAndStraySpace) {
  const auto v = parse_guard_output("<think>\n\n</think>\n\nSafety:  Controversial \r\nCategories: PII,Suicide & Self-Harm , Jailbreak,\r\nRefusal: No");
  ASSERT_TRUE(v) << v.error().message;
  EXPECT_EQ(v->safety, Safety::kControversial);
  EXPECT_THAT(v->categories, ElementsAre("PII", "Suicide & Self-Harm", "Jailbreak"));
  EXPECT_EQ(v->refusal, false);
}

TEST(GuardOutput, WhatSaysNothingIsNeverSafe) {
  EXPECT_THAT(parse_guard_output("").error().message, HasSubstr("no safety"));
  EXPECT_THAT(parse_guard_output("I think it is Safe").error().message, HasSubstr("no safety"));
  EXPECT_THAT(parse_guard_output("Safety: safe-ish").error().message, HasSubstr("safe-ish"));
  EXPECT_THAT(parse_guard_output("Safety:").error().message, HasSubstr("unknown"));
  EXPECT_THAT(parse_guard_output("Safety: Safe\nSafety: Unsafe").error().message, HasSubstr("two"));
}

}  // namespace
}  // namespace qw::chat
