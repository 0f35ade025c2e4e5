// The service as it is, with a model that takes no time: what is left is HTTP, JSON, the template, the tokenizer, the
// engine's turns and the way back. bench/http_compare.py measures it beside others.
//
// usage: instant_service PORT [IO_THREADS]; serves the model "instant" until it is killed.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>

#include "api/server.h"
#include "tokenizer/tokenizer.h"

namespace qw {
namespace {

constexpr std::int64_t kVocab = 260;  // bytes, and what frames a conversation
constexpr std::int64_t kRows = 256;   // tokens of a step

// After token t comes t + 1.
class InstantModel final : public engine::StepExecutor {
 public:
  Status run(const ops::StepBatch& batch) override {
    tokens_ = batch.tokens;
    return compute_logits(batch.logit_rows);
  }
  Status compute_logits(std::span<const std::int32_t> wanted) override {
    rows_.assign(wanted.size() * kVocab, 0.0f);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const auto token = tokens_[static_cast<std::size_t>(wanted[i])];
      rows_[i * kVocab + static_cast<std::size_t>((token + 1) % kVocab)] = 20.0f;
    }
    return {};
  }
  std::span<float> logits(std::int64_t i) override {
    return std::span(rows_).subspan(static_cast<std::size_t>(i * kVocab), kVocab);
  }
  std::int64_t vocab() const override { return kVocab; }
  std::int64_t max_rows() const override { return kRows; }
  std::int64_t max_logit_rows() const override { return kRows; }

 private:
  std::span<const std::int32_t> tokens_;  // of the last run
  std::vector<float> rows_;
};

Status serve(int port, int threads) {
  const std::function<std::optional<std::string_view>()> nothing = [] { return std::nullopt; };
  QW_ASSIGN(auto spec, tokenizer::train_bpe(nothing, {.vocab = 256, .added_tokens = {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}}));
  QW_ASSIGN(const auto tokenizer, tokenizer::Tokenizer::create(std::move(spec)));
  QW_ASSIGN(const auto chat_template,
            chat::Template::parse("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
                                  "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"));
  QW_ASSIGN(auto pool, kvcache::BlockPool::create({.layers = 1, .kv_heads = 1, .head_dim = 1}, 4096));
  InstantModel model;
  engine::EngineConfig config;
  config.context = 2048;
  config.max_rows = kRows;
  config.max_sequences = 64;
  QW_ASSIGN(const auto engine, engine::Engine::create(model, pool, config));
  engine->start();
  api::ServedModel served;
  served.id = "instant";
  served.engine = engine.get();
  served.tokenizer = &tokenizer;
  served.chat_template = &chat_template;
  served.defaults.temperature = 0;
  api::ModelList models;
  QW_TRY(models.add(served));
  api::ServiceOptions options;
  options.http.port = static_cast<std::uint16_t>(port);
  options.http.threads = threads;
  QW_ASSIGN(const auto service, api::Service::start(models, std::move(options)));
  std::fprintf(stderr, "listening on 127.0.0.1:%d\n", static_cast<int>(service->port()));
  for (;;) ::pause();
}

}  // namespace
}  // namespace qw

int main(int argc, char** argv) {
  const auto status = qw::serve(argc > 1 ? std::atoi(argv[1]) : 0, argc > 2 ? std::atoi(argv[2]) : 2);
  if (!status) std::fprintf(stderr, "instant_service: %s\n", status.error().message.c_str());
  return 1;
}
