// Tests only: small safetensors files, and a model that runs from one.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <numeric>
#include <optional>

#include "base/file.h"
#include "formats/gguf.h"
#include "kvcache/block_pool.h"
#include "models/cache_view.h"
#include "models/load.h"
#include "models/model.h"
#include "ops/running_executor.h"
#include "ops/training_graph.h"
#include "tensor/blocks.h"

namespace qw::models::testing {

// A safetensors file, by name. Header: u64 length, JSON {name: {dtype, shape, data_offsets}}.
struct TensorFile {
  base::MappedFile file;
  json::Object metadata;
  struct Entry {
    std::string dtype;
    std::vector<std::int64_t> shape;
    const std::byte* data;
    std::size_t bytes;
  };
  std::map<std::string, Entry> entries;

  explicit TensorFile(const std::filesystem::path& path) {
    auto mapped = base::MappedFile::open(path);
    if (!mapped) throw std::runtime_error(mapped.error().message);
    file = std::move(*mapped);
    std::uint64_t n = 0;
    std::memcpy(&n, file.bytes().data(), 8);
    const auto header = json::parse({reinterpret_cast<const char*>(file.bytes().data()) + 8, n});
    if (!header) throw std::runtime_error(header.error().message);
    for (const auto& [name, value] : header->as_object()) {
      if (name == "__metadata__") {
        metadata = value.as_object();
        continue;
      }
      Entry e{value.find("dtype")->as_string(), {}, nullptr, 0};
      for (const auto& d : value.find("shape")->as_array()) e.shape.push_back(d.as_int());
      const auto& offsets = value.find("data_offsets")->as_array();
      e.data = file.bytes().data() + 8 + n + offsets[0].as_int();
      e.bytes = static_cast<std::size_t>(offsets[1].as_int() - offsets[0].as_int());
      entries.emplace(name, std::move(e));
    }
  }
  bool has(const std::string& name) const { return entries.contains(name); }
  tensor::ConstView view(const std::string& name) const {
    const Entry& e = entries.at(name);
    const auto type = e.dtype == "F32" ? tensor::DType::kF32 : tensor::DType::kBF16;
    if (e.dtype != "F32" && e.dtype != "BF16") throw std::runtime_error(name + ": " + e.dtype);
    return {type, tensor::Shape(std::span<const std::int64_t>(e.shape)), e.data};
  }
  template <class T>
  std::vector<T> read(const std::string& name) const {
    const Entry& e = entries.at(name);
    std::vector<T> out(e.bytes / sizeof(T));
    std::memcpy(out.data(), e.data, e.bytes);
    return out;
  }
  std::vector<std::int32_t> ids(const std::string& name) const {
    const auto wide = read<std::int64_t>(name);
    return {wide.begin(), wide.end()};
  }
};

// The tables that this CPU runs, or that which QW_ISA names alone.
inline std::vector<const kernels::Kernels*> all_kernels() {
  const auto forced = base::forced_isa();
  if (!forced) throw std::runtime_error(forced.error().message);
  std::vector<const kernels::Kernels*> all;
  for (const base::Isa isa : base::kAllIsas)
    if (forced->has_value() ? isa == **forced : isa <= base::best_isa()) all.push_back(&kernels::kernels_for(isa));
  return all;
}

inline std::vector<tensor::Shape> shapes_of(const Model& model) {
  std::vector<tensor::Shape> shapes;
  for (const auto& p : model.parameters()) shapes.push_back(p.shape);
  return shapes;
}

inline ops::Program record(const Model& model) {
  ops::RecordingExecutor recorder(shapes_of(model));
  model.forward(recorder);
  return recorder.finish();
}

inline ops::Program record_draft(const Model& model) {
  ops::RecordingExecutor recorder(shapes_of(model));
  model.draft(recorder);
  return recorder.finish();
}

// A model with its own cache, fed rows of one or several sequences.
struct Runner {
  const Model& model;
  kvcache::BlockPool pool;
  ops::CacheView cache;
  std::optional<kvcache::StatePool> state_pool;  // of models whose layers carry states
  ops::StateView states;
  std::vector<kvcache::StateSlot> slots;
  std::unique_ptr<ops::RunningExecutor> executor, draft;  // the second: of layers that draft
  std::vector<kvcache::BlockTable> tables;
  std::int32_t prompt = 1;  // tokens of every sequence's prompt, for models with dynamic NTK
  struct Batch {            // of the last step: what is asked afterwards looks at it
    std::vector<std::int32_t> lengths, tokens, positions, sequences, adapters, wanted, of;
    std::vector<std::span<const std::int32_t>> blocks;
  };
  Batch batch;

