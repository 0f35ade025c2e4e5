// The engine over real (tiny, random) models: what the fake executor cannot show.
#include "engine/loaded_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <thread>

#include "base/rng.h"
#include "engine/internal/tiny_model.h"

namespace qw::engine {
namespace {

struct Log final : Sink {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  int finished = 0;
  Verdict on_token(const TokenEvent& e) noexcept override {
    tokens.push_back(e.id);
    logprobs.push_back(e.logprob);
    for (const auto& other : e.top) logprobs.push_back(other.logprob);
    return Verdict::kContinue;
  }
  Finished end;
  void on_finished(const Finished& f) noexcept override {
    ++finished;
    end = f;
    EXPECT_FALSE(f.error) << f.error->message;
  }
};

Request random_request(std::uint64_t seed, std::shared_ptr<Sink> sink) {
  base::Rng rng(seed);
  Request r;
  for (std::uint64_t n = 1 + rng.below(50); n > 0; --n) r.prompt.push_back(static_cast<TokenId>(rng.below(kTinyVocab)));
  r.max_tokens = static_cast<std::int64_t>(1 + rng.below(40));
  r.params.temperature = seed % 2 == 0 ? 0.0f : 0.8f;
  r.params.top_p = 0.95f;
  r.params.seed = seed;
  r.params.logprobs = true;
  r.sink = std::move(sink);
  return r;
}

struct Case {
  std::string arch;
  tensor::DType weights;
};

class RealModel : public testing::TestWithParam<Case> {};

TEST_P(RealModel, BatchedEqualsAloneBitForBit) {
  constexpr int kRequests = 14;
  std::vector<std::shared_ptr<Log>> alone, together;
  {
    LoadOptions options = small_options();
    const auto loaded = load(GetParam().arch, GetParam().weights, options);
    for (int i = 0; i < kRequests; ++i) {
      alone.push_back(std::make_shared<Log>());
      ASSERT_TRUE(loaded->engine().submit(random_request(static_cast<std::uint64_t>(i), alone.back())));
      while (loaded->engine().step()) {
      }
    }
  }
  LoadOptions options = small_options();
  options.threads = 2;         // another thread count,
  options.cache_tokens = 128;  // a cache so small that requests are preempted,
  options.engine.max_rows = 7; // and prompts cut in other places
  options.engine.max_sequences = 5;
  const auto loaded = load(GetParam().arch, GetParam().weights, options);
  for (int i = 0; i < kRequests; ++i) {
    together.push_back(std::make_shared<Log>());
    ASSERT_TRUE(loaded->engine().submit(random_request(static_cast<std::uint64_t>(i), together.back())));
    if (i % 3 == 0) loaded->engine().step();
  }
  while (loaded->engine().step()) ASSERT_EQ(loaded->engine().violation(), "");
  for (int i = 0; i < kRequests; ++i) {
    const auto at = static_cast<std::size_t>(i);
    EXPECT_EQ(together[at]->finished, 1);
    EXPECT_EQ(together[at]->tokens, alone[at]->tokens) << i;
    EXPECT_EQ(together[at]->logprobs, alone[at]->logprobs) << i;
  }
  EXPECT_GT(loaded->engine().stats().preemptions, 0);
}

// Requests that begin alike, one after the other and together, in a cache so small that prefixes are given up and
// requests preempted: with the prefix cache every one gets what it gets without, and the counts add up.
// Races are the same on every instruction set, and those that are slow are very slow where each access is watched.
std::vector<base::Isa> instruction_sets() {
#if defined(__SANITIZE_THREAD__)
  return {base::best_isa()};
#else
  std::vector<base::Isa> out;
  for (const base::Isa isa : base::kAllIsas)
    if (isa <= base::best_isa()) out.push_back(isa);
  return out;
#endif
}

TEST_P(RealModel, CachedPrefixEqualsFreshBitForBit) {
  constexpr int kRequests = 18;
  const auto submit = [](LoadedModel& loaded, int i, std::vector<std::shared_ptr<Log>>& logs) {
    logs.push_back(std::make_shared<Log>());
    Request own = random_request(static_cast<std::uint64_t>(i % 12), logs.back());
    const Request common = random_request(static_cast<std::uint64_t>(100 + i % 2), logs.back());
    std::vector<TokenId> prompt(30, static_cast<TokenId>(i % 2));
    prompt.insert(prompt.end(), common.prompt.begin(), common.prompt.begin() + std::min<std::ptrdiff_t>(9, std::ssize(common.prompt)));
    prompt.insert(prompt.end(), own.prompt.begin(), own.prompt.end());
    own.prompt = std::move(prompt);
    own.max_tokens = std::min<std::int64_t>(own.max_tokens, 128 - std::ssize(own.prompt));
    if (i % 5 == 0) own.cache_salt = "another";
    ASSERT_TRUE(loaded.engine().submit(std::move(own)));
  };
  for (const base::Isa isa : instruction_sets()) {
    LoadOptions options = small_options();
    options.isa = isa;
    options.prefix_cache = false;
    std::vector<std::shared_ptr<Log>> fresh, cached, crowded;
    {
      const auto loaded = load(GetParam().arch, GetParam().weights, options);
      for (int i = 0; i < kRequests; ++i) {
        submit(*loaded, i, fresh);
        while (loaded->engine().step()) {
        }
        EXPECT_EQ(fresh.back()->end.usage.cached_tokens, 0);
      }
    }
    options.prefix_cache = true;
    std::int64_t hits = 0;
    for (auto* logs : {&cached, &crowded}) {
      const bool together = logs == &crowded;
      if (together) {
        options.cache_tokens = 200;
        options.engine.max_rows = 11;
        options.engine.max_sequences = 4;
        options.state_snapshots = 3;
      }
      const auto loaded = load(GetParam().arch, GetParam().weights, options);
      for (int i = 0; i < kRequests; ++i) {
        submit(*loaded, i, *logs);
        if (together && i % 4 != 0) continue;
        for (int steps = 0; loaded->engine().step() && (!together || steps < 3); ++steps)
          ASSERT_EQ(loaded->engine().violation(), "");
      }
      while (loaded->engine().step()) ASSERT_EQ(loaded->engine().violation(), "");
      const EngineStats stats = loaded->engine().stats();
      EXPECT_EQ(stats.free_blocks, stats.total_blocks);
      std::int64_t computed = 0, from_cache = 0;
      for (const auto& log : *logs) {
        const Usage& usage = log->end.usage;
        computed += usage.computed_tokens;
        from_cache += usage.cached_tokens;
        if (log->end.preemptions == 0) {
          EXPECT_EQ(usage.computed_tokens, usage.prompt_tokens - usage.cached_tokens + usage.completion_tokens - 1);
        }
      }
      EXPECT_EQ(computed, stats.computed_tokens);
      EXPECT_EQ(from_cache, stats.cached_tokens);
      hits += from_cache;
      for (std::size_t i = 0; i < fresh.size(); ++i) {
        ASSERT_EQ((*logs)[i]->finished, 1);
        ASSERT_EQ((*logs)[i]->tokens, fresh[i]->tokens) << i << ", together " << together;
        ASSERT_EQ((*logs)[i]->logprobs, fresh[i]->logprobs) << i << ", together " << together;
      }
    }
    EXPECT_GT(hits, 150);
  }
}

TEST_P(RealModel, GreedyFollowsTheScoredLogits) {
  LoadOptions options = small_options();
  options.logit_rows = 10;
  const auto loaded = load(GetParam().arch, GetParam().weights, options);
  Request r;
  r.prompt = {5, 17, 3, 60, 2, 2, 9};
  r.params.temperature = 0;
  r.max_tokens = 30;
  const auto done = generate(loaded->engine(), std::move(r));
  ASSERT_TRUE(done) << done.error().message;
  std::vector<TokenId> all = {5, 17, 3, 60, 2, 2, 9};
  all.insert(all.end(), done->tokens.begin(), done->tokens.end());
  std::int64_t visited = 0;
  ASSERT_TRUE(loaded->for_each_logits(all, [&](std::int64_t t, std::span<const float> logits) {
    EXPECT_EQ(t, visited++);
    EXPECT_EQ(logits.size(), static_cast<std::size_t>(kTinyVocab));
    if (t < 6 || t + 1 >= static_cast<std::int64_t>(all.size())) return;
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    EXPECT_EQ(all[static_cast<std::size_t>(t + 1)], best) << t;
  }));
  EXPECT_EQ(visited, static_cast<std::int64_t>(all.size()));
}

TEST_P(RealModel, EstimateCoversWhatIsTaken) {
  const LoadOptions options = small_options();
  const auto loaded = load(GetParam().arch, GetParam().weights, options);
  LoadOptions same = options;
  same.isa = loaded->isa();
  const MemoryNeed guess = estimate_memory(loaded->model(), GetParam().weights, same), taken = loaded->memory();
  EXPECT_EQ(guess.cache_bytes, taken.cache_bytes);
  EXPECT_NEAR(static_cast<double>(guess.weight_bytes), static_cast<double>(taken.weight_bytes),
              0.05 * static_cast<double>(taken.weight_bytes));
  EXPECT_GE(guess.workspace_bytes, taken.workspace_bytes);
  EXPECT_LE(guess.workspace_bytes, 3 * taken.workspace_bytes);
}

INSTANTIATE_TEST_SUITE_P(All, RealModel,
                         testing::Values(Case{"qwen2", tensor::DType::kF32}, Case{"qwen3", tensor::DType::kF32},
                                         Case{"qwen3", tensor::DType::kBF16}, Case{"qwen3", tensor::DType::kQ8_0},
                                         Case{"qwen2", tensor::DType::kQ4_0}, Case{"qwen3", tensor::DType::kQ4_1},
                                         Case{"qwen2", tensor::DType::kMXFP4}, Case{"qwen3_moe", tensor::DType::kF32}, Case{"qwen3_next", tensor::DType::kF32},
                                         Case{"qwen3_next", tensor::DType::kQ8_0}, Case{"qwen3_5_text", tensor::DType::kBF16},
                                         Case{"qwen4_exp_text", tensor::DType::kF32}),
                         [](const auto& case_info) {
                           return case_info.param.arch + "_" + std::string(tensor::name(case_info.param.weights));
                         });

// Mixed formats: each weight is priced by its own.
TEST(LoadedModel, EstimateKnowsMixedFormats) {
  auto model = tiny_model("qwen3");
  const Weights wide = random_weights(*model, tensor::DType::kF32), narrow = random_weights(*model, tensor::DType::kQ4_0);
  std::vector<tensor::ConstView> views;
  std::vector<tensor::DType> types;
  for (std::size_t i = 0; i < wide.views.size(); ++i) {
    views.push_back(i % 3 == 0 ? wide.views[i] : narrow.views[i]);
    types.push_back(views.back().dtype);
  }
  LoadOptions options = small_options();
  options.isa = base::best_isa();
  const MemoryNeed guess = estimate_memory(*model, types, options);
  EXPECT_GT(guess.weight_bytes, estimate_memory(*model, tensor::DType::kQ4_0, options).weight_bytes);
  EXPECT_LT(guess.weight_bytes, estimate_memory(*model, tensor::DType::kF32, options).weight_bytes);
  const auto loaded = LoadedModel::create(std::move(model), views, options);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_NEAR(static_cast<double>(guess.weight_bytes), static_cast<double>((*loaded)->memory().weight_bytes),
              0.02 * static_cast<double>(guess.weight_bytes));
  EXPECT_EQ(guess.cache_bytes, (*loaded)->memory().cache_bytes);
}

// Requests of one batch choose different adapters, and each gets what it gets alone, preemptions or not.
TEST(LoadedModel, RequestsChooseTheirAdapter) {
  const auto with_adapters = [](const LoadOptions& options) {
    auto model = tiny_model("qwen3");
    const Weights weights = random_weights(*model, tensor::DType::kF32);
    const ops::LowRankAdapter adapters[] = {random_adapter(*model, 5, 3), random_adapter(*model, 6, 3)};
    auto loaded = LoadedModel::create(std::move(model), weights.views, options, adapters);
    EXPECT_TRUE(loaded) << loaded.error().message;
    return std::move(*loaded);
  };
  constexpr int kRequests = 9;
  std::vector<std::shared_ptr<Log>> alone, together;
  const auto submit = [](LoadedModel& loaded, int i, std::vector<std::shared_ptr<Log>>& logs) {
    logs.push_back(std::make_shared<Log>());
    Request r = random_request(static_cast<std::uint64_t>(i / 3), logs.back());  // three times the same, adapters aside
    r.adapter = i % 3 - 1;
    ASSERT_TRUE(loaded.engine().submit(std::move(r)));
  };
  const auto one = with_adapters(small_options());
  for (int i = 0; i < kRequests; ++i) {
    submit(*one, i, alone);
    while (one->engine().step()) {
    }
  }
  LoadOptions tight = small_options();
  tight.threads = 2;
  tight.cache_tokens = 128;
  tight.engine.max_rows = 7;
  const auto all = with_adapters(tight);
  for (int i = 0; i < kRequests; ++i) submit(*all, i, together);
  while (all->engine().step()) ASSERT_EQ(all->engine().violation(), "");
  for (std::size_t i = 0; i < alone.size(); ++i) {
    EXPECT_EQ(together[i]->tokens, alone[i]->tokens) << i;
    EXPECT_EQ(together[i]->logprobs, alone[i]->logprobs) << i;
    if (i % 3 != 0) {
      EXPECT_NE(alone[i]->logprobs, alone[i - 1]->logprobs) << i;
    }
  }
  Request wrong = random_request(1, std::make_shared<Log>());
  wrong.adapter = 2;
  const auto refused = all->engine().submit(std::move(wrong));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "the model has no adapter 2");
}

std::shared_ptr<Log> submit_with(LoadedModel& loaded, std::uint64_t seed, std::int32_t adapter) {
  auto log = std::make_shared<Log>();
  Request r = random_request(seed, log);
  r.adapter = adapter;
  const auto id = loaded.engine().submit(std::move(r));
  EXPECT_TRUE(id) << id.error().message;
  return log;
}

// What each adapter answers alone, loaded with the model.
std::vector<std::shared_ptr<Log>> alone_with_adapters(int adapters, int requests) {
  std::vector<std::shared_ptr<Log>> out;
  for (int a = 0; a < adapters; ++a) {
    auto model = tiny_model("qwen3");
    const Weights weights = random_weights(*model, tensor::DType::kF32);
    const ops::LowRankAdapter one[] = {random_adapter(*model, static_cast<std::uint64_t>(a), 1 + a % 5)};
    auto loaded = std::move(*LoadedModel::create(std::move(model), weights.views, small_options(), one));
    for (int i = 0; i < requests; ++i) {
      out.push_back(submit_with(*loaded, static_cast<std::uint64_t>(i), 0));
      while (loaded->engine().step()) {
      }
    }
  }
  return out;
}

// Six adapters of different ranks in one batch; one is unloaded while it answers, others are loaded meanwhile and take its
// place in memory, and nobody notices.
TEST(LoadedModel, AdaptersComeAndGoWhileOthersAnswer) {
  constexpr int kAdapters = 6, kRequests = 4;
  const auto alone = alone_with_adapters(kAdapters, kRequests);
  const auto wanted = [&](int adapter, int i) -> const Log& { return *alone[static_cast<std::size_t>(adapter * kRequests + i)]; };
  const auto loaded = load("qwen3", tensor::DType::kF32, small_options());
  Engine& engine = loaded->engine();
  const auto add = [&](int n) {
    const auto id = loaded->load_adapter(random_adapter(loaded->model(), static_cast<std::uint64_t>(n), 1 + n % 5));
    EXPECT_TRUE(id) << id.error().message;
    return *id;
  };
  const std::int64_t before = loaded->memory().weight_bytes;
  std::vector<std::int32_t> ids;
  for (int a = 0; a < kAdapters - 1; ++a) ids.push_back(add(a));
  std::vector<std::pair<std::pair<int, int>, std::shared_ptr<Log>>> got;
  for (int i = 0; i < kRequests; ++i)
    for (int a = 0; a < kAdapters - 1; ++a) got.push_back({{a, i}, submit_with(*loaded, static_cast<std::uint64_t>(i), ids[static_cast<std::size_t>(a)])});
  for (int n = 0; n < 5; ++n) engine.step();
  ASSERT_TRUE(engine.remove_adapter(ids[1]));   // in use by four requests
  EXPECT_EQ(engine.remove_adapter(ids[1]).error().kind, ErrorKind::kUsage);
  Request late = random_request(1, std::make_shared<Log>());
  late.adapter = ids[1];
  EXPECT_EQ(engine.submit(std::move(late)).error().kind, ErrorKind::kUsage);
  ids.push_back(add(kAdapters - 1));
  for (int i = 0; i < kRequests; ++i) got.push_back({{kAdapters - 1, i}, submit_with(*loaded, static_cast<std::uint64_t>(i), ids.back())});
  bool leaving = false;
  for (const AdapterInfo& a : engine.adapters()) leaving |= a.id == ids[1] && a.leaving && a.requests == kRequests;
  EXPECT_TRUE(leaving);
  while (engine.step()) ASSERT_EQ(engine.violation(), "");
  for (const auto& [which, log] : got) {
    EXPECT_EQ(log->finished, 1);
    EXPECT_EQ(log->tokens, wanted(which.first, which.second).tokens) << which.first << " " << which.second;
    EXPECT_EQ(log->logprobs, wanted(which.first, which.second).logprobs) << which.first << " " << which.second;
  }
  EXPECT_EQ(engine.adapters().size(), static_cast<std::size_t>(kAdapters - 1));  // the one that left is gone
  const std::int32_t again = add(1);            // into the free slot, under a new id
  EXPECT_EQ(again, kAdapters);
  const auto log = submit_with(*loaded, 2, again);
  while (engine.step()) {
  }
  EXPECT_EQ(log->logprobs, wanted(1, 2).logprobs);
  const std::int64_t all = loaded->memory().weight_bytes;
  ids.erase(ids.begin() + 1);
  ids.push_back(again);
  std::int64_t bytes = 0;
  for (const AdapterInfo& a : engine.adapters()) bytes += a.bytes;
  for (const std::int32_t id : ids) ASSERT_TRUE(engine.remove_adapter(id));
  EXPECT_TRUE(engine.adapters().empty());
  EXPECT_EQ(all - loaded->memory().weight_bytes, bytes);
  EXPECT_GT(loaded->memory().weight_bytes, before);  // workspaces stay
}

TEST(LoadedModel, AdaptersChangeBesideARunningEngine) {
  const auto alone = alone_with_adapters(3, 1);
  const auto loaded = load("qwen3", tensor::DType::kF32, small_options());
  loaded->engine().start();
  std::vector<std::thread> people;
  for (int a = 0; a < 3; ++a)
    people.emplace_back([&, a] {
      const auto adapter = random_adapter(loaded->model(), static_cast<std::uint64_t>(a), 1 + a % 5);
      for (int round = 0; round < 10; ++round) {
        const auto id = loaded->load_adapter(adapter);
        ASSERT_TRUE(id);
        Request r = random_request(0, nullptr);
        r.adapter = *id;
        r.params.logprobs = true;
        const auto answer = generate(loaded->engine(), std::move(r));
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->tokens, alone[static_cast<std::size_t>(a)]->tokens);
        ASSERT_TRUE(loaded->engine().remove_adapter(*id));
      }
    });
  for (std::thread& p : people) p.join();
  EXPECT_TRUE(loaded->engine().adapters().empty());
  loaded->engine().stop();
  EXPECT_EQ(loaded->load_adapter(random_adapter(loaded->model(), 1, 2)).has_value(), true);  // nothing runs: at once
}

