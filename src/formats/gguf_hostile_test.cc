// GGUF files that lie. Each must be refused with a line that says why; none may crash, hang or ask for much memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "formats/internal/gguf_parse.h"
#include "formats/internal/test_files.h"

namespace qw::formats {
namespace {

using internal::parse_gguf;
using test::as_bytes;
using testing::HasSubstr;

// A GGUF file put together field by field; every field can be made to lie.
struct Forgery {
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::int64_t tensors = -1, entries = -1;  // -1: the true number
  std::vector<std::string> entry_bytes, tensor_bytes;
  std::uint64_t alignment = 32;
  std::string data = std::string(128, '\x01');

  template <class T>
  static std::string raw(T v) {
    return std::string(reinterpret_cast<const char*>(&v), sizeof(v));
  }
  static std::string text(const std::string& s) { return raw<std::uint64_t>(s.size()) + s; }
  static std::string entry(const std::string& key, std::uint32_t type, const std::string& value) {
    return text(key) + raw(type) + value;
  }
  static std::string tensor(const std::string& name, const std::vector<std::int64_t>& dims, std::uint32_t type,
                            std::uint64_t offset) {
    std::string out = text(name) + raw<std::uint32_t>(static_cast<std::uint32_t>(dims.size()));
    for (const std::int64_t d : dims) out += raw(d);
    return out + raw(type) + raw(offset);
  }

