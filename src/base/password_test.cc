#include "base/password.h"

#include <gtest/gtest.h>

namespace qw::base {
namespace {

TEST(Password, MatchesItsOwnHashOnly) {
  const auto hash = hash_password("春江花月夜");
  ASSERT_TRUE(hash.has_value()) << hash.error().message;
  EXPECT_EQ(hash->find("春江"), std::string::npos);
  EXPECT_EQ(password_matches("春江花月夜", *hash), true);
  EXPECT_EQ(password_matches("春江花月", *hash), false);
  EXPECT_EQ(password_matches("", *hash), false);
  EXPECT_NE(*hash_password("春江花月夜"), *hash) << "the same password twice has two hashes";
#ifdef QW_HAVE_SODIUM
  EXPECT_TRUE(hash->starts_with("$argon2id$")) << *hash;
#endif
}

TEST(Password, ScryptIsInEveryBuild) {
  const auto hash = scrypt::hash("a");
  ASSERT_TRUE(hash.has_value());
  EXPECT_EQ(password_matches("a", *hash), true);
  EXPECT_EQ(password_matches("b", *hash), false);
  // RFC 7914 has no vector of this form; a hash of before must go on matching.
  EXPECT_EQ(password_matches("a",
                             "$scrypt$14$00112233445566778899aabbccddeeff$"
                             "0000000000000000000000000000000000000000000000000000000000000000"),
            false);
}

TEST(Password, WhatIsNoHashIsSaid) {
  for (const char* hash : {"x", "$scrypt$", "$scrypt$99$00$00", "$scrypt$16$zz$zz", "$2b$10$x"})
    EXPECT_FALSE(password_matches("a", hash).has_value()) << hash;
  EXPECT_EQ(password_matches("a", ""), false) << "nobody";
  EXPECT_FALSE(hash_password(std::string(2000, 'a')).has_value());
}

TEST(Password, SecretsAreComparedWhole) {
  EXPECT_TRUE(same_secret("abc", "abc"));
  EXPECT_FALSE(same_secret("abc", "abd"));
  EXPECT_FALSE(same_secret("abc", "abcd"));
  EXPECT_TRUE(same_secret("", ""));
}

}  // namespace
}  // namespace qw::base
