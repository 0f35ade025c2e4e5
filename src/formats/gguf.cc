#include "formats/gguf.h"

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "formats/internal/byte_reader.h"
#include "formats/internal/gguf_parse.h"
#include "formats/internal/text.h"

namespace qw::formats {
namespace {

using internal::quote;

// NAME-00001-of-00003.gguf taken apart.
struct SplitName {
  std::string prefix;  // NAME
  int number = 0;      // from 1
  int count = 0;
};

std::optional<int> five_digits(std::string_view text) {
  if (text.size() != 5 || !std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }))
    return std::nullopt;
  return std::accumulate(text.begin(), text.end(), 0, [](int n, char c) { return n * 10 + (c - '0'); });
}

std::optional<SplitName> parse_split_name(const std::string& file) {
  constexpr std::size_t kTail = sizeof("-00001-of-00003.gguf") - 1;
  if (file.size() <= kTail || !file.ends_with(".gguf")) return std::nullopt;
  const std::string_view tail = std::string_view(file).substr(file.size() - kTail);
  const auto number = five_digits(tail.substr(1, 5)), count = five_digits(tail.substr(10, 5));
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || !number || !count) return std::nullopt;
  return SplitName{file.substr(0, file.size() - kTail), *number, *count};
}

std::filesystem::path part_path(const std::filesystem::path& folder, const SplitName& split, int number) {
  char tail[32];
  std::snprintf(tail, sizeof(tail), "-%05d-of-%05d.gguf", number, split.count);
  return folder / (split.prefix + tail);
}

template <class Name>
std::vector<std::uint32_t> sorted_indices(std::size_t n, Name name) {
  std::vector<std::uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return name(a) < name(b); });
  return order;
}

template <class Name>
std::size_t find_sorted(const std::vector<std::uint32_t>& order, std::string_view wanted, Name name) {
  const auto it = std::lower_bound(order.begin(), order.end(), wanted,
                                   [&](std::uint32_t i, std::string_view w) { return name(i) < w; });
  return it != order.end() && name(*it) == wanted ? *it : order.size();
}

// An integer among a part's own metadata; -1 if it is missing or no integer.
std::int64_t integer_entry(const std::vector<GgufEntry>& entries, std::string_view key) {
  for (const GgufEntry& e : entries) {
    if (e.key != key || e.type == GgufType::kArray) continue;
    const json::Value value = internal::entry_value(e);
    return value.is_int() ? value.as_int() : -1;
  }
  return -1;
}

bool is_integer_type(GgufType type) {
  return type != GgufType::kF32 && type != GgufType::kF64 && type != GgufType::kString && type != GgufType::kArray;
}

}  // namespace

Status GgufFile::add_part(const std::filesystem::path& path, int number, int count) {
  QW_ASSIGN(auto file, base::MappedFile::open(path));
  auto parsed = internal::parse_gguf(file.bytes());
  if (!parsed) return in_context(path.string(), std::move(parsed).error());
  internal::GgufPart& part = *parsed;
  const std::int64_t stated = integer_entry(part.entries, "split.count");
  if (stated > 1 || count > 1) {
    if (stated != count || integer_entry(part.entries, "split.no") != number - 1) {
      return fail(ErrorKind::kBadInput, path.string() + ": split.no and split.count do not agree with the file's name");
    }
  }
  if (number == 1) {
    version_ = part.version;
    entries_ = std::move(part.entries);
  }
  for (std::size_t i = 0; i < part.tensors.size(); ++i) {
    data_.push_back(file.bytes().data() + part.offsets[i]);
    tensors_.push_back(std::move(part.tensors[i]));
  }
  files_.push_back(std::move(file));
  return {};
}