  std::string build() const {
    std::string out = magic + raw(version);
    out += raw(tensors < 0 ? static_cast<std::int64_t>(tensor_bytes.size()) : tensors);
    out += raw(entries < 0 ? static_cast<std::int64_t>(entry_bytes.size()) : entries);
    for (const auto& e : entry_bytes) out += e;
    for (const auto& t : tensor_bytes) out += t;
    out.resize((out.size() + alignment - 1) / alignment * alignment, '\0');
    return out + data;
  }
};

// A valid file to start from: one key, two tensors.
Forgery honest() {
  Forgery f;
  f.entry_bytes = {Forgery::entry("general.architecture", 8, Forgery::text("qwen3"))};
  f.tensor_bytes = {Forgery::tensor("a", {4, 2}, 0, 0), Forgery::tensor("b", {32}, 8, 32)};
  return f;
}

struct Lie {
  const char* name;
  std::function<void(Forgery&)> tell;
  const char* why;
};

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();

Lie add_entry(const char* name, std::string entry, const char* why) {
  return {name, [entry](Forgery& f) { f.entry_bytes.push_back(entry); }, why};
}
Lie set_tensor(const char* name, std::string tensor, const char* why) {
  return {name, [tensor](Forgery& f) { f.tensor_bytes[0] = tensor; }, why};
}

std::vector<Lie> header_lies() {
  return {
      {"magic", [](Forgery& f) { f.magic = "GGML"; }, "not a GGUF file"},
      {"version 0", [](Forgery& f) { f.version = 0; }, "version 0 is not supported"},
      {"version 1", [](Forgery& f) { f.version = 1; }, "version 1 is not supported"},
      {"version 4", [](Forgery& f) { f.version = 4; }, "version 4 is not supported"},
      {"big-endian", [](Forgery& f) { f.version = 0x03000000; }, "big-endian"},
      {"huge tensor count", [](Forgery& f) { f.tensors = kHuge; }, "tensors do not fit the file"},
      {"a few tensors more", [](Forgery& f) { f.tensors = 3; }, ""},
      {"huge key count", [](Forgery& f) { f.entries = kHuge; }, "keys do not fit the file"},
      {"a key more", [](Forgery& f) { f.entries = 2; }, ""},
      {"a key less", [](Forgery& f) { f.entries = 0; }, ""},
  };
}

std::vector<Lie> entry_lies() {
  using F = Forgery;
  const std::string array = F::raw(9u);
  return {
      add_entry("key twice", F::entry("general.architecture", 7, "\x01"), "'general.architecture' occurs twice"),
      add_entry("empty key", F::entry("", 7, "\x01"), "metadata key ''"),
      add_entry("key not UTF-8", F::entry("k\xff\xfe", 7, "\x01"), "metadata key 'k\\xff\\xfe'"),
      add_entry("key with NUL", F::entry(std::string("k\0k", 3), 7, "\x01"), "\\x00"),
      add_entry("key with line break", F::entry("k\nk", 7, "\x01"), "\\x0a"),
      add_entry("key of 70000 bytes", F::entry(std::string(70000, 'k'), 7, "\x01"), "too long"),
      add_entry("key longer than the file", F::raw(kHuge) + "k", "longer than the file"),
      add_entry("key of 2^64-1 bytes", F::raw(~0ull) + "k", "longer than the file"),
      add_entry("unknown type", F::entry("k", 13, "\x01"), "unknown type id 13"),
      add_entry("type 2^32-1", F::entry("k", ~0u, "\x01"), "unknown type id 4294967295"),
      add_entry("boolean 2", F::entry("k", 7, "\x02"), "neither 0 nor 1"),
      add_entry("string longer than the file", F::entry("k", 8, F::raw(kHuge)), "longer than the file"),
      add_entry("string not UTF-8", F::entry("k", 8, F::text("\xc0\x80")), "not UTF-8"),
      add_entry("nested array", F::entry("k", 9, F::raw(9u) + F::raw(1ull) + array), "nested arrays"),
      add_entry("array of unknown type", F::entry("k", 9, F::raw(99u) + F::raw(1ull)), "unknown type id 99"),
      add_entry("array of 2^61 doubles", F::entry("k", 9, F::raw(12u) + F::raw(1ull << 61)), "longer than the file"),
      add_entry("array of 2^64-1 bytes", F::entry("k", 9, F::raw(0u) + F::raw(~0ull)), "longer than the file"),
      add_entry("array of 2^63 strings", F::entry("k", 9, F::raw(8u) + F::raw(1ull << 63)), "longer than the file"),
      add_entry("array whose string is too long", F::entry("k", 9, F::raw(8u) + F::raw(1ull) + F::raw(kHuge)),
                "longer than the file"),
      add_entry("alignment 0", F::entry("general.alignment", 4, F::raw(0u)), "general.alignment is 0"),
      add_entry("alignment 1", F::entry("general.alignment", 4, F::raw(1u)), "general.alignment is 1"),
      add_entry("alignment 48", F::entry("general.alignment", 4, F::raw(48u)), "general.alignment is 48"),
      add_entry("alignment 2^31", F::entry("general.alignment", 4, F::raw(1u << 31)),
                "general.alignment is 2147483648"),
      add_entry("alignment as u64", F::entry("general.alignment", 10, F::raw(32ull)), "general.alignment is not a u32"),
      add_entry("alignment as string", F::entry("general.alignment", 8, F::text("32")),
                "general.alignment is not a u32"),
  };
}

std::vector<Lie> tensor_lies() {
  using F = Forgery;
  return {
      set_tensor("name twice", F::tensor("b", {4}, 0, 0), "'b' occurs twice"),
      set_tensor("empty name", F::tensor("", {4}, 0, 0), "tensor name ''"),
      set_tensor("name of 64 bytes", F::tensor(std::string(64, 'n'), {4}, 0, 0), "longer than 63 bytes"),
      set_tensor("name not UTF-8", F::tensor("n\xed\xa0\x80", {4}, 0, 0), "not UTF-8"),
      set_tensor("rank 0", F::tensor("a", {}, 0, 0), "0 dimensions"),
      set_tensor("rank 5", F::tensor("a", {1, 1, 1, 1, 1}, 0, 0), "5 dimensions"),
      set_tensor("rank 2^32-1", F::text("a") + F::raw(~0u), "4294967295 dimensions"),
      set_tensor("dimension 0", F::tensor("a", {4, 0}, 0, 0), "dimension 0"),
      set_tensor("negative dimension", F::tensor("a", {4, -2}, 0, 0), "dimension -2"),
      set_tensor("dimension 2^63-1", F::tensor("a", {kHuge}, 0, 0), "size out of range"),
      set_tensor("overflowing product", F::tensor("a", {1ll << 32, 1ll << 32, 4}, 0, 0), "size out of range"),
      set_tensor("product that wraps to 8", F::tensor("a", {(1ll << 62) + 2, 4}, 0, 0), "size out of range"),
      set_tensor("large but legal product", F::tensor("a", {1ll << 40}, 0, 0), "past the end"),
      set_tensor("half a Q4_K block", F::tensor("a", {128, 2}, 12, 0), "rows of 128 elements are no whole blocks of q4_k"),
      set_tensor("an IQ4_XS block and a bit", F::tensor("a", {288}, 23, 0), "no whole blocks of iq4_xs"),
      set_tensor("half an MXFP4 block", F::tensor("a", {16}, 39, 0), "no whole blocks of mxfp4"),
      set_tensor("Q6_K past the end", F::tensor("a", {256}, 14, 0), "runs past the end of the file"),
      set_tensor("Q2_K of 2^50 elements", F::tensor("a", {1 << 20, 1 << 30}, 10, 0), "size out of range"),
      set_tensor("Q5_1 of 2^48 elements", F::tensor("a", {1 << 20, 1 << 28}, 7, 0), "runs past the end of the file"),
      set_tensor("IQ2_XXS", F::tensor("a", {256}, 16, 0), "IQ2_XXS is not supported"),
      set_tensor("NVFP4", F::tensor("a", {64}, 40, 0), "NVFP4 is not supported"),
      set_tensor("retired type", F::tensor("a", {32}, 4, 0), "type id 4 is not supported"),
      set_tensor("unknown type", F::tensor("a", {32}, 1000, 0), "type id 1000 is not supported"),
      set_tensor("row of half a block", F::tensor("a", {16, 2}, 8, 0), "no whole blocks of q8_0"),
      set_tensor("misaligned offset", F::tensor("a", {1}, 0, 4), "offset 4 is not aligned"),
      set_tensor("offset past the end", F::tensor("a", {1}, 0, 4096), "past the end"),
      set_tensor("offset at the very end", F::tensor("a", {1}, 0, 128), "past the end"),
      set_tensor("offset 2^64-32", F::tensor("a", {1}, 0, ~0ull - 31), "past the end"),
      set_tensor("end past the end", F::tensor("a", {32}, 0, 96), "past the end"),
      set_tensor("overlap", F::tensor("a", {9}, 0, 0), "tensors 'a' and 'b' overlap"),
      set_tensor("same place", F::tensor("a", {4}, 0, 32), "overlap"),
      {"no data", [](Forgery& f) { f.data.clear(); }, "past the end"},
      {"nothing after the header",
       [](Forgery& f) {
         f.data.clear();
         f.tensor_bytes.clear();
         f.tensors = 2;
       },
       ""},
  };
}

void expect_refused(const std::vector<Lie>& lies) {
  for (const Lie& lie : lies) {
    Forgery f = honest();
    lie.tell(f);
    const std::string bytes = f.build();
    const auto part = parse_gguf(as_bytes(bytes));
    ASSERT_FALSE(part) << lie.name;
    EXPECT_THAT(part.error().message, HasSubstr(lie.why)) << lie.name;
    EXPECT_EQ(part.error().kind, ErrorKind::kBadInput) << lie.name;
    EXPECT_EQ(part.error().message.find_first_of("\n\r"), std::string::npos) << lie.name;
    EXPECT_LT(part.error().message.size(), 400u) << lie.name;
  }
}

TEST(GgufHostile, HonestFilesAreRead) {
  EXPECT_TRUE(parse_gguf(as_bytes(honest().build())));
  Forgery f = honest();
  f.version = 2;
  EXPECT_TRUE(parse_gguf(as_bytes(f.build())));
  f.entry_bytes.push_back(Forgery::entry("general.alignment", 4, Forgery::raw(64u)));
  f.alignment = 64;
  f.tensor_bytes[1] = Forgery::tensor("b", {32}, 8, 64);
  const auto part = parse_gguf(as_bytes(f.build()));
  ASSERT_TRUE(part) << part.error().message;
  EXPECT_EQ(part->offsets[1] % 64, 0u);
}

TEST(GgufHostile, Headers) { expect_refused(header_lies()); }
TEST(GgufHostile, Metadata) { expect_refused(entry_lies()); }
TEST(GgufHostile, Tensors) { expect_refused(tensor_lies()); }

// Reads all that a file offers: under a sanitizer, one byte outside the file ends the test.
std::uint64_t touch_everything(std::span<const std::byte> bytes, const internal::GgufPart& part) {
  std::uint64_t sum = 0;
  for (const GgufEntry& e : part.entries) sum += json::dump(internal::entry_value(e)).size();
  for (std::size_t i = 0; i < part.tensors.size(); ++i) {
    const auto data = bytes.subspan(part.offsets[i], static_cast<std::size_t>(part.tensors[i].bytes()));
    for (const std::byte b : data) sum += static_cast<std::uint64_t>(b);
  }
  return sum;
}

TEST(GgufHostile, EveryPrefixIsRefused) {
  const std::string whole = test::slurp(test::golden("small.gguf"));
  const auto part = parse_gguf(as_bytes(whole));
  ASSERT_TRUE(part);
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < part->tensors.size(); ++i) {
    end = std::max(end, part->offsets[i] + static_cast<std::uint64_t>(part->tensors[i].bytes()));
  }
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const std::string prefix = whole.substr(0, n);  // a copy of its own, so that a sanitizer knows its end
    EXPECT_EQ(parse_gguf(as_bytes(prefix)).has_value(), n >= end) << n;
  }
}

TEST(GgufHostile, EveryByteMayBeAnything) {
  std::string bytes = test::slurp(test::golden("small.gguf"));
  int accepted = 0, refused = 0;
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const char old = bytes[i];
    for (const char c : {'\0', '\x7f', '\xff', static_cast<char>(old ^ 1), static_cast<char>(old + 8)}) {
      bytes[i] = c;
      const auto part = parse_gguf(as_bytes(bytes));
      part ? ++accepted : ++refused;
      if (part) sum += touch_everything(as_bytes(bytes), *part);
    }
    bytes[i] = old;
  }
  EXPECT_GT(accepted, 1000);  // bytes of names, values and data may change
  EXPECT_GT(refused, 1000);   // bytes of structure may not
  EXPECT_GT(sum, 0u);
}

}  // namespace
}  // namespace qw::formats
