// Adapters against tests/golden/lora_*, made by tools/reference/make_adapter_golden.py: PEFT's logits with the adapter in
// use, applied while running and put into the weights; several adapters in one step; and files that do not fit.
#include "models/adapter.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <numeric>

#include "models/internal/test_model.h"
#include "models/load.h"

namespace qw::models {
namespace {

using models::testing::Runner;
using models::testing::TensorFile;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

using Base = models::testing::OpenedGolden;
using models::testing::take;
using models::testing::worst;

std::string base_of(const std::string& name) {
  std::string base;
  std::ifstream(testing::golden_folder() / name / "base.txt") >> base;
  return base;
}

struct Case {
  const char* name;
  const char* file;  // in its folder; "": the folder
  bool running;      // can be applied beside the base
};
const Case kCases[] = {{"lora_plain", "", true},         {"lora_plain", "adapter.gguf", true}, {"lora_pattern", "", true},
                       {"lora_dora", "", true},          {"lora_dora_bias", "", true},         {"lora_bias", "", false},
                       {"lora_tied", "", true},          {"lora_tied", "adapter.gguf", true},  {"lora_saved", "", false},
                       {"lora_moe", "", true}};

fs::path path_of(const Case& c) {
  const fs::path folder = testing::golden_folder() / c.name;
  return *c.file == '\0' ? folder : folder / c.file;
}

// bf16 bases round activations where PEFT's float32 does not.
double tolerance(const Base& b) { return b.views[0].dtype == tensor::DType::kF32 ? 1e-4 : 2e-2; }

TEST(Adapter, AppliedWhileRunningIsWhatPeftComputes) {
  base::ThreadPool threads(2);
  for (const Case& c : kCases) {
    SCOPED_TRACE(path_of(c).string());
    Base b(base_of(c.name));
    const auto file = take(formats::Adapter::open(path_of(c)));
    const auto fitted = take(FittedAdapter::fit(*b.model, file));
    EXPECT_EQ(fitted.applies_while_running(*b.model), c.running);
    if (!c.running) {
      EXPECT_THAT(fitted.running(*b.model, b.views, threads).error().message, HasSubstr("merge it"));
      continue;
    }
    std::vector<ops::LowRankAdapter> adapters;
    adapters.push_back(take(fitted.running(*b.model, b.views, threads)));
    const TensorFile expected(testing::golden_folder() / c.name / "expected.safetensors");
    const auto ids = expected.ids("input_ids");
    for (const auto* table : testing::all_kernels()) {
      const auto& k = *table;
      Runner plain(*b.model, b.views, threads, k), runner(*b.model, b.views, threads, k, tensor::DType::kF32, 4, adapters);
      EXPECT_LT(worst(runner.step(runner.rows_of(ids, 0, 0)), expected.read<float>("logits")), tolerance(b)) << k.name;
      // A row that does not ask for it does not feel it.
      EXPECT_EQ(runner.step(runner.rows_of(ids, 1)), plain.step(plain.rows_of(ids))) << k.name;
    }
  }
}

TEST(Adapter, MergedIsWhatPeftComputes) {
  base::ThreadPool threads(2);
  for (const Case& c : kCases) {
    SCOPED_TRACE(path_of(c).string());
    Base b(base_of(c.name));
    const auto file = take(formats::Adapter::open(path_of(c)));
    auto fitted = take(FittedAdapter::fit(*b.model, file));
    if (fitted.unties(*b.model)) {
      EXPECT_THAT(MergedWeights::create(*b.model, b.views, fitted).error().message, HasSubstr("shares one tensor"));
      Untied apart = take(untied(*b.model, b.views));
      b.model = std::move(apart.model);
      b.views = std::move(apart.weights);
      fitted = take(FittedAdapter::fit(*b.model, file));
    }
    const auto merged = take(MergedWeights::create(*b.model, b.views, fitted));
    const TensorFile expected(testing::golden_folder() / c.name / "expected.safetensors");
    Runner runner(*b.model, merged.views(), threads, kernels::kernels_for(base::best_isa()));
    EXPECT_LT(worst(runner.step(runner.rows_of(expected.ids("input_ids"))), expected.read<float>("logits")), tolerance(b));
  }
}

// What training adapters computes: PEFT's loss, and the gradient of every half and every magnitude.
TEST(Adapter, GradientsArePefts) {
  base::ThreadPool threads(2);
  for (const std::string name : {"lora_dora", "lora_pattern"}) {
    SCOPED_TRACE(name);
    Base b(base_of(name));
    const fs::path folder = testing::golden_folder() / name;
    const auto file = take(formats::Adapter::open(folder));
    const auto fitted = take(FittedAdapter::fit(*b.model, file));
    const auto shapes = testing::shapes_of(*b.model);
    ops::RecordingExecutor recorder(shapes);
    b.model->forward(recorder);
    ops::TrainingOptions options;
    options.max_tokens = 32;
    options.frozen.assign(shapes.size(), true);
    options.stored = b.views;
    for (const auto& c : fitted.changes())
      options.adapters.push_back({{c.parameter}, static_cast<std::int32_t>(c.b.shape()[1]), c.scale, !c.magnitude.empty()});
    ops::TrainingGraph graph(recorder.finish(), shapes, options, kernels::kernels_for(base::best_isa()), threads);
    ops::ParameterBuffer weights(graph.parameter_shapes());
    for (std::size_t j = 0; j < options.adapters.size(); ++j) {
      const auto& c = fitted.changes()[j];
      const std::size_t id = graph.adapter_parameter(j);
      std::copy_n(c.a.f32(), c.a.shape().elements(), weights.data(id));
      std::copy_n(c.b.f32(), c.b.shape().elements(), weights.data(id + 1));
      if (!c.magnitude.empty()) std::copy(c.magnitude.begin(), c.magnitude.end(), weights.data(id + 2));
    }
    const auto ids = TensorFile(folder / "expected.safetensors").ids("input_ids");
    const auto n = static_cast<std::int32_t>(ids.size());
    std::vector<std::int32_t> positions(ids.size()), labels(ids.begin() + 1, ids.end());
    std::iota(positions.begin(), positions.end(), 0);
    labels.push_back(-1);
    const std::vector<std::int32_t> borders{0, n};
    ASSERT_TRUE(graph.forward(weights, {ids, positions, borders, labels}));
    const auto expected = *json::parse(*base::read_file(folder / "gradients.json"));
    const double loss = graph.backward(1.0f / static_cast<float>(n - 1)) / (n - 1);
    EXPECT_NEAR(loss, expected.find("loss")->as_double(), 1e-4);
    std::size_t checked = 0;
    for (std::size_t j = 0; j < options.adapters.size(); ++j) {
      std::string path = b.model->parameters()[static_cast<std::size_t>(options.adapters[j].target.id)].hf_name;
      path = "base_model.model." + path.substr(0, path.rfind(".weight"));
      const char* const kEnds[] = {".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"};
      for (std::size_t half = 0; half < (options.adapters[j].magnitude ? 3u : 2u); ++half, ++checked) {
        const auto g = graph.gradients().tensor(graph.adapter_parameter(j) + half);
        double squares = 0, wave = 0;
        for (std::size_t i = 0; i < g.size(); ++i) {
          squares += double{g[i]} * g[i];
          wave += double{g[i]} * std::cos(static_cast<double>(i));
        }
        const auto& wanted = expected.find("gradients")->find(path + kEnds[half])->as_array();
        const double length = wanted[0].as_double();
        EXPECT_NEAR(std::sqrt(squares), length, 1e-4 * length) << path << kEnds[half];
        EXPECT_NEAR(wave, wanted[1].as_double(), 1e-4 * length) << path << kEnds[half];
      }
    }
    EXPECT_EQ(checked, expected.find("gradients")->as_object().size());
  }
}

// Different adapters in one step: each row gets the bytes it gets alone, whatever its neighbours use.
TEST(Adapter, RowsOfOneStepMayUseDifferentOnes) {
  base::ThreadPool one(1), three(3);
  Base b("qwen3_untied_f32");
  std::vector<ops::LowRankAdapter> adapters;
  for (const char* name : {"lora_plain", "lora_pattern", "lora_dora"})
    adapters.push_back(take(take(FittedAdapter::fit(*b.model, take(formats::Adapter::open(testing::golden_folder() / name))))
                                .running(*b.model, b.views, one)));
  const auto ids = TensorFile(testing::golden_folder() / "lora_plain/expected.safetensors").ids("input_ids");
  for (const auto* table : testing::all_kernels()) {
    const auto& k = *table;
    Runner alone(*b.model, b.views, one, k, tensor::DType::kF32, 4, adapters), batch(*b.model, b.views, three, k, tensor::DType::kF32, 4, adapters);
    std::vector<std::vector<float>> wanted;
    std::vector<Runner::Row> rows;
    for (const std::int32_t adapter : {2, -1, 0, 1}) {
      const auto own = alone.rows_of(ids, adapter + 1, adapter);
      for (const auto& row : own) {  // token by token
        const auto logits = alone.step({row});
        wanted.push_back(logits[0]);
      }
      rows.insert(rows.end(), own.begin(), own.end());
    }
    EXPECT_EQ(batch.step(rows), wanted) << k.name;
    const std::vector<std::int32_t> zero{0}, bad{3};
    const std::vector<std::span<const std::int32_t>> tables{batch.tables[0].blocks()};
    const auto refused = batch.executor->begin({zero, zero, zero, tables, zero, &batch.cache, {}, bad});
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("no adapter 3"));
  }
}

// The head gets its own place, which layers that draft stand behind.
TEST(Adapter, AModelThatDraftsIsUntiedToo) {
  const Base b("draft_qwen3_5_bf16");
  ASSERT_TRUE(b.model->traits().tied_embeddings);
  const auto apart = untied(*b.model, b.views);
  ASSERT_TRUE(apart) << apart.error().message;
  EXPECT_EQ(apart->model->traits().draft_layers, 1);
  std::map<std::string, const std::byte*> before;
  for (std::size_t i = 0; i < b.views.size(); ++i) before[b.model->parameters()[i].hf_name] = b.views[i].data;
  ASSERT_EQ(apart->weights.size(), b.views.size() + 1);
  for (std::size_t i = 0; i < apart->weights.size(); ++i) {
    const ParameterSpec& p = apart->model->parameters()[i];
    EXPECT_EQ(apart->weights[i].shape, p.shape) << p.hf_name;
    EXPECT_EQ(apart->weights[i].data, before[p.hf_name == "lm_head.weight" ? "model.embed_tokens.weight" : p.hf_name]) << p.hf_name;
  }
}

// Experts, stacked as in GGUF files: what only merging does.
TEST(Adapter, StackedExpertsAreMergedOneByOne) {
  Base b("qwen3_moe_untied_f32");
  const fs::path path = fs::temp_directory_path() / ("qw_expert_adapter_" + std::to_string(::getpid()) + ".gguf");
  const std::int64_t experts = b.model->traits().experts, f = 32, d = 32, r = 2;
  std::vector<float> a(static_cast<std::size_t>(experts * r * d)), up(static_cast<std::size_t>(experts * f * r));
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) / 64;
  for (std::size_t i = 0; i < up.size(); ++i) up[i] = static_cast<float>(static_cast<int>(i * 53 % 89) - 44) / 64;
  formats::GgufMetadata metadata;
  metadata.set("general.type", "adapter");
  metadata.set("general.architecture", *b.model->gguf_metadata().find("general.architecture"));
  metadata.set("adapter.type", "lora");
  metadata.set("adapter.lora.alpha", 3.0);
  const auto write = [&](std::int64_t count) {
    auto writer = take(formats::GgufWriter::create(path, metadata, {{"blk.1.ffn_up_exps.weight.lora_a", tensor::DType::kF32, {count, r, d}},
                                                                    {"blk.1.ffn_up_exps.weight.lora_b", tensor::DType::kF32, {count, f, r}}}));
    EXPECT_TRUE(writer.append(std::as_bytes(std::span(a).first(static_cast<std::size_t>(count * r * d)))));
    EXPECT_TRUE(writer.append(std::as_bytes(std::span(up).first(static_cast<std::size_t>(count * f * r)))));
    EXPECT_TRUE(writer.commit());
    return take(formats::Adapter::open(path));
  };
  EXPECT_THAT(FittedAdapter::fit(*b.model, write(experts - 1)).error().message, HasSubstr("3 parts, the model has 4"));
  const auto file = write(experts);
  const auto fitted = take(FittedAdapter::fit(*b.model, file));
  EXPECT_FALSE(fitted.applies_while_running(*b.model));
  const auto merged = take(MergedWeights::create(*b.model, b.views, fitted));
  int changed = 0;
  for (std::size_t i = 0; i < b.views.size(); ++i) {
    const ParameterSpec& p = b.model->parameters()[i];
    if (p.gguf_name != "blk.1.ffn_up_exps.weight") {
      EXPECT_EQ(merged.views()[i].data, b.views[i].data) << p.hf_name;
      continue;
    }
    tensor::Buffer own;
    const auto got = tensor::in_memory(merged.views()[i], own);
    for (std::int64_t o = 0; o < f; ++o)
      for (std::int64_t c = 0; c < d; ++c) {
        double wanted = b.views[i].f32()[o * d + c];
        for (std::int64_t k = 0; k < r; ++k)
          wanted += 1.5 * up[static_cast<std::size_t>((p.gguf_part * f + o) * r + k)] * a[static_cast<std::size_t>((p.gguf_part * r + k) * d + c)];
        ASSERT_NEAR(got.f32()[o * d + c], wanted, 1e-5);
      }
    ++changed;
  }
  EXPECT_EQ(changed, experts);
  fs::remove(path);
}

