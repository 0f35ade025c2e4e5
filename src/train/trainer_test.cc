#include "train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <fstream>

#include "base/file.h"
#include "base/rng.h"
#include "data/build.h"
#include "data/config_table.h"
#include "train/internal/test_run.h"
#include "train/optimizer.h"

namespace qw::train {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

using TrainerTest = TestRun;

TEST_F(TrainerTest, FirstLossIsLogOfVocabulary) {
  base::ThreadPool pool(2);
  auto t = trainer(config_with({}), pool);
  const auto record = t->step();
  ASSERT_TRUE(record);
  EXPECT_NEAR(record->loss, std::log(288.0), 0.05);
  EXPECT_EQ(record->step, 1);
  EXPECT_GT(record->tokens, 0);
}

TEST_F(TrainerTest, LearnsOneBatchByHeart) {
  for (const char* kind : {"adamw", "muon"}) {
    base::ThreadPool pool(2);
    auto t = trainer(config_with({"steps=150", "schedule.kind=constant", "optimizer.weight_decay=0.0",
                                  std::string("optimizer.kind=") + kind}), pool);
    auto stream = *data::BatchStream::create(dataset_->train, 16, 1, {});
    std::vector<data::PackedBatch> batch(1);
    stream.next(2, batch[0]);
    double loss = 0;
    for (int i = 0; i < 150; ++i) loss = t->step_on(batch)->loss;
    // The first words of the two pieces cannot be told from their beginnings, so exactly zero is out of reach.
    EXPECT_LT(loss, 0.15) << kind;
  }
}

TEST_F(TrainerTest, SplitBatchesGiveTheStepOfTheWholeOne) {
  base::ThreadPool pool(1);
  auto stream = *data::BatchStream::create(dataset_->train, 48, 1, {});
  std::vector<data::PackedBatch> parts(2), whole(1);
  stream.next(1, parts[0]);
  stream.next(2, parts[1]);
  // Mask some labels, so that a mean of means would show.
  for (std::size_t i = 0; i < parts[1].labels.size(); i += 2) {
    parts[1].labels[i] = -1;
    --parts[1].kept;
  }
  for (const auto& part : parts) {
    const auto base_row = static_cast<std::int32_t>(whole[0].tokens.size());
    whole[0].tokens.insert(whole[0].tokens.end(), part.tokens.begin(), part.tokens.end());
    whole[0].positions.insert(whole[0].positions.end(), part.positions.begin(), part.positions.end());
    whole[0].labels.insert(whole[0].labels.end(), part.labels.begin(), part.labels.end());
    for (std::size_t i = 1; i < part.cu_seqlens.size(); ++i) whole[0].cu_seqlens.push_back(base_row + part.cu_seqlens[i]);
    whole[0].kept += part.kept;
  }
  auto split = trainer(config_with({}), pool), joined = trainer(config_with({}), pool);
  const auto a = split->step_on(parts), b = joined->step_on(whole);
  ASSERT_TRUE(a && b);
  EXPECT_NEAR(a->loss, b->loss, 1e-5);
  EXPECT_NEAR(a->grad_norm, b->grad_norm, 1e-5 * b->grad_norm);
}

// 10 steps at once = 5 steps, stop, resume, 5 more - with one and with two threads, for both optimizers: same bytes.
TEST_F(TrainerTest, ResumedTrainingGivesTheSameBytes) {
  for (const char* kind : {"adamw", "muon", "sgd", "adafactor"}) {
    for (const std::string precision : {"f32", "bf16"}) {
      if (precision == "bf16" && std::string_view(kind) != "adamw" && std::string_view(kind) != "muon") continue;  // as of f32
      const auto config = config_with({output("resume"), "ema=0.9", "optimizer.momentum=0.9",
                                       std::string("optimizer.kind=") + kind, "precision=" + precision});
      std::vector<std::string> files;
      for (const auto& [threads, stop] : {std::pair{1, 0}, {1, 5}, {2, 0}, {2, 5}})
        files.push_back(bytes_of_run(config, *dataset_, threads, stop, {"model/model.safetensors"}));
      for (const auto& file : files) EXPECT_TRUE(file == files.front()) << kind << " " << precision;
    }
  }
}

TEST_F(TrainerTest, EvaluationCountsTextBytesAndPredictsBetterWithTraining) {
  base::ThreadPool pool(2);
  auto t = trainer(config_with({"steps=60", "eval.max_tokens=0"}), pool);
  const auto before = t->evaluate();
  ASSERT_TRUE(before);
  ASSERT_EQ(before->sources.size(), 1u);
  for (int i = 0; i < 60; ++i) ASSERT_TRUE(t->step());
  const auto after = t->evaluate();
  ASSERT_TRUE(after);
  EXPECT_NEAR(before->eval_loss, std::log(288.0), 0.1);
  EXPECT_LT(after->eval_loss, 0.6 * before->eval_loss);
  EXPECT_LT(after->bits_per_byte, 0.6 * before->bits_per_byte);
  // Every held-out token but the first of each document is predicted; its text is all bytes but those of first tokens.
  const auto& shard = dataset_->heldout[0].shard;
  EXPECT_EQ(after->sources[0].tokens, static_cast<std::int64_t>(shard.tokens() - shard.documents()));
  EXPECT_LT(after->sources[0].bytes, static_cast<std::int64_t>(shard.text_bytes()));
  EXPECT_GT(after->sources[0].bytes, static_cast<std::int64_t>(shard.text_bytes() * 8 / 10));
}

TEST_F(TrainerTest, KeepsTheNewestCheckpointsAndTheBest) {
  base::ThreadPool pool(2);
  const auto config = config_with({output("keep"), "checkpoint.every=2", "eval.every=5"});
  fs::remove_all(config.output);
  auto t = trainer(config, pool);
  int steps = 0, evals = 0;
  Callbacks callbacks;
  callbacks.on_step = [&](const StepRecord& r) { EXPECT_EQ(r.step, ++steps); };
  callbacks.on_eval = [&](const EvalRecord&) { ++evals; };
  ASSERT_TRUE(t->run(callbacks));
  EXPECT_EQ(steps, 10);
  EXPECT_EQ(evals, 2);
  const auto found = list_checkpoints(config.output);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_THAT(found[0].string(), HasSubstr("step-0000000008"));
  EXPECT_THAT(found[1].string(), HasSubstr("step-0000000010"));
  EXPECT_TRUE(fs::exists(config.output / "checkpoints" / "best.safetensors"));
  for (const char* name : {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"})
    EXPECT_TRUE(fs::exists(config.output / "model" / name)) << name;
}

TEST_F(TrainerTest, AnExportedModelIsWhereTheNextRunStarts) {
  base::ThreadPool pool(2);
  const auto config = config_with({output("export"), "export_type=f32", "generation.temperature=0.5", "generation.top_k=7"});
  auto t = trainer(config, pool);
  ASSERT_TRUE(t->run({}));
  auto object = recipe();
  object.erase("model");
  ASSERT_TRUE(data::apply_override(object, "init_from='" + (config.output / "model").string() + "'"));
  auto next = trainer(*train_config(object), pool);
  EXPECT_TRUE(std::equal(t->weights().all().begin(), t->weights().all().end(), next->weights().all().begin()));
  EXPECT_EQ(t->evaluate()->eval_loss, next->evaluate()->eval_loss);
  // So is how the model wants to be sampled.
  ASSERT_TRUE(next->export_model(config.output / "again"));
  const auto generation = json::parse(*base::read_file(config.output / "again" / "generation_config.json"));
  ASSERT_TRUE(generation);
  EXPECT_EQ(generation->find("temperature")->as_double(), 0.5);
  EXPECT_EQ(generation->find("top_k")->as_int(), 7);
  EXPECT_NE(generation->find("eos_token_id"), nullptr);
}

TEST_F(TrainerTest, HalvedActivationsArePartOfARunAndTheSameOnAllThreads) {
  const auto config = config_with({output("half"), "steps=3", "activations=bf16", "recompute=selective"});
  std::vector<float> first;
  for (const int threads : {1, 3}) {
    fs::remove_all(config.output);
    base::ThreadPool pool(threads);
    auto t = trainer(config, pool);
    ASSERT_TRUE(t->run({}));
    const auto all = t->weights().all();
    if (first.empty()) first.assign(all.begin(), all.end());
    EXPECT_TRUE(std::equal(all.begin(), all.end(), first.begin()));
  }
  base::ThreadPool pool(1);
  const auto resumed = trainer(config_with({output("half"), "steps=4", "recompute=selective"}), pool)->resume();
  ASSERT_FALSE(resumed);
  EXPECT_NE(resumed.error().message.find("activations"), std::string::npos) << resumed.error().message;
  EXPECT_TRUE(trainer(config_with({output("half"), "steps=4", "activations=bf16", "recompute=none"}), pool)->resume());
}

TEST_F(TrainerTest, AModelWithStatesLearnsResumesAndIsExported) {
  base::ThreadPool pool(2);
  std::vector<std::string> files;
  for (const bool interrupted : {false, true}) {
    const auto config = config_with(hybrid({output("hybrid"), "export_type=f32"}));
    fs::remove_all(config.output);
    if (interrupted) {
      auto first = trainer(config, pool);
      Callbacks callbacks;
      callbacks.stop = [&] { return first->steps_done() == 5; };
      ASSERT_FALSE(first->run(callbacks));
    }
    auto t = trainer(config, pool);
    const double before = t->evaluate()->eval_loss;
    if (interrupted) {
      ASSERT_TRUE(t->resume());
    }
    const auto status = t->run({});
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_LT(t->evaluate()->eval_loss, before - 0.3);
    files.push_back(*base::read_file(list_checkpoints(config.output).back()));
    auto object = recipe();
    object.erase("model");
    ASSERT_TRUE(data::apply_override(object, "init_from='" + (config.output / "model").string() + "'"));
    auto next = trainer(*train_config(object), pool);
    for (std::size_t i = 0; i < t->weights().all().size(); ++i)  // norms pass through what the folder holds of them
      ASSERT_NEAR(t->weights().all()[i], next->weights().all()[i], 1e-6f) << i;
  }
  EXPECT_TRUE(files[0] == files[1]);
}

TEST_F(TrainerTest, AFullDiskLeavesThePreviousCheckpointIntact) {
  base::ThreadPool pool(1);
  const auto config = config_with({output("full")});
  auto t = trainer(config, pool);
  const auto path = config.output / "checkpoints" / "step-0000000001.safetensors";
  ASSERT_TRUE(t->step());
  ASSERT_TRUE(t->save_checkpoint(path));
  const auto before = *base::read_file(path);
  ASSERT_TRUE(t->step());
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  for (const rlim_t limit : {rlim_t{0}, rlim_t{1000}, rlim_t{before.size() - 1}}) {
    rlimit small = old;
    small.rlim_cur = limit;
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    const auto status = t->save_checkpoint(path);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
    ASSERT_FALSE(status);
    EXPECT_THAT(status.error().message, HasSubstr("step-0000000001"));
  }
  std::signal(SIGXFSZ, handler);
  EXPECT_TRUE(*base::read_file(path) == before);
  int files = 0;
  for (const auto& entry : fs::directory_iterator(path.parent_path())) files += entry.is_regular_file() ? 1 : 0;
  EXPECT_EQ(files, 1);  // nothing half-written is left
  auto fresh = trainer(config, pool);
  EXPECT_TRUE(fresh->load_checkpoint(path));
}

TEST_F(TrainerTest, AKillDuringASaveLeavesACompleteCheckpoint) {
  base::ThreadPool pool(1);  // no threads: the child of fork has everything
  const auto config = config_with({output("killed")});
  auto t = trainer(config, pool);
  const auto path = config.output / "checkpoints" / "step-0000000000.safetensors";
  ASSERT_TRUE(t->save_checkpoint(path));
  const auto good = *base::read_file(path);
  for (int round = 0; round < 12; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0)
      for (;;) (void)t->save_checkpoint(path);
    ::usleep(static_cast<useconds_t>(300 + 1700 * round));  // from before the first write to within later saves
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(*base::read_file(path) == good) << round;
    EXPECT_EQ(list_checkpoints(config.output).size(), 1u);  // what a killed save leaves beside is not taken for one
  }
}

// With a rate of zero no evaluation is better than the first: two more, and the first one's weights come out.
TEST_F(TrainerTest, EndsWhenEvaluationsNoLongerImprove) {
  base::ThreadPool pool(2);
  const auto config = config_with({output("patient"), "optimizer.lr=0.0", "eval.every=1", "eval.patience=2", "export_type=f32"});
  fs::remove_all(config.output);
  for (const bool resumed : {false, true}) {
    auto t = trainer(config, pool);
    if (resumed) {
      ASSERT_TRUE(t->resume());
    }
    std::vector<std::int64_t> evaluated;
    Callbacks callbacks;
    callbacks.on_eval = [&](const EvalRecord& r) { evaluated.push_back(r.step); };
    const auto status = t->run(callbacks);
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_EQ(evaluated, resumed ? std::vector<std::int64_t>{} : (std::vector<std::int64_t>{1, 2, 3}));
    EXPECT_EQ(t->steps_done(), 1);  // the best one's
    EXPECT_EQ(list_checkpoints(config.output).back().filename(), "step-0000000003.safetensors");
    EXPECT_TRUE(fs::exists(config.output / "model/model.safetensors"));
  }
}

TEST_F(TrainerTest, ACheckpointOfAnotherRunIsRefusedByName) {
  base::ThreadPool pool(1);
  auto t = trainer(config_with({}), pool);
  const auto path = folder_ / "other" / "step-0000000000.safetensors";
  ASSERT_TRUE(t->save_checkpoint(path));
  const std::pair<const char*, const char*> cases[] = {{"model.hidden_size=64", "model"},
                                                       {"seed=10", "seed"},
                                                       {"batch_sequences=5", "batch_sequences"},
                                                       {"optimizer.kind=muon", "optimizer.kind"}};
  for (const auto& [change, named] : cases) {
    const auto status = trainer(config_with({change}), pool)->load_checkpoint(path);
    ASSERT_FALSE(status) << change;
    EXPECT_THAT(status.error().message, HasSubstr(std::string(named) + " differs"));
  }
  EXPECT_TRUE(trainer(config_with({"steps=20", "optimizer.lr=0.02"}), pool)->load_checkpoint(path));
  // A key that was left out is as much of a change as one that was added.
  ASSERT_TRUE(trainer(config_with({"parallel.parts=2"}), pool)->save_checkpoint(path));
  const auto status = trainer(config_with({}), pool)->load_checkpoint(path);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("parallel.parts differs"));
}

TEST_F(TrainerTest, DamagedCheckpointsAreErrors) {
  base::ThreadPool pool(1);
  auto t = trainer(config_with({}), pool);
  const auto path = folder_ / "damaged" / "step-0000000000.safetensors";
  ASSERT_TRUE(t->save_checkpoint(path));
  const auto whole = *base::read_file(path);
  for (const double share : {0.0, 0.001, 0.01, 0.3, 0.99}) {
    std::ofstream(path, std::ios::binary) << whole.substr(0, static_cast<std::size_t>(share * static_cast<double>(whole.size())));
    EXPECT_FALSE(t->load_checkpoint(path)) << share;
  }
}

TEST_F(TrainerTest, ANonFiniteLossStopsAndNamesTheStep) {
  base::ThreadPool pool(1);
  auto t = trainer(config_with({}), pool);
  ASSERT_TRUE(t->step());
  t->weights().data(0)[3] = std::nanf("");
  for (std::size_t i = 0; i < t->weights().size(); ++i)
    for (float& w : t->weights().tensor(i)) w = std::nanf("");
  const auto record = t->step();
  ASSERT_FALSE(record);
  EXPECT_THAT(record.error().message, HasSubstr("step 2: loss"));
  auto lenient = trainer(config_with({"skip_non_finite=true"}), pool);
  const float kept = lenient->weights().data(1)[0];
  lenient->weights().data(0)[0] = INFINITY;
  for (float& w : lenient->weights().tensor(0)) w = INFINITY;
  const auto skipped = lenient->step();
  ASSERT_TRUE(skipped) << skipped.error().message;
  EXPECT_TRUE(skipped->skipped);
  EXPECT_EQ(lenient->weights().data(1)[0], kept);
}

// Weights are spoilt once, after step 5: step 6 breaks, and training goes on from step 4. So does a run that is stopped
// right then, to the same bytes.
TEST_F(TrainerTest, GoesBackWhenTrainingBreaks) {
  for (const float spoilt : {std::nanf(""), 40.0f}) {
    std::vector<std::string> files;
    for (const bool interrupted : {false, true}) {
      base::ThreadPool pool(2);
      const auto config = config_with({output("back"), "checkpoint.every=2", "rollback.most=1"});
      fs::remove_all(config.output);
      auto t = trainer(config, pool);
      std::vector<std::int64_t> steps;
      std::vector<RollbackRecord> back;
      Callbacks callbacks;
      callbacks.on_step = [&](const StepRecord& r) {
        steps.push_back(r.step);
        if (steps.size() != 5) return;
        for (float& w : t->weights().all()) w *= spoilt;
      };
      callbacks.on_rollback = [&](const RollbackRecord& r) { back.push_back(r); };
      callbacks.stop = [&] { return interrupted && !back.empty(); };
      auto status = t->run(callbacks);
      if (interrupted) {
        EXPECT_EQ(status.error().kind, ErrorKind::kInterrupted);
        t = trainer(config, pool);
        ASSERT_TRUE(t->resume());
        EXPECT_EQ(t->steps_done(), 4);
        status = t->run({});
      } else {
        EXPECT_EQ(steps, (std::vector<std::int64_t>{1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10}));
      }
      ASSERT_TRUE(status) << status.error().message;
      ASSERT_EQ(back.size(), 1u);
      EXPECT_EQ(back[0].step, 6);
      EXPECT_EQ(back[0].to, 4);
      files.push_back(*base::read_file(list_checkpoints(config.output).back()));
    }
    EXPECT_TRUE(files[0] == files[1]);
    base::ThreadPool pool(2);  // the data of steps 5 and 6 were left out
    const auto whole = config_with({output("whole"), "checkpoint.every=2", "rollback.most=1"});
    fs::remove_all(whole.output);
    ASSERT_TRUE(trainer(whole, pool)->run({}));
    EXPECT_FALSE(files[0] == *base::read_file(list_checkpoints(whole.output).back()));
  }
}

TEST_F(TrainerTest, DoesNotGoBackForEver) {
  base::ThreadPool pool(2);
  const auto config = config_with({output("ever"), "checkpoint.every=3", "rollback.most=2", "rollback.rise=0.0"});
  fs::remove_all(config.output);
  auto t = trainer(config, pool);
  int back = 0;
  Callbacks callbacks;
  callbacks.on_step = [&](const StepRecord& r) {
    if (r.step != 4) return;
    for (float& w : t->weights().all()) w = std::nanf("");
  };
  callbacks.on_rollback = [&](const RollbackRecord&) { ++back; };
  const auto status = t->run(callbacks);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("step 5: loss"));
  EXPECT_THAT(status.error().message, HasSubstr("2 times back to step-0000000003"));
  EXPECT_EQ(back, 2);
  fs::remove_all(config.output);
  t = trainer(config, pool);
  for (float& w : t->weights().all()) w = std::nanf("");
  EXPECT_THAT(t->run(callbacks).error().message, HasSubstr("no checkpoint to go back to"));
}

