#include "train/internal/rollouts.h"

#include <algorithm>
#include <optional>

#include "formats/adapter.h"
#include "models/adapter.h"
#include "train/internal/lora.h"

namespace qw::train {
namespace {

constexpr std::size_t kMostAtOnce = 512;      // requests in the engine; it takes 1024
constexpr std::int64_t kSequences = 64;       // that run at once
constexpr std::int64_t kCacheTokens = 32768;  // of all of them, as when serving; who finds no room waits

class Collector final : public engine::Sink {
 public:
  engine::Verdict on_token(const engine::TokenEvent& e) noexcept override {
    rollout.tokens.push_back(e.id);
    rollout.logprobs.push_back(e.logprob);
    return engine::Verdict::kContinue;
  }
  void on_finished(const engine::Finished& f) noexcept override {
    rollout.ended = f.reason == engine::FinishReason::kStop;
    error = f.error;
  }
  Rollout rollout;
  std::optional<Error> error;
};

// Weights as an exported model of this precision has them.
class Exported {
 public:
  Exported(const models::Model& model, const ops::ParameterBuffer& weights, bool bf16, base::ThreadPool& pool) {
    for (std::size_t p = 0; p < weights.size(); ++p) {
      const models::ParameterSpec& spec = model.parameters()[p];
      if (!bf16 || spec.shape.rank() != 2 || spec.is_norm || spec.is_bias) {
        views_.push_back({tensor::DType::kF32, weights.shape(p), reinterpret_cast<const std::byte*>(weights.data(p))});
        continue;
      }
      const std::int64_t n = weights.elements(p);
      auto& room = rooms_.emplace_back(static_cast<std::size_t>(n) * sizeof(std::uint16_t));
      auto* to = reinterpret_cast<std::uint16_t*>(room.data());
      const float* from = weights.data(p);
      constexpr std::int64_t kGrain = 1 << 14;
      pool.parallel_for(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) to[i] = tensor::f32_to_bf16(from[i]);
      });
      views_.push_back({tensor::DType::kBF16, weights.shape(p), reinterpret_cast<const std::byte*>(to)});
    }
  }
  const std::vector<tensor::ConstView>& views() const { return views_; }

 private:
  std::vector<tensor::Buffer> rooms_;
  std::vector<tensor::ConstView> views_;
};

json::Object integers_of(const models::Model& model) {
  json::Object out;
  for (const auto& tensor : model.traits().integers)
    out.set(tensor.hf_name, json::Array(tensor.values.begin(), tensor.values.end()));
  return out;
}

}  // namespace

Status Rollouts::load(std::span<const tensor::ConstView> weights) {
  QW_ASSIGN(auto model, models::model_from_hf_config(c_.model.hf_config(), 0, integers_of(c_.model)));
  engine::LoadOptions options;
  options.threads = c_.pool.size();
  options.isa = c_.kernels.isa;
  options.context = c_.config.sequence_length + 1;
  const std::int64_t most = std::min(kSequences, c_.config.batch_sequences * c_.config.accumulation);
  options.cache_tokens = std::min(most * options.context, std::max(kCacheTokens, options.context));
  options.engine.max_sequences = most;
  options.engine.mask = sampling::vocabulary_mask(c_.tokenizer, model->traits().vocab);
  QW_ASSIGN(loaded_, engine::LoadedModel::create(std::move(model), weights, std::move(options)));
  return {};
}

// The folder that is exported at the end, and what serves it reads.
Status Rollouts::adapt(const ops::ParameterBuffer& weights) {
  if (loaded_ == nullptr) QW_TRY(load(c_.lora->base()));
  // Of several processes each has its own, as some may share a folder.
  const auto folder = c_.config.output / (c_.share.leads() ? "rollouts" : "rollouts-" + std::to_string(c_.share.rank()));
  QW_TRY(c_.lora->write(weights, folder));
  QW_ASSIGN(const auto file, formats::Adapter::open(folder));
  QW_ASSIGN(const auto fitted, models::FittedAdapter::fit(loaded_->model(), file));
  QW_ASSIGN(const auto running, fitted.running(loaded_->model(), c_.lora->base(), c_.pool));
  QW_ASSIGN(adapter_, loaded_->load_adapter(running));
  return {};
}