// Guesses what is known to be the answer, but every fifth token.
class Knows final : public Drafter {
 public:
  double expected_acceptance(std::int32_t) const override { return 0.8; }
  Status propose(std::span<DraftJob> jobs) override {
    for (DraftJob& job : jobs) {
      const auto tokens = job.sampler->tokens();
      const auto& answer = answers[std::vector<TokenId>(tokens.begin(), tokens.begin() + job.sampler->prompt_tokens())];
      for (std::int64_t i = 0; i < job.most; ++i) {
        const auto at = static_cast<std::size_t>(job.sampler->output_tokens() + i);
        if (at < answer.size()) job.tokens->push_back(at % 5 == 4 ? (answer[at] + 1) % static_cast<TokenId>(kTinyVocab) : answer[at]);
      }
    }
    return {};
  }
  void forget(RequestId) override {}
  std::map<std::vector<TokenId>, std::vector<TokenId>> answers;
};

// A grammar in small: a token follows one of another kind, of three by their ids; every call comes in order.
class OtherKinds final : public sampling::LogitsProcessor {
 public:
  Status prepare(const sampling::History&, std::int64_t) override { return {}; }
  Status apply(std::span<float> logits, const sampling::History& history) override {
    EXPECT_EQ(static_cast<std::int64_t>(history.output().size()), accepted_);
    for (std::size_t id = 0; id < logits.size(); ++id)
      if (static_cast<int>(id % 3) == last_) logits[id] = -INFINITY;
    return {};
  }
  Status accept(TokenId id) override {
    EXPECT_NE(id % 3, last_);
    last_ = id % 3;
    ++accepted_;
    return {};
  }