// ---- files that do not fit ------------------------------------------------------------------------------------------

class HostileAdapter : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("qw_adapter_test_" + std::to_string(::getpid()));
    fs::create_directories(folder_);
    const auto text = base::read_file(testing::golden_folder() / "lora_plain/adapter_config.json");
    config_ = json::parse(*text)->as_object();
    put("q_proj.lora_A.weight", {4, 24});
    put("q_proj.lora_B.weight", {64, 4});
  }
  void TearDown() override { fs::remove_all(folder_); }
  void put(const std::string& name, tensor::Shape shape) {
    const std::string full = "base_model.model.model.layers.0.self_attn." + name;
    std::erase_if(infos_, [&](const auto& t) { return t.name == full; });
    infos_.push_back({full, tensor::DType::kF32, shape});
  }
  std::string error(std::vector<formats::TensorInfo> infos) {
    auto writer = take(formats::SafetensorsWriter::create(folder_ / "adapter_model.safetensors", infos));
    for (const auto& t : infos) EXPECT_TRUE(writer.append(std::vector<std::byte>(static_cast<std::size_t>(t.bytes()))));
    EXPECT_TRUE(writer.commit());
    std::ofstream(folder_ / "adapter_config.json") << json::dump(config_);
    const auto file = formats::Adapter::open(folder_);
    if (!file) return checked(file.error());
    const Base b("qwen3_untied_f32");
    const auto fitted = FittedAdapter::fit(*b.model, *file);
    return fitted ? "ok" : checked(fitted.error());
  }
  std::string error() { return error(infos_); }
  static std::string checked(const Error& e) {
    EXPECT_EQ(e.kind, ErrorKind::kBadInput);
    EXPECT_EQ(e.message.find('\n'), std::string::npos);
    return e.message;
  }
  fs::path folder_;
  json::Object config_;
  std::vector<formats::TensorInfo> infos_;
};

