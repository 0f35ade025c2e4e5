// Models that several processes, here threads, hold together beside the same ones in one process.
#include "train/internal/tensor_group.h"

#include <cmath>
#include <map>
#include <mutex>

#include "formats/safetensors.h"
#include "train/internal/tensor_file.h"
#include "train/internal/test_run.h"
#include "train/internal/thread_ranks.h"

namespace qw::train {
namespace {

// What a run leaves behind.
struct Outcome {
  std::vector<double> losses, norms;  // of steps
  std::vector<double> evaluations;
  std::map<std::string, std::vector<float>> tensors;  // of the last checkpoint
  std::map<std::string, std::vector<float>> model;    // of what was exported
};

class TensorParallel : public TestRun {
 protected:
  static TrainConfig config_of(const std::string& name, std::vector<std::string> more, json::Object object = recipe()) {
    for (const std::string& o :
         {output(name), std::string("steps=4"), std::string("eval.every=2"), std::string("export_type=f32")})
      more.insert(more.begin(), o);
    return config_with(more, std::move(object));
  }
  static std::map<std::string, std::vector<float>> read(const std::filesystem::path& path) {
    std::map<std::string, std::vector<float>> out;
    const auto file = formats::Safetensors::open(path);
    EXPECT_TRUE(file) << file.error().message;
    for (const auto& info : file->tensors()) {
      auto& values = out[info.name];
      values.resize(static_cast<std::size_t>(info.shape.elements()));
      EXPECT_TRUE(read_tensor(*file, info.name, info.shape, values.data()));
    }
    return out;
  }
  // By so many processes; `stop` > 0: only up to that step. What rank 0 tells, which all others are told as well.
  static Outcome run(const TrainConfig& config, int ranks, std::int64_t stop = 0, bool resumes = false,
                     const data::Dataset& dataset = *dataset_) {
    if (!resumes) std::filesystem::remove_all(config.output);
    std::vector<Outcome> of(static_cast<std::size_t>(ranks));
    ThreadRanks::run(ranks, [&](Communicator& communicator) {
      base::ThreadPool pool(1);
      auto made = Trainer::create(config, dataset, kernels_here(), pool, &communicator);
      ASSERT_TRUE(made) << made.error().message;
      Trainer& t = **made;
      if (resumes) {
        const auto resumed = t.resume();
        EXPECT_TRUE(resumed) << resumed.error().message;
      }
      Outcome& mine = of[static_cast<std::size_t>(communicator.rank())];
      Callbacks callbacks;
      callbacks.on_step = [&](const StepRecord& r) {
        mine.losses.push_back(r.loss);
        mine.norms.push_back(r.grad_norm);
      };
      callbacks.on_eval = [&](const EvalRecord& r) { mine.evaluations.push_back(r.eval_loss); };
      run_until(stop, t, communicator, callbacks);
    });
    for (const Outcome& o : of) {
      EXPECT_EQ(o.losses, of[0].losses);
      EXPECT_EQ(o.norms, of[0].norms);
      EXPECT_EQ(o.evaluations, of[0].evaluations);
    }
    if (const auto found = list_checkpoints(config.output); !found.empty()) of[0].tensors = read(found.back());
    if (stop == 0) of[0].model = read(config.output / "model/model.safetensors");
    return std::move(of[0]);
  }
  // The largest distance of a tensor, in the lengths of what `a` has.
  static double distance(const std::map<std::string, std::vector<float>>& a,
                         const std::map<std::string, std::vector<float>>& b) {
    EXPECT_EQ(a.size(), b.size());
    double most = 0;
    for (const auto& [name, x] : a) {
      const auto there = b.find(name);
      if (there == b.end() || there->second.size() != x.size()) {
        ADD_FAILURE() << name << " is not in both, or has another size";
        continue;
      }
      double apart = 0, length = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        apart += std::pow(static_cast<double>(x[i]) - static_cast<double>(there->second[i]), 2);
        length += std::pow(static_cast<double>(x[i]), 2);
      }
      most = std::max(most, std::sqrt(apart / std::max(length, 1e-30)));
    }
    return most;
  }
  static void expect_close(const std::vector<double>& a, const std::vector<double>& b, double bound) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], bound * std::abs(b[i])) << i;
  }
  static std::string why_not(const TrainConfig& config, int ranks, const data::Dataset& dataset = *dataset_) {
    std::string said;
    std::mutex mutex;
    ThreadRanks::run(ranks, [&](Communicator& communicator) {
      base::ThreadPool pool(1);
      const auto made = Trainer::create(config, dataset, kernels_here(), pool, &communicator);
      EXPECT_FALSE(made);
      const std::lock_guard lock(mutex);
      if (!made) said = made.error().message;
    });
    return said;
  }
};