 private:
  TokenId last_ = -1;
  std::int64_t accepted_ = 0;
};

// What drafts must go together with: forms, penalties, biases, log-probabilities of others, and adapters.
constexpr std::int32_t kBesideDrafts = 2;  // adapters
void add_adapters(LoadedModel& loaded) {
  for (std::int32_t a = 0; a < kBesideDrafts; ++a)
    ASSERT_EQ(loaded.load_adapter(random_adapter(loaded.model(), static_cast<std::uint64_t>(a), 2)).value(), a);
}
void ask_for_more(Request& r, int i) {
  if (i % 2 == 1) r.processors.push_back(std::make_unique<OtherKinds>());
  if (i % 3 == 1)
    r.params.repetition_penalty = 1.2f, r.params.frequency_penalty = 0.3f, r.params.presence_penalty = 0.2f;
  if (i % 4 == 2) r.params.logit_bias = {{5, 3.0f}, {6, -4.0f}};
  if (i % 4 == 3) r.params.top_logprobs = 3, r.params.min_tokens = 5;
  r.adapter = i % (kBesideDrafts + 1) - 1;
}

// Drafts by lookup and by another model (the same weights, so that it is often right), over real
// layers; over states, which have to go back, by one who knows the answers.
TEST_P(RealModel, DraftsChangeNothing) {
  constexpr int kRequests = 10;
  std::vector<std::shared_ptr<Log>> alone, together;
  const auto request = [](int i, std::shared_ptr<Sink> sink) {
    Request r = random_request(static_cast<std::uint64_t>(i), std::move(sink));
    if (i % 3 == 0)  // something to look up
      for (int n = 0; n < 30; ++n) r.prompt.push_back(n % 6);
    ask_for_more(r, i);
    return r;
  };
  {
    const auto loaded = load(GetParam().arch, GetParam().weights, small_options());
    ASSERT_NO_FATAL_FAILURE(add_adapters(*loaded));
    for (int i = 0; i < kRequests; ++i) {
      alone.push_back(std::make_shared<Log>());
      ASSERT_TRUE(loaded->engine().submit(request(i, alone.back())));
      while (loaded->engine().step()) {
      }
    }
  }
  std::unique_ptr<LoadedModel> small;
  std::unique_ptr<ModelDrafter> drafter;
  Knows knows;
  LoadOptions options = small_options();
  const bool states = tiny_model(GetParam().arch)->traits().state_floats > 0;
  if (states) {
    const auto refused = load(GetParam().arch, GetParam().weights, small_options())->make_drafter(kTinyVocab, {});
    EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
    for (int i = 0; i < kRequests; ++i) knows.answers[request(i, nullptr).prompt] = alone[static_cast<std::size_t>(i)]->tokens;
    options.engine.drafts.models = {&knows};
  } else {
    small = load(GetParam().arch, GetParam().weights, small_options());
    drafter = std::move(*small->make_drafter(kTinyVocab, {}));
    options.engine.drafts.models = {drafter.get()};
  }
  options.engine.drafts.lookup = !states;
  options.engine.drafts.adaptive = false;
  options.engine.drafts.most = 4;
  options.threads = 2;
  options.cache_tokens = 160;
  options.engine.max_rows = 9;
  options.engine.max_sequences = 4;
  const auto loaded = load(GetParam().arch, GetParam().weights, options);
  ASSERT_NO_FATAL_FAILURE(add_adapters(*loaded));
  for (int i = 0; i < kRequests; ++i) {
    together.push_back(std::make_shared<Log>());
    ASSERT_TRUE(loaded->engine().submit(request(i, together.back())));
    if (i % 3 == 0) loaded->engine().step();
  }
  while (loaded->engine().step()) ASSERT_EQ(loaded->engine().violation(), "");
  for (std::size_t i = 0; i < alone.size(); ++i) {
    EXPECT_EQ(together[i]->tokens, alone[i]->tokens) << i;
    EXPECT_EQ(together[i]->logprobs, alone[i]->logprobs) << i;
  }
  const EngineStats stats = loaded->engine().stats();
  EXPECT_GT(stats.drafted_tokens, stats.accepted_tokens);
  EXPECT_GT(stats.accepted_tokens, 40);
  EXPECT_EQ(stats.failed_drafters, 0);
}

