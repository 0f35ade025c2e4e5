// Several processes of a run, here threads with mailboxes between them: they train what one trains, byte by byte.
#include <cmath>
#include <cstring>
#include <mutex>
#include <numeric>
#include <random>

#include "train/internal/parts.h"
#include "train/internal/test_run.h"
#include "train/internal/thread_ranks.h"

namespace qw::train {
namespace {

namespace fs = std::filesystem;

// The same sum wherever the borders between processes are: of numbers whose sum depends on the order.
TEST(Parts, GiveTheSameSumForAnyBorders) {
  std::mt19937 draw(5);
  std::normal_distribution<float> normal(0, 1);
  bool order_matters = false;
  for (std::int64_t parts = 1; parts <= 17; ++parts) {
    std::vector<float> x(static_cast<std::size_t>(parts));
    for (float& v : x) v = normal(draw) * std::exp(4 * normal(draw));
    float wanted = 0;
    for (int ranks = 1; ranks <= parts; ++ranks) {
      std::vector<float> sums;
      std::vector<std::pair<Node, std::size_t>> nodes;
      sums.reserve(static_cast<std::size_t>(parts));
      for (int r = 0; r < ranks; ++r) {
        const auto range = share_of(parts, r, ranks);
        std::vector<float> own(x.begin() + range.begin, x.begin() + range.end);
        std::vector<Addend> of_rank;
        for (std::int64_t p = range.begin; p < range.end; ++p)
          append(of_rank, {{0, p}, &own[static_cast<std::size_t>(p - range.begin)]}, 1);
        const auto foretold = nodes_of(range.begin, range.end);
        ASSERT_EQ(of_rank.size(), foretold.size());
        for (std::size_t i = 0; i < of_rank.size(); ++i) {
          EXPECT_EQ(of_rank[i].node, foretold[i]);
          nodes.emplace_back(of_rank[i].node, sums.size());
          sums.push_back(*of_rank[i].data);
        }
      }
      std::vector<Addend> all;
      for (const auto& [node, at] : nodes) append(all, {node, &sums[at]}, 1);
      const float sum = *finish(all, 1);
      if (ranks == 1) wanted = sum;
      EXPECT_EQ(sum, wanted) << parts << " parts, " << ranks << " ranks";
    }
    order_matters = order_matters || std::accumulate(x.begin(), x.end(), 0.0f) != wanted;
  }
  EXPECT_TRUE(order_matters);
}

class Parallel : public TestRun {
 protected:
  // As bytes_of_run, by `ranks` processes; stopped after step `stop` and gone on with by `then` processes.
  static std::string bytes_of(const TrainConfig& config, int ranks, std::int64_t stop = 0, int then = 0,
                              const data::Dataset& dataset = *dataset_) {
    fs::remove_all(config.output);
    if (stop > 0) run(config, ranks, stop, false, dataset);
    run(config, then > 0 ? then : ranks, 0, stop > 0, dataset);
    std::string out = without_recipe(*base::read_file(list_checkpoints(config.output).back()));
    if (const auto best = config.output / "checkpoints/best.safetensors"; fs::exists(best))
      out += without_recipe(*base::read_file(best));
    for (const char* name : {"model/model.safetensors", "adapter/adapter_model.safetensors"})
      if (fs::exists(config.output / name)) out += *base::read_file(config.output / name);
    return out;
  }
  // A checkpoint holds its recipe, which says how many parts there are and what is shared out; the tensors are behind
  // it.
  static std::string without_recipe(const std::string& checkpoint) {
    std::uint64_t header = 0;
    std::memcpy(&header, checkpoint.data(), 8);
    return checkpoint.substr(8 + header);
  }
  static void run(const TrainConfig& config, int ranks, std::int64_t stop, bool resumes, const data::Dataset& dataset) {
    ThreadRanks::run(ranks, [&](Communicator& communicator) {
      base::ThreadPool pool(1);
      auto made = Trainer::create(config, dataset, kernels_here(), pool, &communicator);
      if (!made) {
        ADD_FAILURE() << made.error().message;
        return;
      }
      Trainer& t = **made;
      if (resumes) {
        EXPECT_TRUE(t.resume());
      }
      run_until(stop, t, communicator, {});
    });
  }
  static TrainConfig parallel(const std::string& name, std::vector<std::string> more) {
    for (const std::string& o :
         {output(name), std::string("steps=4"), std::string("accumulation=4"), std::string("batch_sequences=2"),
          std::string("parallel.parts=4"), std::string("eval.every=2"), std::string("model.hidden_size=64")})
      more.insert(more.begin(), o);
    return config_with(more);
  }
};

// A token table of 288 x 64 numbers is shared out in pieces, the rest by parameters. One bucket each MiB is one of all;
// so the e2e script has the larger models.
TEST_F(Parallel, AnyNumberOfProcessesTrainsTheSameBytes) {
  for (const std::string kind : {"adamw", "adamw_8bit", "muon", "adafactor", "sgd"}) {
    const auto set = [&](std::vector<std::string> more) {
      more.insert(more.end(), {"optimizer.kind=" + kind, "optimizer.momentum=0.9", "ema=0.5"});
      return parallel("same", more);
    };
    const std::string one = bytes_of(set({}), 1);
    std::vector<std::pair<int, std::string>> of{{3, "zero=1"}, {2, "zero=2"}};
    if (kind == "adamw")
      of.insert(of.end(), {{2, "zero=0"}, {3, "zero=0"}, {4, "zero=2"}, {3, "zero=2"}, {2, "overlap=false"}});
    for (const auto& [ranks, how] : of)
      EXPECT_TRUE(bytes_of(set({"parallel." + how}), ranks) == one) << kind << ", " << ranks << " ranks, " << how;
  }
}

TEST_F(Parallel, OthersMayGoOn) {
  for (const char* zero : {"0", "1", "2"}) {
    const auto config = parallel("others", {std::string("parallel.zero=") + zero, "optimizer.kind=adamw_8bit"});
    const std::string whole = bytes_of(config, 1);
    EXPECT_TRUE(bytes_of(config, 4, 2, 3) == whole) << zero;
    if (*zero == '1') {
      EXPECT_TRUE(bytes_of(config, 2, 2, 1) == whole);
    }
  }
}

TEST_F(Parallel, AdaptersAndExpertsToo) {
  const auto hybrid_config = config_with(hybrid({output("hybrid"), "steps=3", "accumulation=3", "parallel.parts=3"}));
  EXPECT_TRUE(bytes_of(hybrid_config, 3) == bytes_of(hybrid_config, 1));
  train_base();
  auto object = recipe();
  object.erase("model");
  object.set("init_from", (folder_ / "base/model").string());
  const auto adapters = config_with(
      {output("adapters"), "steps=3", "parallel.parts=2", "parallel.zero=1", "lora.rank=4", "lora.dora=true"}, object);
  EXPECT_TRUE(bytes_of(adapters, 2) == bytes_of(adapters, 1));
}

// Without parts, sums are in an order of their own for each number of processes, as one process adds micro-batches up
// as they come. A gradient of float32 sums in another order differs by some roundings of 6e-8; ten steps of AdamW at
// 0.01 from there stay within a hundredth of what they moved.
TEST_F(Parallel, WithoutPartsTheSumsAreClose) {
  const auto config = config_with({output("close"), "steps=10", "accumulation=4"});
  std::vector<double> losses[2];
  for (const int ranks : {1, 2})
    ThreadRanks::run(ranks, [&](Communicator& communicator) {
      base::ThreadPool pool(1);
      auto t = *Trainer::create(config, *dataset_, kernels_here(), pool, &communicator);
      for (int i = 0; i < 10; ++i) {
        const auto record = t->step();
        ASSERT_TRUE(record);
        if (communicator.rank() == 0) losses[ranks - 1].push_back(record->loss);
      }
    });
  EXPECT_EQ(losses[0][0], losses[1][0]);
  for (std::size_t i = 0; i < 10; ++i) EXPECT_NEAR(losses[0][i], losses[1][i], 1e-3) << i;
  EXPECT_LT(losses[0][9], losses[0][0] - 0.1);
}

// A loss that breaks is broken for everyone, and everyone goes back to the same checkpoint.
TEST_F(Parallel, AllGoBackTogether) {
  const auto config = parallel("back", {"steps=8", "checkpoint.every=2", "rollback.most=9", "rollback.rise=0.05",
                                        "optimizer.lr=0.3", "schedule.kind=constant", "schedule.warmup=0"});
  std::vector<std::string> told;
  std::mutex mutex;
  for (const int ranks : {1, 3}) {
    fs::remove_all(config.output);
    ThreadRanks::run(ranks, [&](Communicator& communicator) {
      base::ThreadPool pool(1);
      auto t = *Trainer::create(config, *dataset_, kernels_here(), pool, &communicator);
      std::string of_rank;
      Callbacks callbacks;
      callbacks.on_step = [&](const StepRecord& r) {
        of_rank += std::to_string(r.step) + " " + std::to_string(r.loss) + "\n";
      };
      callbacks.on_rollback = [&](const RollbackRecord& r) { of_rank += "back to " + std::to_string(r.to) + "\n"; };
      const auto status = t->run(callbacks);
      of_rank += status ? "done" : status.error().message;
      const std::lock_guard lock(mutex);
      told.push_back(of_rank);
    });
  }
  ASSERT_EQ(told.size(), 4u);
  EXPECT_NE(told[0].find("back to "), std::string::npos) << told[0];
  for (const auto& t : told) EXPECT_EQ(t, told[0]);
}

TEST_F(Parallel, OtherMethodsToo) {
  train_base();
  std::ofstream pairs(folder_ / "taste.jsonl"), rated(folder_ / "rated.jsonl"), kinds(folder_ / "kinds.jsonl");
  for (int i = 0; i < 12; ++i) {
    pairs << R"({"prompt":"moon )" << i << R"(","chosen":"river crane","rejected":"old wind"})"
          << "\n";
    rated << R"({"prompt":"moon )" << i << R"(","completion":")" << (i % 2 == 0 ? "river" : "wind") << R"(","label":)"
          << (i % 2 == 0 ? "true" : "false") << "}\n";
    kinds << R"({"text":")" << (i % 2 == 0 ? "moon" : "river") << R"(","label":")" << (i % 2 == 0 ? "a" : "b")
          << "\"}\n";
  }
  std::ofstream finds(folder_ / "finds.jsonl"), asked(folder_ / "asked.jsonl");
  for (const char* word : {"moon", "river", "crane", "autumn", "wind", "friend", "old", "mountain"}) {
    finds << R"({"query":"the )" << word << R"(","positive":"one )" << word << R"(","negatives":["none of )" << word << "\"]}\n";
    asked << R"({"prompt":"say )" << word << R"(","answer":"[aeiou]"})"
          << "\n";
  }
  pairs.close(), rated.close(), kinds.close(), finds.close(), asked.close();
  const auto with = [&](const std::string& table) {
    auto object = recipe();
    object.erase("model");
    object.set("init_from", (folder_ / "base/model").string());
    const auto more = *data::parse_toml(table, "recipe");
    for (const auto& [key, value] : more) object.set(key, value);
    // An engine that draws answers goes no further than the model was made for.
    const bool draws = table.starts_with("[grpo]");
    return config_with({output("method"), "steps=3", draws ? "sequence_length=48" : "sequence_length=256", "batch_sequences=2", "accumulation=3",
                        "parallel.parts=3", "eval.every=3"},
                       object);
  };
  const std::unique_ptr<const data::Dataset> taste(examples("taste", "preference")), rates(examples("rated", "rating")),
      classes(examples("kinds", "class", "labels = ['a', 'b']\n")),
      searches(examples("finds", "retrieval", "instruction = 'Find'\n")), questions(examples("asked", "prompts"));
  const std::string teacher = "[distill]\nteacher = '" + (folder_ / "base/model").string() + "'";
  for (const auto& [table, dataset] : {std::pair<std::string, const data::Dataset*>{"[preference]", taste.get()},
                                       {"[kto]", rates.get()},
                                       {"[classes]", classes.get()},
                                       {"[reward]", taste.get()},
                                       {"[embedding]", searches.get()},
                                       {"[grpo]\ngroup = 6\nmax_tokens = 6\nupdates = 2\nbeta = 0.1\n[[grpo.reward]]\nkind = 'regex'", questions.get()},
                                       {teacher, dataset_}}) {
    const auto config = with(table);
    const std::string one = bytes_of(config, 1, 0, 0, *dataset);
    EXPECT_TRUE(bytes_of(config, 3, 1, 2, *dataset) == one) << table;
  }
}

