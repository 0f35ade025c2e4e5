// What a run writes about its cost: the operations are those of the closed form, nothing is counted twice, and a model
// knows what it comes from.
#include "train/internal/compute_record.h"

#include "train/internal/test_run.h"

namespace qw::train {
namespace {

class ComputeRecordTest : public TestRun {
 protected:
  static json::Value record_in(const std::filesystem::path& folder) {
    const auto text = base::read_file(folder / kComputeFile);
    EXPECT_TRUE(text) << text.error().message;
    auto value = json::parse(*text);
    EXPECT_TRUE(value);
    return *value;
  }
  static double flops(const json::Value& record, const char* phase) {
    return record.find("flops")->find(phase)->as_double();
  }
};

// A step is 6 operations a weight of a matrix and row, and 3 times two products over what attention sees.
TEST_F(ComputeRecordTest, OperationsAreTheClosedForm) {
  base::ThreadPool pool(2);
  const auto config = config_with({output("closed"), "steps=3"});
  ASSERT_TRUE(trainer(config, pool)->run({}));
  auto stream = data::BatchStream::create(dataset_->train, 48, 9, {});
  ASSERT_TRUE(stream);
  const double hidden = 32, inner = 64, heads = 4, kv = 2, dim = 8, layers = 2, vocab = 288;
  const double weights =
      layers * (hidden * heads * dim * 2 + hidden * kv * dim * 2 + 3 * hidden * inner) + vocab * hidden;
  double wanted = 0;
  for (int i = 0; i < 6; ++i) {  // steps times accumulation
    data::PackedBatch batch;
    stream->next(4, batch);
    double pairs = 0;
    for (std::size_t d = 0; d + 1 < batch.cu_seqlens.size(); ++d) {
      const double n = batch.cu_seqlens[d + 1] - batch.cu_seqlens[d];
      pairs += n * (n + 1) / 2;
    }
    wanted += 6 * weights * static_cast<double>(batch.tokens.size()) + 3 * layers * heads * dim * 4 * pairs;
  }
  const auto record = record_in(config.output);
  EXPECT_NEAR(flops(record, "learning"), wanted, 1e-6 * wanted);
  EXPECT_GT(flops(record, "evaluation"), 0);
  EXPECT_NEAR(flops(record, "spent"), flops(record, "learning") + flops(record, "evaluation"), 1);
  EXPECT_EQ(record.find("cumulative_flops")->as_double(), flops(record, "learning"));
  EXPECT_TRUE(record.find("parent")->is_null());
  EXPECT_EQ(record.find("state")->as_string(), "finished");
  EXPECT_EQ(record.find("data")->find("ledger_sha256")->as_string(), dataset_->ledger_sha256);
  EXPECT_GT(record.find("energy")->find("kwh")->as_double(), 0);
  EXPECT_EQ(*base::read_file(config.output / "model" / kDataLedgerFile), dataset_->ledger);
}

TEST_F(ComputeRecordTest, WhatIsInterruptedAndResumedIsCountedOnce) {
  base::ThreadPool pool(1);
  const auto straight = config_with({output("straight"), "steps=6", "checkpoint.every=2"});
  ASSERT_TRUE(trainer(straight, pool)->run({}));
  const auto config = config_with({output("cut"), "steps=6", "checkpoint.every=2"});
  {
    auto first = trainer(config, pool);
    Callbacks callbacks;
    callbacks.stop = [&] { return first->steps_done() == 3; };
    EXPECT_EQ(first->run(callbacks).error().kind, ErrorKind::kInterrupted);
  }
  EXPECT_EQ(record_in(config.output).find("state")->as_string(), "interrupted");
  std::filesystem::remove(list_checkpoints(config.output).back());  // as if killed: back to step 2
  auto second = trainer(config, pool);
  ASSERT_TRUE(second->resume());
  ASSERT_EQ(second->steps_done(), 2);
  ASSERT_TRUE(second->run({}));
  const auto whole = record_in(straight.output), pieces = record_in(config.output);
  EXPECT_EQ(flops(pieces, "learning"), flops(whole, "learning"));
  EXPECT_GT(flops(pieces, "spent"), flops(whole, "spent"));  // step 3 was done twice
  EXPECT_EQ(pieces.find("sessions")->as_array().size(), 2u);
  EXPECT_NE(pieces.find("run")->as_string(), whole.find("run")->as_string());
}

TEST_F(ComputeRecordTest, AModelKnowsWhatItComesFrom) {
  train_base();
  const auto base = record_in(folder_ / "base/model");
  const std::string from = "init_from='" + (folder_ / "base/model").string() + "'";
  json::Object without = recipe();
  without.erase("model");
  base::ThreadPool pool(1);
  const auto config = config_with({output("child"), "steps=2", from}, without);
  ASSERT_TRUE(trainer(config, pool)->run({}));
  const auto child = record_in(config.output / "model");
  const json::Value* parent = child.find("parent");
  EXPECT_EQ(parent->find("name")->as_string(), "model");
  EXPECT_EQ(parent->find("weights_sha256")->as_string(),
            base.find("outputs")->as_array()[0].find("weights_sha256")->as_string());
  EXPECT_EQ(*parent->find("record"), base);
  EXPECT_EQ(child.find("cumulative_flops")->as_double(), flops(base, "learning") + flops(child, "learning"));

  // A record that is not of these weights is not believed.
  std::string text = *base::read_file(folder_ / "base/model" / kComputeFile);
  const auto at = text.find("\"weights_sha256\": \"") + 19;
  text[at] = text[at] == '0' ? '1' : '0';
  ASSERT_TRUE(base::write_file_atomically(folder_ / "base/model" / kComputeFile, text));
  const auto other = config_with({output("orphan"), "steps=2", from}, without);
  ASSERT_TRUE(trainer(other, pool)->run({}));
  const auto orphan = record_in(other.output);
  EXPECT_TRUE(orphan.find("parent")->find("record")->is_null());
  EXPECT_NE(orphan.find("parent")->find("no_record")->as_string().find("other weights"), std::string::npos);
  EXPECT_TRUE(orphan.find("cumulative_flops")->is_null());
}

TEST_F(ComputeRecordTest, AFileThatIsNoRecordIsNotOverwritten) {
  base::ThreadPool pool(1);
  const auto config = config_with({output("foreign"), "steps=1"});
  std::filesystem::create_directories(config.output);
  ASSERT_TRUE(base::write_file_atomically(config.output / kComputeFile, "{\"mine\": 1}"));
  const auto status = trainer(config, pool)->run({});
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("compute.json: not a record"), std::string::npos);
  EXPECT_EQ(*base::read_file(config.output / kComputeFile), "{\"mine\": 1}");
}

}  // namespace
}  // namespace qw::train
