#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/file.h"
#include "train/internal/dynamic_code.h"
#include "train/internal/test_run.h"
#include "train/optimizer.h"

namespace qw::train {
namespace {

namespace fs = std::filesystem;

struct Place {
  std::int64_t at;
  float weight;
  int m_code, v_code;
  float m_scale, v_scale;
};
// By tools/reference/make_adam8bit_golden.py: bitsandbytes' maps (every 17th value) and its AdamW of 8 bits after five
// steps.
const float kSigned[] = {-0.992968738f,   -0.75390625f,   -0.514843702f,   -0.275781274f,
                         -0.0873437524f,  -0.0395312496f, -0.00634374982f, -0.000156250011f,
                         0.000268750038f, 0.00690625003f, 0.0423437469f,   0.0901562497f,
                         0.289843738f,    0.528906226f,   0.767968774f,    1.0f};
const float kUnsigned[] = {0.0f,          0.000240625013f, 0.00198437506f, 0.00676562544f,
                           0.0177343767f, 0.0416406244f,   0.0655468777f,  0.0894531235f,
                           0.166796863f,  0.286328137f,    0.405859351f,   0.525390625f,
                           0.644921899f,  0.764453173f,    0.883984327f,   1.0f};
const Place kPlaces[] = {
    {0, -0.44791466f, 0, 255, 0.201800972f, 0.056335032f},
    {157, -0.416428745f, 97, 13, 0.201800972f, 0.056335032f},
    {314, -0.355109066f, 120, 0, 0.194929034f, 0.0525636077f},
    {471, -0.354017824f, 69, 52, 0.194929034f, 0.0525636077f},
    {628, -0.328151762f, 114, 2, 0.20211038f, 0.0561698899f},
    {785, -0.291815728f, 20, 185, 0.195464477f, 0.0515387617f},
    {942, -0.259798527f, 102, 9, 0.195464477f, 0.0515387617f},
    {1099, -0.189864874f, 121, 0, 0.202649325f, 0.0560050085f},
    {1256, -0.198099896f, 81, 36, 0.202649325f, 0.0560050085f},
    {1413, -0.171064138f, 116, 1, 0.199093804f, 0.0534704551f},
    {1570, -0.136445194f, 44, 133, 0.197625041f, 0.0540276431f},
    {1727, -0.104814835f, 108, 6, 0.197625041f, 0.0540276431f},
    {1884, -0.0489596054f, 123, 0, 0.20274663f, 0.0558403581f},
    {2041, -0.0409075469f, 92, 19, 0.20274663f, 0.0558403581f},
    {2198, 0.0305867344f, 119, 0, 0.192806631f, 0.0503356084f},
    {2355, 0.0205260552f, 78, 39, 0.203047186f, 0.0556759499f},
    {2512, -0.0761398375f, 132, 0, 0.203047186f, 0.0556759499f},
    {2669, -0.053090781f, 130, 0, 0.196363658f, 0.052014038f},
    {2826, 0.0127912769f, 160, 16, 0.200321063f, 0.0555117801f},
    {2983, 0.0231399108f, 135, 0, 0.200321063f, 0.0555117801f},
    {3140, 0.0756217316f, 202, 102, 0.203322619f, 0.0557660423f},
    {3297, 0.107428938f, 146, 6, 0.203322619f, 0.0557660423f},
    {3454, 0.102920704f, 132, 0, 0.19344911f, 0.0517684966f},
    {3611, 0.169382125f, 171, 34, 0.203622371f, 0.0559305847f},
    {3768, 0.204606995f, 138, 1, 0.203622371f, 0.0559305847f},
    {3925, 0.232258573f, 226, 164, 0.193633512f, 0.0505777374f},
    {4082, 0.263769358f, 153, 10, 0.193633512f, 0.0505777374f},
    {4239, 0.265461981f, 133, 0, 0.203922078f, 0.0560953654f},
    {4396, 0.325915486f, 182, 48, 0.200592473f, 0.0542784818f},
    {4553, 0.358315945f, 141, 2, 0.200592473f, 0.0542784818f},
    {4710, 0.388164878f, 248, 230, 0.196145132f, 0.053221494f},
    {4867, 0.419181615f, 158, 14, 0.204221815f, 0.0562603883f},
};
constexpr std::int64_t kNumbers = 5000;

TEST(DynamicCode, IsBitsandbytes) {
  const auto &with_sign = DynamicCode::with_sign().values, &without = DynamicCode::without_sign().values;
  for (std::size_t i = 0; i < std::size(kSigned); ++i) {
    EXPECT_NEAR(with_sign[17 * i], kSigned[i], 2e-7f * std::abs(kSigned[i]));
    EXPECT_NEAR(without[17 * i], kUnsigned[i], 2e-7f * std::abs(kUnsigned[i]));
  }
  EXPECT_TRUE(std::is_sorted(with_sign.begin(), with_sign.end()) && std::is_sorted(without.begin(), without.end()));
}

std::vector<const kernels::CodeKernels*> runnable_codes() {
  std::vector<const kernels::CodeKernels*> out;
  for (const base::Isa isa : base::kAllIsas)
    if (isa <= base::best_isa()) out.push_back(&kernels::code_kernels(isa));
  return out;
}

// Every magnitude that floats have, and the borders between codes.
std::vector<float> telling_numbers(const kernels::CodeBook& book, bool with_sign) {
  std::vector<float> x{1.0f, 0.0f, -0.0f};
  base::Rng rng(3);
  for (int i = 0; i < 4000; ++i)
    x.push_back(static_cast<float>(std::pow(10.0, -9 * rng.next_double()) * (with_sign && i % 2 == 0 ? -1 : 1)));
  for (std::size_t c = 0; c + 1 < 256; ++c) {
    const float middle = (book.values[c] + book.values[c + 1]) / 2;
    for (const float y : {std::nextafter(middle, -2.0f), middle, std::nextafter(middle, 2.0f), book.values[c]})
      x.push_back(y);
  }
  return x;
}

// Against a search through all codes, of blocks of many lengths.
TEST(DynamicCode, TheNearestIsFoundByEveryInstructionSet) {
  for (const kernels::CodeBook* book : {&DynamicCode::with_sign(), &DynamicCode::without_sign()}) {
    const std::vector<float> x = telling_numbers(*book, book == &DynamicCode::with_sign());
    for (std::size_t at = 0, length = 1; at < x.size(); at += length, length = length % 255 + 1) {
      std::vector<float> block(x.begin() + static_cast<std::ptrdiff_t>(at),
                               x.begin() + static_cast<std::ptrdiff_t>(std::min(at + length, x.size())));
      block.push_back(1.0f);  // so that the scale is 1
      const auto n = static_cast<std::int64_t>(block.size());
      std::vector<std::uint8_t> nearest;
      for (const float y : block) {
        std::uint8_t code = 0;  // of values of which the upper one is nearer
        while (code < 255 && y > static_cast<float>((double{book->values[code]} + double{book->values[code + 1u]}) / 2))
          ++code;
        nearest.push_back(code);
      }
      for (const kernels::CodeKernels* kernels : runnable_codes()) {
        std::vector<std::uint8_t> codes(block.size() + 1, 77);
        ASSERT_EQ(kernels->close(*book, block.data(), n, codes.data()), 1.0f);
        EXPECT_EQ(codes.back(), 77);  // what comes after stays
        codes.pop_back();
        ASSERT_EQ(codes, nearest) << at;
        std::vector<float> opened(block.size() + 1, 77);
        kernels->open(*book, codes.data(), n, 0.3f, opened.data());
        for (std::size_t i = 0; i < codes.size(); ++i) ASSERT_EQ(opened[i], 0.3f * book->values[codes[i]]) << i;
        EXPECT_EQ(opened.back(), 77);
      }
    }
  }
}

// Scales of all sizes, and what is not finite.
TEST(DynamicCode, EveryInstructionSetGivesTheSameBytes) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinite = std::numeric_limits<float>::infinity();
  base::Rng rng(4);
  const auto all = runnable_codes();
  for (const kernels::CodeBook* book : {&DynamicCode::with_sign(), &DynamicCode::without_sign()}) {
    for (int block = 0; block < 300; ++block) {
      std::vector<float> x(static_cast<std::size_t>(1 + block % 256));
      const double size = std::pow(10.0, 80 * rng.next_double() - 44);
      for (float& y : x)
        y = static_cast<float>(size * (rng.next_double() - 0.5) * std::pow(10.0, -8 * rng.next_double()));
      for (const float odd : {kNan, -kNan, kInfinite, -kInfinite, 0.0f})
        if (rng.next_double() < 0.2)
          x[static_cast<std::size_t>(rng.next_double() * static_cast<double>(x.size()))] = odd;
      if (block % 10 == 0) std::fill(x.begin(), x.end(), block % 20 == 0 ? 0.0f : -kNan);
      std::vector<std::uint8_t> expected(x.size());
      const auto n = static_cast<std::int64_t>(x.size());
      const float scale = all.front()->close(*book, x.data(), n, expected.data());
      for (const kernels::CodeKernels* kernels : all) {
        std::vector<std::uint8_t> codes(x.size());
        ASSERT_EQ(kernels->close(*book, x.data(), n, codes.data()), scale);
        ASSERT_EQ(codes, expected) << block;
        for (std::size_t i = 0; i < x.size(); ++i) {
          if (std::isnan(x[i])) {
            ASSERT_EQ(codes[i], 0);
          }
        }
      }
    }
  }
}

// In [-0.5, 0.5), the same in Python.
double noise(std::int64_t i, std::int64_t salt) {
  return static_cast<double>(static_cast<std::uint32_t>(i * 2654435761 + salt * 40503)) / 4294967296.0 - 0.5;
}

TEST(Adamw8bit, IsBitsandbytesForEveryThreadCount) {
  for (const int threads : {1, 3}) {
    base::ThreadPool pool(threads);
    OptimizerConfig config;
    config.kind = OptimizerKind::kAdamw8bit;
    config.lr = 0.01;
    const std::vector<tensor::Shape> shapes = {{50, 100}, {40}};
    Optimizer optimizer(shapes, {plain_rule(config.kind, true), plain_rule(config.kind, false)}, config,
                        kernels::GemmPrecision::kF32, kernels::kernels_for(base::best_isa()), pool);
    EXPECT_EQ(optimizer.rules()[1], UpdateRule::kAdamwNoDecay);  // too small for 8 bits
    EXPECT_EQ(optimizer.moment_bytes(), 2 * (kNumbers + 4 * 20) + 2 * 4 * 40);
    ops::ParameterBuffer w(shapes), g(shapes);
    for (std::int64_t i = 0; i < kNumbers; ++i) w.data(0)[i] = static_cast<float>(noise(i, 1));
    for (int t = 1; t <= 5; ++t) {
      for (std::int64_t i = 0; i < kNumbers; ++i)
        g.data(0)[i] = static_cast<float>(noise(i, 100 + t) * std::pow(10.0, -static_cast<double>(i % 5)));
      optimizer.step(w, g, t, 1, 1);
    }
    for (const Place& p : kPlaces) {
      const std::int64_t block = p.at / DynamicCode::kBlock;
      EXPECT_NEAR(w.data(0)[p.at], p.weight, 1e-6f) << p.at;
      EXPECT_EQ(optimizer.first_codes(0)[static_cast<std::size_t>(p.at)], p.m_code) << p.at;
      EXPECT_EQ(optimizer.second_codes(0)[static_cast<std::size_t>(p.at)], p.v_code) << p.at;
      EXPECT_NEAR(optimizer.first_moments().data(0)[block], p.m_scale, 1e-6f * p.m_scale);
      EXPECT_NEAR(optimizer.second_moments().data(0)[block], p.v_scale, 1e-6f * p.v_scale);
    }
  }
}

class Adamw8bitRun : public TestRun {};

TEST_F(Adamw8bitRun, LearnsAsAdamwDoes) {
  base::ThreadPool pool(2);
  std::vector<double> losses;
  for (const char* kind : {"adamw", "adamw_8bit"}) {
    auto t = trainer(config_with({std::string("optimizer.kind='") + kind + "'", "steps=40"}), pool);
    double last = 0;
    for (int i = 0; i < 40; ++i) last = t->step()->loss;
    losses.push_back(last);
  }
  EXPECT_NEAR(losses[1], losses[0], 0.03 * losses[0]);
}

TEST_F(Adamw8bitRun, ResumedTrainingGivesTheSameBytes) {
  const auto config = config_with({output("resume8"), "steps=5", "precision=bf16", "optimizer.kind='adamw_8bit'"});
  std::vector<std::string> files;
  for (const auto& [threads, stop] : {std::pair{1, 0}, {2, 1}, {2, 3}})
    files.push_back(bytes_of_run(config, *dataset_, threads, stop));
  for (const auto& file : files) EXPECT_TRUE(file == files.front());
}

}  // namespace
}  // namespace qw::train
