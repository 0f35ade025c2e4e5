#include "models/load.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_set>

#include "formats/embedding_config.h"
#include "models/internal/file_form.h"
#include "models/internal/names.h"

namespace qw::models {
namespace {

constexpr std::string_view kHfFrequencies = ".rotary_emb.inv_freq", kBias = ".bias";

// Writers of quantised folders give every matrix a bias, zeros where the architecture has none.
bool all_zero(const formats::ModelSource& source, const formats::TensorInfo& t) {
  const auto view = source.tensor(t.name);
  if (!view || view->data == nullptr) return false;
  return std::all_of(view->data, view->data + view->bytes(), [](std::byte b) { return b == std::byte{0}; });
}

// The name that a body's tensor has in this folder, if not its own.
std::string name_in(const formats::ModelSource& source, const std::string& name) {
  if (source.find(name) != nullptr) return name;
  if (name == kHfHead)
    for (const std::string_view other : kHfOuterHeads)
      if (source.find(std::string(other)) != nullptr) return std::string(other);
  if (!name.starts_with(kHfBody)) return name;
  // Checkpoints of a bare body (embedding models) leave out the beginning, those of several senses have a longer one.
  const std::string own = name.substr(kHfBody.size());
  if (source.find(own) != nullptr) return own;
  for (const std::string_view outer : kHfOuterBodies)
    if (const std::string other = std::string(outer) + own; source.find(other) != nullptr) return other;
  return name;
}

// Tensors which may stand in a file and say nothing that the configuration does not.
bool redundant(const formats::TensorInfo& t, const Model& model, const formats::ModelSource& source) {
  for (const ModelTraits::LeftAside& aside : model.traits().left_aside)
    if (t.name.starts_with(aside.prefix)) return true;
  if (source.kind() != formats::ModelKind::kHfFolder) return !model.head().present() && t.name == kGgufHead;
  const std::string_view name = t.name;
  const bool quantised = source.hf_folder()->quantised() != nullptr;
  if (quantised && name.ends_with(kBias) && t.shape.rank() == 1) return all_zero(source, t);
  for (const ModelTraits::Integers& numbers : model.traits().integers)
    if (name == numbers.hf_name || name == name_in(source, numbers.hf_name)) return true;
  if (!model.head().present() && name == kHfHead) return true;  // left from the language model it was made of
  return name.ends_with(kHfFrequencies) || (model.traits().tied_embeddings && name == kHfHead);
}

// Views part `part` of `parts` of a tensor whose rows are those of the parameter.
Result<tensor::ConstView> part_of(const formats::ModelSource& source, const std::string& name,
                                  const tensor::Shape& whole, const tensor::Shape& shape, std::int32_t part) {
  QW_ASSIGN(tensor::ConstView view, source.tensor(name, whole));
  if (part == 0 && shape == whole) return view;
  view = tensor::rows_of(view, part * shape.rows(), shape.rows());
  view.shape = shape;
  return view;
}

// The parameter in the form of this house, made from the file's tensor `name`.
Result<tensor::ConstView> formed(const formats::ModelSource& source, const ParameterSpec& p, const FileForm& form,
                                 const std::string& name, tensor::ConstView stored) {
  if (form.same()) return stored;
  tensor::ConstView view;
  auto maker = read_form(form, stored, p.shape, view);
  if (!maker) return in_context(source.path().string() + ": tensor \"" + name + "\"", std::move(maker).error());
  view.maker = source.keep(std::move(*maker));
  return view;
}

Result<tensor::ConstView> from_gguf(const formats::ModelSource& source, const ParameterSpec& p, std::string& name) {
  name = p.gguf_name;
  tensor::Shape whole = p.gguf_shape();
  const formats::TensorInfo* info = source.find(name);
  if (p.gguf_vector && info != nullptr && info->shape == p.shape) whole = p.shape;  // some writers keep the [1, n]
  QW_ASSIGN(const tensor::ConstView view, part_of(source, name, whole, p.shape, p.gguf_part));
  return formed(source, p, p.gguf, name, view);
}

// Whole experts as Qwen3-VL's folders hold them: [E, D, 2F] or [E, F, D].
Result<tensor::ConstView> from_transposed(const formats::ModelSource& source, const ParameterSpec& p, const std::string& name,
                                          const formats::TensorInfo& info) {
  const std::int64_t out = p.shape[0], in = p.shape[1];
  const tensor::Shape wanted{p.hf_fused_parts / p.hf_fused_each, in, out * p.hf_fused_each};
  if (info.shape != wanted)
    return fail(ErrorKind::kBadInput, source.path().string() + ": tensor \"" + name + "\" has shape " + info.shape.to_string() +
                                          ", should be " + wanted.to_string());
  QW_ASSIGN(tensor::ConstView stored, source.tensor(name, wanted));
  stored = tensor::rows_of(stored, p.hf_fused_part / p.hf_fused_each * in, in);
  tensor::ConstView view;
  auto maker = read_transposed(stored, p.hf_fused_part % p.hf_fused_each * out, p.shape, view);
  if (!maker) return in_context(source.path().string() + ": tensor \"" + name + "\"", std::move(maker).error());
  view.maker = source.keep(std::move(*maker));
  return view;
}

// Whether a folder of an architecture whose releases hold experts transposed has them as other folders do (libraries save
// them so): the first of the layer's fused tensors with unequal sides says it for both. Two square ones there cannot be.
bool as_other_folders(const formats::ModelSource& source, const ParameterSpec& p) {
  const std::string layer = p.hf_fused.substr(0, p.hf_fused.rfind('.') + 1);
  for (const char* which : {"gate_up_proj", "down_proj"})
    for (const char* end : {"", ".weight"}) {
      const formats::TensorInfo* info = source.find(name_in(source, layer + which + end));
      if (info == nullptr || info->shape.rank() != 3 || info->shape[1] == info->shape[2]) continue;
      const bool sum = std::string_view(which) == "gate_up_proj";
      const bool own = sum == (p.hf_fused_each == 2);  // p's kind of tensor, or the other one, whose sides follow from p's
      const std::int64_t outs = own ? p.shape[0] * p.hf_fused_each : sum ? 2 * p.shape[1] : p.shape[1];
      return info->shape[1] == outs;
    }
  return false;
}

// Whole experts of the newer layout: [E, 2F, D] or [E, D, F], with or without ".weight".
Result<tensor::ConstView> from_fused(const formats::ModelSource& source, const ParameterSpec& p, std::string& name) {
  for (const char* end : {"", ".weight"}) {
    name = name_in(source, p.hf_fused + end);
    const formats::TensorInfo* info = source.find(name);
    if (info == nullptr) continue;
    if (p.hf_fused_each > 0 && !as_other_folders(source, p)) return from_transposed(source, p, name, *info);
    if (info->shape.rank() != 3 || info->shape.back() != p.shape.back() ||
        info->shape.elements() != p.shape.elements() * p.hf_fused_parts)
      return fail(ErrorKind::kBadInput, source.path().string() + ": tensor \"" + name + "\" has shape " +
                                            info->shape.to_string() + ", should hold " +
                                            std::to_string(p.hf_fused_parts) + " of " + p.shape.to_string());
    return part_of(source, name, info->shape, p.shape, p.hf_fused_part);
  }
  return source.tensor(p.hf_name, p.shape);  // says that the tensor is missing
}

Result<tensor::ConstView> from_folder(const formats::ModelSource& source, const ParameterSpec& p, std::string& name) {
  name = name_in(source, p.hf_name);
  if (source.find(name) == nullptr && !p.hf_fused.empty()) return from_fused(source, p, name);
  QW_ASSIGN(const tensor::ConstView view, source.tensor(name, p.hf.whole.rank() == 0 ? p.shape : p.hf.whole));
  return formed(source, p, p.hf, name, view);
}

// Layers that draft, by the tensors of a folder: configurations keep the number where writers left the tensors out.
std::int32_t draft_layers(const formats::ModelSource& source) {
  std::int32_t n = 0;
  const auto holds = [&](const std::string& prefix) {
    return std::any_of(source.tensors().begin(), source.tensors().end(),
                       [&](const formats::TensorInfo& t) { return t.name.starts_with(prefix); });
  };
  while (holds(std::string(kHfDraftLayer) + std::to_string(n) + ".")) ++n;
  return n;
}

// Tensors of whole numbers that belong to a configuration have a few; others are no business of it.
constexpr std::int64_t kMostIntegers = 4096;

json::Object small_integers(const formats::ModelSource& source) {
  json::Object found;
  for (const formats::TensorInfo& t : source.tensors()) {
    if (t.dtype != tensor::DType::kI64 || t.shape.rank() != 1 || t.shape.elements() > kMostIntegers) continue;
    const auto view = source.tensor(t.name);
    if (!view || view->data == nullptr) continue;
    std::vector<std::int64_t> numbers(static_cast<std::size_t>(t.shape.elements()));
    std::memcpy(numbers.data(), view->data, numbers.size() * sizeof(std::int64_t));
    json::Array values;
    for (const std::int64_t n : numbers) values.emplace_back(n);
    found.set(t.name, std::move(values));
  }
  return found;
}

}  // namespace

tensor::Shape ParameterSpec::gguf_shape() const {
  if (gguf_vector) return tensor::Shape{shape.elements()};
  if (gguf_rows) return tensor::Shape{gguf_parts * shape[0], shape[1]};
  return gguf_parts == 1 ? shape : tensor::Shape{gguf_parts, shape[0], shape[1]};
}

Result<std::unique_ptr<Model>> model_from_source(const formats::ModelSource& source) {
  const auto located = [&](Error e) { return in_context(source.path().string(), std::move(e)).value(); };
  if (source.kind() == formats::ModelKind::kHfFolder) {
    QW_ASSIGN(const auto embedding, formats::read_embedding_config(source));
    if (!embedding) return model_from_hf_config(source.config(), draft_layers(source), small_integers(source)).map_error(located);
    json::Object config = source.config();  // it names the class of the language model, whose head is not used
    config.set("architectures", json::Array{"Model"});
    return model_from_hf_config(config).map_error(located);
  }
  const formats::TensorInfo* table = source.find(kGgufTokenTable);
  if (table == nullptr || table->shape.rank() != 2)
    return fail(ErrorKind::kBadInput,
                source.path().string() + ": no token table (" + std::string(kGgufTokenTable) + ")");
  json::Object metadata = source.config();
  for (const formats::TensorInfo& t : source.tensors())
    if (t.shape.rank() == 2 && !t.name.starts_with("blk.")) metadata.set(std::string(kGgufRows) + t.name, t.shape[0]);
  return model_from_gguf_metadata(metadata, source.find(kGgufHead) != nullptr, table->shape[0]).map_error(located);
}

formats::GgufMetadata gguf_keys(const Model& model) {
  const json::Object all = model.gguf_metadata();
  formats::GgufMetadata keys = formats::GgufMetadata::from_object(all);
  for (const std::string& key : model.traits().gguf_u64)
    if (const json::Value* value = all.find(key)) keys.set_array(key, formats::GgufType::kU64, value->as_array());
  return keys;
}

Result<std::vector<tensor::ConstView>> load_weights(const Model& model, const formats::ModelSource& source) {
  std::vector<tensor::ConstView> views;
  std::unordered_set<std::string> used;
  for (const ParameterSpec& p : model.parameters()) {
    std::string name;
    const bool gguf = source.kind() == formats::ModelKind::kGguf;
    QW_ASSIGN(const tensor::ConstView view, gguf ? from_gguf(source, p, name) : from_folder(source, p, name));
    views.push_back(view);
    used.insert(name);
  }
  for (const formats::TensorInfo& t : source.tensors())
    if (!used.contains(t.name) && !redundant(t, model, source))
      return fail(ErrorKind::kBadInput, source.path().string() + ": tensor \"" + t.name.substr(0, 128) +
                                            "\" belongs to no parameter of a " + model.traits().architecture +
                                            " model");
  return views;
}

namespace {

Status add_made(Result<std::unique_ptr<tensor::RowMaker>> maker, const std::string& name, FileTensors& out) {
  if (!maker) return in_context(name, std::move(maker).error());
  out.tensors.back().view.maker = maker->get();
  out.makers.push_back(std::move(*maker));
  return {};
}

}  // namespace

Result<FileTensors> file_tensors(const Model& model, std::span<const tensor::ConstView> views, formats::ModelKind kind) {
  const auto& parameters = model.parameters();
  QW_CHECK(views.size() == parameters.size());
  FileTensors out;
  std::unordered_set<std::string> written;
  for (std::size_t i = 0; i < views.size(); ++i) {
    const ParameterSpec& p = parameters[i];
    const bool gguf = kind == formats::ModelKind::kGguf;
    const FileForm& form = gguf ? p.gguf : p.hf;
    const std::string& name = gguf ? p.gguf_name : p.hf_name;
    if (gguf && p.gguf_none) continue;
    if (!gguf && !written.insert(name).second) continue;  // stands in the tensor of an earlier one
    const bool small = p.is_norm || p.is_bias;
    out.tensors.push_back({name, form.whole.rank() == 0 ? p.shape : form.whole, views[i], small, static_cast<std::int32_t>(i)});
    if (form.same()) continue;
    std::vector<FormPart> parts;
    for (std::size_t j = i; j < views.size(); ++j)
      if (j == i || (!gguf && form.moves() && parameters[j].hf_name == name)) parts.push_back({gguf ? &parameters[j].gguf : &parameters[j].hf, views[j]});
    FileTensor& to = out.tensors.back();
    QW_TRY(add_made(write_form(parts, to.shape, to.view), name, out));
  }
  if (kind == formats::ModelKind::kHfFolder)
    for (const ModelTraits::Integers& numbers : model.traits().integers) {
      const tensor::Shape shape{static_cast<std::int64_t>(numbers.values.size())};
      const auto* data = reinterpret_cast<const std::byte*>(numbers.values.data());
      out.tensors.push_back({numbers.hf_name, shape, {tensor::DType::kI64, shape, data}, false, -1});
    }
  return out;
}

}  // namespace qw::models
