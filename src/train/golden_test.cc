// Ten AdamW and five Muon steps against float64 PyTorch runs. The numbers come from outside the source tree: the folder
// in QW_SHARED, or ../shared beside the source; without it the tests are skipped.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "base/file.h"
#include "json/value.h"
#include "models/model.h"
#include "ops/training_graph.h"
#include "train/internal/state.h"
#include "train/optimizer.h"

namespace qw::train {
namespace {

namespace fs = std::filesystem;

// A plain reader of the golden file: any dtype to double.
class Golden {
 public:
  static std::optional<Golden> load(const char* family) {
    const char* variable = std::getenv("QW_SHARED");
    const fs::path folder = variable != nullptr ? fs::path(variable) : fs::path(QW_SOURCE_DIR) / ".." / "shared";
    auto text = base::read_file(folder / "data" / "golden" / ("tiny_" + std::string(family) + ".safetensors"));
    auto summary = base::read_file(folder / "data" / "golden" / "summary.json");
    if (!text || !summary) return std::nullopt;
    Golden g;
    g.bytes_ = std::move(*text);
    std::uint64_t size = 0;
    std::memcpy(&size, g.bytes_.data(), 8);
    g.header_ = *json::parse(std::string_view(g.bytes_).substr(8, size));
    g.data_ = 8 + size;
    g.summary_ = *json::parse(*summary)->find(family);
    return g;
  }
  std::vector<double> tensor(const std::string& name) const {
    const json::Value* entry = header_.find(name);
    QW_CHECK(entry != nullptr);
    const auto& offsets = entry->find("data_offsets")->as_array();
    const char* p = bytes_.data() + data_ + static_cast<std::size_t>(offsets[0].as_int());
    const auto n = static_cast<std::size_t>(offsets[1].as_int() - offsets[0].as_int());
    const std::string& type = entry->find("dtype")->as_string();
    if (type == "F64") return decode<double>(p, n);
    if (type == "F32") return decode<float>(p, n);
    return decode<std::int64_t>(p, n);
  }
  std::vector<std::int64_t> shape(const std::string& name) const {
    std::vector<std::int64_t> out;
    for (const auto& d : header_.find(name)->find("shape")->as_array()) out.push_back(d.as_int());
    return out;
  }
  const json::Value& summary() const { return summary_; }

