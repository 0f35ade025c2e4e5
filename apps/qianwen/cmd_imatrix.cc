// qianwen imatrix: how much each input of each matrix is used on a text, to weigh quantisation errors with.
#include <cstdio>
#include <filesystem>

#include "commands.h"
#include "formats/imatrix.h"
#include "json/value.h"
#include "likelihood.h"
#include "open_model.h"
#include "text_source.h"
#include "tokenizer/prompt.h"

namespace qw::app {
namespace {

struct ImatrixOptions {
  std::string model, file, out;
  std::int64_t context = 512;   // as other tools read calibration texts
  int threads = 0;
  bool json = false;
};

// Adds up by the names that weights have in GGUF files.
class Calibration final : public ops::ProductObserver {
 public:
  explicit Calibration(const models::Model& model) : parameters_(model.parameters()) {
    for (const auto& p : parameters_)
      if (p.shape.rank() == 2 && p.gguf_part == 0 && !p.draft) sums_.add(p.gguf_name, p.gguf_parts, p.shape[1]);
  }
  void on_product(ops::Weight weight, const float* x, std::int64_t rows, std::int64_t) override {
    const auto& p = parameters_[static_cast<std::size_t>(weight.id)];
    sums_.meet(p.gguf_name, p.gguf_part, x, rows);
  }
  const formats::ImportanceSums& sums() const { return sums_; }

 private:
  const std::vector<models::ParameterSpec>& parameters_;   // the model's
  formats::ImportanceSums sums_;
};

Status imatrix(const ImatrixOptions& o) {
  QW_ASSIGN(const std::string text, read_text(o.file));
  engine::LoadOptions load;
  load.threads = o.threads;
  load.logit_rows = 64;   // rows whose logits are computed together
  QW_ASSIGN(ReadyModel model, load_model(o.model, load));
  const auto ids = tokenizer::encode_prompt(*model.tokenizer, text, true);  // a text is no place for control tokens
  if (ids.empty()) return fail(ErrorKind::kUsage, "imatrix: the text is empty");
  const std::int64_t context = std::min(o.context, model.loaded->engine().max_sequence_tokens());
  Calibration calibration(model.loaded->model());
  model.loaded->observe(&calibration);
  const auto scored = likelihood(*model.loaded, ids, context, context);
  model.loaded->observe(nullptr);
  if (!scored) return tl::unexpected(scored.error());
  const auto tokens = static_cast<std::int64_t>(ids.size()), chunks = (tokens + context - 1) / context;
  QW_TRY(calibration.sums().write(o.out, std::filesystem::path(o.file).filename().string(), chunks, context));
  if (o.json) {
    std::puts(json::dump(json::Object{{"out", o.out}, {"tokens", tokens}, {"chunks", chunks}, {"ppl", scored->perplexity()}}).c_str());
  } else {
    std::printf("%s: %lld tokens in %lld chunks, perplexity %.4f\n", o.out.c_str(), static_cast<long long>(tokens),
                static_cast<long long>(chunks), scored->perplexity());
  }
  return {};
}

}  // namespace

void add_imatrix(CLI::App& app, Outcome& outcome) {
  auto o = std::make_shared<ImatrixOptions>();
  CLI::App* cmd = app.add_subcommand("imatrix", "Measure on a text how much the inputs of each matrix are used (for quantize --imatrix)");
  cmd->add_option("-m,--model", o->model, "MODEL")->required();
  add_models_option(*cmd);
  cmd->add_option("-f,--file", o->file, "calibration text (- for standard input)")->required();
  cmd->add_option("-o,--out", o->out, "file to write: GGUF, or the older layout if it ends in .dat")->required();
  cmd->add_option("--context", o->context, "tokens read together (default: 512)")->check(CLI::PositiveNumber);
  add_threads_option(*cmd, o->threads);
  cmd->add_flag("--json", o->json, "print one JSON object");
  cmd->callback([o, &outcome] {
    if (auto status = imatrix(*o); !status) outcome.code = report(status.error());
  });
}

}  // namespace qw::app