// Sums over heads and hidden columns are made in another order than in one process: roundings of 6e-8, which SGD hands
// on as they are; AdamW makes whole steps of gradients that are next to nothing, so weights are further apart there.
TEST_F(TensorParallel, TrainsWhatOneProcessTrains) {
  for (const bool adamw : {false, true}) {
    const std::vector<std::string> how =
        adamw ? std::vector<std::string>{"optimizer.lr=0.01", "model.tie_word_embeddings=false"}
              : std::vector<std::string>{"optimizer.kind=sgd", "optimizer.momentum=0.9", "optimizer.lr=0.1"};
    const auto with = [&](std::vector<std::string> more) {
      more.insert(more.end(), how.begin(), how.end());
      more.insert(more.end(), {"ema=0.5", "optimizer.clip=0.5"});
      return config_of("same", more);
    };
    const Outcome one = run(with({}), 1);
    const double close = adamw ? 1e-4 : 2e-6, apart = adamw ? 5e-3 : 1e-5;
    for (const auto& [ranks, zero] : {std::pair<int, const char*>{2, "parallel.zero=0"}, {4, "parallel.zero=2"}}) {
      const Outcome cut = run(with({"parallel.tensor=2", zero}), ranks);
      expect_close(cut.losses, one.losses, close);
      expect_close(cut.norms, one.norms, 10 * close);
      expect_close(cut.evaluations, one.evaluations, close);
      EXPECT_LT(distance(one.tensors, cut.tensors), apart) << ranks;
      EXPECT_LT(distance(one.model, cut.model), apart) << ranks;
    }
    EXPECT_LT(one.losses.back(), one.losses.front());
    EXPECT_GT(one.norms.front(), 0.5);  // clipped
  }
}

// Within one way of cutting a run is the same bytes again: stopped and resumed, computed a second time in place of
// kept, and by any number of processes that hold copies of it.
TEST_F(TensorParallel, SameBytesAgain) {
  const auto with = [](std::vector<std::string> more) {
    more.insert(more.end(), {"parallel.tensor=2", "parallel.parts=2", "ema=0.9", "precision=bf16", "export_type=bf16"});
    return config_of("again", more);
  };
  const Outcome first = run(with({}), 2);
  const auto same = [&](const Outcome& other, const char* how) {
    EXPECT_EQ(other.losses.back(), first.losses.back()) << how;
    EXPECT_TRUE(other.tensors == first.tensors) << how;
    EXPECT_TRUE(other.model == first.model) << how;
  };
  std::map<std::string, std::vector<float>> average;
  for (const auto& [name, values] : first.tensors)
    if (name.starts_with("average.")) average[name.substr(8)] = values;
  EXPECT_LT(distance(average, first.model), 1.0 / 256);  // bfloat16
  same(run(with({"parallel.zero=0"}), 4), "copies");
  same(run(with({"parallel.zero=2", "recompute=full"}), 4), "gradients shared out");
  run(with({"parallel.zero=1"}), 4, 2);
  same(run(with({}), 2, 0, true), "resumed, 4 to 2");
}

TEST_F(TensorParallel, OthersMayGoOn) {
  const auto with = [](int tensor) {
    return config_of("others", {"parallel.tensor=" + std::to_string(tensor), "optimizer.kind=sgd",
                                "optimizer.momentum=0.9", "optimizer.lr=0.1"});
  };
  const Outcome one = run(with(1), 1);
  for (const auto& [before, after] : {std::pair{1, 2}, std::pair{2, 1}}) {
    run(with(before), before, 2);
    const Outcome went_on = run(with(after), after, 0, true);
    expect_close(went_on.losses, {one.losses.begin() + 2, one.losses.end()}, 2e-6);
    EXPECT_LT(distance(one.tensors, went_on.tensors), 1e-5) << before << " to " << after;
  }
}