// Layers of random weights guess wrongly, so nearly every draft is taken back, states and all. What they guess where the
// layers know something is layer_drafter_test.cc's matter.
class LayersThatDraft : public testing::TestWithParam<const char*> {};

TEST_P(LayersThatDraft, ChangeNothing) {
  LoadOptions options = small_options();
  const auto plain = load(GetParam(), tensor::DType::kF32, options);
  options.draft_layers = true;
  options.engine.drafts.layers = true;
  options.engine.drafts.adaptive = false;
  options.engine.drafts.most = 3;
  options.cache_tokens = 160;
  const auto drafting = load(GetParam(), tensor::DType::kF32, options);
  constexpr int kRequests = 12;
  std::vector<std::shared_ptr<Log>> wanted, got;
  for (LoadedModel* model : {plain.get(), drafting.get()}) {
    ASSERT_NO_FATAL_FAILURE(add_adapters(*model));
    for (int i = 0; i < kRequests; ++i) {
      auto& logs = model == plain.get() ? wanted : got;
      logs.push_back(std::make_shared<Log>());
      Request r = random_request(static_cast<std::uint64_t>(i), logs.back());
      ask_for_more(r, i);
      ASSERT_TRUE(model->engine().submit(std::move(r)));
    }
  }
  while (plain->engine().step()) {
  }
  while (drafting->engine().step()) ASSERT_EQ(drafting->engine().violation(), "");
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(got[i]->tokens, wanted[i]->tokens) << i;
    EXPECT_EQ(got[i]->logprobs, wanted[i]->logprobs) << i;
  }
  EXPECT_GT(drafting->engine().stats().drafted_tokens, 50);
  EXPECT_EQ(drafting->engine().stats().failed_drafters, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, LayersThatDraft, testing::Values("qwen3_next", "qwen4_exp_text"), [](const auto& i) { return std::string(i.param); });