TEST_F(TrainerTest, AModelSmallerThanTheTokenizerIsRefused) {
  base::ThreadPool pool(1);
  const auto made = Trainer::create(config_with({"model.vocab_size=200"}), *dataset_, kernels_here(), pool);
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message, HasSubstr("vocab_size"));
}

// ---- configuration and schedules --------------------------------------------------------------------------------------

TEST(TrainConfig, ErrorsNameTheKey) {
  const auto error_of = [](std::string_view text) {
    const auto config = train_config(*data::parse_toml(text, "t"));
    return config ? std::string("accepted") : config.error().message;
  };
  const std::string base = "output='o'\nshards='s'\nsteps=5\n";
  const std::string model = "[model]\nmodel_type='qwen3'\n";
  EXPECT_EQ(error_of(base + model), "accepted");
  EXPECT_EQ(error_of(base + "stepps=4\n" + model), "unknown key stepps");
  EXPECT_EQ(error_of(base + model + "[optimizer]\nlearning_rate=1.0\n"), "unknown key optimizer.learning_rate");
  EXPECT_THAT(error_of(base + model + "[schedule]\nkind='square'\n"), HasSubstr("schedule.kind must be one of"));
  EXPECT_THAT(error_of(base + model + "[optimizer]\nlr='big'\n"), HasSubstr("optimizer.lr must be a number"));
  EXPECT_THAT(error_of("output='o'\nsteps=5\n" + model), HasSubstr("either data or shards"));
  EXPECT_THAT(error_of("shards='s'\nsteps=5\n" + model), HasSubstr("output is missing"));
  EXPECT_THAT(error_of("output='o'\nshards='s'\n" + model), HasSubstr("steps is missing"));
  EXPECT_THAT(error_of(base), HasSubstr("[model] or init_from"));
}