 private:
  template <class T>
  static std::vector<double> decode(const char* p, std::size_t bytes) {
    std::vector<T> raw(bytes / sizeof(T));
    std::memcpy(raw.data(), p, bytes);
    return {raw.begin(), raw.end()};
  }
  std::string bytes_;
  std::size_t data_ = 0;
  json::Value header_, summary_;
};

std::vector<double> numbers(const json::Value& array) {
  std::vector<double> out;
  for (const auto& v : array.as_array()) out.push_back(v.as_double());
  return out;
}

// The golden model with its graph and batch.
struct Bench {
  explicit Bench(const Golden& golden) : pool(2), kernels(kernels::kernels_for(base::best_isa())) {
    model = *models::model_from_hf_config(golden.summary().find("config")->as_object());
    std::vector<tensor::Shape> shapes;
    for (const auto& p : model->parameters()) shapes.push_back(p.shape);
    weights = ops::ParameterBuffer(shapes);
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const auto values = golden.tensor("param." + model->parameters()[i].hf_name);
      for (std::size_t j = 0; j < values.size(); ++j) weights.data(i)[j] = static_cast<float>(values[j]);
    }
    const auto ids = golden.tensor("input_ids"), raw = golden.tensor("labels");
    const auto dims = golden.shape("input_ids");
    for (std::int64_t b = 0; b < dims[0]; ++b) {
      for (std::int64_t t = 0; t < dims[1]; ++t) {
        const auto at = static_cast<std::size_t>(b * dims[1] + t);
        const double label = t + 1 < dims[1] ? raw[at + 1] : -100;  // labels come unshifted
        batch.tokens.push_back(static_cast<std::int32_t>(ids[at]));
        batch.positions.push_back(static_cast<std::int32_t>(t));
        batch.labels.push_back(label < 0 ? -1 : static_cast<std::int32_t>(label));
        batch.kept += label < 0 ? 0 : 1;
      }
      batch.cu_seqlens.push_back(static_cast<std::int32_t>(batch.tokens.size()));
    }
    ops::RecordingExecutor recorder(shapes);
    model->forward(recorder);
    ops::TrainingOptions options;
    options.max_tokens = static_cast<std::int64_t>(batch.tokens.size());
    graph = std::make_unique<ops::TrainingGraph>(recorder.finish(), shapes, options, kernels, pool);
  }
  double loss_and_gradient() {
    graph->gradients().zero();
    EXPECT_TRUE(graph->forward(weights, {batch.tokens, batch.positions, batch.cu_seqlens, batch.labels}));
    return graph->backward(1.0f / static_cast<float>(batch.kept)) / static_cast<double>(batch.kept);
  }
  base::ThreadPool pool;
  const kernels::Kernels& kernels;
  std::unique_ptr<models::Model> model;
  ops::ParameterBuffer weights;
  data::PackedBatch batch;
  std::unique_ptr<ops::TrainingGraph> graph;
};

class GoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(GoldenTest, TenAdamwSteps) {
  const auto golden = Golden::load(GetParam());
  if (!golden) GTEST_SKIP() << "reference numbers are not here (QW_SHARED)";
  Bench bench(*golden);
  OptimizerConfig config;
  config.lr = 3e-3;
  Optimizer optimizer(bench.weights.shapes(), update_rules(*bench.model, OptimizerKind::kAdamw), config,
                      kernels::GemmPrecision::kF32, bench.kernels, bench.pool);
  const json::Value& expected = *golden->summary().find("adamw");
  const auto losses = numbers(*expected.find("loss_before_step")), norms = numbers(*expected.find("grad_norm_before_clip"));
  for (std::size_t step = 0; step < losses.size(); ++step) {
    EXPECT_NEAR(bench.loss_and_gradient(), losses[step], 1e-4) << step;
    const double norm = gradient_norm(bench.graph->gradients(), optimizer.rules(), bench.kernels, bench.pool);
    EXPECT_NEAR(norm, norms[step], 1e-4 * norms[step]) << step;
    optimizer.step(bench.weights, bench.graph->gradients(), static_cast<std::int64_t>(step) + 1, 1, std::min(1.0, 1 / (norm + 1e-6)));
  }
  for (std::size_t p = 0; p < bench.weights.size(); ++p) {
    const auto values = golden->tensor("adamw10." + bench.model->parameters()[p].hf_name);
    for (std::size_t i = 0; i < values.size(); ++i)
      ASSERT_NEAR(bench.weights.data(p)[i], values[i], 2e-4) << bench.model->parameters()[p].hf_name << " " << i;
  }
}

TEST_P(GoldenTest, FiveMuonSteps) {
  const auto golden = Golden::load(GetParam());
  if (!golden) GTEST_SKIP() << "reference numbers are not here (QW_SHARED)";
  Bench bench(*golden);
  OptimizerConfig config;
  config.kind = OptimizerKind::kMuon;
  config.lr = 3e-3;
  config.muon_lr = 0.02;
  config.weight_decay = 0;
  config.muon_scale = MuonScale::kJordan;
  Optimizer optimizer(bench.weights.shapes(), update_rules(*bench.model, OptimizerKind::kMuon), config,
                      kernels::GemmPrecision::kF32, bench.kernels, bench.pool);
  const auto losses = numbers(*golden->summary().find("muon")->find("loss_before_step"));
  for (std::size_t step = 0; step < losses.size(); ++step) {
    EXPECT_NEAR(bench.loss_and_gradient(), losses[step], 1e-3) << step;
    optimizer.step(bench.weights, bench.graph->gradients(), static_cast<std::int64_t>(step) + 1, 1, 1);
  }
}

TEST_P(GoldenTest, OneNewtonSchulzCall) {
  const auto golden = Golden::load(GetParam());
  if (!golden) GTEST_SKIP() << "reference numbers are not here (QW_SHARED)";
  const auto in = golden->tensor("ns5.in"), out = golden->tensor("ns5.out");
  const auto dims = golden->shape("ns5.in");
  base::ThreadPool pool(2);
  const auto& kernels = kernels::kernels_for(base::best_isa());
  NewtonSchulz ns(dims[0], dims[1], kernels::GemmPrecision::kF32, kernels, pool);
  std::vector<float> x(in.begin(), in.end());
  ns.orthogonalise(x.data(), dims[0], dims[1]);
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], out[i], 1e-4) << i;
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenTest, testing::Values("qwen3", "qwen2"));

}  // namespace
}  // namespace qw::train
