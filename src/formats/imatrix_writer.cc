#include <algorithm>

#include "base/file.h"
#include "formats/gguf.h"
#include "formats/imatrix.h"

namespace qw::formats {
namespace {

using Entry = ImportanceSums::Entry;

std::int64_t most(const Entry& e) { return *std::max_element(e.counts.begin(), e.counts.end()); }

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// The older layout holds means times a number of calls, one number for all of a tensor's matrices.
std::string dat_entry(const std::string& name, const Entry& e, std::int64_t chunk_tokens) {
  std::string out;
  put(out, static_cast<std::int32_t>(name.size()));
  out += name;
  const auto calls = static_cast<std::int32_t>((most(e) + chunk_tokens - 1) / chunk_tokens);
  put(out, calls);
  put(out, static_cast<std::int32_t>(e.sums.size()));
  for (std::size_t i = 0; i < e.sums.size(); ++i) {
    const auto count = static_cast<double>(e.counts[i / static_cast<std::size_t>(e.in)]);
    put(out, static_cast<float>((count > 0 ? e.sums[i] / count : 1) * calls));
  }
  return out;
}

}  // namespace

void ImportanceSums::add(const std::string& gguf_name, std::int64_t matrices, std::int64_t in) {
  entries_[gguf_name] = {in, std::vector<double>(static_cast<std::size_t>(matrices * in)),
                         std::vector<std::int64_t>(static_cast<std::size_t>(matrices))};
}

void ImportanceSums::meet(std::string_view gguf_name, std::int64_t matrix, const float* x, std::int64_t rows) {
  const auto it = entries_.find(gguf_name);
  QW_CHECK(it != entries_.end());
  Entry& e = it->second;
  double* sums = e.sums.data() + matrix * e.in;
  for (std::int64_t r = 0; r < rows; ++r, x += e.in)
    for (std::int64_t i = 0; i < e.in; ++i) sums[i] += double{x[i]} * x[i];
  e.counts[static_cast<std::size_t>(matrix)] += rows;
}

Status ImportanceSums::write(const std::filesystem::path& path, const std::string& data_set, std::int64_t chunks,
                             std::int64_t chunk_tokens) const {
  std::vector<const std::pair<const std::string, Entry>*> met;
  for (const auto& entry : entries_)
    if (most(entry.second) > 0) met.push_back(&entry);
  if (met.empty()) return fail(ErrorKind::kFailed, path.string() + ": no matrix was used");
  if (path.extension() == ".dat") {
    std::string out;
    put(out, static_cast<std::int32_t>(met.size()));
    for (const auto* entry : met) out += dat_entry(entry->first, entry->second, chunk_tokens);
    put(out, static_cast<std::int32_t>(chunks));
    put(out, static_cast<std::int32_t>(data_set.size()));
    return base::write_file_atomically(path, out + data_set);
  }
  GgufMetadata metadata;
  metadata.set("general.type", "imatrix");
  metadata.set_array("imatrix.datasets", GgufType::kString, {data_set});
  metadata.set_typed("imatrix.chunk_count", GgufType::kU32, chunks);
  metadata.set_typed("imatrix.chunk_size", GgufType::kU32, chunk_tokens);
  std::vector<TensorInfo> infos;
  for (const auto* entry : met) {
    const auto matrices = static_cast<std::int64_t>(entry->second.counts.size());
    infos.push_back({entry->first + ".in_sum2", tensor::DType::kF32, {matrices, entry->second.in}});
    infos.push_back({entry->first + ".counts", tensor::DType::kF32, {matrices, 1}});
  }
  QW_ASSIGN(auto writer, GgufWriter::create(path, metadata, infos));
  for (const auto* entry : met) {
    const std::vector<float> sums(entry->second.sums.begin(), entry->second.sums.end());
    const std::vector<float> counts(entry->second.counts.begin(), entry->second.counts.end());
    QW_TRY(writer.append(std::as_bytes(std::span(sums))));
    QW_TRY(writer.append(std::as_bytes(std::span(counts))));
  }
  return writer.commit();
}

}  // namespace qw::formats