TEST(Schedule, FollowsItsFormulas) {
  ScheduleConfig s;
  s.warmup = 10;
  s.min_lr_ratio = 0.1;
  s.kind = ScheduleKind::kCosine;
  EXPECT_DOUBLE_EQ(schedule_factor(s, 0, 110), 0.1);
  EXPECT_DOUBLE_EQ(schedule_factor(s, 9, 110), 1.0);
  EXPECT_DOUBLE_EQ(schedule_factor(s, 60, 110), 0.55);
  EXPECT_NEAR(schedule_factor(s, 110, 110), 0.1, 1e-12);
  s.kind = ScheduleKind::kLinear;
  EXPECT_DOUBLE_EQ(schedule_factor(s, 60, 110), 0.55);
  s.kind = ScheduleKind::kConstant;
  EXPECT_DOUBLE_EQ(schedule_factor(s, 100, 110), 1.0);
  s.kind = ScheduleKind::kWsd;
  s.decay_share = 0.2;
  EXPECT_DOUBLE_EQ(schedule_factor(s, 79, 100), 1.0);
  EXPECT_DOUBLE_EQ(schedule_factor(s, 85, 100), 0.1 + (1 - std::sqrt(0.25)) * 0.9);
}

// ---- optimizer against the printed formulas, in double ---------------------------------------------------------------