  Runner(const Model& m, std::span<const tensor::ConstView> weights, base::ThreadPool& threads,
         const kernels::Kernels& kernels, tensor::DType cache_type = tensor::DType::kF32, int sequences = 4,
         std::span<const ops::LowRankAdapter> adapters = {}, std::int64_t room = 128)  // tokens of each sequence
      : model(m),
        pool(*kvcache::BlockPool::create({m.traits().layers + m.traits().draft_layers, m.traits().kv_heads, m.traits().head_dim, 16, cache_type, beside_floats(m.traits(), 16)},
                                         sequences * room / 16)),
        cache(cache_view(pool)) {
    const ops::RunningOptions sizes{.max_rows = 256, .max_logit_rows = 256};
    std::optional<ops::Program> beside;
    if (m.traits().draft_layers > 0) beside = record_draft(m);
    auto made = ops::RunningExecutor::create(record(m), weights, sizes, kernels, threads, adapters, beside ? &*beside : nullptr);
    if (!made) throw std::runtime_error(made.error().message);
    executor = std::move(*made);
    if (beside) draft = std::move(*executor->make_beside(std::move(*beside), sizes));
    if (const std::int64_t floats = executor->state_floats(); floats > 0) {
      if (floats != m.traits().state_floats) throw std::runtime_error("the traits tell another size of states");
      auto made_pool = kvcache::StatePool::create(floats, sequences);
      if (!made_pool) throw std::runtime_error(made_pool.error().message);
      state_pool.emplace(std::move(*made_pool));
      states = state_view(*state_pool);
      for (int i = 0; i < sequences; ++i) slots.push_back(std::move(*state_pool->acquire()));
    }
    for (int i = 0; i < sequences; ++i) {
      tables.push_back(pool.make_table(room));
      if (!pool.reserve(tables.back(), room)) throw std::runtime_error("no room");
    }
  }

  struct Row {
    std::int32_t token, position, sequence;
    std::int32_t adapter = -1;
  };
  // Logits of every row.
  std::vector<std::vector<float>> step(const std::vector<Row>& rows) { return run(*executor, rows, {}); }
  // Of rows `only` of these, where the others end early.
  std::vector<std::vector<float>> step_only(const std::vector<Row>& rows, const std::vector<std::int32_t>& only) {
    return run(*executor, rows, {}, &only);
  }
  // The same of the layers that draft, given a hidden row for each.
  std::vector<std::vector<float>> draft_step(const std::vector<Row>& rows, std::span<const float> given) {
    return run(*draft, rows, given);
  }
  std::vector<std::vector<float>> run(ops::RunningExecutor& on, const std::vector<Row>& rows, std::span<const float> given,
                                      const std::vector<std::int32_t>* only = nullptr) {
    auto& [lengths, tokens, positions, sequences, adapters, wanted, of, blocks] = batch = {};
    lengths.assign(tables.size(), prompt);
    wanted.resize(rows.size());
    for (const Row& r : rows) {
      tokens.push_back(r.token);
      positions.push_back(r.position);
      sequences.push_back(r.sequence);
      adapters.push_back(r.adapter);
    }
    std::iota(wanted.begin(), wanted.end(), 0);
    if (only != nullptr) wanted = *only;
    for (const auto& t : tables) blocks.push_back(t.blocks());
    for (const auto& s : slots) of.push_back(s.index());
    const auto status = on.begin(
        {tokens, positions, sequences, blocks, wanted, &cache, lengths, adapters, of, &states, given, only != nullptr});
    if (!status) throw std::runtime_error(status.error().message);
    if (&on == draft.get()) model.draft(on);
    else model.forward(on);
    std::vector<std::vector<float>> out;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const auto l = on.logits(static_cast<std::int64_t>(i));
      out.emplace_back(l.begin(), l.end());
    }
    return out;
  }
  std::vector<Row> rows_of(const std::vector<std::int32_t>& ids, std::int32_t sequence = 0, std::int32_t adapter = -1) const {
    std::vector<Row> rows;
    for (std::size_t i = 0; i < ids.size(); ++i) rows.push_back({ids[i], static_cast<std::int32_t>(i), sequence, adapter});
    return rows;
  }
};

