#include <gtest/gtest.h>

#include <algorithm>
#include <bitset>
#include <cmath>
#include <filesystem>
#include <map>

#include "base/file.h"
#include "base/rng.h"
#include "governance/watermark/detector.h"
#include "governance/watermark/marker.h"
#include "governance/watermark/siphash.h"
#include "sampling/sampler.h"

namespace qw::governance {
namespace {

using sampling::Candidate;
using sampling::Sampler;
using sampling::SamplingParams;

// The key list of the published demonstration.
const std::vector<std::int64_t> kDemo = {654, 400, 836, 123, 340, 443, 597, 160, 57,  29,  590, 639, 13,  715, 468,
                                         990, 966, 226, 324, 585, 118, 504, 421, 521, 129, 669, 732, 225, 90,  960};

MarkKey published(MarkScheme scheme, std::vector<std::int64_t> numbers) {
  MarkKey key;
  key.id = "published";
  key.scheme = scheme;
  key.hash = MarkHash::kReference;
  if (scheme == MarkScheme::kSynthId) key.layers = static_cast<std::int32_t>(numbers.size());
  key.numbers = std::move(numbers);
  calibrate(key);
  return key;
}

MarkKey secret_key(MarkScheme scheme, std::int32_t leaves = 2, std::uint8_t fill = 7) {
  MarkKey key;
  key.id = "k" + std::to_string(fill);
  key.scheme = scheme;
  key.leaves = leaves;
  key.secret.fill(fill);
  calibrate(key);
  return key;
}

std::string bits_of(const MarkKey& key, std::vector<TokenId> context, TokenId token) {
  const MarkFunction f(key);
  const std::uint32_t bits = f.bits(f.context(context), token);
  std::string out;
  for (std::int32_t l = 0; l < key.layers; ++l) out += static_cast<char>('0' + (bits >> l & 1));
  return out;
}

TEST(watermark, siphash_gives_its_authors_answer) {
  // The example of the paper's appendix: key 00..0f, message 00..0e.
  SipState state(0x0706050403020100u, 0x0f0e0d0c0b0a0908u);
  state.block(0x0706050403020100u);
  EXPECT_EQ(state.finish(0x0f0e0d0c0b0a0908u), 0xa129ca6149be45e5u);
}

TEST(watermark, synthid_gives_the_published_bits) {
  EXPECT_EQ(synthid_start(kDemo), 1614033703599872695u);
  EXPECT_EQ(synthid_start(std::vector<std::int64_t>{654, 400, 836}), 3360249499776918583u);
  const MarkKey key = published(MarkScheme::kSynthId, kDemo);
  const MarkFunction f(key);
  EXPECT_EQ(f.context(std::vector<TokenId>{1, 2, 3, 4}).id, 8796668778096362653u);
  EXPECT_EQ(bits_of(key, {1, 2, 3, 4}, 5), "010001100011101000101110010010");
  EXPECT_EQ(bits_of(key, {1, 2, 3, 4}, 6), "100100100110011100111111011010");
  EXPECT_EQ(bits_of(key, {1, 2, 3, 4}, 7), "011000001110110100101010111000");
  EXPECT_EQ(bits_of(key, {0, 0, 0, 0}, 100), "101101011100101010001010100110");
  EXPECT_EQ(bits_of(key, {151644, 872, 198, 3838}, 151645), "111010100010111000111111001110");
}

std::vector<double> after_tournament(std::vector<double> p, std::vector<std::uint32_t> bits, std::int32_t layers,
                                     std::int32_t leaves = 2) {
  std::vector<Candidate> c;
  for (const double w : p) c.push_back({0, static_cast<TokenId>(c.size()), w});
  std::vector<double> memory;
  synthid_tournament(c, bits, layers, leaves, memory);
  for (std::size_t i = 0; i < p.size(); ++i) p[i] = c[i].weight;
  return p;
}

TEST(watermark, synthid_moves_weights_as_published) {
  // Rows g of the reference, one token each; bit l is layer l.
  const auto near = [](const std::vector<double>& got, const std::vector<double>& want) {
    for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-12) << i;
  };
  near(after_tournament({.5, .3, .2}, {0b001, 0b100, 0b010}, 3), {0.583875, 0.251775, 0.16435});
  near(after_tournament({.5, .3, .2}, {0b101, 0b110, 0b000}, 3), {0.6916875, 0.3010875, 0.007225});
  const auto p = after_tournament({5, 3, 2}, {0b001, 0b100, 0b010}, 3);  // scaled weights
  near({p[0] / 10, p[1] / 10, p[2] / 10}, {0.583875, 0.251775, 0.16435});
  // More leaves: what one draw of several brings, counted out.
  for (const int leaves : {3, 5}) {
    const double mass = .3, with = 1 - std::pow(1 - mass, leaves);
    near(after_tournament({.5, .3, .2}, {0, 1, 0}, 1, leaves), {.5 / .7 * (1 - with), with, .2 / .7 * (1 - with)});
  }
}

TEST(watermark, gumbel_gives_the_published_numbers) {
  const MarkKey key = published(MarkScheme::kGumbel, {42});
  const MarkFunction f(key);
  const auto context = f.context(std::vector<TokenId>{1, 2, 3, 4});
  const std::map<TokenId, double> want = {{0, 0.5361072697575527},  {1, 0.6940827552030828},
                                          {2, 0.22023026822624991}, {3, 0.7877641446731004},
                                          {4, 0.10318379979230166}, {151645, 0.7512748389676309}};
  for (const auto& [token, u] : want) EXPECT_DOUBLE_EQ(f.uniform(context, token), u) << token;
}

TEST(watermark, tails_are_those_of_their_distributions) {
  EXPECT_NEAR(normal_tail(3.0902), 1e-3, 2e-7);
  // Thresholds of the sum over the tokens, by number of tokens.
  for (const auto& [n, at2, at6] :
       {std::tuple{50, 1.3581, 1.8213}, {100, 1.2472, 1.5492}, {200, 1.1718, 1.3728}, {400, 1.1200, 1.2559}}) {
    EXPECT_NEAR(gamma_tail(n, at2 * n) / 1e-2, 1, 0.01) << n;
    EXPECT_NEAR(gamma_tail(n, at6 * n) / 1e-6, 1, 0.02) << n;
  }
  EXPECT_EQ(gamma_tail(10, 0), 1);
  EXPECT_NEAR(gamma_tail(1, 2.5), std::exp(-2.5), 1e-12);
  EXPECT_GT(gamma_tail(100'000, 100'000), 0.49);
  EXPECT_GE(gamma_tail(100'000, 200'000), 0);
}

TEST(watermark, weights_of_the_detector_are_the_published_ones) {
  // With 30 layers the sum of squares of the weights is 37.155885: the variance of one token's score is that / 4 / 900.
  MarkKey key = secret_key(MarkScheme::kSynthId);
  EXPECT_NEAR(key.null_mean, 0.5, 0.001);
  EXPECT_NEAR(key.null_variance, 37.155885 / 3600, 1e-4);
  const MarkKey demo = published(MarkScheme::kSynthId, kDemo);
  EXPECT_NEAR(demo.null_mean, 0.5, 0.01);
  EXPECT_NEAR(demo.null_variance / (37.155885 / 3600), 1.04, 0.04);  // the published hash's layers are not independent
}

// A stand-in for a model: logits that are a function of the last two tokens.
void fill_logits(std::span<float> row, std::span<const TokenId> tokens, float spread) {
  const auto last = static_cast<std::uint64_t>(tokens.back()),
             before = static_cast<std::uint64_t>(tokens[tokens.size() - 2]);
  base::Rng rng(last * 1000 + before);
  for (float& l : row) l = spread * static_cast<float>(rng.next_normal());
}

std::vector<TokenId> write(std::shared_ptr<const MarkKey> key, std::uint64_t seed, std::size_t n, float spread = 2,
                           float temperature = 1, std::size_t vocab = 400) {
  SamplingParams params;
  params.seed = seed;
  params.temperature = temperature;
  std::vector<std::unique_ptr<sampling::LogitsProcessor>> processors;
  if (key != nullptr) processors.push_back(make_marker(key, std::nullopt));
  const std::vector<TokenId> prompt{1, static_cast<TokenId>(seed % vocab)};
  Sampler sampler(params, prompt, nullptr, std::move(processors));
  EXPECT_TRUE(sampler.prepare(static_cast<std::int64_t>(vocab)));
  sampling::SamplerScratch scratch;
  std::vector<float> row(vocab);
  for (std::size_t i = 0; i < n; ++i) {
    fill_logits(row, sampler.tokens(), spread);
    const auto drawn = sampler.sample(row, scratch);
    EXPECT_TRUE(drawn);
    EXPECT_TRUE(sampler.accept(drawn->id));
  }
  return {sampler.tokens().begin() + 2, sampler.tokens().end()};
}

class Schemes : public testing::TestWithParam<std::pair<MarkScheme, MarkHash>> {
 protected:
  MarkKey key() const {
    const auto [scheme, hash] = GetParam();
    if (hash == MarkHash::kSipHash) return secret_key(scheme);
    return scheme == MarkScheme::kSynthId ? published(scheme, kDemo) : published(scheme, {42});
  }
};

TEST_P(Schemes, a_marked_text_is_found_by_its_key_alone) {
  const auto right = std::make_shared<const MarkKey>(key());
  const MarkKey wrong = secret_key(GetParam().first, 2, 99);
  int found = 0, wrongly = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const auto marked = write(right, seed, 200), plain = write(nullptr, seed, 200);
    EXPECT_EQ(marked.size(), plain.size());
    found += detect_tokens(std::span(right.get(), 1), marked, 1e-3).verdict == MarkVerdict::kMarked;
    wrongly += detect_tokens(std::span(right.get(), 1), plain, 1e-3).verdict == MarkVerdict::kMarked;
    wrongly += detect_tokens(std::span(&wrong, 1), marked, 1e-3).verdict == MarkVerdict::kMarked;
  }
  EXPECT_EQ(found, 40);
  EXPECT_LE(wrongly, 1);  // 80 chances of 0.001
}

