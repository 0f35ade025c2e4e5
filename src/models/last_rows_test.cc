// Rows that end early because nothing is asked of them: those that are asked for have the bytes they have in a step that takes
// every row to the end, and so have all steps after it.
#include <gtest/gtest.h>

#include <cstring>

#include "models/adapter.h"
#include "models/internal/test_model.h"

namespace qw::models {
namespace {

using models::testing::OpenedGolden;
using models::testing::Runner;
using models::testing::take;

using Rows = std::vector<std::vector<float>>;

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Attention that sees everything, a window, chunks, chosen blocks; experts; states; layers that draft, of which something is kept.
const char* const kLastRowsFolders[] = {"qwen_f32",          "qwen2_untied_bf16",    "qwen2_sliding_f32", "qwen2_chunked_f32",
                                "qwen3_tied_bf16",   "qwen3_moe_untied_f32", "qwen3_next_bf16",   "qwen3_5_f32",
                                "qwen3_5_moe_bf16",  "qwen4_exp_f32",        "qwen4_exp_sparse_f32", "draft_qwen3_5_bf16",
                                "draft_qwen4_exp_bf16", "head_classes"};

// Two texts side by side: a long and a short one, then more of both, then a token each.
struct LastRowsStep {
  std::int32_t of_first, of_second;
  std::vector<std::int32_t> asked;
};
const LastRowsStep kSteps[] = {{40, 3, {}}, {17, 1, {17, 16}}, {9, 2, {10, 0, 10, 4}}, {1, 1, {1}}, {33, 1, {33}}, {1, 1, {0, 1}}, {1, 0, {}}, {5, 5, {9}}};

std::vector<Runner::Row> last_rows_of(const LastRowsStep& s, std::int32_t& first, std::int32_t& second, std::int32_t vocab, std::int32_t adapter) {
  std::vector<Runner::Row> rows;
  for (std::int32_t i = 0; i < s.of_first; ++i, ++first) rows.push_back({first * 7 % vocab, first, 0, adapter});
  for (std::int32_t i = 0; i < s.of_second; ++i, ++second) rows.push_back({(second * 5 + 3) % vocab, second, 1, -1});
  return rows;
}

void compare(Runner& all, Runner& some, std::int32_t vocab, std::int32_t adapter = -1) {
  std::int32_t first = 0, second = 0;
  for (const LastRowsStep& s : kSteps) {
    const std::vector<Runner::Row> rows = last_rows_of(s, first, second, vocab, adapter);
    const Rows wanted = all.step(rows), got = some.step_only(rows, s.asked);
    ASSERT_EQ(got.size(), s.asked.size());
    for (std::size_t i = 0; i < got.size(); ++i)
      EXPECT_TRUE(same(got[i], wanted[static_cast<std::size_t>(s.asked[i])])) << "row " << s.asked[i] << ", text up to " << first;
    // They have ended, and say so; those that were asked for are there still.
    for (std::int32_t r = 0; r < static_cast<std::int32_t>(rows.size()); ++r) {
      const bool there = std::count(s.asked.begin(), s.asked.end(), r) > 0;
      const Status again = some.executor->compute_logits({&r, 1});
      EXPECT_EQ(again.has_value(), there) << r;
      if (!there) continue;
      const auto logits = some.executor->logits(0);
      EXPECT_TRUE(same({logits.begin(), logits.end()}, wanted[static_cast<std::size_t>(r)])) << r;
      const auto hidden = some.executor->final_hidden(r), whole = all.executor->final_hidden(r);
      EXPECT_TRUE(same({hidden.begin(), hidden.end()}, {whole.begin(), whole.end()})) << r;
      if (all.model.traits().draft_layers == 0) continue;
      const auto kept = some.executor->kept(r), all_kept = all.executor->kept(r);
      EXPECT_TRUE(same({kept.begin(), kept.end()}, {all_kept.begin(), all_kept.end()})) << r;
    }
  }
}

TEST(LastRows, EndEarlyWithoutAByteOfDifference) {
  base::ThreadPool one(1), two(2);
  for (const char* name : kLastRowsFolders)
    for (const auto* k : models::testing::all_kernels()) {
      SCOPED_TRACE(std::string(name) + " " + k->name);
      OpenedGolden g(name);
      std::vector<tensor::Buffer> made(g.views.size());
      for (std::size_t i = 0; i < g.views.size(); ++i) g.views[i] = tensor::in_memory(g.views[i], made[i]);
      Runner all(*g.model, g.views, one, *k), some(*g.model, g.views, two, *k);
      compare(all, some, g.model->traits().vocab);
    }
}

TEST(LastRows, EndEarlyBesideAdapters) {
  base::ThreadPool threads(2);
  OpenedGolden g("qwen3_untied_f32");
  const auto file = take(formats::Adapter::open(testing::golden_folder() / "lora_pattern"));
  const auto adapter = take(take(FittedAdapter::fit(*g.model, file)).running(*g.model, g.views, threads));
  for (const auto* k : models::testing::all_kernels()) {
    SCOPED_TRACE(k->name);
    Runner all(*g.model, g.views, threads, *k, tensor::DType::kF32, 4, {&adapter, 1});
    Runner some(*g.model, g.views, threads, *k, tensor::DType::kF32, 4, {&adapter, 1});
    compare(all, some, g.model->traits().vocab, 0);
  }
}

struct Counting final : ops::ProductObserver {
  std::int64_t rows = 0;
  void on_product(ops::Weight, const float*, std::int64_t n, std::int64_t) override { rows += n; }
};

// Calibration weighs inputs by all rows.
TEST(LastRows, AnObserverSeesEveryRow) {
  base::ThreadPool threads(1);
  OpenedGolden g("qwen3_untied_f32");
  const auto* k = models::testing::all_kernels().back();
  std::int64_t seen[2];
  for (const bool only : {false, true}) {
    Runner runner(*g.model, g.views, threads, *k);
    Counting counting;
    runner.executor->observe(&counting);
    const std::vector<Runner::Row> rows = runner.rows_of({1, 2, 3, 4, 5});
    if (only) runner.step_only(rows, {4});
    else runner.step(rows);
    seen[only ? 1 : 0] = counting.rows;
  }
  EXPECT_EQ(seen[0] - 4, seen[1]);  // the head's own, of which four rows were not asked for
}

}  // namespace
}  // namespace qw::models