TEST_F(HostileAdapter, TensorsThatDoNotFitAreNamed) {
  EXPECT_EQ(error(), "ok");
  const auto only = infos_;
  EXPECT_THAT(error({only[0]}), HasSubstr("has A and no B"));
  EXPECT_THAT(error({only[1]}), HasSubstr("has B and no A"));
  EXPECT_THAT(error({}), HasSubstr("changes nothing"));
  put("q_proj.lora_B.weight", {64, 5});
  EXPECT_THAT(error(), HasSubstr("differ in rank"));
  put("q_proj.lora_B.weight", {63, 4});
  EXPECT_THAT(error(), HasSubstr("do not fit [64, 24]"));
  put("q_proj.lora_B.weight", {64, 4});
  put("q_proj.lora_A.weight", {4});
  EXPECT_THAT(error(), HasSubstr("are no pair"));
  infos_ = only;
  put("q_proj.lora_magnitude_vector", {64});
  EXPECT_THAT(error(), HasSubstr("a magnitude without use_dora"));
  config_.set("use_dora", true);
  EXPECT_EQ(error(), "ok");
  put("q_proj.lora_magnitude_vector", {63});
  EXPECT_THAT(error(), HasSubstr("a magnitude of shape [63] for 64 outputs"));
  infos_ = only;
  EXPECT_THAT(error(), HasSubstr("use_dora and no magnitude"));
  config_.set("use_dora", false);
  put("q_proj.lora_B.bias", {64});
  EXPECT_THAT(error(), HasSubstr("no part of a LoRA adapter"));
  infos_ = only;
  put("q_norm.weight", {17});
  EXPECT_THAT(error(), HasSubstr("has shape [17], should be [16]"));
  infos_ = only;
  infos_[0].name = "model.layers.0.self_attn.q_proj.lora_A.weight";
  EXPECT_THAT(error(), HasSubstr("does not begin with base_model.model."));
  infos_ = only;
  for (auto& t : infos_) t.name.replace(t.name.find("q_proj"), 6, "c_attn");
  EXPECT_THAT(error(), HasSubstr("the model has no such weight"));
}