TEST_P(Schemes, p_values_of_unmarked_texts_are_uniform) {
  const MarkKey k = key();
  constexpr int kTexts = 2000;
  std::vector<double> p;
  base::Rng rng(5);
  for (int i = 0; i < kTexts; ++i) {
    std::vector<TokenId> text(64);
    for (TokenId& t : text) t = static_cast<TokenId>(rng.below(150'000));
    p.push_back(test_tokens(k, text).p_value);
  }
  std::sort(p.begin(), p.end());
  double distance = 0;  // Kolmogorov and Smirnov's
  for (int i = 0; i < kTexts; ++i)
    distance = std::max(distance, std::abs(p[static_cast<std::size_t>(i)] - (i + 0.5) / kTexts));
  EXPECT_LT(distance, 1.95 / std::sqrt(kTexts));  // exceeded once in 1000
}

TEST_P(Schemes, a_marked_part_of_a_longer_text_is_found_and_where) {
  const auto k = std::make_shared<const MarkKey>(key());
  base::Rng rng(11);
  std::vector<TokenId> text(1500);
  for (TokenId& t : text) t = static_cast<TokenId>(rng.below(400));
  const auto quote = write(k, 3, 120);
  std::copy(quote.begin(), quote.end(), text.begin() + 700);
  const auto d = detect_tokens(std::span(k.get(), 1), text, 1e-3);
  ASSERT_EQ(d.verdict, MarkVerdict::kMarked);
  EXPECT_LT(d.tests[0].begin, 820);
  EXPECT_GT(d.tests[0].end, 700);
  EXPECT_GT(d.tests[0].begin, 500);
  EXPECT_LT(d.tests[0].end, 1020);
  EXPECT_GT(d.confidence, 0.98);
}

INSTANTIATE_TEST_SUITE_P(watermark, Schemes,
                         testing::Values(std::pair{MarkScheme::kSynthId, MarkHash::kSipHash},
                                         std::pair{MarkScheme::kSynthId, MarkHash::kReference},
                                         std::pair{MarkScheme::kGumbel, MarkHash::kSipHash},
                                         std::pair{MarkScheme::kGumbel, MarkHash::kReference}));

TEST(watermark, the_first_tokens_and_greedy_ones_are_those_without_a_mark) {
  for (const MarkScheme scheme : {MarkScheme::kSynthId, MarkScheme::kGumbel}) {
    const auto key = std::make_shared<const MarkKey>(secret_key(scheme));
    const auto marked = write(key, 8, 40), plain = write(nullptr, 8, 40);
    EXPECT_TRUE(std::equal(plain.begin(), plain.begin() + key->context, marked.begin()));
    EXPECT_NE(marked, plain);
    EXPECT_EQ(write(key, 8, 40, 2, 0), write(nullptr, 8, 40, 2, 0));
  }
}

TEST(watermark, a_repeated_context_is_drawn_as_without_a_mark) {
  // Three tokens only: after some steps every context of four has come up.
  for (const MarkScheme scheme : {MarkScheme::kSynthId, MarkScheme::kGumbel}) {
    const auto key = std::make_shared<const MarkKey>(secret_key(scheme));
    const auto text = write(key, 2, 1200, 1, 1, 3);
    std::map<std::vector<TokenId>, int> seen;
    int fresh = 0;
    for (std::size_t i = 4; i < text.size(); ++i)
      fresh +=
          seen[{text.begin() + static_cast<std::ptrdiff_t>(i) - 4, text.begin() + static_cast<std::ptrdiff_t>(i)}]++ ==
          0;
    EXPECT_LE(fresh, 81);
    // Gumbel decides by the context alone: were repeats marked, the text would run in a circle.
    EXPECT_GT(fresh, 30);
    EXPECT_EQ(test_tokens(*key, text).scored, fresh);
  }
}

TEST(watermark, without_distortion_tokens_are_as_likely_as_before) {
  // One draw from the same three weights under many keys: how often each token comes.
  for (const MarkScheme scheme : {MarkScheme::kSynthId, MarkScheme::kGumbel}) {
    constexpr int kKeys = 4000;
    std::array<double, 3> drawn{};
    for (int i = 0; i < kKeys; ++i) {
      auto key = std::make_shared<MarkKey>(secret_key(MarkScheme::kGumbel));  // without measuring
      key->scheme = scheme;
      for (std::size_t b = 0; b < 4; ++b) key->secret[b] = static_cast<std::uint8_t>(i >> 8 * b);
      const auto marker = make_marker(key, std::nullopt);
      const std::vector<TokenId> tokens{1, 5, 6, 7, 8};
      ASSERT_TRUE(marker->prepare({std::span(tokens).first(1), 1}, 10));
      std::vector<Candidate> c{{0, 0, .5}, {0, 1, .3}, {0, 2, .2}};
      const auto taken = marker->draw(c, {tokens, 1}, {});
      if (taken) drawn[*taken] += 1;
      if (!taken)
        for (std::size_t t = 0; t < 3; ++t) drawn[t] += c[t].weight;
    }
    const std::array<double, 3> want{.5, .3, .2};
    for (std::size_t t = 0; t < 3; ++t) {
      const double sd = std::sqrt(want[t] * (1 - want[t]) / kKeys);
      EXPECT_NEAR(drawn[t] / kKeys, want[t], 4 * sd) << name_of(scheme) << t;
    }
  }
}

TEST(watermark, more_leaves_leave_a_stronger_mark) {
  double two = 0, eight = 0;
  const auto weak = std::make_shared<const MarkKey>(secret_key(MarkScheme::kSynthId, 2));
  const auto strong = std::make_shared<const MarkKey>(secret_key(MarkScheme::kSynthId, 8));
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    two += test_tokens(*weak, write(weak, seed, 80, 6)).statistic;
    eight += test_tokens(*strong, write(strong, seed, 80, 6)).statistic;
  }
  EXPECT_GT(eight, 1.3 * two);
}

TEST(watermark, a_guess_is_what_will_be_drawn) {
  // Drafts: what is guessed for tokens ahead is what is drawn when they have come.
  for (const MarkScheme scheme : {MarkScheme::kSynthId, MarkScheme::kGumbel}) {
    const auto key = std::make_shared<const MarkKey>(secret_key(scheme));
    const auto text = write(key, 21, 60);
    SamplingParams params;
    params.seed = 21;
    std::vector<std::unique_ptr<sampling::LogitsProcessor>> processors;
    processors.push_back(make_marker(key, std::nullopt));
    Sampler sampler(params, std::vector<TokenId>{1, 21}, nullptr, std::move(processors));
    ASSERT_TRUE(sampler.prepare(400));
    sampling::SamplerScratch scratch;
    std::vector<float> row(400);
    for (std::size_t i = 0; i + 8 < text.size(); i += 8) {
      std::vector<TokenId> tokens(sampler.tokens().begin(), sampler.tokens().end()), between;
      for (std::size_t ahead = 0; ahead < 8; ++ahead) {
        fill_logits(row, tokens, 2);
        const TokenId guess = sampler.guess(row, between, scratch);
        ASSERT_EQ(guess, text[i + ahead]);
        between.push_back(guess);
        tokens.push_back(guess);
      }
      for (const TokenId t : between) ASSERT_TRUE(sampler.accept(t));
    }
  }
}

TEST(watermark, a_text_after_thinking_is_marked_by_itself) {
  // The same tokens before and after the end of thinking: both are marked, and the later ones are as if alone.
  const auto key = std::make_shared<const MarkKey>(secret_key(MarkScheme::kGumbel));
  const auto marker = make_marker(key, TokenId{9});
  std::vector<TokenId> tokens{1};
  ASSERT_TRUE(marker->prepare({tokens, 1}, 10));
  const auto add = [&](TokenId id) {
    tokens.push_back(id);
    ASSERT_TRUE(marker->accept(id));
  };
  std::vector<Candidate> c{{0, 0, .5}, {0, 1, .3}, {0, 2, .2}};
  const auto draw = [&] { return marker->draw(c, {tokens, 1}, {}); };
  for (const TokenId t : {5, 6, 7, 8}) add(t);
  const auto thought = draw();
  ASSERT_TRUE(thought);
  add(0);
  add(9);
  for (const TokenId t : {5, 6, 7}) {
    add(t);
    EXPECT_FALSE(draw());
  }
  add(8);
  EXPECT_EQ(draw(), thought);
}

TEST(watermark, keys_are_kept_and_turned) {
  MarkKeys keys;
  EXPECT_EQ(keys.of(""), nullptr);
  const MarkKey first = make_mark_key(MarkScheme::kSynthId, MarkHash::kSipHash, 2, "");
  MarkKey own = make_mark_key(MarkScheme::kGumbel, MarkHash::kReference, 2, "proj_a");
  MarkKey next = make_mark_key(MarkScheme::kSynthId, MarkHash::kReference, 4, "");
  ASSERT_TRUE(keys.add(first) && keys.add(own) && keys.add(next));
  EXPECT_FALSE(keys.add(first));
  EXPECT_EQ(keys.of("")->id, next.id);
  EXPECT_EQ(keys.of("proj_b")->id, next.id);
  EXPECT_EQ(keys.of("proj_a")->id, own.id);
  ASSERT_TRUE(keys.retire(own.id, 5));
  ASSERT_TRUE(keys.retire(next.id, 5));
  EXPECT_FALSE(keys.retire("none", 5));
  EXPECT_EQ(keys.of("proj_a")->id, first.id);

  const auto path = std::filesystem::temp_directory_path() / ("qw_mark_keys_" + first.id);
  ASSERT_TRUE(keys.write(path));
  EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms{0600});
  const auto back = MarkKeys::read(path);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->dump(), keys.dump());
  EXPECT_EQ(back->all()[1].numbers, own.numbers);
  EXPECT_EQ(back->all()[2].null_variance, next.null_variance);
  std::filesystem::permissions(path, std::filesystem::perms{0644});
  EXPECT_EQ(MarkKeys::read(path).error().kind, ErrorKind::kRefused);
  std::filesystem::remove(path);
}