Result<GgufFile> GgufFile::open(const std::filesystem::path& path) {
  GgufFile gguf;
  gguf.path_ = path;
  const auto split = parse_split_name(path.filename().string());
  const int count = split ? split->count : 1;
  if (split && split->number != 1) {
    return fail(ErrorKind::kBadInput, path.string() + ": is part " + std::to_string(split->number) + " of " +
                                          std::to_string(count) + "; open the first part");
  }
  if (count < 1) return fail(ErrorKind::kBadInput, path.string() + ": names itself part 1 of 0");
  QW_TRY(gguf.add_part(path, 1, count));
  for (int number = 2; number <= count; ++number) {
    QW_TRY(gguf.add_part(part_path(path.parent_path(), *split, number), number, count));
  }
  const auto name = [&](std::uint32_t i) -> std::string_view { return gguf.tensors_[i].name; };
  gguf.by_name_ = sorted_indices(gguf.tensors_.size(), name);
  for (std::size_t k = 1; k < gguf.by_name_.size(); ++k) {
    if (name(gguf.by_name_[k - 1]) == name(gguf.by_name_[k])) {
      return fail(ErrorKind::kBadInput,
                  path.string() + ": tensor " + quote(name(gguf.by_name_[k])) + " is in two parts");
    }
  }
  if (count > 1 &&
      integer_entry(gguf.entries_, "split.tensors.count") != static_cast<std::int64_t>(gguf.tensors_.size())) {
    return fail(ErrorKind::kBadInput,
                path.string() + ": split.tensors.count is not the number of tensors in all parts");
  }
  gguf.entry_by_key_ = sorted_indices(gguf.entries_.size(), [&](std::uint32_t i) { return gguf.entries_[i].key; });
  for (const GgufEntry& e : gguf.entries_) {
    if (e.count <= kLongArray) gguf.metadata_.set(std::string(e.key), internal::entry_value(e));
  }
  return gguf;
}

const GgufEntry* GgufFile::entry(std::string_view key) const {
  const std::size_t i = find_sorted(entry_by_key_, key, [&](std::uint32_t k) { return entries_[k].key; });
  return i == entries_.size() ? nullptr : &entries_[i];
}

Result<std::vector<std::string_view>> GgufFile::strings(std::string_view key) const {
  const GgufEntry* e = entry(key);
  if (e == nullptr || e->type != GgufType::kArray || e->element != GgufType::kString) {
    return fail(ErrorKind::kBadInput, path_.string() + ": metadata " + quote(key) + " is not an array of strings");
  }
  std::vector<std::string_view> out;
  out.reserve(e->count);
  internal::ByteReader in(e->bytes);
  for (std::uint64_t i = 0; i < e->count; ++i) {
    QW_ASSIGN(const std::string_view text, in.read_string("a string"));
    out.push_back(text);
  }
  return out;
}

Result<std::vector<std::int64_t>> GgufFile::integers(std::string_view key) const {
  const GgufEntry* e = entry(key);
  if (e == nullptr || e->type != GgufType::kArray || !is_integer_type(e->element)) {
    return fail(ErrorKind::kBadInput, path_.string() + ": metadata " + quote(key) + " is not an array of integers");
  }
  std::vector<std::int64_t> out;
  out.reserve(e->count);
  const json::Value value = internal::entry_value(*e);
  for (const json::Value& v : value.as_array()) {
    if (v.is_double())
      return fail(ErrorKind::kBadInput, path_.string() + ": metadata " + quote(key) + " is out of range");
    out.push_back(v.is_bool() ? v.as_bool() : v.as_int());
  }
  return out;
}

Result<std::vector<double>> GgufFile::numbers(std::string_view key) const {
  const GgufEntry* e = entry(key);
  if (e == nullptr || e->type != GgufType::kArray || e->element == GgufType::kString || e->element == GgufType::kBool) {
    return fail(ErrorKind::kBadInput, path_.string() + ": metadata " + quote(key) + " is not an array of numbers");
  }
  std::vector<double> out;
  out.reserve(e->count);
  const json::Value value = internal::entry_value(*e);
  for (const json::Value& v : value.as_array()) out.push_back(v.as_double());
  return out;
}

std::size_t GgufFile::index_of(std::string_view name) const {
  return find_sorted(by_name_, name, [&](std::uint32_t k) -> std::string_view { return tensors_[k].name; });
}

const TensorInfo* GgufFile::find(std::string_view name) const {
  const std::size_t i = index_of(name);
  return i == tensors_.size() ? nullptr : &tensors_[i];
}

Result<tensor::ConstView> GgufFile::tensor(std::string_view name) const {
  const std::size_t i = index_of(name);
  if (i == tensors_.size()) return fail(ErrorKind::kBadInput, path_.string() + ": no tensor " + quote(name));
  return tensor::ConstView{tensors_[i].dtype, tensors_[i].shape, data_[i]};
}

}  // namespace qw::formats
