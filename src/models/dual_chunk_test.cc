// Dual chunk attention against the published maths (tools/reference/make_chunk_golden.py): a text of several chunks.
#include <gmock/gmock.h>

#include "models/internal/test_model.h"
#include "models/load.h"

namespace qw::models {
namespace {

using models::testing::all_kernels;
using models::testing::Runner;
using models::testing::TensorFile;

struct DualChunk : ::testing::Test {
  models::testing::OpenedGolden golden{"qwen2_chunked_f32"};
  TensorFile expected{models::testing::golden_folder() / "qwen2_chunked_f32" / "expected.safetensors"};
  std::int32_t prompt = expected.ids("prompt")[0];
  std::vector<std::int32_t> ids;
  base::ThreadPool one{1}, three{3};
  DualChunk() {
    for (std::int64_t i = 0; i < prompt; ++i)
      ids.push_back(static_cast<std::int32_t>((7 * i * i + 3 * i) % golden.model->traits().vocab));
  }
  Runner runner(base::ThreadPool& threads, const kernels::Kernels& k, tensor::DType cache = tensor::DType::kF32) const {
    Runner r(*golden.model, golden.views, threads, k, cache, 2, {}, 4096);
    r.prompt = prompt;
    return r;
  }
  // Logits of all rows from `begin` on, taken in steps of `chunk` rows.
  std::vector<std::vector<float>> read(Runner& r, std::size_t begin, std::size_t chunk,
                                       std::int32_t sequence = 0) const {
    const auto rows = r.rows_of(ids, sequence);
    std::vector<std::vector<float>> out;
    for (std::size_t i = begin; i < rows.size(); i += chunk) {
      const auto part = r.step({rows.begin() + static_cast<std::ptrdiff_t>(i),
                                rows.begin() + static_cast<std::ptrdiff_t>(std::min(rows.size(), i + chunk))});
      out.insert(out.end(), part.begin(), part.end());
    }
    return out;
  }
};

TEST_F(DualChunk, LogitsAndGreedyContinuationAreThePublishedMaths) {
  const auto rows = expected.ids("rows");
  const auto wanted = expected.read<float>("logits");
  for (const auto* k : all_kernels()) {
    SCOPED_TRACE(k->name);
    Runner r = runner(three, *k);
    const auto got = read(r, 0, 256);
    std::vector<std::vector<float>> chosen;
    for (const std::int32_t row : rows) chosen.push_back(got[static_cast<std::size_t>(row)]);
    EXPECT_LT(models::testing::worst(chosen, wanted), 1e-4);
    auto last = got.back();
    std::int32_t position = prompt;
    for (const std::int32_t next : expected.ids("greedy")) {
      const auto best = static_cast<std::int32_t>(std::max_element(last.begin(), last.end()) - last.begin());
      ASSERT_EQ(best, next) << "at position " << position;
      last = r.step({{best, position++, 0}})[0];
    }
  }
}

// However it is cut into steps, on however many threads, alone or beside another text, and in every type of cache.
TEST_F(DualChunk, SameBytesHoweverItIsRead) {
  for (const auto* k : all_kernels()) {
    for (const auto cache : {tensor::DType::kF32, tensor::DType::kF16}) {
      if (cache != tensor::DType::kF32 && k->isa != base::best_isa()) continue;
      SCOPED_TRACE(k->name);
      Runner whole = runner(one, *k, cache), other = runner(three, *k, cache);
      const auto wanted = read(whole, 0, 256);
      ASSERT_EQ(read(other, 0, 251), wanted);
      // Rows about a chunk's end and the last ones alone, as while an answer grows; then beside another sequence.
      for (const std::size_t begin : {std::size_t{1020}, std::size_t{2046}, ids.size() - 3}) {
        const auto rows = other.rows_of(ids);
        for (std::size_t i = begin; i < begin + 3; ++i) ASSERT_EQ(other.step({rows[i]})[0], wanted[i]) << i;
      }
      auto batch = other.rows_of(std::vector<std::int32_t>(ids.rbegin(), ids.rbegin() + 40), 1);
      const auto rows = other.rows_of(ids);
      batch.insert(batch.end(), rows.end() - 60, rows.end());
      const auto got = other.step(batch);
      ASSERT_TRUE(std::equal(got.end() - 60, got.end(), wanted.end() - 60));
    }
  }
}

// Keys depend on the length of a prompt beyond the trained one, and on nothing else.
TEST_F(DualChunk, PrefixesAreOfOneFormUpToTheTrainedLength) {
  const Runner r = runner(one, kernels::kernels_for(base::best_isa()));
  EXPECT_EQ(r.executor->prompt_form(1), r.executor->prompt_form(2500));
  EXPECT_NE(r.executor->prompt_form(2501), r.executor->prompt_form(2500));
  EXPECT_NE(r.executor->prompt_form(2501), r.executor->prompt_form(2502));
}

TEST_F(DualChunk, TrainingRefusesLongerTextsThanAChunk) {
  ops::TrainingGraph graph(
      models::testing::record(*golden.model), models::testing::shapes_of(*golden.model),
      {.max_tokens = 1100, .precision = kernels::GemmPrecision::kF32, .adapters = {}, .frozen = {}},
      kernels::kernels_for(base::best_isa()), one);
  ops::ParameterBuffer w(graph.parameter_shapes());
  for (std::size_t i = 0; i < w.size(); ++i)
    std::memcpy(w.data(i), golden.views[i].data, static_cast<std::size_t>(golden.views[i].bytes()));
  const auto forward = [&](std::int32_t n) {
    std::vector<std::int32_t> positions(static_cast<std::size_t>(n)), labels(positions.size(), 1);
    std::iota(positions.begin(), positions.end(), 0);
    const std::vector<std::int32_t> cu{0, n};
    return graph.forward(w, {std::span(ids).first(positions.size()), positions, cu, labels});
  };
  EXPECT_TRUE(forward(1024));
  const auto longer = forward(1025);
  ASSERT_FALSE(longer);
  EXPECT_THAT(longer.error().message, ::testing::HasSubstr("position 1024 in row 1024 is outside [0, 1024)"));
}

}  // namespace
}  // namespace qw::models
