// qianwen score: log-likelihood of a text under a model; with --logits, the logits themselves.
#include <cstdio>
#include <numbers>

#include "commands.h"
#include "formats/npy.h"
#include "json/value.h"
#include "likelihood.h"
#include "open_model.h"
#include "text_source.h"
#include "tokenizer/prompt.h"

namespace qw::app {
namespace {

struct ScoreOptions {
  std::string model, ids, file, logits, adapter, cache_type = "auto";
  std::int64_t context = 0, stride = 0;
  int threads = 0;
  bool json = false;
};

Status score(const ScoreOptions& o) {
  engine::LoadOptions load;
  load.threads = o.threads;
  load.cache_dtype = cache_dtype(o.cache_type);
  load.logit_rows = 64;   // rows whose logits are computed together
  QW_ASSIGN(ReadyModel model, load_adapted_model(o.model, load, o.adapter));
  std::vector<engine::TokenId> ids;
  std::size_t bytes = 0;
  if (!o.ids.empty()) {
    QW_ASSIGN(ids, parse_ids("score: --ids", o.ids));
    bytes = model.tokenizer->decode_bytes(ids, true).size();
  } else {
    QW_ASSIGN(const std::string text, read_text(o.file));
    ids = tokenizer::encode_prompt(*model.tokenizer, text, true);  // a text is no place for control tokens
    bytes = text.size();
  }
  if (ids.empty()) return fail(ErrorKind::kUsage, "score: nothing to score");
  const std::int64_t longest = model.loaded->engine().max_sequence_tokens();
  const std::int64_t context = o.context > 0 ? std::min(o.context, longest) : longest;
  const std::int64_t stride = o.stride > 0 ? std::min(o.stride, context) : context;
  std::optional<formats::NpyWriter> writer;
  if (!o.logits.empty()) {
    QW_ASSIGN(auto npy, formats::NpyWriter::create(o.logits, tensor::DType::kF32,
                                                   {static_cast<std::int64_t>(ids.size()), model.loaded->engine().vocab()}));
    writer.emplace(std::move(npy));
  }
  QW_ASSIGN(const Likelihood s, likelihood(*model.loaded, ids, context, stride, writer ? &*writer : nullptr, model.adapter));
  if (writer) QW_TRY(writer->commit());
  const double ppl = s.perplexity();
  const double bits_per_byte = bytes > 0 ? s.nll / std::numbers::ln2 / static_cast<double>(bytes) : 0;
  if (o.json) {
    json::Array logprobs;
    for (const float l : s.logprobs) logprobs.emplace_back(static_cast<double>(l));
    std::puts(json::dump(json::Object{{"tokens", static_cast<std::int64_t>(ids.size())},
                                      {"nll", s.nll},
                                      {"ppl", ppl},
                                      {"bits_per_byte", bits_per_byte},
                                      {"token_logprobs", std::move(logprobs)}}).c_str());
  } else {
    std::printf("%zu tokens, %zu bytes: nll %.4f nats, perplexity %.4f, %.4f bits per byte\n", ids.size(), bytes, s.nll, ppl,
                bits_per_byte);
  }
  return {};
}

}  // namespace

void add_score(CLI::App& app, Outcome& outcome) {
  auto o = std::make_shared<ScoreOptions>();
  CLI::App* cmd = app.add_subcommand("score", "Log-likelihood of a text under a model");
  cmd->add_option("-m,--model", o->model, "MODEL")->required();
  add_models_option(*cmd);
  auto* ids = cmd->add_option("--ids", o->ids, "token ids, e.g. 1,2,3");
  auto* file = cmd->add_option("--file", o->file, "text file (- for standard input)")->excludes(ids);
  cmd->add_option("--logits", o->logits, "write float32 [T, V] here (.npy); row t = logits after token t");
  cmd->add_option("--adapter,--lora", o->adapter, "LoRA adapter in use: a PEFT folder or a GGUF file");
  cmd->add_option("--context", o->context, "tokens of a window (default: the model's context)")->check(CLI::PositiveNumber);
  cmd->add_option("--stride", o->stride, "tokens between windows (default: the window)")->check(CLI::PositiveNumber);
  add_cache_type_option(*cmd, o->cache_type);
  add_threads_option(*cmd, o->threads);
  cmd->add_flag("--json", o->json, "print one JSON object");
  cmd->callback([o, ids, file, &outcome] {
    if (ids->count() + file->count() == 0) {
      outcome.code = report({ErrorKind::kUsage, "score: give --ids or --file"});
    } else if (auto status = score(*o); !status) {
      outcome.code = report(status.error());
    }
  });
}

}  // namespace qw::app