TEST(Optimizer, AdamwFollowsItsFormula) {
  base::ThreadPool pool(2);
  const auto& kernels = kernels::kernels_for(base::best_isa());
  const std::vector<tensor::Shape> shapes = {{40, 500}, {37}};
  OptimizerConfig config;
  config.lr = 0.01;
  Optimizer optimizer(shapes, {UpdateRule::kAdamw, UpdateRule::kAdamwNoDecay}, config, kernels::GemmPrecision::kF32, kernels, pool);
  ops::ParameterBuffer w(shapes), g(shapes);
  base::Rng rng(1);
  std::vector<std::vector<double>> dw(2), dm(2), dv(2);
  for (std::size_t p = 0; p < 2; ++p) {
    for (float& x : w.tensor(p)) x = static_cast<float>(rng.next_normal());
    dw[p].assign(w.tensor(p).begin(), w.tensor(p).end());
    dm[p].assign(dw[p].size(), 0);
    dv[p].assign(dw[p].size(), 0);
  }
  for (int t = 1; t <= 5; ++t) {
    for (std::size_t p = 0; p < 2; ++p)
      for (float& x : g.tensor(p)) x = static_cast<float>(rng.next_normal());
    optimizer.step(w, g, t, 0.5, 0.25);
    for (std::size_t p = 0; p < 2; ++p)
      for (std::size_t i = 0; i < dw[p].size(); ++i) {
        const double grad = 0.25 * static_cast<double>(g.data(p)[i]), lr = 0.005;
        dm[p][i] = 0.9 * dm[p][i] + 0.1 * grad;
        dv[p][i] = 0.95 * dv[p][i] + 0.05 * grad * grad;
        if (p == 0) dw[p][i] *= 1 - lr * 0.1;
        dw[p][i] -= lr * (dm[p][i] / (1 - std::pow(0.9, t))) / (std::sqrt(dv[p][i] / (1 - std::pow(0.95, t))) + 1e-8);
      }
  }
  for (std::size_t p = 0; p < 2; ++p)
    for (std::size_t i = 0; i < dw[p].size(); ++i) ASSERT_NEAR(w.data(p)[i], dw[p][i], 2e-6) << p << " " << i;
}

