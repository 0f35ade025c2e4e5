#include "tokenizer/internal/unicode.h"

#include <algorithm>
#include <bit>
#include <iterator>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/utf8.h"

namespace qw::tokenizer {
namespace {

struct ClassRange {
  std::uint32_t first, last;
  CharClass value;
};
struct CodeRange {
  std::uint32_t first, last;
};
struct CombiningRange {
  std::uint32_t first, last;
  std::uint8_t value;
};
struct Decomposition {
  std::uint32_t code, first, second;
  bool composes;
};

#include "tokenizer/internal/unicode_tables.inc"

// Hangul syllables decompose by arithmetic (Unicode standard, section 3.12).
constexpr std::uint32_t kHangulS = 0xAC00, kHangulL = 0x1100, kHangulV = 0x1161, kHangulT = 0x11A7;
constexpr std::uint32_t kCountL = 19, kCountV = 21, kCountT = 28, kCountS = kCountL * kCountV * kCountT;

struct Point {
  std::uint32_t code;
  std::uint8_t combining;
};

struct Composition {
  std::uint64_t pair;
  std::uint32_t code;
};

std::uint64_t pair_of(std::uint32_t first, std::uint32_t second) { return (std::uint64_t{first} << 32) | second; }

const std::vector<Composition>& compositions() {
  static const std::vector<Composition> sorted = [] {
    std::vector<Composition> all;
    for (const Decomposition& d : kDecompositions) {
      if (d.composes) all.push_back({pair_of(d.first, d.second), d.code});
    }
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.pair < b.pair; });
    return all;
  }();
  return sorted;
}

// The joined character, or 0.
std::uint32_t compose(std::uint32_t first, std::uint32_t second) {
  if (first - kHangulL < kCountL && second - kHangulV < kCountV) {
    return kHangulS + ((first - kHangulL) * kCountV + (second - kHangulV)) * kCountT;
  }
  if (first - kHangulS < kCountS && (first - kHangulS) % kCountT == 0 && second > kHangulT &&
      second < kHangulT + kCountT) {
    return first + (second - kHangulT);
  }
  const std::uint64_t pair = pair_of(first, second);
  const auto& all = compositions();
  const auto at =
      std::lower_bound(all.begin(), all.end(), pair, [](const auto& c, std::uint64_t p) { return c.pair < p; });
  return at != all.end() && at->pair == pair ? at->code : 0;
}

std::uint8_t combining_class(std::uint32_t code) {
  const auto* at = std::upper_bound(std::begin(kCombiningRanges), std::end(kCombiningRanges), code,
                                    [](std::uint32_t c, const CombiningRange& r) { return c < r.first; });
  return at != std::begin(kCombiningRanges) && code <= at[-1].last ? at[-1].value : std::uint8_t{0};
}

void decompose(std::uint32_t code, std::vector<Point>& out) {
  if (code - kHangulS < kCountS) {
    const std::uint32_t s = code - kHangulS;
    out.push_back({kHangulL + s / (kCountV * kCountT), 0});
    out.push_back({kHangulV + s % (kCountV * kCountT) / kCountT, 0});
    if (s % kCountT != 0) out.push_back({kHangulT + s % kCountT, 0});
    return;
  }
  const auto* at = std::lower_bound(std::begin(kDecompositions), std::end(kDecompositions), code,
                                    [](const Decomposition& d, std::uint32_t c) { return d.code < c; });
  if (at == std::end(kDecompositions) || at->code != code) {
    out.push_back({code, combining_class(code)});
    return;
  }
  decompose(at->first, out);
  if (at->second != 0) decompose(at->second, out);
}

// Sorts every run of combining marks by class. A stable sort, because the order within a class has meaning.
void order_marks(std::vector<Point>& points) {
  for (auto at = points.begin(); at != points.end();) {
    if (at->combining == 0) {
      ++at;
      continue;
    }
    const auto end = std::find_if(at, points.end(), [](const Point& p) { return p.combining == 0; });
    std::stable_sort(at, end, [](const Point& a, const Point& b) { return a.combining < b.combining; });
    at = end;
  }
}

void append_composed(const std::vector<Point>& points, std::string& out) {
  std::vector<std::uint32_t> done;
  done.reserve(points.size());
  std::size_t starter = 0;
  bool have_starter = false;
  int last = -1;  // combining class of the character before, -1 right after the starter
  for (const Point& p : points) {
    if (have_starter && last < p.combining) {
      if (const std::uint32_t joined = compose(done[starter], p.code)) {
        done[starter] = joined;
        continue;
      }
    }
    if (p.combining == 0) {
      starter = done.size();
      have_starter = true;
      last = -1;
    } else {
      last = p.combining;
    }
    done.push_back(p.code);
  }
  for (const std::uint32_t code : done) base::append_utf8(out, code);
}

}  // namespace

