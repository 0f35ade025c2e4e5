#include "models/adapter.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>

#include "models/internal/names.h"
#include "ops/program.h"
#include "tensor/blocks.h"

namespace qw::models {
namespace {

using formats::AdapterPair;
using tensor::ConstView;
using tensor::Shape;
using tensor::Tensor;

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

tl::unexpected<Error> wrong(std::string_view name, const std::string& why) {
  return fail(ErrorKind::kBadInput, "adapter of " + std::string(name.substr(0, 128)) + ": " + why);
}

Tensor as_f32(const ConstView& view, const Shape& shape) {
  Tensor out(tensor::DType::kF32, shape);
  tensor::decode(view, out.f32());
  return out;
}

bool finite(const Tensor& t) {
  return std::all_of(t.f32(), t.f32() + t.shape().elements(), [](float f) { return std::isfinite(f); });
}

Tensor transposed(const Tensor& t) {
  const std::int64_t rows = t.shape()[0], columns = t.shape()[1];
  Tensor out(tensor::DType::kF32, {columns, rows});
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c) out.f32()[c * rows + r] = t.f32()[r * columns + c];
  return out;
}

// Parameters by the names of one format; several for parts of one tensor.
std::map<std::string, std::vector<std::int32_t>, std::less<>> by_name(const Model& model, formats::ModelKind kind) {
  std::map<std::string, std::vector<std::int32_t>, std::less<>> names;
  for (std::size_t i = 0; i < model.parameters().size(); ++i) {
    const ParameterSpec& p = model.parameters()[i];
    const auto id = static_cast<std::int32_t>(i);
    if (kind == formats::ModelKind::kGguf) {
      names[p.gguf_name].push_back(id);
    } else {
      if (!p.hf.same()) continue;  // its rows or numbers stand otherwise here: a change made for the file's would not fit
      names[p.hf_name].push_back(id);
      // The body alone, as embedding models are adapted.
      if (!p.hf_name.starts_with(kHfBody)) continue;
      const std::string own = p.hf_name.substr(kHfBody.size());
      names[own].push_back(id);
      // As checkpoints of several senses name it, which the adapter was trained on.
      for (const std::string_view outer : kHfOuterBodies) names[std::string(outer) + own].push_back(id);
    }
  }
  if (model.traits().tied_embeddings)  // the head has a name, if no tensor
    names[std::string(kind == formats::ModelKind::kGguf ? kGgufHead : kHfHead)].push_back(model.head().id);
  return names;
}

// Why a name is not one of by_name.
const char* absent(const Model& model, std::string_view name) {
  const auto& all = model.parameters();
  const bool held = std::any_of(all.begin(), all.end(), [&](const ParameterSpec& p) { return p.hf_name == name; });
  return held ? "this weight is kept in another form than the folder's, and adapters of it are not supported"
              : "the model has no such weight";
}

// Which part of the stacked halves [E, ..] belongs to expert `part`.
ConstView part_of(const ConstView& view, std::int32_t part) {
  if (view.shape.rank() == 2) return view;
  return tensor::rows_of(view, part * view.shape[1], view.shape[1]);
}

Result<FittedAdapter::Change> fit_pair(const Model& model, std::int32_t id, const AdapterPair& pair, std::int32_t part) {
  const Shape& shape = model.parameters()[index(id)].shape;
  FittedAdapter::Change c;
  c.parameter = id;
  c.table = pair.table;
  c.scale = pair.scale;
  const ConstView a = part_of(pair.a, part), b = part_of(pair.b, part);
  c.a = as_f32(a, a.shape);
  c.b = as_f32(b, b.shape);
  if (c.table && !pair.table_rows) c.a = transposed(c.a);
  const std::int64_t r = c.b.shape()[1];
  const Shape wanted_a = shape.rank() != 2 ? Shape{} : c.table ? Shape{shape[0], r} : Shape{r, shape[1]};
  const Shape wanted_b = shape.rank() != 2 ? Shape{} : c.table ? Shape{shape[1], r} : Shape{shape[0], r};
  if (c.a.shape() != wanted_a || c.b.shape() != wanted_b)
    return wrong(pair.name, "A " + pair.a.shape.to_string() + " and B " + pair.b.shape.to_string() + " do not fit " +
                                shape.to_string());
  if (!finite(c.a) || !finite(c.b) || !std::isfinite(c.scale)) return wrong(pair.name, "holds values that are not finite");
  if (!pair.magnitude.empty()) {
    const Tensor m = as_f32(pair.magnitude, pair.magnitude.shape);
    if (!finite(m)) return wrong(pair.name, "holds values that are not finite");
    c.magnitude.assign(m.f32(), m.f32() + m.shape().elements());
  }
  return c;
}

// Row `o` of W + scale B A, or of the table, in the order of the ranks.
void changed_row(const FittedAdapter::Change& c, std::int64_t o, std::int64_t n, float* row) {
  const std::int64_t rank = c.b.shape()[1];
  if (c.table) {
    for (std::int64_t i = 0; i < n; ++i) {
      float sum = 0;
      for (std::int64_t k = 0; k < rank; ++k) sum += c.b.f32()[i * rank + k] * c.a.f32()[o * rank + k];
      row[i] += c.scale * sum;
    }
    return;
  }
  for (std::int64_t k = 0; k < rank; ++k) {
    const float factor = c.scale * c.b.f32()[o * rank + k];
    const float* a = c.a.f32() + k * n;
    for (std::int64_t i = 0; i < n; ++i) row[i] += factor * a[i];
  }
}

// Magnitude over length of a changed row; a row of zeros has no direction and stays.
float gain_of(const FittedAdapter::Change& c, std::int64_t o, std::span<const float> row) {
  double squares = 0;
  for (const float f : row) squares += double{f} * f;
  return squares > 0 ? static_cast<float>(c.magnitude[index(o)] / std::sqrt(squares)) : 1;
}

class MergedMaker final : public tensor::RowMaker {
 public:
  MergedMaker(ConstView base, std::vector<const FittedAdapter::Change*> changes) : base_(base), changes_(std::move(changes)) {}
  void make_rows(std::int64_t begin, std::int64_t count, std::byte* out) const override {
    const std::int64_t n = base_.shape.back();
    auto* row = reinterpret_cast<float*>(out);
    tensor::decode(tensor::rows_of(base_, begin, count), row);
    for (std::int64_t r = 0; r < count; ++r, row += n) {
      for (const FittedAdapter::Change* c : changes_) {
        changed_row(*c, begin + r, n, row);
        if (c->magnitude.empty()) continue;
        const float gain = gain_of(*c, begin + r, {row, index(n)});
        for (std::int64_t i = 0; i < n; ++i) row[i] *= gain;
      }
    }
  }