Status Rollouts::begin(const ops::ParameterBuffer& weights) {
  if (c_.lora != nullptr) return adapt(weights);
  return load(Exported(c_.model, weights, c_.config.precision == Precision::kBf16, c_.pool).views());
}

Status Rollouts::end() {
  if (c_.lora == nullptr) {
    loaded_.reset();
    return {};
  }
  return loaded_->engine().remove_adapter(std::exchange(adapter_, -1));
}

Result<std::vector<Rollout>> Rollouts::answers(std::span<const Question> questions, float temperature) {
  std::vector<Rollout> out(questions.size());
  std::vector<std::size_t> own;
  for (std::size_t i = 0; i < questions.size(); ++i)
    if (c_.share.mine(i)) own.push_back(i);
  engine::Engine& engine = loaded_->engine();
  for (std::size_t at = 0; at < own.size(); at += kMostAtOnce) {
    std::vector<std::shared_ptr<Collector>> collectors;
    std::optional<Error> error;
    const auto now = std::span(own).subspan(at, std::min(kMostAtOnce, own.size() - at));
    for (const std::size_t i : now) {
      const Question& question = questions[i];
      engine::Request request;
      request.prompt = question.prompt;
      request.params.temperature = temperature;
      request.params.seed = question.seed;
      request.params.stop_ids = c_.tokenizer.spec().stop;
      request.params.logprobs = true;
      request.max_tokens = max_tokens_;
      request.adapter = adapter_;
      request.sink = collectors.emplace_back(std::make_shared<Collector>());
      if (const auto id = engine.submit(std::move(request)); !id) {
        error = id.error();
        break;
      }
    }
    while (engine.step()) {
    }
    for (std::size_t i = 0; i < collectors.size(); ++i) {
      const auto& collector = collectors[i];
      const std::int32_t read[] = {
          0, static_cast<std::int32_t>(questions[now[i]].prompt.size() + collector->rollout.tokens.size())};
      flops_ += c_.graph.forward_flops(read);
      if (!error && collector->error) error = collector->error;
      out[now[i]] = std::move(collector->rollout);
    }
    if (error) return tl::unexpected(*error);
  }
  QW_TRY(complete(out));
  return out;
}

// Each number is 0 but with the process that drew it, so that sums are the number itself.
Status Rollouts::complete(std::vector<Rollout>& rollouts) {
  if (c_.share.size() == 1) return {};
  std::vector<double> sizes;
  for (const Rollout& r : rollouts) sizes.insert(sizes.end(), {static_cast<double>(r.tokens.size()), r.ended ? 1.0 : 0.0});
  QW_TRY(c_.share.add_up(sizes));
  std::vector<double> said;
  for (std::size_t i = 0; i < rollouts.size(); ++i) {
    Rollout& r = rollouts[i];
    r.tokens.resize(static_cast<std::size_t>(sizes[2 * i]));
    r.logprobs.resize(r.tokens.size());
    r.ended = sizes[2 * i + 1] != 0;
    said.insert(said.end(), r.tokens.begin(), r.tokens.end());
    said.insert(said.end(), r.logprobs.begin(), r.logprobs.end());
  }
  QW_TRY(c_.share.add_up(said));
  auto from = said.begin();
  for (Rollout& r : rollouts) {
    for (auto& token : r.tokens) token = static_cast<tokenizer::TokenId>(*from++);
    for (float& logprob : r.logprobs) logprob = static_cast<float>(*from++);
  }
  return {};
}

}  // namespace qw::train