inline std::filesystem::path golden_folder() { return std::filesystem::path(QW_SOURCE_DIR) / "tests/golden"; }

// Folder of extra reference data that is not part of the project; empty if there is none.
inline std::filesystem::path shared_folder() {
  const char* env = std::getenv("QW_SHARED");
  const std::filesystem::path folder = env != nullptr ? std::filesystem::path(env) : std::filesystem::path(QW_SOURCE_DIR) / "../shared";
  return std::filesystem::exists(folder / "data/golden/summary.json") ? folder : std::filesystem::path();
}

inline double max_abs(std::span<const float> x) {
  double m = 0;
  for (const float v : x) m = std::max(m, std::abs(static_cast<double>(v)));
  return m;
}

// What a result that must be there is; throws its error otherwise.
template <class T>
T take(Result<T> r) {
  if (!r) throw std::runtime_error(r.error().message);
  return std::move(*r);
}

// A folder of tests/golden with its model and its weights viewed in place.
struct OpenedGolden {
  formats::ModelSource source;
  std::unique_ptr<Model> model;
  std::vector<tensor::ConstView> views;
  explicit OpenedGolden(const std::string& name)
      : source(take(formats::ModelSource::open(golden_folder() / name))),
        model(take(model_from_source(source))),
        views(take(load_weights(*model, source))) {}
};

// The largest difference of rows of logits from [rows, V] wanted ones, as a share of the largest wanted one.
inline double worst(const std::vector<std::vector<float>>& got, const std::vector<float>& wanted) {
  double off = 0;
  for (std::size_t r = 0; r < got.size(); ++r)
    for (std::size_t i = 0; i < got[r].size(); ++i)
      off = std::max(off, std::abs(double{got[r][i]} - double{wanted[r * got[r].size() + i]}));
  return off / max_abs(wanted);
}

// A GGUF file of a model with these weights (by parameter id): tensors that stand as they are keep their type, others are F32.
inline void write_gguf(const std::filesystem::path& path, const Model& model, std::span<const tensor::ConstView> views) {
  std::vector<formats::TensorInfo> infos;
  for (std::size_t i = 0; i < views.size(); ++i) {
    const ParameterSpec& p = model.parameters()[i];
    const auto type = p.gguf.same() ? views[i].dtype : tensor::DType::kF32;
    if (p.gguf_part == 0 && !p.gguf_none) infos.push_back({p.gguf_name, type, p.gguf_shape()});
  }
  auto writer = formats::GgufWriter::create(path, gguf_keys(model), infos);
  ASSERT_TRUE(writer) << writer.error().message;
  const auto there = file_tensors(model, views, formats::ModelKind::kGguf);
  ASSERT_TRUE(there) << there.error().message;
  for (const FileTensor& t : there->tensors) {
    tensor::Buffer own;
    const auto v = tensor::in_memory(t.view, own);
    ASSERT_TRUE(writer->append({v.data, static_cast<std::size_t>(v.bytes())}));
  }
  ASSERT_TRUE(writer->commit());
}

}  // namespace qw::models::testing
