// Reports of runs, and what a run will take.
#include "train/report.h"

#include <gmock/gmock.h>

#include "train/estimate.h"
#include "train/internal/test_run.h"
#include "train/optimizer.h"

namespace qw::train {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kLog =
    "{\"step\": 1, \"loss\": 4.0, \"lr\": 0.1, \"tokens\": 10}\n"
    "{\"step\": 2, \"loss\": 3.0, \"lr\": 0.1, \"tokens\": 20}\n"
    "{\"step\": 2, \"eval_loss\": 3.5, \"best\": true, \"sources\": []}\n"
    "{\"rollback_to\": 2, \"broken_step\": 3, \"broken_loss\": 99.0}\n"
    "{\"step\": 2, \"loss\": 2.5, \"lr\": 0.1, \"tokens\": 20}\n"
    "{\"step\": 4, \"eval_loss\": 3.75, \"best\": false, \"sources\": []}\n"
    "{\"step\": 4, \"loss\": 2.0, \"lr\": 0.05, \"tok";

TEST(RunLog, StepsThatAreToldAgainCountAsToldLast) {
  const auto log = parse_run_log(kLog, "log");
  ASSERT_TRUE(log) << log.error().message;
  const Curve* loss = log->find("loss");
  ASSERT_NE(loss, nullptr);
  EXPECT_EQ(loss->points, (std::vector<std::pair<std::int64_t, double>>{{1, 4.0}, {2, 2.5}}));
  EXPECT_EQ(log->rollbacks, std::vector<std::int64_t>{3});
  EXPECT_EQ(log->best_step, 2);
  EXPECT_EQ(log->best_loss, 3.5);
  EXPECT_EQ(log->last_step, 4);
  EXPECT_EQ(log->tokens, 20);
}

TEST(RunLog, WhatIsNoLogIsRefusedWithItsLine) {
  EXPECT_THAT(parse_run_log("{\"step\": 1, \"loss\": 4.0}\nno\n", "a.jsonl").error().message, HasSubstr("a.jsonl:2: "));
  EXPECT_THAT(parse_run_log("", "a.jsonl").error().message, HasSubstr("no step"));
  EXPECT_FALSE(parse_run_log("{\"step\": 1, \"loss\": null}\n", "a"));
}

TEST(RunLog, APageNeedsNothingElseAndShowsEveryCurve) {
  const auto log = *parse_run_log(kLog, "log");
  const std::string page = report_html(log, "a <b> & c");
  EXPECT_THAT(page, HasSubstr("a &lt;b&gt; &amp; c"));
  for (const char* outside : {"<script", "http://", "https://", "src=", "@import", "url("})
    EXPECT_THAT(page, Not(HasSubstr(outside)));
  EXPECT_THAT(page, HasSubstr("<path class='c0'"));
  EXPECT_THAT(page, HasSubstr("Loss on what was held out"));
  EXPECT_THAT(page, HasSubstr("Learning rate"));
  EXPECT_THAT(page, HasSubstr("3.5 (best)"));
}

TEST(RunLog, LongCurvesAreThinnedAndKeepTheirSpikes) {
  std::string text;
  for (int i = 1; i <= 20000; ++i)
    text += "{\"step\": " + std::to_string(i) + ", \"loss\": " + (i == 7777 ? "50.0" : "1.0") + "}\n";
  const std::string page = report_html(*parse_run_log(text, "log"), "t");
  EXPECT_LT(page.size(), 100'000u);
  EXPECT_THAT(page, HasSubstr(">50<"));  // the scale goes that far
}

TEST(RunLog, APlotOfTheTerminalFitsItsColumns) {
  const std::string plot = report_text(*parse_run_log(kLog, "log"), 60, 8);
  std::size_t columns = 0;
  for (const char c : plot) {
    if (c == '\n') {
      EXPECT_LE(columns, 100u);  // the first line says it in words
      columns = 0;
    } else if ((c & 0xC0) != 0x80) {
      ++columns;
    }
  }
  EXPECT_THAT(plot, HasSubstr("\u25CF"));
  EXPECT_THAT(plot, HasSubstr("step"));
}

class EstimateTest : public TestRun {};

// What is foreseen is what is taken: of all that the parts can tell themselves.
TEST_F(EstimateTest, MemoryIsThatOfTheTablesThatAreMade) {
  for (const char* kind : {"adamw", "muon", "sgd", "adafactor", "adamw_8bit"}) {
    base::ThreadPool pool(2);
    const auto config = config_with({std::string("optimizer.kind=") + kind});
    const auto& kernels = kernels::kernels_for(*base::chosen_isa());
    const auto need = memory_need(config, *dataset_, kernels, pool);
    ASSERT_TRUE(need) << need.error().message;
    auto t = trainer(config, pool);
    EXPECT_EQ(need->weights, static_cast<std::int64_t>(t->weights().all().size_bytes())) << kind;
    EXPECT_EQ(need->gradients, need->weights);
    EXPECT_EQ(t->moment_bytes(), need->moments) << kind;
    EXPECT_EQ(t->graph_bytes(), need->activations + need->head + need->workspaces) << kind;
  }
}

TEST_F(EstimateTest, StepsAreTimedAndNothingIsLeftBehind) {
  base::ThreadPool pool(2);
  auto config = config_with({"steps=40"});
  config.output = folder_ / "estimated";
  const auto& kernels = kernels::kernels_for(*base::chosen_isa());
  const auto timed = estimate(config, *dataset_, kernels, pool, 0.05);
  ASSERT_TRUE(timed) << timed.error().message;
  ASSERT_TRUE(timed->seconds);
  EXPECT_GT(*timed->seconds, 0);
  EXPECT_GE(*timed->seconds, 40 * *timed->seconds_a_step);
  EXPECT_EQ(timed->rows_a_step, 48 * 4 * 2);
  EXPECT_EQ(timed->rows, 40 * timed->rows_a_step);
  EXPECT_FALSE(std::filesystem::exists(config.output));
  const auto quick = estimate(config, *dataset_, kernels, pool, 0);
  EXPECT_FALSE(quick->seconds);
  EXPECT_EQ(quick->memory.total(), timed->memory.total());
}

}  // namespace
}  // namespace qw::train