TEST(LoadedModel, RejectsWhatMakesNoSense) {
  const auto error = [](auto change) {
    auto model = tiny_model("qwen3");
    Weights weights = random_weights(*model, tensor::DType::kF32);
    LoadOptions options = small_options();
    change(options, weights);
    const auto loaded = LoadedModel::create(std::move(model), weights.views, options);
    return loaded ? std::string("ok") : loaded.error().message;
  };
  EXPECT_EQ(error([](auto&, auto&) {}), "ok");
  EXPECT_NE(error([](auto& o, auto&) { o.context = 129; }).find("context"), std::string::npos);
  EXPECT_NE(error([](auto& o, auto&) { o.block_tokens = 0; }).find("cache"), std::string::npos);
  EXPECT_NE(error([](auto&, auto& w) { w.views.pop_back(); }).find("parameters"), std::string::npos);
  EXPECT_NE(error([](auto&, auto& w) { w.views[0].shape = tensor::Shape{3, 3}; }).find("embed_tokens"),
            std::string::npos);
}

TEST(LoadedModel, ScoringErrors) {
  const auto loaded = load("qwen3", tensor::DType::kF32, small_options());
  const auto visit = [](std::int64_t, std::span<const float>) {};
  EXPECT_EQ(loaded->for_each_logits({}, visit).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(loaded->for_each_logits(std::vector<TokenId>(129, 1), visit).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(loaded->for_each_logits(std::vector<TokenId>{1, 96}, visit).error().kind, ErrorKind::kBadInput);
  EXPECT_EQ(loaded->for_each_logits(std::vector<TokenId>{-1}, visit).error().kind, ErrorKind::kBadInput);
  EXPECT_TRUE(loaded->for_each_logits(std::vector<TokenId>(128, 1), visit));
}

}  // namespace
}  // namespace qw::engine