TEST(watermark, a_file_that_is_wrong_is_refused_with_what_is_wrong) {
  MarkKeys keys;
  ASSERT_TRUE(keys.add(secret_key(MarkScheme::kSynthId)));
  const std::string good = keys.dump();
  ASSERT_TRUE(MarkKeys::parse(good));
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    const auto parsed = MarkKeys::parse(text);
    EXPECT_FALSE(parsed) << to;
    return parsed ? "" : parsed.error().message;
  };
  EXPECT_NE(with("\"layers\": 30", "\"layers\": 33").find("layers"), std::string::npos);
  EXPECT_NE(with("\"leaves\": 2", "\"leaves\": 1").find("leaves"), std::string::npos);
  EXPECT_NE(with("\"context\": 4", "\"context\": 0").find("context"), std::string::npos);
  EXPECT_NE(with("synthid", "synthid2").find("scheme"), std::string::npos);
  EXPECT_NE(with("0707", "0X07").find("secret"), std::string::npos);
  EXPECT_NE(with("siphash", "reference").find("numbers"), std::string::npos);
  EXPECT_NE(with("\"variance\"", "\"var\"").find("null"), std::string::npos);
  EXPECT_FALSE(MarkKeys::parse("[]"));
  EXPECT_FALSE(MarkKeys::parse("{\"watermark_keys\": [1]}"));
}

TEST(watermark, what_does_not_show_is_taken_out_before_a_text_is_looked_at) {
  EXPECT_EQ(visible_text("a\u200Bb\u00ADc\uFEFF\U000E0041d"), "abcd");
  EXPECT_EQ(visible_text("e\u0301"), "\u00E9");
  EXPECT_EQ(visible_text("\xff"), "\uFFFD");
  EXPECT_EQ(visible_text("床前明月光"), "床前明月光");
}

TEST(watermark, a_short_text_is_no_ground_for_a_verdict) {
  const auto key = std::make_shared<const MarkKey>(secret_key(MarkScheme::kGumbel));
  const auto text = write(key, 1, 43);
  EXPECT_EQ(detect_tokens(std::span(key.get(), 1), text, 1e-3).verdict, MarkVerdict::kInconclusive);
  EXPECT_EQ(detect_tokens({}, text, 1e-3).verdict, MarkVerdict::kInconclusive);
  EXPECT_EQ(detect_tokens(std::span(key.get(), 1), {}, 1e-3).verdict, MarkVerdict::kInconclusive);
  EXPECT_EQ(confidence_of(0.4), 0.5);
  EXPECT_GT(confidence_of(1e-6), 0.9999);
}

}  // namespace
}  // namespace qw::governance