TEST_F(Parallel, RefusesWhatCannotBeShared) {
  const auto refused = [&](const TrainConfig& config, const data::Dataset& dataset,
                           const char* isa_of_second = nullptr) {
    std::string messages;
    std::mutex mutex;
    ThreadRanks::run(2, [&](Communicator& communicator) {
      base::ThreadPool pool(1);
      const bool other = isa_of_second != nullptr && communicator.rank() == 1;
      const auto& kernels = other ? kernels::kernels_for(base::Isa::kPortable) : kernels_here();
      TrainConfig own = config;
      if (own.seed == 77 && communicator.rank() == 1) own.source.set("seed", 78);
      const auto made = Trainer::create(own, dataset, kernels, pool, &communicator);
      EXPECT_FALSE(made);
      const std::lock_guard lock(mutex);
      if (!made) messages += made.error().message + "\n";
    });
    return messages;
  };
  EXPECT_NE(refused(config_with({"accumulation=1"}), *dataset_).find("accumulation = 1 is less than the 2 processes"),
            std::string::npos);
  if (base::best_isa() != base::Isa::kPortable) {
    EXPECT_NE(
        refused(config_with({}), *dataset_, "portable").find("rank 1 has another instruction set (QW_ISA) than rank 0"),
        std::string::npos);
  }
  EXPECT_NE(refused(config_with({"seed=77"}), *dataset_).find("rank 1 has another recipe"), std::string::npos);
  auto object = recipe();
  EXPECT_TRUE(data::apply_override(object, "parallel.parts=3"));
  const auto too_many = train_config(object);
  ASSERT_FALSE(too_many);
  EXPECT_NE(too_many.error().message.find("parallel.parts"), std::string::npos);
}

}  // namespace
}  // namespace qw::train
