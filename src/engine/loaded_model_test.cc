// The engine over real (tiny, random) models: what the fake executor cannot show.
#include "engine/loaded_model.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/rng.h"
#include "tensor/blocks.h"

namespace qw::engine {
namespace {

constexpr std::int64_t kVocab = 96;

std::unique_ptr<models::Model> tiny_model(const std::string& type) {
  const auto config = json::parse(R"({"model_type":")" + type + R"(","vocab_size":96,"hidden_size":64,
    "intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":32,
    "max_position_embeddings":128,"rms_norm_eps":1e-6,"rope_theta":10000.0,"tie_word_embeddings":true,
    "hidden_act":"silu","full_attention_interval":2,"linear_num_key_heads":2,"linear_num_value_heads":4,
    "linear_key_head_dim":16,"linear_value_head_dim":16,"num_experts":4,"num_experts_per_tok":2,
    "moe_intermediate_size":32,"shared_expert_intermediate_size":32})");
  EXPECT_TRUE(config) << config.error().message;
  auto model = models::model_from_hf_config(config->as_object());
  EXPECT_TRUE(model) << model.error().message;
  return std::move(*model);
}

struct Weights {
  std::vector<tensor::Tensor> owners;
  std::vector<tensor::ConstView> views;
};
// Large deviations make a sharp, history-dependent distribution out of a tiny network.
Weights random_weights(const models::Model& model, tensor::DType type) {
  Weights w;
  for (std::size_t i = 0; i < model.parameters().size(); ++i) {
    const models::ParameterSpec& p = model.parameters()[i];
    base::Rng rng(77, i);
    std::vector<float> values(static_cast<std::size_t>(p.shape.elements()));
    for (float& v : values) v = p.is_norm ? 1.0f : static_cast<float>(rng.next_normal() * 0.15);
    const bool taps = p.hf_name.ends_with("conv1d.weight");  // files keep them in float
    w.owners.emplace_back(p.shape.rank() == 2 && !taps ? type : tensor::DType::kF32, p.shape);
    const tensor::View view = w.owners.back().view();
    for (std::int64_t r = 0; r < p.shape.rows(); ++r)
      tensor::encode_row(view.dtype, values.data() + r * p.shape.back(), p.shape.back(),
                         view.data + r * tensor::row_bytes(view.dtype, p.shape.back()));
    w.views.push_back(view);
  }
  return w;
}

LoadOptions small_options() {
  LoadOptions o;
  o.threads = 1;
  o.block_tokens = 8;
  o.cache_tokens = 512;
  o.engine.max_rows = 24;
  o.engine.max_sequences = 6;
  o.engine.growth_tokens = 8;
  return o;
}

std::unique_ptr<LoadedModel> load(const std::string& arch, tensor::DType type, const LoadOptions& options) {
  auto model = tiny_model(arch);
  const Weights weights = random_weights(*model, type);
  auto loaded = LoadedModel::create(std::move(model), weights.views, options);
  EXPECT_TRUE(loaded) << loaded.error().message;
  return std::move(*loaded);
}

struct Log final : Sink {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;
  int finished = 0;
  Verdict on_token(const TokenEvent& e) noexcept override {
    tokens.push_back(e.id);
    logprobs.push_back(e.logprob);
    return Verdict::kContinue;
  }
  void on_finished(const Finished& f) noexcept override {
    ++finished;
    EXPECT_FALSE(f.error) << f.error->message;
  }
};

Request random_request(std::uint64_t seed, std::shared_ptr<Sink> sink) {
  base::Rng rng(seed);
  Request r;
  for (std::uint64_t n = 1 + rng.below(50); n > 0; --n) r.prompt.push_back(static_cast<TokenId>(rng.below(kVocab)));
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
    EXPECT_EQ(logits.size(), static_cast<std::size_t>(kVocab));
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
                                         Case{"qwen2", tensor::DType::kMXFP4}, Case{"qwen3_next", tensor::DType::kF32},
                                         Case{"qwen3_next", tensor::DType::kQ8_0}, Case{"qwen3_5_text", tensor::DType::kBF16}),
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
    std::vector<ops::LowRankAdapter> adapters(2);
    for (std::size_t n = 0; n < adapters.size(); ++n)
      for (std::size_t i = 0; i < model->parameters().size(); ++i) {
        const models::ParameterSpec& p = model->parameters()[i];
        if (p.hf_name.find("q_proj") == std::string::npos && p.hf_name.find("down_proj") == std::string::npos) continue;
        ops::LowRankChange c{{static_cast<std::int32_t>(i)}, false, tensor::Tensor(tensor::DType::kF32, {3, p.shape[1]}),
                             tensor::Tensor(tensor::DType::kF32, {p.shape[0], 3}), 0.5f, {}};
        base::Rng rng(5 + n, i);
        for (std::int64_t k = 0; k < c.a.shape().elements(); ++k) c.a.f32()[k] = static_cast<float>(rng.next_normal() * 0.3);
        for (std::int64_t k = 0; k < c.b.shape().elements(); ++k) c.b.f32()[k] = static_cast<float>(rng.next_normal() * 0.3);
        adapters[n].changes.push_back(std::move(c));
      }
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
