#include "quality.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <optional>

#include "base/cpu.h"
#include "commands.h"
#include "formats/imatrix.h"
#include "formats/quantise.h"
#include "formats/recipe.h"
#include "likelihood.h"
#include "models/load.h"
#include "open_model.h"
#include "text_source.h"
#include "tokenizer/prompt.h"

namespace qw::app {
namespace {

// Logits of one window of the source are kept while the other model reads it: 78 MB with 152k tokens.
constexpr std::int64_t kWindow = 128;
// A mean divergence of 0.01 nat raises the perplexity of text the source itself would write by one per cent.
constexpr double kAllowedDivergence = 0.01;

struct Distance {
  double nll_source = 0, nll = 0, sum = 0, max = 0;
  std::int64_t rows = 0, scored = 0, same_top = 0;
};

// `next`: the token that followed, -1 at the end of a window.
void add_row(Distance& d, std::span<const float> p, std::span<const float> q, engine::TokenId next) {
  const double zp = log_sum_exp(p), zq = log_sum_exp(q);
  double divergence = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double log_p = p[i] - zp;
    divergence += std::exp(log_p) * (log_p - (q[i] - zq));
  }
  divergence = std::max(0.0, divergence);  // rounding can take it below
  d.sum += divergence;
  d.max = std::max(d.max, divergence);
  ++d.rows;
  d.same_top += std::max_element(p.begin(), p.end()) - p.begin() == std::max_element(q.begin(), q.end()) - q.begin();
  if (next < 0) return;
  d.nll_source -= p[static_cast<std::size_t>(next)] - zp;
  d.nll -= q[static_cast<std::size_t>(next)] - zq;
  ++d.scored;
}

Result<Distance> distance(engine::LoadedModel& source, engine::LoadedModel& other, std::span<const engine::TokenId> ids) {
  Distance d;
  const std::int64_t window = std::min(source.context(), kWindow), total = static_cast<std::int64_t>(ids.size());
  std::vector<float> kept;
  for (std::int64_t begin = 0; begin < total; begin += window) {
    const auto part = ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(std::min(window, total - begin)));
    kept.clear();
    QW_TRY(source.for_each_logits(part, [&](std::int64_t, std::span<const float> row) { kept.insert(kept.end(), row.begin(), row.end()); }));
    QW_TRY(other.for_each_logits(part, [&](std::int64_t t, std::span<const float> row) {
      const auto at = static_cast<std::size_t>(t);
      add_row(d, std::span(kept).subspan(at * row.size(), row.size()), row, at + 1 < part.size() ? part[at + 1] : -1);
    }));
    if (interrupted().load()) return fail(ErrorKind::kInterrupted, "interrupted");
  }
  return d;
}

// The source's weights in another format, in memory.
struct Quantised {
  std::vector<tensor::Tensor> tensors;
  std::vector<tensor::ConstView> views;
  std::int64_t bytes = 0;
};

tensor::DType type_of(const models::Model& model, std::size_t i, const formats::Recipe& recipe, bool importance) {
  const auto& p = model.parameters()[i];
  return formats::recipe_type(recipe, p.gguf_name, p.gguf_shape(), recipe_model(model, importance));
}

std::int64_t bytes_of(const models::Model& model, const formats::Recipe& recipe, bool importance) {
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < model.parameters().size(); ++i) {
    const tensor::Shape& s = model.parameters()[i].shape;
    bytes += tensor::row_bytes(type_of(model, i, recipe, importance), s.back()) * s.rows();
  }
  return bytes;
}

Result<Quantised> quantised(const models::Model& model, std::span<const tensor::ConstView> source, const formats::Recipe& recipe,
                            const formats::ImportanceMatrix* importance, base::ThreadPool& pool) {
  Quantised out;
  for (std::size_t i = 0; i < source.size(); ++i) {
    const auto& p = model.parameters()[i];
    const auto weight = importance == nullptr ? std::span<const float>()
                                              : importance->find_part(p.gguf_name, static_cast<std::size_t>(p.gguf_part), p.shape.back());
    out.tensors.emplace_back(type_of(model, i, recipe, importance != nullptr), p.shape);
    std::byte* at = out.tensors.back().view().data;
    auto done = formats::convert(source[i], out.tensors.back().dtype(), pool, [&](std::span<const std::byte> rows) -> Status {
      std::memcpy(at, rows.data(), rows.size());
      at += rows.size();
      return interrupted().load() ? Status(fail(ErrorKind::kInterrupted, "interrupted")) : Status();
    }, weight);
    if (!done) return in_context(p.gguf_name, done.error());
    out.bytes += out.tensors.back().view().bytes();
  }
  for (const tensor::Tensor& t : out.tensors) out.views.push_back(t.view());
  return out;
}

Result<std::unique_ptr<engine::LoadedModel>> loaded(const models::Model& model, std::span<const tensor::ConstView> views, int threads) {
  engine::LoadOptions options;
  options.threads = threads;
  options.context = options.cache_tokens = std::min(model.traits().context, kWindow);
  options.logit_rows = 32;  // rows whose logits are computed together
  options.engine.max_sequences = 1;
  QW_ASSIGN(auto same, models::model_from_hf_config(model.hf_config()));
  return engine::LoadedModel::create(std::move(same), views, options);
}