Unicode::Unicode() : flags_(0x110000) {
  for (const ClassRange& r : kClassRanges) {
    for (std::uint32_t c = r.first; c <= r.last; ++c) flags_[c] = static_cast<std::uint8_t>(r.value);
  }
  for (const CodeRange& r : kUnstableRanges) {
    for (std::uint32_t c = r.first; c <= r.last; ++c) flags_[c] |= 0x80;
  }
}

const Unicode& Unicode::tables() {
  static const Unicode tables;
  return tables;
}

namespace {

// Whether an unstable character may begin with this byte. Those that begin otherwise are ASCII, U+0080 to U+02FF (C2 to
// CB) and U+4000 to U+9FFF (E4 to E9); there are no unstable ones among them.
bool may_begin_unstable(unsigned char byte) { return byte >= 0xCC && (byte < 0xE4 || byte > 0xE9); }

}  // namespace

std::size_t find_unstable(std::string_view text, std::size_t from) {
  const Unicode& tables = Unicode::tables();
  const auto unstable_at = [&](std::size_t at) {
    return may_begin_unstable(static_cast<unsigned char>(text[at])) && tables.unstable(base::utf8_at(text, at).code);
  };
#ifdef __SSE2__
  const auto load = [&](std::size_t at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(text.data() + at)); };
  const auto is = [](__m128i bytes, int c) { return _mm_cmpeq_epi8(bytes, _mm_set1_epi8(static_cast<char>(c))); };
  for (; from + 18 <= text.size(); from += 16) {
    const __m128i bytes = load(from);
    if (_mm_movemask_epi8(bytes) == 0) continue;
    // As signed bytes CC..FF are -52..-1 and E4..E9 are -28..-23.
    const __m128i high =
        _mm_and_si128(_mm_cmpgt_epi8(bytes, _mm_set1_epi8(-53)), _mm_cmplt_epi8(bytes, _mm_setzero_si128()));
    const __m128i han =
        _mm_and_si128(_mm_cmpgt_epi8(bytes, _mm_set1_epi8(-29)), _mm_cmplt_epi8(bytes, _mm_set1_epi8(-22)));
    // The punctuation of Chinese, and quotes and dashes: U+3000 to U+3027 (E3 80, then up to A7), U+FF00 to U+FF7F (EF
    // BC or BD), U+2008 to U+203F (E2 80, then 88 and more).
    const __m128i second = load(from + 1), third = load(from + 2), is80 = is(second, 0x80);
    const __m128i signs = _mm_and_si128(_mm_and_si128(is(bytes, 0xE3), is80),
                                        _mm_cmplt_epi8(third, _mm_set1_epi8(static_cast<char>(0xA8))));
    const __m128i full = _mm_and_si128(is(bytes, 0xEF), _mm_or_si128(is(second, 0xBC), is(second, 0xBD)));
    const __m128i quotes = _mm_and_si128(_mm_and_si128(is(bytes, 0xE2), is80),
                                         _mm_cmpgt_epi8(third, _mm_set1_epi8(static_cast<char>(0x87))));
    const __m128i stable = _mm_or_si128(_mm_or_si128(han, signs), _mm_or_si128(full, quotes));
    auto mask = static_cast<unsigned>(_mm_movemask_epi8(_mm_andnot_si128(stable, high)));
    for (; mask != 0; mask &= mask - 1) {
      const std::size_t at = from + static_cast<std::size_t>(std::countr_zero(mask));
      if (unstable_at(at)) return at;
    }
  }
#endif
  while (from < text.size() && !unstable_at(from)) ++from;
  return from;
}

bool surely_nfc(std::string_view text) { return find_unstable(text, 0) == text.size(); }

std::string to_nfc(std::string_view text) {
  const Unicode& tables = Unicode::tables();
  std::string out;
  out.reserve(text.size());
  // A stable character and the unstable ones behind it form a window that nothing outside can change. Windows without
  // unstable characters are copied.
  std::size_t window = 0;  // start of the last stable character not yet copied
  std::vector<Point> points;
  for (std::size_t at = 0; at < text.size();) {
    base::Utf8Char c = base::utf8_at(text, at);
    if (!tables.unstable(c.code)) {
      out.append(text.substr(window, at - window));
      window = at;
      at += c.size;
      if (c.code == base::kInvalidCode) {
        out.append(text.substr(window, c.size));
        window = at;
      }
      continue;
    }
    points.clear();
    if (window < at) decompose(base::utf8_at(text, window).code, points);
    for (; tables.unstable(c.code); c = base::utf8_at(text, at)) {
      decompose(c.code, points);
      at += c.size;
      if (at == text.size()) break;
    }
    order_marks(points);
    append_composed(points, out);
    window = at;
  }
  return out.append(text.substr(window));
}

}  // namespace qw::tokenizer
