#include "formats/imatrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/file.h"
#include "formats/gguf.h"
#include "formats/internal/byte_reader.h"
#include "formats/internal/text.h"

namespace qw::formats {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";
// No tensor has a name as long; bounds what is read of a foreign length.
constexpr std::int32_t kMaxName = 1024;

bool good(float w) { return std::isfinite(w) && w >= 0; }

// Mean squares of a tensor's matrices, or why not.
Result<std::vector<float>> means(const float* sums, std::int64_t matrices, std::int64_t in, const float* counts) {
  std::vector<float> weights(static_cast<std::size_t>(matrices * in), 1);
  bool met = false;
  for (std::int64_t m = 0; m < matrices; ++m) {
    if (!good(counts[m])) return fail(ErrorKind::kBadInput, "its count is no number of tokens");
    if (counts[m] == 0) continue;  // never met
    met = true;
    for (std::int64_t i = m * in; i < (m + 1) * in; ++i) {
      const float w = sums[i] / counts[m];
      if (!good(w)) return fail(ErrorKind::kBadInput, "a sum of squares is negative or not finite");
      weights[static_cast<std::size_t>(i)] = w;
    }
  }
  if (!met) weights.clear();
  return weights;
}

}  // namespace

Result<ImportanceMatrix> ImportanceMatrix::parse_dat(std::span<const std::byte> bytes) {
  internal::ByteReader in(bytes);
  QW_ASSIGN(const auto entries, in.read<std::int32_t>("the number of entries"));
  if (entries < 1) return in.error("holds no importance matrix");
  ImportanceMatrix out;
  for (std::int32_t e = 0; e < entries; ++e) {
    QW_ASSIGN(const auto length, in.read<std::int32_t>("a name's length"));
    if (length < 1 || length > kMaxName) return in.error("a name of " + std::to_string(length) + " bytes");
    QW_ASSIGN(const auto letters, in.take(static_cast<std::uint64_t>(length), "a name"));
    const std::string name(reinterpret_cast<const char*>(letters.data()), letters.size());
    QW_ASSIGN(const auto calls, in.read<std::int32_t>("a count"));
    QW_ASSIGN(const auto values, in.read<std::int32_t>("the number of values"));
    if (calls < 0 || values < 1) return in.error("importance of " + internal::quote(name) + ": counts of " + std::to_string(calls) + " and " + std::to_string(values));
    QW_ASSIGN(const auto data, in.take(static_cast<std::uint64_t>(values) * sizeof(float), "values"));
    std::vector<float> sums(static_cast<std::size_t>(values));
    std::memcpy(sums.data(), data.data(), data.size());
    const float count = static_cast<float>(calls);
    auto weights = means(sums.data(), 1, values, &count);
    if (!weights) return in_context("importance of " + internal::quote(name), std::move(weights).error());
    if (!weights->empty()) out.weights_.insert_or_assign(name, std::move(*weights));
  }
  if (out.weights_.empty()) return in.error("holds no importance matrix");
  return out;  // how many chunks of which text is of no use here
}

Result<ImportanceMatrix> ImportanceMatrix::open(const std::filesystem::path& path) {
  {
    QW_ASSIGN(const auto raw, base::MappedFile::open(path));
    if (raw.bytes().size() < 4 || std::memcmp(raw.bytes().data(), "GGUF", 4) != 0) {
      auto old = parse_dat(raw.bytes());
      if (!old) return in_context(path.string(), std::move(old).error());
      return old;
    }
  }
  QW_ASSIGN(const GgufFile file, GgufFile::open(path));
  ImportanceMatrix out;
  for (const TensorInfo& info : file.tensors()) {
    if (!info.name.ends_with(kSums)) continue;
    const std::string name = info.name.substr(0, info.name.size() - kSums.size());
    const auto bad = [&](const std::string& why) {
      return fail(ErrorKind::kBadInput, path.string() + ": importance of " + internal::quote(name) + ": " + why);
    };
    const TensorInfo* counts = file.find(name + std::string(kCounts));
    if (counts == nullptr || counts->dtype != tensor::DType::kF32 || info.dtype != tensor::DType::kF32)
      return bad("sums and counts must both be there, in f32");
    const std::int64_t matrices = info.shape.rows();
    if (counts->shape.elements() != matrices)
      return bad("sums of " + std::to_string(matrices) + " matrices, counts of " + std::to_string(counts->shape.elements()));
    QW_ASSIGN(const auto sums, file.tensor(info.name));
    QW_ASSIGN(const auto count_view, file.tensor(counts->name));
    auto weights = means(sums.f32(), matrices, info.shape.back(), count_view.f32());
    if (!weights) return bad(weights.error().message);
    if (!weights->empty()) out.weights_.emplace(name, std::move(*weights));
  }
  if (out.weights_.empty()) return fail(ErrorKind::kBadInput, path.string() + ": holds no importance matrix");
  return out;
}

std::span<const float> ImportanceMatrix::find(std::string_view gguf_name) const {
  const auto it = weights_.find(gguf_name);
  return it == weights_.end() ? std::span<const float>() : std::span<const float>(it->second);
}

std::span<const float> ImportanceMatrix::find_part(std::string_view gguf_name, std::size_t part, std::int64_t columns) const {
  const auto all = find(gguf_name);
  const auto n = static_cast<std::size_t>(columns);
  return all.size() >= (part + 1) * n && all.size() > n ? all.subspan(part * n, n) : all;
}

}  // namespace qw::formats