 private:
  ConstView base_;
  std::vector<const FittedAdapter::Change*> changes_;
};

// Weights that a plain product or look-up uses, and so a running model can change for some rows only.
std::set<std::pair<std::int32_t, bool>> running_uses(const Model& model) {
  std::vector<Shape> shapes;
  for (const ParameterSpec& p : model.parameters()) shapes.push_back(p.shape);
  ops::RecordingExecutor recorder(std::move(shapes));
  model.forward(recorder);
  std::set<std::pair<std::int32_t, bool>> uses;
  for (const ops::Op& op : recorder.finish().ops) {
    if (op.kind == ops::OpKind::kEmbed) uses.emplace(op.weight.id, true);
    if (op.kind == ops::OpKind::kLinear || op.kind == ops::OpKind::kHead) uses.emplace(op.weight.id, false);
  }
  return uses;
}

}  // namespace

Result<FittedAdapter> FittedAdapter::fit(const Model& model, const formats::Adapter& adapter) {
  const std::string where = adapter.path().string();
  if (!adapter.architecture().empty()) {
    const json::Object own = model.gguf_metadata();
    const json::Value* name = own.find("general.architecture");
    if (name == nullptr || !name->is_string() || name->as_string() != adapter.architecture())
      return fail(ErrorKind::kBadInput, where + ": is made for a " + adapter.architecture().substr(0, 64) + " model, this is " +
                                            model.traits().architecture);
  }
  const auto names = by_name(model, adapter.kind());
  FittedAdapter out;
  for (const AdapterPair& pair : adapter.pairs()) {
    const auto found = names.find(pair.name);
    if (found == names.end())
      return in_context(where, wrong(pair.name, absent(model, pair.name)).value());
    const auto& ids = found->second;
    const std::int64_t stacked = pair.a.shape.rank() == 3 ? pair.a.shape[0] : 1;
    if (stacked != static_cast<std::int64_t>(ids.size()))
      return in_context(where, wrong(pair.name, std::to_string(stacked) + " parts, the model has " + std::to_string(ids.size())).value());
    for (std::size_t part = 0; part < ids.size(); ++part) {
      auto change = fit_pair(model, ids[part], pair, static_cast<std::int32_t>(part));
      if (!change) return in_context(where, std::move(change).error());
      out.changes_.push_back(std::move(*change));
    }
  }
  for (const formats::AdapterTensor& t : adapter.replaced()) {
    const auto found = names.find(t.name);
    if (found == names.end() || found->second.size() != 1)
      return in_context(where, wrong(t.name, absent(model, t.name)).value());
    const std::int32_t id = found->second.front();
    if (t.view.shape != model.parameters()[index(id)].shape)
      return in_context(where, wrong(t.name, "has shape " + t.view.shape.to_string() + ", should be " +
                                                 model.parameters()[index(id)].shape.to_string()).value());
    out.replacements_.push_back({id, as_f32(t.view, t.view.shape)});
  }
  return out;
}

