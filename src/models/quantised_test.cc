// Quantised folders against tests/golden/quant_*, made by tools/reference/make_quantised_golden.py: the values of their
// weights bit for bit, and logits of the reference implementation on the dequantised weights.
#include <gmock/gmock.h>

#include "models/internal/test_model.h"
#include "models/load.h"
#include "tensor/blocks.h"

namespace qw::models {
namespace {

using models::testing::Runner;
using models::testing::TensorFile;
using tensor::DType;

struct Case {
  const char* name;
  DType type;  // of the quantised weights here
};
const Case kCases[] = {{"quant_gptq_int4", DType::kQ4_0},      {"quant_gptq_int4_zeros", DType::kQ8_0},
                       {"quant_gptq_int4_order", DType::kF16}, {"quant_gptq_int8", DType::kQ8_0},
                       {"quant_awq", DType::kQ8_0},            {"quant_fp8_moe", DType::kBF16},
                       {"quant_fp8_cut", DType::kBF16},        {"quant_fp8_single", DType::kBF16}};

struct Opened {
  TensorFile expected;
  formats::ModelSource source;
  std::unique_ptr<Model> model;
  std::vector<tensor::ConstView> views;
  explicit Opened(const std::string& name)
      : expected(testing::golden_folder() / name / "expected.safetensors"), source(open(name)) {
    model = std::move(*model_from_source(source));
    auto loaded = load_weights(*model, source);
    if (!loaded) throw std::runtime_error(loaded.error().message);
    views = std::move(*loaded);
  }
  static formats::ModelSource open(const std::string& name) {
    auto made = formats::ModelSource::open(testing::golden_folder() / name);
    if (!made) throw std::runtime_error(made.error().message);
    return std::move(*made);
  }
};

std::vector<float> decoded(const tensor::ConstView& view) {
  tensor::Buffer own;
  const tensor::ConstView here = tensor::in_memory(view, own);
  std::vector<float> out(static_cast<std::size_t>(view.shape.elements()));
  const std::int64_t n = view.shape.back();
  for (std::int64_t r = 0; r < view.shape.rows(); ++r)
    tensor::decode_row(here.dtype, here.data + r * tensor::row_bytes(here.dtype, n), n, out.data() + r * n);
  return out;
}

double worst(const std::vector<std::vector<float>>& got, const std::vector<float>& wanted) {
  double off = 0;
  for (std::size_t r = 0; r < got.size(); ++r)
    for (std::size_t i = 0; i < got[r].size(); ++i)
      off = std::max(off, std::abs(double{got[r][i]} - double{wanted[r * got[r].size() + i]}));
  return off / testing::max_abs(wanted);
}

TEST(Quantised, WeightsHaveTheirValuesBitForBit) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const Opened o(c.name);
    int checked = 0;
    for (std::size_t i = 0; i < o.views.size(); ++i) {
      const std::string name = "weight." + o.model->parameters()[i].hf_name;
      if (!o.expected.has(name)) continue;
      EXPECT_EQ(o.views[i].dtype, c.type) << name;
      EXPECT_EQ(decoded(o.views[i]), o.expected.read<float>(name)) << name;
      // Any rows, on their own.
      const tensor::ConstView some = tensor::rows_of(o.views[i], 5, 9);
      const auto all = decoded(o.views[i]);
      const std::int64_t n = some.shape.back();
      EXPECT_EQ(decoded(some), std::vector<float>(all.begin() + 5 * n, all.begin() + 14 * n));
      ++checked;
    }
    EXPECT_GE(checked, 2);
  }
}

TEST(Quantised, LogitsAgreeWithTheReference) {
  base::ThreadPool threads(2);
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const Opened o(c.name);
    const auto ids = o.expected.ids("input_ids");
    const auto wanted = o.expected.read<float>("logits");
    std::vector<std::vector<float>> wide;
    std::vector<tensor::ConstView> views;
    for (const auto& v : o.views) {
      wide.push_back(decoded(v));
      views.push_back({DType::kF32, v.shape, reinterpret_cast<const std::byte*>(wide.back().data())});
    }
    for (int isa = 0; isa <= static_cast<int>(base::best_isa()); ++isa) {
      const auto& k = kernels::kernels_for(static_cast<base::Isa>(isa));
      Runner exact(*o.model, views, threads, k), as_loaded(*o.model, o.views, threads, k);
      EXPECT_LT(worst(exact.step(exact.rows_of(ids)), wanted), 1e-4) << k.name;
      // Block formats round the activations to 8 bits for each 32, and these rows have 64.
      EXPECT_LT(worst(as_loaded.step(as_loaded.rows_of(ids)), wanted), 6e-2) << k.name;
    }
  }
}

// What the format must not do: treat an ordinary folder as a quantised one, or the other way round.
TEST(Quantised, PlainFoldersAreLeftAlone) {
  const auto plain = formats::ModelSource::open(testing::golden_folder() / "qwen3_tied_bf16");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->hf_folder()->quantised(), nullptr);
  const Opened o("quant_awq");
  ASSERT_NE(o.source.hf_folder()->quantised(), nullptr);
  EXPECT_EQ(o.source.hf_folder()->quantised()->config().describe(), "awq, 4 bits, groups of 32");
}

}  // namespace
}  // namespace qw::models