// A process holds half of what is cut, reads and writes whole models all the same, and pairs, which compare with the
// model before training, learn as in one.
TEST_F(TensorParallel, StartsFromFoldersAndHoldsSlices) {
  train_base();
  auto object = recipe();
  object.erase("model");
  object.set("init_from", (folder_ / "base/model").string());
  const auto base = read(folder_ / "base/model/model.safetensors");
  ThreadRanks::run(2, [&](Communicator& communicator) {
    base::ThreadPool pool(1);
    auto made = Trainer::create(config_of("from", {"parallel.tensor=2"}, object), *dataset_, kernels_here(), pool,
                                &communicator);
    ASSERT_TRUE(made) << made.error().message;
    auto& t = **made;
    EXPECT_EQ(t.parameter_count(), t.trained_parameter_count());
    std::int64_t held = 0, cut = 0;
    for (std::size_t p = 0; p < t.weights().size(); ++p) {
      held += t.weights().elements(p);
      const auto& spec = t.model().parameters()[p];
      if (spec.hf_name.find("_proj") != std::string::npos) cut += spec.shape.elements();
    }
    EXPECT_EQ(held, t.parameter_count() - cut / 2);
    EXPECT_GT(cut, 0);
    EXPECT_TRUE(t.export_model(folder_ / "handed_on"));
  });
  EXPECT_TRUE(read(folder_ / "handed_on/model.safetensors") == base);
  EXPECT_TRUE(*base::read_file(folder_ / "handed_on/config.json") ==
              *base::read_file(folder_ / "base/model/config.json"));

  std::ofstream pairs(folder_ / "likes.jsonl");
  for (int i = 0; i < 8; ++i)
    pairs << R"({"prompt":"moon )" << i << R"(","chosen":"river crane","rejected":"old wind"})"
          << "\n";
  pairs.close();
  const std::unique_ptr<const data::Dataset> likes(examples("likes", "preference"));
  object.set("preference", json::Object{});
  const std::vector<std::string> how{"sequence_length=256", "batch_sequences=2", "eval.every=4", "optimizer.kind=sgd"};
  auto cut = how;
  cut.push_back("parallel.tensor=2");
  const Outcome one = run(config_of("likes_one", how, object), 1, 0, false, *likes);
  const auto config = config_of("likes_two", cut, object);
  run(config, 2, 2, false, *likes);
  const Outcome two = run(config, 2, 0, true, *likes);
  expect_close(two.losses, {one.losses.begin() + 2, one.losses.end()}, 1e-5);
  EXPECT_LT(distance(one.model, two.model), 1e-5);
}

TEST_F(TensorParallel, RefusesWhatIsNotCut) {
  EXPECT_EQ(why_not(config_of("no", {"parallel.tensor=2"}), 1),
            "parallel.tensor = 2 does not divide the 1 process: start as many with mpirun -n");
  EXPECT_EQ(why_not(config_of("no", {"parallel.tensor=2"}), 3), "parallel.tensor = 2 does not divide the 3 processes");
  EXPECT_EQ(why_not(config_of("no", {"parallel.tensor=4"}), 4),
            "parallel.tensor: 4 does not divide the 2 key and value heads");
  EXPECT_EQ(why_not(config_of("no", {"parallel.tensor=3"}), 3), "parallel.tensor: 3 does not divide the 4 query heads");
  EXPECT_EQ(why_not(config_of("no", {"parallel.tensor=2", "model.intermediate_size=65"}), 2),
            "parallel.tensor: 2 does not divide the 65 hidden columns of a feed-forward layer");
  EXPECT_EQ(why_not(config_of("no", {"parallel.tensor=2", "accumulation=1"}), 4),
            "accumulation = 1 is less than the 2 groups of processes: some would have nothing to do");
  const std::string experts = why_not(config_with(hybrid({output("no"), "parallel.tensor=2"})), 2);
  EXPECT_EQ(experts, "parallel.tensor > 1 cuts dense models, not qwen3_next: it has experts");
  const auto why = [](std::vector<std::string> more) {
    auto object = recipe();
    more.insert(more.begin(), {output("no"), "parallel.tensor=2"});
    for (const auto& o : more) EXPECT_TRUE(data::apply_override(object, o));
    const auto config = train_config(object);
    EXPECT_FALSE(config);
    return config ? std::string() : config.error().message;
  };
  EXPECT_NE(why({"optimizer.kind=muon"}).find("parallel.tensor > 1 does not go together with an optimizer.kind"),
            std::string::npos);
  EXPECT_NE(why({"optimizer.kind=adamw_8bit"}).find("adamw_8bit"), std::string::npos);
  EXPECT_NE(why({"parallel.tensor=0"}).find("parallel.tensor"), std::string::npos);
}

}  // namespace
}  // namespace qw::train