bool FittedAdapter::applies_while_running(const Model& model) const {
  const auto uses = running_uses(model);
  return replacements_.empty() &&
         std::all_of(changes_.begin(), changes_.end(), [&](const Change& c) { return uses.contains({c.parameter, c.table}); });
}

Result<ops::LowRankAdapter> FittedAdapter::running(const Model& model, std::span<const ConstView> weights,
                                                   base::ThreadPool& pool) const {
  if (!applies_while_running(model))
    return fail(ErrorKind::kUsage, "the adapter replaces whole weights or changes experts: merge it into the model (convert --adapter)");
  ops::LowRankAdapter out;
  for (const Change& c : changes_) {
    ops::LowRankChange change{{c.parameter}, c.table, as_f32(c.a.view(), c.a.shape()), as_f32(c.b.view(), c.b.shape()), c.scale, {}};
    if (!c.magnitude.empty()) {
      const ConstView base = weights[index(c.parameter)];
      const std::int64_t n = base.shape.back();
      change.gain.resize(c.magnitude.size());
      constexpr std::int64_t kRows = 16;
      pool.parallel_for(base.shape[0], kRows, [&](std::int64_t begin, std::int64_t end) {
        std::vector<float> row(index(n));
        for (std::int64_t o = begin; o < end; ++o) {
          tensor::decode(tensor::rows_of(base, o, 1), row.data());
          changed_row(c, o, n, row.data());
          change.gain[index(o)] = gain_of(c, o, row);
        }
      });
    }
    out.changes.push_back(std::move(change));
  }
  return out;
}

bool FittedAdapter::unties(const Model& model) const {
  if (!model.traits().tied_embeddings) return false;
  const std::int32_t table = model.embedding().id;
  const auto of_table = [&](const auto& c) { return c.parameter == table; };
  return std::any_of(changes_.begin(), changes_.end(), of_table) ||
         std::any_of(replacements_.begin(), replacements_.end(), of_table);
}

Result<MergedWeights> MergedWeights::create(const Model& model, std::span<const ConstView> base, const FittedAdapter& adapter) {
  QW_CHECK(base.size() == model.parameters().size());
  if (adapter.unties(model))
    return fail(ErrorKind::kBadInput, "the adapter changes the token table or the head of a model that shares one tensor for both");
  MergedWeights out;
  out.views_.assign(base.begin(), base.end());
  for (const FittedAdapter::Replacement& r : adapter.replacements()) out.views_[index(r.parameter)] = r.value.view();
  std::map<std::int32_t, std::vector<const FittedAdapter::Change*>> changes;
  for (const FittedAdapter::Change& c : adapter.changes()) changes[c.parameter].push_back(&c);
  for (auto& [id, list] : changes) {
    ConstView& view = out.views_[index(id)];
    out.makers_.push_back(std::make_unique<MergedMaker>(view, std::move(list)));
    view = {tensor::DType::kF32, view.shape, nullptr, out.makers_.back().get(), 0};
  }
  return out;
}

Result<Untied> untied(const Model& model, std::span<const ConstView> weights) {
  QW_CHECK(model.traits().tied_embeddings && weights.size() == model.parameters().size());
  json::Object config = model.hf_config();
  config.set("tie_word_embeddings", false);
  Untied out;
  json::Object integers;  // what the model was made with beside its configuration
  for (const ModelTraits::Integers& numbers : model.traits().integers) {
    json::Array values;
    for (const std::int64_t n : numbers.values) values.emplace_back(n);
    integers.set(numbers.hf_name, std::move(values));
  }
  QW_ASSIGN(out.model, model_from_hf_config(config, model.traits().draft_layers, integers));
  out.weights.assign(weights.begin(), weights.end());
  const std::int32_t head = out.model->head().id;  // behind the model's own weights, before those of layers that draft
  QW_CHECK(out.model->parameters().size() == weights.size() + 1 && head >= 0 && index(head) <= weights.size());
  out.weights.insert(out.weights.begin() + head, weights[index(model.embedding().id)]);
  return out;
}

}  // namespace qw::models
