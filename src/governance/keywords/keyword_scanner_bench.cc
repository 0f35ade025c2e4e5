// Looking for a million keywords: bytes of text a second on one core. The text is a Chinese-like one of 3,500
// characters drawn as unevenly as a language draws them (Zipf), or an English-like one of 20,000 words; the keywords
// are drawn in the same way, or - "rare" - evenly.
//
// Real text: QW_BENCH_TEXT=FILE QW_BENCH_KEYWORDS=FILE, plain UTF-8 both; the keywords are drawn from the second one:
// runs of 3 to 6 Han characters of one clause, or of 3 to 5 words where it has none.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <unordered_set>

#include "base/rng.h"
#include "base/utf8.h"
#include "governance/keywords/keyword_scanner.h"

namespace {

using namespace qw;
using namespace qw::governance;

constexpr std::size_t kKeywords = 1'000'000, kTextBytes = 16U << 20;

class Language {
 public:
  Language(bool han, std::uint64_t seed) : rng_(seed), han_(han) {
    for (std::size_t i = 0; i < (han ? 3500u : 20000u); ++i) {
      std::string unit;
      if (han)
        base::append_utf8(unit, static_cast<std::uint32_t>(0x4E00 + i * 5));
      else
        for (std::size_t n = 2 + rng_.below(8); n > 0; --n) unit += static_cast<char>('a' + rng_.below(26));
      units_.push_back(unit);
    }
  }
  const std::string& even() { return units_[rng_.below(units_.size())]; }
  // The i-th unit about 1/i as often as the first.
  const std::string& zipf() {
    const double u = static_cast<double>(rng_.below(1U << 30)) / (1U << 30);
    const auto i = static_cast<std::size_t>(std::pow(static_cast<double>(units_.size()), u));
    return units_[std::min(i, units_.size()) - 1];
  }
  std::string keyword(bool rare) {
    std::string out;
    for (std::size_t n = 2 + rng_.below(han_ ? 5 : 2); n > 0; --n)
      out += (out.empty() || han_ ? "" : " ") + (rare ? even() : zipf());
    return out;
  }
  std::string text() {
    std::string out;
    while (out.size() < kTextBytes) {
      out += zipf();
      if (!han_)
        out += ' ';
      else if (rng_.below(12) == 0)
        out += "，";
    }
    return out;
  }

 private:
  base::Rng rng_;
  bool han_;
  std::vector<std::string> units_;
};

std::string file_of(const char* name) {
  std::ifstream in(name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A run of `units` Han characters or words that begins at `at`; empty: there is none, or it is none.
std::string run_at(std::string_view text, std::size_t at, std::size_t units) {
  std::string out;
  for (; units > 0 && at < text.size(); --units) {
    const auto c = base::utf8_at(text, at);
    if (c.code >= 0x4E00 && c.code <= 0x9FFF) {
      out += text.substr(at, c.size);
      at += c.size;
      continue;
    }
    std::size_t end = at;
    while (end < text.size() && std::isalpha(static_cast<unsigned char>(text[end]))) ++end;
    if (end == at) return "";
    out += std::string(text.substr(at, end - at)) + (units > 1 ? " " : "");
    at = end + 1;
  }
  return units == 0 ? out : "";
}

std::string drawn_from(std::string_view text, std::size_t keywords) {
  base::Rng rng(5);
  std::unordered_set<std::string> all;
  for (std::size_t tries = 0; all.size() < keywords && tries < 40 * keywords; ++tries) {
    std::size_t at = rng.below(text.size());
    const bool ascii = static_cast<unsigned char>(text[at]) < 0x80;
    if (ascii && (at == 0 || text[at - 1] != ' ')) continue;  // a word from its beginning
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
    std::string run = run_at(text, at, ascii ? 3 + rng.below(3) : 3 + rng.below(4));
    if (!run.empty()) all.insert(std::move(run));
  }
  std::string file = "[x]\n";
  for (const auto& keyword : all) file += keyword + "\n";
  return file;
}

void run(benchmark::State& state, const std::string& file, const std::string& text) {
  const auto list = KeywordList::parse(file);
  std::size_t hits = 0;
  for (auto _ : state) {
    std::vector<KeywordHit> found;
    KeywordScanner scanner(*list);
    for (std::size_t at = 0; at < text.size(); at += 4096) scanner.push(std::string_view(text).substr(at, 4096), found);
    scanner.finish(found);
    hits = found.size();
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * text.size()));
  state.counters["hits"] = static_cast<double>(hits);
  state.counters["keywords"] = static_cast<double>(list->size());
  state.counters["nodes"] = static_cast<double>(list->index().nodes());
}

void scan(benchmark::State& state, bool han, bool rare, std::size_t keywords = kKeywords) {
  Language language(han, 3);
  std::string file = "[x]\n";
  for (std::size_t i = 0; i < keywords; ++i) file += language.keyword(rare) + "\n";
  run(state, file, language.text());
}

void real(benchmark::State& state, std::size_t keywords) {
  const char *text = std::getenv("QW_BENCH_TEXT"), *words = std::getenv("QW_BENCH_KEYWORDS");
  if (text == nullptr || words == nullptr) return state.SkipWithError("QW_BENCH_TEXT and QW_BENCH_KEYWORDS name files");
  run(state, drawn_from(file_of(words), keywords), file_of(text));
}

BENCHMARK_CAPTURE(scan, chinese_ten_thousand, true, true, 10000)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(scan, english_ten_thousand, false, true, 10000)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(real, ten_thousand, 10000)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(real, million, kKeywords)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(scan, chinese_rare, true, true)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(scan, chinese, true, false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(scan, english_rare, false, true)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(scan, english, false, false)->Unit(benchmark::kMillisecond);

}  // namespace
