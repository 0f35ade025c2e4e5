// qianwen convert: between Hugging Face folders and GGUF. qianwen quantize: the same into a smaller number format.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "api/tasks.h"
#include "base/file.h"
#include "commands.h"
#include "convert.h"
#include "formats/embedding_config.h"
#include "formats/generation_config.h"
#include "formats/gguf.h"
#include "formats/imatrix.h"
#include "formats/quantise.h"
#include "formats/recipe.h"
#include "formats/safetensors.h"
#include "gguf_tokenizer.h"
#include "json/value.h"
#include "licences.h"
#include "likelihood.h"
#include "models/load.h"
#include "open_model.h"
#include "quality.h"
#include "text_source.h"
#include "tokenizer/prompt.h"

namespace qw::app {
namespace {

namespace fs = std::filesystem;

struct ConvertOptions {
  std::string in, out, type, file, name, licence, imatrix, adapter, quality_text, policy;
  std::vector<std::string> candidates = {"q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m"};
  int threads = 0;
  bool json = false, quantize = false, rounding = false;
};

// What the output's matrices become; nullptr: each tensor stays as it is in the input.
Result<const formats::Recipe*> wanted_recipe(const ConvertOptions& o, const OpenedModel& in) {
  if (o.type.empty()) {
    if (in.source.gguf() != nullptr || in.source.hf_folder()->quantised() != nullptr) return nullptr;
    return formats::find_recipe(tensor::name(weight_dtype(in)));
  }
  const formats::Recipe* recipe = formats::find_recipe(o.type);
  if (recipe == nullptr) {
    return fail(ErrorKind::kUsage, "unknown type " + o.type + ": expected one of " + formats::recipe_names());
  }
  return recipe;
}

Result<formats::GgufMetadata> gguf_metadata(const ConvertOptions& o, const OpenedModel& in,
                                            const formats::Recipe* recipe) {
  formats::GgufMetadata metadata;
  if (in.source.gguf() != nullptr) {
    metadata = formats::GgufMetadata::copy_of(*in.source.gguf());
    // What is left aside is not written, and the keys must not speak of it.
    if (!in.model->traits().left_aside.empty()) {
      const formats::GgufMetadata own = models::gguf_keys(*in.model);
      for (const auto& item : own.items()) metadata.place(item);
    }
  } else {
    metadata = models::gguf_keys(*in.model);
    QW_ASSIGN(auto spec, tokenizer_of(in.path));
    spec.chat_template = chat_template_of(spec);
    const auto end = std::find_if(spec.added.begin(), spec.added.end(), [](const auto& t) { return t.text == api::kEmbeddingEnd; });
    const bool ends = in.model->traits().head.kind == models::HeadKind::kEmbedding && end != spec.added.end();
    if (ends) spec.eos = end->id;
    QW_TRY(write_gguf_tokenizer(spec, in.model->traits().vocab, metadata));
    if (ends) metadata.set("tokenizer.ggml.add_eos_token", true);  // programs that know no tasks: whose row is the embedding
    formats::write_generation_config(in.generation, metadata);
  }
  metadata.set("general.type", "model");
  if (!o.name.empty()) metadata.set("general.name", o.name);
  if (!o.licence.empty()) metadata.set("general.license", o.licence);
  if (recipe != nullptr) metadata.set("general.file_type", recipe->file_type);
  metadata.set("general.quantization_version", 2);
  return metadata;
}

struct Report {
  json::Array tensors;
  std::int64_t in_bytes = 0, out_bytes = 0;
  void add(const formats::TensorInfo& out, const tensor::ConstView& in, const formats::ConversionError& e) {
    in_bytes += in.bytes();
    out_bytes += out.bytes();
    tensors.push_back(json::Object{{"name", out.name},
                                   {"type", std::string(tensor::name(out.dtype))},
                                   {"bytes", out.bytes()},
                                   {"rms_error", e.rms},
                                   {"max_error", e.max},
                                   {"relative_error", e.relative}});
  }
};

// Streams every parameter through the codec into `writer` (GGUF or safetensors), in table order.
template <class Writer>
Result<Report> write_all(Writer& writer, const std::vector<formats::TensorInfo>& infos,
                         const std::vector<tensor::ConstView>& views, base::ThreadPool& pool, bool quiet,
                         const formats::ImportanceMatrix* importance = nullptr) {
  Report report;
  std::size_t part = 0;  // how many parameters before this one are parts of the same tensor
  for (std::size_t i = 0; i < infos.size(); ++i) {
    part = i > 0 && infos[i].name == infos[i - 1].name ? part + 1 : 0;
    const auto weight = importance == nullptr ? std::span<const float>()
                                              : importance->find_part(infos[i].name, part, infos[i].shape.back());
    if (interrupted().load()) return fail(ErrorKind::kInterrupted, "interrupted; nothing was written");
    if (infos[i].dtype == tensor::DType::kI64) {
      QW_TRY(writer.append({views[i].data, static_cast<std::size_t>(views[i].bytes())}));
      continue;
    }
    auto error = formats::convert(views[i], infos[i].dtype, pool,
                                  [&](std::span<const std::byte> rows) { return writer.append(rows); }, weight);
    if (!error) return in_context(infos[i].name, error.error());
    report.add(infos[i], views[i], *error);
    if (!quiet) {
      std::fprintf(stderr, "[%zu/%zu] %s %s, rms error %.3g (%.3f %%)\n", i + 1, infos.size(), infos[i].name.c_str(),
                   std::string(tensor::name(infos[i].dtype)).c_str(), error->rms, 100 * error->relative);
    }
  }
  QW_TRY(writer.commit());
  return report;
}

std::vector<tensor::ConstView> views_of(const models::FileTensors& tensors) {
  std::vector<tensor::ConstView> views;
  for (const models::FileTensor& t : tensors.tensors) views.push_back(t.view);
  return views;
}

Result<Report> write_gguf(const ConvertOptions& o, const OpenedModel& in, const std::vector<tensor::ConstView>& views,
                          const std::vector<tensor::DType>& stored, const formats::Recipe* recipe, base::ThreadPool& pool) {
  std::optional<formats::ImportanceMatrix> importance;
  if (!o.imatrix.empty()) {
    QW_ASSIGN(importance, formats::ImportanceMatrix::open(o.imatrix));
  }
  const formats::RecipeModel shape = recipe_model(*in.model, importance.has_value());
  // Without a recipe a tensor keeps its format, but for the small ones, and for parts that do not agree on one: those
  // become F16.
  const auto kept = [&](std::size_t first) {
    const auto& p = in.model->parameters()[first];
    const auto end = first + static_cast<std::size_t>(p.gguf_parts);
    for (std::size_t i = first; i < end; ++i)
      if (stored[i] != stored[first]) return tensor::DType::kF16;
    const bool small = in.source.gguf() == nullptr &&
                       formats::storage_type(p.gguf_name, p.gguf_shape(), tensor::DType::kF16) == tensor::DType::kF32;
    return small ? tensor::DType::kF32 : formats::file_type(stored[first]);
  };
  // Parts of one tensor (experts) follow one another in the table, and so do their bytes in the file.
  std::vector<formats::TensorInfo> infos, whole;
  for (std::size_t i = 0; i < views.size(); ++i) {
    const auto& p = in.model->parameters()[i];
    if (p.gguf_none) continue;
    if (p.gguf_part == 0) {
      const tensor::DType type =
          recipe == nullptr ? kept(i) : formats::recipe_type(*recipe, p.gguf_name, p.gguf_shape(), shape);
      whole.push_back({p.gguf_name, type, p.gguf_shape()});
    }
    infos.push_back({p.gguf_name, whole.back().dtype, p.shape});
  }
  QW_ASSIGN(const auto there, models::file_tensors(*in.model, views, formats::ModelKind::kGguf));
  QW_ASSIGN(const auto metadata, gguf_metadata(o, in, recipe));
  QW_ASSIGN(auto writer, formats::GgufWriter::create(o.out, metadata, whole));
  return write_all(writer, infos, views_of(there), pool, o.json, importance ? &*importance : nullptr);
}

Result<Report> write_folder(const ConvertOptions& o, const OpenedModel& in, const std::vector<tensor::ConstView>& views,
                            tensor::DType type, base::ThreadPool& pool) {
  if (tensor::is_quantised(type)) {
    // A folder of block-quantised tensors is no format anybody reads: widen, unless the user asked for the type.
    if (!o.type.empty()) return fail(ErrorKind::kUsage, "a folder holds f32, f16 or bf16; write a .gguf file for " + o.type);
    type = tensor::DType::kBF16;
  }
  std::error_code code;
  fs::create_directories(o.out, code);
  if (code) return fail(ErrorKind::kFailed, o.out + ": cannot create: " + code.message());
  QW_ASSIGN(const auto there, models::file_tensors(*in.model, views, formats::ModelKind::kHfFolder));
  std::vector<formats::TensorInfo> infos;
  for (const auto& t : there.tensors) infos.push_back({t.name, t.parameter < 0 ? t.view.dtype : type, t.shape});
  QW_ASSIGN(auto spec, tokenizer_of(in.path));
  spec.chat_template = chat_template_of(spec);
  // A folder's own file keeps what only its readers know; a GGUF file's keys are made into one. The ids come with the
  // tokenizer.
  const json::Object generation = in.source.gguf() == nullptr ? in.source.generation_config()
                                                              : formats::generation_config_json(in.generation);
  QW_TRY(base::write_file_atomically(fs::path(o.out) / "generation_config.json",
                                     json::dump(generation, {.indent = 2}) + "\n"));
  QW_TRY(tokenizer::save_tokenizer_folder(spec, o.out));
  // 5 GB shards, as transformers writes them.
  QW_ASSIGN(auto writer, formats::SafetensorsFolderWriter::create(o.out, infos, std::uint64_t{5} << 30));
  QW_ASSIGN(auto report, write_all(writer, infos, views_of(there), pool, o.json));
  json::Object config = in.model->hf_config();
  config.set("torch_dtype", type == tensor::DType::kBF16 ? "bfloat16" : type == tensor::DType::kF16 ? "float16" : "float32");
  QW_TRY(base::write_file_atomically(fs::path(o.out) / "config.json", json::dump(config, {.indent = 2}) + "\n"));
  if (const auto& t = in.model->traits(); t.head.kind == models::HeadKind::kEmbedding) {
    QW_ASSIGN(auto embedding, formats::read_embedding_config(in.source));
    if (!embedding) embedding = formats::EmbeddingConfig{.normalise = true, .query_prompt = ""};  // what the head alone means
    QW_TRY(formats::write_embedding_config(*embedding, t.width, t.context, o.out));
  }
  return report;
}

// Perplexity of a text under a model on disk, in windows of up to 512 tokens.
Result<double> perplexity(const std::string& path, const std::string& text, int threads) {
  QW_ASSIGN(const OpenedModel opened, open_model(path));
  engine::LoadOptions load;
  load.threads = threads;
  load.context = std::min<std::int64_t>(512, opened.model->traits().context);
  load.logit_rows = 64;
  QW_ASSIGN(ReadyModel model, load_model(path, load));
  const auto ids = tokenizer::encode_prompt(*model.tokenizer, text, true);
  QW_ASSIGN(const Likelihood found, likelihood(*model.loaded, ids, load.context, load.context));
  if (found.logprobs.empty()) return fail(ErrorKind::kUsage, "the text has fewer than two tokens");
  return found.perplexity();
}

Result<Report> write_model(const ConvertOptions& o, OpenedModel& in) {
  std::error_code code;
  if (fs::equivalent(in.path, o.out, code)) return fail(ErrorKind::kUsage, o.out + ": is the input itself");
  QW_ASSIGN(const formats::Recipe* recipe, wanted_recipe(o, in));
  QW_ASSIGN(const ModelWeights weights, weights_of(in, o.adapter));
  base::ThreadPool pool(o.threads);
  const bool to_gguf = o.out.ends_with(".gguf");
  auto report = to_gguf ? write_gguf(o, in, weights.views, weights.stored, recipe, pool)
                        : write_folder(o, in, weights.views, recipe == nullptr ? weight_dtype(in) : recipe->base, pool);
  if (!report) return in_context(o.out, report.error());
  return report;
}

void print_quality(const json::Value& q) {
  std::printf("%lld tokens, perplexity of the source %.4f\n%-10s %12s %12s %10s %10s %9s\n", static_cast<long long>(q.find("tokens")->as_int()),
              q.find("ppl_source")->as_double(), "type", "MB", "perplexity", "KL mean", "KL max", "same top");
  for (const json::Value& t : q.find("types")->as_array()) {
    std::printf("%-10s %12.2f %12.4f %10.5f %10.5f %8.2f%%\n", t.find("type")->as_string().c_str(),
                static_cast<double>(t.find("bytes")->as_int()) / 1e6, t.find("ppl")->as_double(), t.find("kl_mean")->as_double(),
                t.find("kl_max")->as_double(), 100 * t.find("same_top")->as_double());
    if (const auto* kl = t.find("kl_rounding"))
      std::printf("%10s with activations in float: perplexity %.4f; KL of rounding them %.6f\n", "", t.find("ppl_float")->as_double(), kl->as_double());
  }
  const json::Value& best = *q.find("recommended");
  if (best.is_string()) std::printf("recommended: %s, the smallest within a mean divergence of %g nat\n", best.as_string().c_str(), q.find("kl_allowed")->as_double());
  else std::printf("none of them is within a mean divergence of %g nat\n", q.find("kl_allowed")->as_double());
}

Status convert(const ConvertOptions& o) {
  QW_ASSIGN(OpenedModel in, open_model(o.in));
  QW_TRY(check_licences(licensed_parts(in.path, o.adapter), o.policy));
  QW_ASSIGN(auto report, write_model(o, in));
  QW_TRY(carry_records(in.path, o.adapter, o.out, o.type.empty() ? "converted" : "converted to " + o.type));
  json::Object out{{"in", in.path}, {"out", o.out}, {"in_bytes", report.in_bytes}, {"out_bytes", report.out_bytes}};
  if (!o.file.empty()) {
    QW_ASSIGN(const std::string text, read_text(o.file));
    QW_ASSIGN(const double before, perplexity(in.path, text, o.threads));
    QW_ASSIGN(const double after, perplexity(o.out, text, o.threads));
    out.set("ppl_before", before);
    out.set("ppl_after", after);
  }
  if (!o.quality_text.empty()) {
    QW_ASSIGN(const std::string text, read_text(o.quality_text));
    QualityOptions q{o.in, o.adapter, o.imatrix, text, o.candidates, o.threads, o.rounding};
    q.types.insert(q.types.begin(), o.type);
    QW_ASSIGN(json::Object quality, quality_report(q));
    out.set("quality", std::move(quality));
  }
  out.set("tensors", std::move(report.tensors));
  if (o.json) {
    std::puts(json::dump(out).c_str());
    return {};
  }
  std::printf("%s: %.2f MB -> %s: %.2f MB\n", in.path.c_str(), static_cast<double>(report.in_bytes) / 1e6, o.out.c_str(),
              static_cast<double>(report.out_bytes) / 1e6);
  if (const auto* quality = out.find("quality")) print_quality(*quality);
  if (const auto* before = out.find("ppl_before")) {
    std::printf("perplexity %.4f -> %.4f\n", before->as_double(), out.find("ppl_after")->as_double());
  }
  return {};
}

CLI::App* add_common(CLI::App& app, const char* name, const char* help, const std::shared_ptr<ConvertOptions>& o, Outcome& outcome) {
  CLI::App* cmd = app.add_subcommand(name, help);
  cmd->add_option("in", o->in, "MODEL to read")->required();
  add_models_option(*cmd);
  cmd->add_option("out", o->out, "a .gguf file, or a folder for safetensors")->required();
  cmd->add_option("--file", o->file, "a text: report perplexity before and after");
  cmd->add_option("--adapter,--lora", o->adapter, "LoRA adapter to merge: a PEFT folder or a GGUF file");
  cmd->add_option("--name", o->name, "general.name of a GGUF file");
  cmd->add_option("--licence", o->licence, "general.license of a GGUF file");
  cmd->add_option("--policy", o->policy, "a profile that says what becomes of missing or clashing licences (default: a warning)");
  add_threads_option(*cmd, o->threads);
  cmd->add_flag("--json", o->json, "print one JSON object");
  cmd->callback([o, &outcome] {
    if (auto status = convert(*o); !status) outcome.code = report(status.error());
  });
  return cmd;
}

}  // namespace

Status convert_model(const std::string& in, const std::string& out, const std::string& type, int threads) {
  ConvertOptions o;
  o.in = in;
  o.out = out;
  o.type = type;
  o.threads = threads;
  o.json = true;  // no progress for a person
  QW_ASSIGN(OpenedModel opened, open_model(in));
  QW_ASSIGN(const Report report, write_model(o, opened));
  return {};
}

void add_convert(CLI::App& app, Outcome& outcome) {
  auto o = std::make_shared<ConvertOptions>();
  CLI::App* cmd = add_common(app, "convert", "Convert a model between GGUF and safetensors", o, outcome);
  cmd->add_option("--type", o->type, formats::recipe_names() + " (default: as the input)");
}

void add_quantize(CLI::App& app, Outcome& outcome) {
  auto o = std::make_shared<ConvertOptions>();
  CLI::App* cmd = add_common(app, "quantize", "Write a model in a smaller number format", o, outcome);
  cmd->add_option("--type", o->type, "one of " + formats::recipe_names())->required();
  cmd->add_option("--imatrix", o->imatrix, "importance matrix that weighs the errors (of the command imatrix, or another tool's)");
  cmd->add_option("--report", o->quality_text, "a text: compare number formats with the source on it, and recommend one");
  cmd->add_flag("--rounding", o->rounding, "--report also tells what rounding activations costs, apart from what the weights cost");
  cmd->add_option("--candidates", o->candidates, "formats --report compares beside --type")->delimiter(',');
}

}  // namespace qw::app
