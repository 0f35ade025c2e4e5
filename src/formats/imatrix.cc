#include "formats/imatrix.h"

#include <cmath>

#include "formats/gguf.h"

namespace qw::formats {

Result<ImportanceMatrix> ImportanceMatrix::open(const std::filesystem::path& path) {
  QW_ASSIGN(const GgufFile file, GgufFile::open(path));
  ImportanceMatrix out;
  constexpr std::string_view kSums = ".in_sum2";
  for (const TensorInfo& info : file.tensors()) {
    if (!info.name.ends_with(kSums)) continue;
    const std::string name = info.name.substr(0, info.name.size() - kSums.size());
    const auto bad = [&](const std::string& why) {
      return fail(ErrorKind::kBadInput, path.string() + ": importance of " + name + ": " + why);
    };
    const TensorInfo* counts = file.find(name + ".counts");
    if (counts == nullptr || counts->dtype != tensor::DType::kF32 || info.dtype != tensor::DType::kF32) {
      return bad("sums and counts must both be there, in f32");
    }
    // One row per expert; a plain matrix has one.
    if (info.shape.rows() != 1 || counts->shape.elements() != 1) continue;
    QW_ASSIGN(const auto sums, file.tensor(info.name));
    QW_ASSIGN(const auto count_view, file.tensor(counts->name));
    const float count = count_view.f32()[0];
    if (!std::isfinite(count) || count < 0) return bad("its count is no number of tokens");
    if (count == 0) continue;  // never met
    std::vector<float> weights(sums.f32(), sums.f32() + info.shape.elements());
    for (float& w : weights) {
      w /= count;
      if (!std::isfinite(w) || w < 0) return bad("a sum of squares is negative or not finite");
    }
    out.weights_.emplace(name, std::move(weights));
  }
  if (out.weights_.empty()) return fail(ErrorKind::kBadInput, path.string() + ": holds no importance matrix");
  return out;
}

std::span<const float> ImportanceMatrix::find(std::string_view gguf_name) const {
  const auto it = weights_.find(gguf_name);
  return it == weights_.end() ? std::span<const float>() : std::span<const float>(it->second);
}

}  // namespace qw::formats