TEST_F(HostileAdapter, KindsThatWouldBeComputedWronglyAreRefused) {
  const std::pair<json::Member, const char*> cases[] = {
      {{"peft_type", "IA3"}, "'IA3' is not LORA"},
      {{"peft_type", 3}, "peft_type: is missing"},
      {{"fan_in_fan_out", true}, "fan_in_fan_out: is not supported"},
      {{"lora_bias", true}, "lora_bias"},
      {{"target_parameters", json::Array{"mlp.experts.gate_up_proj"}}, "target_parameters"},
      {{"trainable_token_indices", json::Array{1}}, "trainable_token_indices"},
      {{"init_lora_weights", "pissa_niter_4"}, "changes the base"},
      {{"init_lora_weights", "gaussian"}, "ok"},
      {{"lora_alpha", "16"}, "lora_alpha: must be a number"},
      {{"use_rslora", 1}, "use_rslora: must be true or false"},
      {{"bias", "some"}, "bias"},
      {{"alpha_pattern", json::Object{{"(a+)+$", 3}}}, "regular expressions are not read"},
      {{"alpha_pattern", json::Object{{"^model.layers.0.self_attn.q_proj", 3}}}, "ok"},
      {{"alpha_pattern", json::Array{}}, "must be an object"}};
  const json::Object before = config_;
  for (const auto& [member, wanted] : cases) {
    config_ = before;
    config_.set(member.first, member.second);
    EXPECT_THAT(error(), HasSubstr(wanted)) << member.first;
  }
}

TEST_F(HostileAdapter, OtherFilesAreNamed) {
  EXPECT_THAT(checked(formats::Adapter::open(folder_).error()), HasSubstr("adapter_config.json"));
  std::ofstream(folder_ / "adapter_config.json") << json::dump(config_);
  EXPECT_THAT(checked(formats::Adapter::open(folder_).error()), HasSubstr("no adapter_model.safetensors"));
  std::ofstream(folder_ / "adapter_model.bin") << "PK";
  EXPECT_THAT(checked(formats::Adapter::open(folder_).error()), HasSubstr("adapter_model.bin is not read"));
  EXPECT_THAT(checked(formats::Adapter::open(testing::golden_folder() / "formats/small.gguf").error()), HasSubstr("is no adapter"));
  // Made for another architecture.
  const auto other = take(formats::Adapter::open(testing::golden_folder() / "lora_tied/adapter.gguf"));
  EXPECT_THAT(checked(FittedAdapter::fit(*Base("qwen3_untied_f32").model, other).error()), HasSubstr("is made for a qwen2 model"));
}

}  // namespace
}  // namespace qw::models
