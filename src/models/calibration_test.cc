// What a calibration sees of a model: the inputs of every product, of experts row by row.
#include <map>

#include "models/internal/test_model.h"
#include "models/load.h"

namespace qw::models {
namespace {

struct Sums final : ops::ProductObserver {
  struct Entry {
    std::vector<double> squares;
    std::int64_t rows = 0;
  };
  std::map<std::string, Entry> by_name;
  const Model& model;
  explicit Sums(const Model& m) : model(m) {}
  void on_product(ops::Weight w, const float* x, std::int64_t rows, std::int64_t in) override {
    const ParameterSpec& p = model.parameters()[static_cast<std::size_t>(w.id)];
    EXPECT_EQ(p.shape[1], in) << p.hf_name;
    Entry& e = by_name[p.hf_name];
    e.squares.resize(static_cast<std::size_t>(in));
    e.rows += rows;
    for (std::int64_t i = 0; i < rows * in; ++i) e.squares[static_cast<std::size_t>(i % in)] += double{x[i]} * x[i];
  }
};

TEST(Calibration, EveryMatrixIsMetAndExpertsShareTheRoutersRows) {
  base::ThreadPool threads(2);
  const auto source = formats::ModelSource::open(testing::golden_folder() / "qwen3_moe_untied_f32");
  const auto model = model_from_source(*source);
  const auto views = load_weights(**model, *source);
  ASSERT_TRUE(views);
  testing::Runner runner(**model, *views, threads, kernels::kernels_for(base::best_isa()));
  Sums sums(**model);
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 60; ++i) ids.push_back(i);
  const auto plain = runner.step(runner.rows_of(ids));
  runner.executor->observe(&sums);
  EXPECT_EQ(runner.step(runner.rows_of(ids)), plain);  // looking changes nothing
  const auto n = static_cast<std::int64_t>(ids.size());
  const ModelTraits& t = (*model)->traits();
  for (int layer = 0; layer < t.layers; ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + ".";
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate"})
      EXPECT_EQ(sums.by_name[at + name + ".weight"].rows, n) << name;
    EXPECT_EQ(sums.by_name[at + "self_attn.q_proj.weight"].squares, sums.by_name[at + "self_attn.v_proj.weight"].squares);
    // Every row goes to k experts, so together they see k times what the router sees.
    const auto& router = sums.by_name[at + "mlp.gate.weight"];
    std::vector<double> together(router.squares.size());
    std::int64_t gate_rows = 0, down_rows = 0;
    for (int e = 0; e < t.experts; ++e) {
      const std::string expert = at + "mlp.experts." + std::to_string(e) + ".";
      const auto& gate = sums.by_name[expert + "gate_proj.weight"];
      EXPECT_EQ(gate.squares, sums.by_name[expert + "up_proj.weight"].squares);
      for (std::size_t i = 0; i < gate.squares.size(); ++i) together[i] += gate.squares[i];
      gate_rows += gate.rows;
      down_rows += sums.by_name[expert + "down_proj.weight"].rows;
    }
    EXPECT_EQ(gate_rows, n * t.experts_per_token);
    EXPECT_EQ(down_rows, gate_rows);
    for (std::size_t i = 0; i < together.size(); ++i)
      EXPECT_NEAR(together[i], t.experts_per_token * router.squares[i], 1e-9 * together[i]);
  }
  EXPECT_EQ(sums.by_name["lm_head.weight"].rows, n);
}

}  // namespace
}  // namespace qw::models