double perplexity(const Distance& d) { return std::exp(d.nll / static_cast<double>(std::max<std::int64_t>(1, d.scored))); }

// Adds what rounding activations does: `small` as it runs (`running`), from the same numbers in float32, whose products
// take activations as they are.
Status add_rounding(const models::Model& model, const Quantised& small, engine::LoadedModel& running, const QualityOptions& o,
                    std::span<const engine::TokenId> ids, base::ThreadPool& pool, json::Object& to) {
  QW_ASSIGN(const Quantised wide, quantised(model, small.views, *formats::find_recipe("f32"), nullptr, pool));
  QW_ASSIGN(const auto exact, loaded(model, wide.views, o.threads));
  QW_ASSIGN(const Distance d, distance(*exact, running, ids));
  to.set("ppl_float", std::exp(d.nll_source / static_cast<double>(std::max<std::int64_t>(1, d.scored))));
  to.set("kl_rounding", d.sum / static_cast<double>(std::max<std::int64_t>(1, d.rows)));
  return {};
}

Status check_memory(const models::Model& model, std::span<const tensor::ConstView> views, const std::vector<const formats::Recipe*>& recipes,
                    bool importance, bool rounding) {
  engine::LoadOptions options;
  options.context = options.cache_tokens = std::min(model.traits().context, kWindow);
  std::int64_t largest = 0;
  for (const formats::Recipe* r : recipes) largest = std::max(largest, bytes_of(model, *r, importance));
  if (rounding) largest += 2 * bytes_of(model, *formats::find_recipe("f32"), false);
  // The quantised weights stand in memory as they are written, and packed.
  const std::int64_t need = 2 * engine::estimate_memory(model, formats_of(views), options).total() + largest;
  if (need <= static_cast<std::int64_t>(base::available_memory_bytes())) return {};
  return fail(ErrorKind::kResource, "the report holds the model and a quantised one at once: " + std::to_string(need / 1000000) +
                                        " MB of memory, " + std::to_string(base::available_memory_bytes() / 1000000) + " are available");
}

json::Object describe(const formats::Recipe& recipe, std::int64_t bytes, const Distance& d) {
  const auto rows = static_cast<double>(std::max<std::int64_t>(1, d.rows));
  return {{"type", std::string(recipe.name)},
          {"bytes", bytes},
          {"ppl", perplexity(d)},
          {"kl_mean", d.sum / rows},
          {"kl_max", d.max},
          {"same_top", static_cast<double>(d.same_top) / rows}};
}

}  // namespace

Result<json::Object> quality_report(const QualityOptions& o) {
  std::vector<const formats::Recipe*> recipes;
  for (const std::string& name : o.types) {
    const formats::Recipe* recipe = formats::find_recipe(name);
    if (recipe == nullptr) return fail(ErrorKind::kUsage, "unknown type " + name + ": expected one of " + formats::recipe_names());
    if (std::find(recipes.begin(), recipes.end(), recipe) == recipes.end()) recipes.push_back(recipe);
  }
  QW_ASSIGN(OpenedModel opened, open_model(o.model));
  QW_ASSIGN(const ModelWeights weights, weights_of(opened, o.adapter));
  const auto& views = weights.views;
  std::optional<formats::ImportanceMatrix> importance;
  if (!o.imatrix.empty()) {
    QW_ASSIGN(importance, formats::ImportanceMatrix::open(o.imatrix));
  }
  QW_TRY(check_memory(*opened.model, views, recipes, importance.has_value(), o.rounding));
  QW_ASSIGN(auto spec, tokenizer_of(opened.path));
  QW_ASSIGN(const auto tokenizer, tokenizer::Tokenizer::create(std::move(spec)));
  const auto ids = tokenizer::encode_prompt(tokenizer, o.text, true);
  if (ids.size() < 2) return fail(ErrorKind::kUsage, "the text has fewer than two tokens");
  QW_ASSIGN(const auto source, loaded(*opened.model, views, o.threads));
  base::ThreadPool pool(o.threads);
  json::Array types;
  const json::Value* best = nullptr;
  double ppl_source = 0;
  for (const formats::Recipe* recipe : recipes) {
    QW_ASSIGN(const Quantised small, quantised(*opened.model, views, *recipe, importance ? &*importance : nullptr, pool));
    QW_ASSIGN(const auto other, loaded(*opened.model, small.views, o.threads));
    QW_ASSIGN(const Distance d, distance(*source, *other, ids));
    ppl_source = std::exp(d.nll_source / static_cast<double>(std::max<std::int64_t>(1, d.scored)));
    json::Object described = describe(*recipe, small.bytes, d);
    if (o.rounding) QW_TRY(add_rounding(*opened.model, small, *other, o, ids, pool, described));
    types.emplace_back(std::move(described));
  }
  for (const json::Value& t : types) {
    const bool good = t.find("kl_mean")->as_double() <= kAllowedDivergence;
    if (good && (best == nullptr || t.find("bytes")->as_int() < best->find("bytes")->as_int())) best = &t;
  }
  json::Value recommended = best == nullptr ? json::Value() : *best->find("type");
  return json::Object{{"tokens", static_cast<std::int64_t>(ids.size())},
                      {"ppl_source", ppl_source},
                      {"kl_allowed", kAllowedDivergence},
                      {"types", std::move(types)},
                      {"recommended", std::move(recommended)}};
}

}  // namespace qw::app
