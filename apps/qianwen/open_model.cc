#include "open_model.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <map>
#include <string_view>

#include "base/cpu.h"
#include "base/sha256.h"
#include "chat/prompt.h"
#include "formats/embedding_config.h"
#include "gguf_tokenizer.h"
#include "model_facts.h"
#include "models/load.h"
#include "text_source.h"

namespace qw::app {
namespace {

double gigabytes(std::int64_t bytes) { return static_cast<double>(bytes) / 1e9; }

sampling::SamplingParams sampling_params(const formats::GenerationConfig& stated) {
  sampling::SamplingParams p;
  const auto set = [](float& to, const std::optional<double>& from) {
    if (from) to = static_cast<float>(*from);
  };
  set(p.temperature, stated.temperature);
  set(p.top_p, stated.top_p);
  set(p.min_p, stated.min_p);
  set(p.repetition_penalty, stated.repetition_penalty);
  if (stated.top_k) p.top_k = static_cast<std::int32_t>(*stated.top_k);
  return p;
}

std::int64_t bytes_of(const models::FittedAdapter& adapter) {
  std::int64_t bytes = 0;
  for (const auto& c : adapter.changes())
    bytes += (c.a.shape().elements() + c.b.shape().elements()) * std::int64_t{sizeof(float)};
  return bytes;
}

engine::MemoryNeed need_of(const OpenedModel& opened, std::span<const tensor::ConstView> weights,
                           const std::vector<models::FittedAdapter>& adapters, const engine::LoadOptions& options) {
  auto need = engine::estimate_memory(*opened.model, formats_of(weights), options);
  for (const models::FittedAdapter& adapter : adapters) need.weight_bytes += bytes_of(adapter);
  return need;
}

Status check_memory(const OpenedModel& opened, std::span<const tensor::ConstView> weights,
                    const std::vector<models::FittedAdapter>& adapters, const engine::LoadOptions& options) {
  const auto need = need_of(opened, weights, adapters, options);
  const auto have = static_cast<std::int64_t>(base::available_memory_bytes());
  if (need.total() <= have) return {};
  char text[256];
  std::snprintf(text, sizeof(text), "needs %.2f GB of memory (weights %.2f, cache %.2f, workspace %.2f), %.2f GB are available",
                gigabytes(need.total()), gigabytes(need.weight_bytes), gigabytes(need.cache_bytes),
                gigabytes(need.workspace_bytes), gigabytes(have));
  return fail(ErrorKind::kResource, opened.path + ": " + text);
}

}  // namespace

std::string chat_template_of(const tokenizer::TokenizerSpec& spec) {
  if (!spec.chat_template.empty()) return spec.chat_template;
  for (const auto& added : spec.added) {
    if (added.text == "<|im_start|>") return std::string(chat::kChatMlTemplate);
  }
  return "";
}

std::string served_name(const std::string& model) {
  std::string name = std::filesystem::path(model).filename().string();
  if (name.ends_with(".gguf")) name.resize(name.size() - 5);
  return name;
}

Result<OpenedModel> open_model(const std::string& name) {
  QW_ASSIGN(std::string path, resolve_model(name));
  QW_ASSIGN(auto source, formats::ModelSource::open(path));
  QW_ASSIGN(auto model, models::model_from_source(source));
  QW_ASSIGN(const auto generation, formats::read_generation_config(source));
  return OpenedModel{std::move(path), std::move(source), std::move(model), generation};
}

tensor::DType weight_dtype(const OpenedModel& opened) {
  std::map<tensor::DType, std::int64_t> elements;
  for (const auto& t : opened.source.tensors()) {
    if (t.shape.rank() >= 2) elements[t.dtype] += t.shape.elements();
  }
  tensor::DType most = tensor::DType::kF32;
  for (const auto& [type, count] : elements) {
    if (count > elements[most]) most = type;
  }
  return most;
}

formats::RecipeModel recipe_model(const models::Model& model, bool importance) {
  const auto& t = model.traits();
  return {t.layers + static_cast<std::int32_t>(t.recurrent.size()), t.heads, t.kv_heads, t.tied_embeddings, importance};
}

std::vector<tensor::DType> formats_of(std::span<const tensor::ConstView> weights) {
  std::vector<tensor::DType> formats;
  for (const tensor::ConstView& w : weights) formats.push_back(w.dtype);
  return formats;
}

namespace {

// What the model's head is for beside generating.
Status set_tasks(const models::HeadTraits& head, const OpenedModel& opened, ReadyModel& ready) {
  if (head.kind == models::HeadKind::kLanguage) ready.ranking = api::ranking_by_tokens(*ready.tokenizer);
  if (head.kind == models::HeadKind::kClasses) ready.ranking = api::ranking_by_labels(head.labels, head.outputs);
  if (head.kind != models::HeadKind::kEmbedding) return {};
  QW_ASSIGN(const auto stated, formats::read_embedding_config(opened.source));
  // A file that names only the head means what the family's makers do.
  ready.embedding = api::EmbeddingTask{head.outputs, !stated || stated->normalise};
  return {};
}

// The text side of an opened model, without its tasks. Beside the loading of its weights: opened.model may go meanwhile.
Result<ReadyModel> ready_text(const std::string& name, const OpenedModel& opened) {
  ReadyModel ready;
  ready.name = served_name(name);
  ready.defaults = sampling_params(opened.generation);
  auto spec = opened.source.gguf() != nullptr ? tokenizer_of_gguf(*opened.source.gguf())
                                              : tokenizer::load_tokenizer_folder(opened.path);
  if (!spec) return tl::unexpected(std::move(spec).error());   // names the file already
  ready.defaults.stop_ids = spec->stop;
  const std::string template_source = chat_template_of(*spec);
  QW_ASSIGN(auto tokenizer, tokenizer::Tokenizer::create(std::move(*spec)));
  ready.tokenizer = std::make_unique<tokenizer::Tokenizer>(std::move(tokenizer));
  ready.constraints = std::make_unique<sampling::ConstraintCompiler>(*ready.tokenizer);
  if (!template_source.empty()) {
    auto parsed = chat::Template::parse(template_source);
    if (!parsed) return in_context(opened.path + ": chat template", parsed.error());
    ready.chat_template = std::move(*parsed);
    ready.template_sha256 = base::sha256_hex(template_source);
    // What a template tells its model to write is what the model writes.
    if (template_source.find("<function=") != std::string::npos) ready.tool_dialect = sampling::ToolDialect::kXml;
    ready.thinks = template_source.find("<think>") != std::string::npos;
  }
  return ready;
}

// Where packed weights are kept: QW_PACK_CACHE, a folder, with at most QW_PACK_CACHE_LIMIT bytes; null without it.
const ops::PackCache* pack_cache() {
  static const std::optional<ops::PackCache> cache = []() -> std::optional<ops::PackCache> {
    constexpr std::uint64_t kLimit = std::uint64_t{32} << 30;
    const char *folder = std::getenv("QW_PACK_CACHE"), *limit = std::getenv("QW_PACK_CACHE_LIMIT");
    if (folder == nullptr || *folder == '\0') return std::nullopt;
    const std::string text = limit == nullptr ? "" : limit;
    const auto note = [](std::string_view what) { std::fprintf(stderr, "note: %.*s\n", static_cast<int>(what.size()), what.data()); };
    if (text.size() > 18 || !std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      note("QW_PACK_CACHE_LIMIT=" + text + ": expected a number of bytes; packed weights are not kept");
      return std::nullopt;
    }
    return ops::PackCache(folder, text.empty() ? kLimit : std::stoull(text), note);
  }();
  return cache ? &*cache : nullptr;
}

using Clock = std::chrono::steady_clock;

// Ids must mean the same to both models.
Status check_same_vocabulary(const std::string& name, const tokenizer::Tokenizer& a, const tokenizer::Tokenizer& b) {
  const std::int64_t n = std::min(a.vocab_size(), b.vocab_size());
  std::int64_t differ = a.spec().tokens.size() != b.spec().tokens.size();
  for (std::int64_t id = 0; id < n && differ == 0; ++id)
    differ += a.token_bytes(static_cast<tokenizer::TokenId>(id)) != b.token_bytes(static_cast<tokenizer::TokenId>(id));
  if (differ == 0) return {};
  return fail(ErrorKind::kUsage, name + ": its vocabulary is another, so it cannot draft for this model");
}

// How a model that drafts for another is loaded: with a cache as large.
engine::LoadOptions drafter_options(const engine::LoadOptions& target) {
  engine::LoadOptions own;
  own.threads = target.threads;
  own.isa = target.isa;
  own.cache_tokens = target.cache_tokens;
  own.cache_dtype = target.cache_dtype;
  own.engine.max_rows = target.engine.max_rows;
  own.engine.max_sequences = target.engine.max_sequences;
  return own;
}

bool names_model(const DraftChoice& drafts) {
  return drafts.most > 0 && drafts.source != "off" && drafts.source != "auto" && drafts.source != "lookup" && drafts.source != "mtp";
}

// Layers of the model that draft are loaded where they are wanted.
void set_draft_layers(const DraftChoice& drafts, const models::Model& model, engine::LoadOptions& options) {
  options.draft_layers = model.traits().draft_layers > 0 && (drafts.source == "auto" || drafts.source == "mtp");
  options.engine.drafts.layers = options.draft_layers;
}

// A second model that drafts for the one about to be loaded.
Status load_drafter(const DraftChoice& drafts, const OpenedModel& target, engine::LoadOptions& options, ReadyModel& ready) {
  QW_ASSIGN(ReadyModel second, load_model(drafts.source, drafter_options(options)));
  QW_TRY(check_same_vocabulary(drafts.source, *second.tokenizer, *ready.tokenizer));
  auto drafter = second.loaded->make_drafter(target.model->traits().vocab, options.engine.mask);
  if (!drafter) return in_context(drafts.source, drafter.error());
  ready.draft_model = std::move(second.loaded);
  ready.drafter = std::move(*drafter);
  options.engine.drafts.models.push_back(ready.drafter.get());
  return {};
}

// Text that repeats itself is worth looking up beside any other source; it costs nothing where it finds nothing.
Status set_drafts(const DraftChoice& drafts, const OpenedModel& opened, engine::LoadOptions& options, ReadyModel& ready) {
  options.engine.drafts.most = drafts.most;
  if (drafts.source == "off" || drafts.most == 0 || opened.model->traits().head.kind != models::HeadKind::kLanguage) return {};
  options.engine.drafts.lookup = true;
  set_draft_layers(drafts, *opened.model, options);
  if (drafts.source == "mtp" && !options.draft_layers)
    return fail(ErrorKind::kUsage, opened.path + ": has no layers that draft; use --draft lookup, or name a MODEL");
  if (!names_model(drafts)) return {};
  return load_drafter(drafts, opened, options, ready);
}

// Loads `views`, with adapters that stay apart from them. The time is counted from `started`.
Result<ReadyModel> load_opened(const std::string& name, OpenedModel& opened, std::span<const tensor::ConstView> views,
                               const std::vector<models::FittedAdapter>& adapters, engine::LoadOptions options,
                               const DraftChoice& drafts, Clock::time_point started) {
  // A vocabulary takes as long to put in order as half a gigabyte of weights to pack, on one thread: both at once.
  auto text = std::async(std::launch::async, [&] { return ready_text(name, opened); });
  ReadyModel ready;
  const std::int64_t vocab = opened.model->traits().vocab;
  const auto take_text = [&]() -> Result<sampling::VocabularyMask> {
    if (text.valid()) {
      QW_ASSIGN(ready, text.get());
    }
    return sampling::vocabulary_mask(*ready.tokenizer, vocab);
  };
  if (names_model(drafts)) {
    QW_ASSIGN(options.engine.mask, take_text());  // the drafter is asked whether its vocabulary is the same
  }
  QW_TRY(set_drafts(drafts, opened, options, ready));
  QW_TRY(check_memory(opened, views, adapters, options));
  std::vector<ops::LowRankAdapter> running;
  if (!adapters.empty()) {
    base::ThreadPool pool(options.threads);
    for (const models::FittedAdapter& adapter : adapters) {
      QW_ASSIGN(auto one, adapter.running(*opened.model, views, pool));
      running.push_back(std::move(one));
    }
  }
  options.late_mask = take_text;
  options.pack_cache = pack_cache();
  api::ModelFacts facts = facts_of(opened, views, options);
  QW_ASSIGN(auto loaded, engine::LoadedModel::create(std::move(opened.model), views, options, running));
  ready.loaded = std::move(loaded);
  ready.facts = std::move(facts);
  QW_TRY(set_tasks(ready.loaded->model().traits().head, opened, ready));
  ready.load_ms = std::chrono::duration<double, std::milli>(Clock::now() - started).count();
  return ready;
}

// Says once what stands in the files and is not used or computed.
Result<std::vector<tensor::ConstView>> weights_in(const OpenedModel& opened) {
  QW_ASSIGN(auto views, models::load_weights(*opened.model, opened.source));
  std::map<std::string, int> aside;
  for (const auto& t : opened.source.tensors())
    for (const auto& known : opened.model->traits().left_aside)
      if (t.name.starts_with(known.prefix)) ++aside[known.what];
  for (const auto& [what, count] : aside)
    std::fprintf(stderr, "note: %d tensors of %s are left aside\n", count, what.c_str());
  for (const std::string& notice : opened.model->traits().notices) std::fprintf(stderr, "note: %s\n", notice.c_str());
  return views;
}

Result<models::FittedAdapter> fitted_adapter(const models::Model& model, const std::string& path) {
  QW_ASSIGN(const auto file, formats::Adapter::open(path));
  return models::FittedAdapter::fit(model, file);
}

// One that requests may choose beside others.
Result<models::FittedAdapter> running_adapter(const models::Model& model, const std::string& path) {
  QW_ASSIGN(auto one, fitted_adapter(model, path));
  if (one.applies_while_running(model)) return one;
  return fail(ErrorKind::kUsage, path + ": replaces whole weights or changes experts, so it cannot be chosen by requests; "
                                        "merge it: qianwen convert MODEL OUT --adapter " + path);
}

}  // namespace

void add_cache_type_option(CLI::App& cmd, std::string& name) {
  cmd.add_option("--cache-type", name, "numbers of keys and values: f32, f16, bf16, q8 or q4 (default: f32 of f32 weights, else bf16 on AMX and on AMD processors with AVX-512, f16 elsewhere)")
      ->check(CLI::IsMember({"auto", "f32", "f16", "bf16", "q8", "q4"}));
}

std::optional<tensor::DType> cache_dtype(const std::string& name) {
  if (name == "auto") return std::nullopt;
  if (name == "q8") return tensor::DType::kQ8_0;
  if (name == "q4") return tensor::DType::kQ4_0;
  return tensor::dtype_from_name(name);
}

Result<ReadyModel> load_model(const std::string& name, engine::LoadOptions options, const std::vector<std::string>& adapters,
                              const DraftChoice& drafts) {
  const auto started = Clock::now();
  QW_ASSIGN(OpenedModel opened, open_model(name));
  QW_ASSIGN(const auto views, weights_in(opened));
  std::vector<models::FittedAdapter> fitted;
  for (const std::string& path : adapters) {
    QW_ASSIGN(auto one, running_adapter(*opened.model, path));
    fitted.push_back(std::move(one));
  }
  return load_opened(name, opened, views, fitted, std::move(options), drafts, started);
}

engine::LoadOptions usual_options(const models::Model& model, std::int64_t context) {
  engine::LoadOptions options;
  options.context = context;
  options.cache_tokens = context;
  options.engine.drafts.lookup = true;
  set_draft_layers({"auto"}, model, options);
  return options;
}

std::int64_t text_bytes(const models::Model& model) {
  // Strings, merges, trie and hash tables of Qwen3's 151,669 tokens take 31 MB, and so for each token:
  constexpr std::int64_t kBytesPerToken = 205;
  return model.traits().vocab * kBytesPerToken;
}

Result<std::int64_t> memory_need(const std::string& name, const engine::LoadOptions& options,
                                 const std::vector<std::string>& adapters, const DraftChoice& drafts) {
  QW_ASSIGN(const OpenedModel opened, open_model(name));
  QW_ASSIGN(const auto views, models::load_weights(*opened.model, opened.source));
  std::vector<models::FittedAdapter> fitted;
  for (const std::string& path : adapters) {
    QW_ASSIGN(auto one, running_adapter(*opened.model, path));
    fitted.push_back(std::move(one));
  }
  engine::LoadOptions load = options;
  load.engine.drafts.lookup = drafts.source != "off" && drafts.most > 0;
  if (load.engine.drafts.lookup) set_draft_layers(drafts, *opened.model, load);
  std::int64_t bytes = need_of(opened, views, fitted, load).total() + text_bytes(*opened.model);
  if (names_model(drafts)) {
    QW_ASSIGN(const std::int64_t second, memory_need(drafts.source, drafter_options(load), {}, {}));
    bytes += second;
  }
  return bytes;
}

std::int64_t memory_of(const ReadyModel& ready) {
  const auto bytes = [](const engine::LoadedModel& m) { return m.memory().total() + text_bytes(m.model()); };
  return bytes(*ready.loaded) + (ready.draft_model != nullptr ? bytes(*ready.draft_model) : 0);
}

Result<ReadyAdapter> read_adapter(const std::string& name, const std::string& path, int threads) {
  QW_ASSIGN(const OpenedModel opened, open_model(name));
  QW_ASSIGN(const auto views, models::load_weights(*opened.model, opened.source));
  QW_ASSIGN(const auto fitted, running_adapter(*opened.model, path));
  base::ThreadPool pool(threads);
  QW_ASSIGN(auto running, fitted.running(*opened.model, views, pool));
  return ReadyAdapter{std::move(running), bytes_of(fitted)};
}

Result<ModelWeights> weights_of(OpenedModel& opened, const std::string& adapter) {
  ModelWeights out;
  QW_ASSIGN(out.views, weights_in(opened));
  if (adapter.empty()) {
    out.stored = formats_of(out.views);
    return out;
  }
  QW_ASSIGN(auto file, formats::Adapter::open(adapter));
  out.file = std::make_unique<formats::Adapter>(std::move(file));
  QW_ASSIGN(auto fitted, models::FittedAdapter::fit(*opened.model, *out.file));
  if (fitted.unties(*opened.model)) {
    QW_ASSIGN(models::Untied apart, models::untied(*opened.model, out.views));
    opened.model = std::move(apart.model);
    out.views = std::move(apart.weights);
    QW_ASSIGN(fitted, models::FittedAdapter::fit(*opened.model, *out.file));
  }
  out.stored = formats_of(out.views);
  out.fitted = std::make_unique<models::FittedAdapter>(std::move(fitted));
  QW_ASSIGN(auto merged, models::MergedWeights::create(*opened.model, out.views, *out.fitted));
  out.merged = std::make_unique<models::MergedWeights>(std::move(merged));
  out.views = out.merged->views();
  return out;
}

void add_draft_options(CLI::App& cmd, DraftChoice& choice) {
  cmd.add_option("--draft", choice.source,
                 "what guesses tokens ahead, while it pays; answers are the same: auto, lookup (the text's own repetitions), mtp "
                 "(layers of the model that were trained for it), off, or a smaller MODEL of the same vocabulary");
  cmd.add_option("--draft-tokens", choice.most, "most tokens guessed at once (default 8)")->check(CLI::Range(0, 64));
}

Result<ReadyModel> load_adapted_model(const std::string& name, engine::LoadOptions options, const std::string& adapter,
                                      const DraftChoice& drafts) {
  if (adapter.empty()) return load_model(name, std::move(options), {}, drafts);
  const auto started = Clock::now();
  QW_ASSIGN(OpenedModel opened, open_model(name));
  std::vector<models::FittedAdapter> beside;
  QW_ASSIGN(auto fitted, fitted_adapter(*opened.model, adapter));
  const bool running = fitted.applies_while_running(*opened.model);
  if (running) beside.push_back(std::move(fitted));
  QW_ASSIGN(const ModelWeights weights, weights_of(opened, running ? "" : adapter));
  QW_ASSIGN(ReadyModel ready, load_opened(name, opened, weights.views, beside, std::move(options), drafts, started));
  if (running) ready.adapter = 0;
  return ready;
}

}  // namespace qw::app