// Both against their formulas in double; what is not a matrix neither decays nor is factored.
TEST(Optimizer, SgdAndAdafactorFollowTheirFormulas) {
  const auto& kernels = kernels::kernels_for(base::best_isa());
  const std::vector<tensor::Shape> shapes = {{40, 150}, {37}};
  const std::int64_t columns = 150;
  for (const bool adafactor : {false, true}) {
    std::vector<float> one_thread;
    for (const int threads : {1, 3}) {
      base::ThreadPool pool(threads);
      OptimizerConfig config;
      config.kind = adafactor ? OptimizerKind::kAdafactor : OptimizerKind::kSgd;
      config.lr = 0.01;
      config.momentum = adafactor ? 0 : 0.9;
      Optimizer optimizer(shapes, {plain_rule(config.kind, true), plain_rule(config.kind, false)}, config,
                          kernels::GemmPrecision::kF32, kernels, pool, {1.0f, 2.0f});
      EXPECT_EQ(optimizer.first_moments().elements(0), adafactor ? 0 : 6000);
      EXPECT_EQ(optimizer.second_moments().elements(0), adafactor ? 190 : 0);
      ops::ParameterBuffer w(shapes), g(shapes);
      base::Rng rng(1);
      std::vector<std::vector<double>> dw(2), moment(2);
      std::vector<double> rows(40), cols(150);
      for (std::size_t p = 0; p < 2; ++p) {
        for (float& x : w.tensor(p)) x = static_cast<float>(rng.next_normal());
        dw[p].assign(w.tensor(p).begin(), w.tensor(p).end());
        moment[p].assign(dw[p].size(), 0);
      }
      for (int t = 1; t <= 5; ++t) {
        for (std::size_t p = 0; p < 2; ++p)
          for (float& x : g.tensor(p)) x = static_cast<float>(rng.next_normal() * (t + 1.0));
        optimizer.step(w, g, t, 0.5, 0.25);
        const double beta = 1 - std::pow(t, -0.8);
        for (std::size_t p = 0; p < 2; ++p) {
          const double lr = p == 0 ? 0.005 : 0.01;
          std::vector<double> u(dw[p].size());
          std::vector<double> row_sum(40), col_sum(150);
          for (std::size_t i = 0; i < u.size(); ++i) {
            const double grad = 0.25 * static_cast<double>(g.data(p)[i]);
            if (adafactor) {
              moment[p][i] = beta * moment[p][i] + (1 - beta) * grad * grad;
              u[i] = grad / std::sqrt(moment[p][i]);
              if (p == 0) row_sum[i / columns] += grad * grad / 150, col_sum[i % columns] += grad * grad / 40;
            } else {
              u[i] = moment[p][i] = 0.9 * moment[p][i] + grad;
            }
          }
          if (adafactor && p == 0) {
            double mean = 0;
            for (std::size_t r = 0; r < 40; ++r) mean += (rows[r] = beta * rows[r] + (1 - beta) * row_sum[r]) / 40;
            for (std::size_t c = 0; c < 150; ++c) cols[c] = beta * cols[c] + (1 - beta) * col_sum[c];
            for (std::size_t i = 0; i < u.size(); ++i)
              u[i] = 0.25 * static_cast<double>(g.data(p)[i]) / std::sqrt(rows[i / columns] * cols[i % columns] / mean);
          }
          double squares = 0;
          for (const double x : u) squares += x * x;
          const double clip = adafactor ? std::max(1.0, std::sqrt(squares / static_cast<double>(u.size()))) : 1.0;
          for (std::size_t i = 0; i < u.size(); ++i) {
            if (p == 0) dw[p][i] *= 1 - lr * 0.1;
            dw[p][i] -= lr * u[i] / clip;
          }
        }
      }
      for (std::size_t p = 0; p < 2; ++p)
        for (std::size_t i = 0; i < dw[p].size(); ++i) ASSERT_NEAR(w.data(p)[i], dw[p][i], 4e-6) << adafactor << p << " " << i;
      if (threads == 1) one_thread.assign(w.all().begin(), w.all().end());
      else EXPECT_TRUE(std::equal(one_thread.begin(), one_thread.end(), w.all().begin()));
    }
  }
}

