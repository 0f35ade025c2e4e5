#include "sampling/loop_watch.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace qw::sampling {
namespace {

// After how many tokens (here bytes) of `text` the watch would end an answer; -1: never.
std::int64_t ends_at(const std::string& text, LoopLimits limits = {}) {
  LoopWatch watch(limits);
  for (std::size_t i = 0; i < text.size(); ++i) {
    watch.push(static_cast<unsigned char>(text[i]));
    if (watch.repeated() >= limits.in_answer) return static_cast<std::int64_t>(i) + 1;
  }
  return -1;
}

std::string times(int n, const std::string& text) {
  std::string out;
  for (int i = 0; i < n; ++i) out += text;
  return out;
}

TEST(LoopWatch, FindsEveryPeriodAsSoonAsItsLimitIsReached) {
  for (const int period : {1, 2, 3, 7, 31, 100, 255, 256}) {
    std::string one;
    for (int i = 0; i < period; ++i) one += static_cast<char>(i);
    const std::string before = "something else first: ";
    const auto at = ends_at(before + times(5000 / period + 1, one));
    const std::int64_t least = std::max(1024, 8 * period);
    // What stands before may happen to go on into the period.
    EXPECT_LE(at, static_cast<std::int64_t>(before.size()) + least) << period;
    EXPECT_GT(at, static_cast<std::int64_t>(before.size()) + least - 3) << period;
  }
}

TEST(LoopWatch, APeriodThatRepeatsInsideItselfIsFound) {
  const std::string one = "aaaaaaaaab aaaaaaaaac aaaaaaaaab aaaaaaaaad ";
  EXPECT_EQ(ends_at(times(40, one)), 1024);
}

TEST(LoopWatch, WhatIsLongerThanTheLongestPeriodIsNotLookedFor) {
  std::mt19937 random(1);
  std::string one;
  for (int i = 0; i < 257; ++i) one += static_cast<char>(random() % 256);
  EXPECT_EQ(ends_at(times(40, one)), -1);
}

TEST(LoopWatch, WhatRepeatsForAReasonIsLeftAlone) {
  // Tables whose rows differ in a number only.
  std::string table = "| n | value | unit |\n|---|-------|------|\n";
  for (int i = 0; i < 2000; ++i) table += "| " + std::to_string(i) + " | 0 | mm |\n";
  EXPECT_EQ(ends_at(table), -1);
  // A matrix of 16 rows of 20 zeros, byte by byte: tokenizers need a fraction of that.
  EXPECT_EQ(ends_at("[" + times(16, "[" + times(19, "0, ") + "0],\n") + "]"), -1);
  // Rulers, indentation, code with alike lines.
  EXPECT_EQ(ends_at(times(900, "-")), -1);
  std::string code = "switch (n) {\n";
  for (int i = 0; i < 500; ++i) code += "    case " + std::to_string(i) + ":\n      return kNone;\n";
  EXPECT_EQ(ends_at(code), -1);
  std::string items = "[";
  for (int i = 0; i < 500; ++i) items += "{\"id\": " + std::to_string(i) + ", \"tags\": [], \"ok\": true}, ";
  EXPECT_EQ(ends_at(items), -1);
  // A refrain of a song, seven times between verses.
  std::string song;
  for (int i = 0; i < 7; ++i)
    song += "verse " + times(i + 3, std::to_string(i) + " lalala ") + times(3, "and a refrain, ");
  EXPECT_EQ(ends_at(song), -1);
  // Noise over two letters has runs of every kind, short ones.
  std::mt19937 random(7);
  std::string noise;
  for (int i = 0; i < 200'000; ++i) noise += static_cast<char>('a' + random() % 2);
  EXPECT_EQ(ends_at(noise), -1);
}

TEST(LoopWatch, AgreesWithTheDefinition) {
  const LoopLimits limits{6, 3, 0, 0};
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    LoopWatch watch(limits);
    std::string text;
    for (int i = 0; i < 60; ++i) {
      text += static_cast<char>('a' + (random() % 8 == 0 ? random() % 2 : text.size() % (1 + round % 7)));
      watch.push(text.back());
      std::int32_t most = 0;
      for (std::size_t p = 1; p <= 6; ++p) {
        std::size_t run = 0;
        while (run + p < text.size() && text[text.size() - 1 - run] == text[text.size() - 1 - run - p]) ++run;
        if (run >= 2 * p) most = std::max(most, static_cast<std::int32_t>(run + p));
      }
      ASSERT_EQ(watch.repeated(), most) << text;
    }
  }
}

TEST(LoopWatch, ForgetsWhenItIsRestarted) {
  LoopWatch watch;
  for (int i = 0; i < 2000; ++i) watch.push(5);
  EXPECT_EQ(watch.repeated(), 2000);
  watch.restart();
  EXPECT_EQ(watch.repeated(), 0);
  for (int i = 0; i < 100; ++i) watch.push(5);
  EXPECT_EQ(watch.repeated(), 100);
}

}  // namespace
}  // namespace qw::sampling
