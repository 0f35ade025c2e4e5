// Megabytes a second of encoding, decoding and training, on text made up here, with a tokenizer trained on it.
#include <benchmark/benchmark.h>

#include "base/rng.h"
#include "base/utf8.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {
namespace {

constexpr std::size_t kTextBytes = 1 << 20;

std::string english(base::Rng& rng) {
  std::vector<std::string> words;
  for (int i = 0; i < 5000; ++i) {
    std::string word;
    for (std::uint64_t n = 1 + rng.below(4); n > 0; --n) {
      word += "bcdfglmnprst"[rng.below(12)];
      word += "aeiou"[rng.below(5)];
    }
    words.push_back(word);
  }
  std::string text;
  while (text.size() < kTextBytes) {
    // The square of a uniform draw prefers early words, as language does.
    const double u = rng.next_double();
    text += words[static_cast<std::size_t>(u * u * 5000)];
    text += rng.below(12) == 0 ? ".\n" : rng.below(9) == 0 ? ", " : " ";
  }
  return text;
}

std::string chinese(base::Rng& rng) {
  std::string text;
  while (text.size() < kTextBytes) {
    for (std::uint64_t n = 5 + 2 * rng.below(2); n > 0; --n) {
      const double u = rng.next_double();
      base::append_utf8(text, 0x4E00 + static_cast<std::uint32_t>(u * u * u * 6000));
    }
    text += rng.below(2) == 0 ? "，" : "。\n";
  }
  return text;
}

std::string code(base::Rng& rng) {
  std::string text;
  while (text.size() < kTextBytes) {
    const std::string name(1, static_cast<char>('a' + rng.below(26)));
    text += "  for (int " + name + " = 0; " + name + " < " + std::to_string(rng.below(1000)) + "; ++" + name +
            ") {\n    total[" + name + "] += values_[" + name + " * stride];  // sum\n  }\n\n";
  }
  return text;
}

std::string text_of(std::int64_t kind) {
  base::Rng rng(1, static_cast<std::uint64_t>(kind));
  switch (kind) {
    case 0:
      return english(rng);
    case 1:
      return chinese(rng);
    case 2:
      return code(rng);
    default:
      return std::string(kTextBytes, 'a');  // one piece: the worst case
  }
}

Result<TokenizerSpec> train_on(const std::string& text) {
  std::optional<std::string_view> document = text;
  return train_bpe([&] { return std::exchange(document, std::nullopt); }, {.vocab = 4096});
}

void BM_Encode(benchmark::State& state) {
  const std::string text = text_of(state.range(0));
  const auto tokenizer = Tokenizer::create(*train_on(text));
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->encode(text));
  state.SetBytesProcessed(static_cast<std::int64_t>(text.size()) * state.iterations());
}
BENCHMARK(BM_Encode)->ArgName("english0_chinese1_code2_letter3")->DenseRange(0, 3)->Unit(benchmark::kMillisecond);

void BM_Decode(benchmark::State& state) {
  const std::string text = text_of(state.range(0));
  const auto tokenizer = Tokenizer::create(*train_on(text));
  const auto ids = tokenizer->encode(text);
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->decode(ids));
  state.SetBytesProcessed(static_cast<std::int64_t>(text.size()) * state.iterations());
}
BENCHMARK(BM_Decode)->ArgName("english0_chinese1_code2")->DenseRange(0, 2)->Unit(benchmark::kMillisecond);

void BM_Train(benchmark::State& state) {
  const std::string text = text_of(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(train_on(text));
  state.SetBytesProcessed(static_cast<std::int64_t>(text.size()) * state.iterations());
}
BENCHMARK(BM_Train)->ArgName("english0_chinese1_code2")->DenseRange(0, 2)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace qw::tokenizer