TEST(Optimizer, NewtonSchulzBringsSingularValuesIntoItsBand) {
  base::ThreadPool pool(2);
  const auto& kernels = kernels::kernels_for(base::best_isa());
  base::Rng rng(2);
  for (const auto& [rows, cols] : {std::pair{24, 40}, std::pair{40, 24}, std::pair{32, 32}}) {
    NewtonSchulz ns(rows, cols, kernels::GemmPrecision::kF32, kernels, pool);
    std::vector<float> x(static_cast<std::size_t>(rows * cols));
    for (float& v : x) v = static_cast<float>(rng.next_normal());
    ns.orthogonalise(x.data(), rows, cols);
    // Mean square of singular values = ||X||_F^2 / rank; a random matrix starts far below the band's upper end.
    double sum = 0;
    for (const float v : x) sum += static_cast<double>(v) * static_cast<double>(v);
    EXPECT_GT(sum / std::min(rows, cols), 0.5);
    EXPECT_LT(sum / std::min(rows, cols), 1.3);
    // No direction is stretched beyond the band: power iteration on X X^T.
    std::vector<double> u(static_cast<std::size_t>(rows), 1.0), y(static_cast<std::size_t>(cols));
    double norm = 0;
    for (int it = 0; it < 200; ++it) {
      std::fill(y.begin(), y.end(), 0.0);
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j < cols; ++j) y[static_cast<std::size_t>(j)] += static_cast<double>(x[static_cast<std::size_t>(i * cols + j)]) * u[static_cast<std::size_t>(i)];
      norm = 0;
      for (int i = 0; i < rows; ++i) {
        double s = 0;
        for (int j = 0; j < cols; ++j) s += static_cast<double>(x[static_cast<std::size_t>(i * cols + j)]) * y[static_cast<std::size_t>(j)];
        u[static_cast<std::size_t>(i)] = s;
        norm += s * s;
      }
      norm = std::sqrt(norm);
      for (double& v : u) v /= norm;
    }
    EXPECT_LT(std::sqrt(norm), 1.25);
  }
}

TEST(Flops, CountMatricesAndCausalAttention) {
  auto model = models::model_from_hf_config(*data::parse_toml(
      "model_type='qwen3'\nvocab_size=65\nhidden_size=128\nnum_hidden_layers=4\nnum_attention_heads=4\n"
      "num_key_value_heads=2\nhead_dim=32\nintermediate_size=352\ntie_word_embeddings=true\n"
      "max_position_embeddings=64\nrope_theta=10000.0\nrms_norm_eps=1e-6", "m"));
  ASSERT_TRUE(model) << model.error().message;
  std::int64_t n = 0;
  for (const auto& p : (*model)->parameters()) n += p.shape.elements();
  EXPECT_EQ(n, 747008);
}

}  // namespace
}  // namespace qw::train
