#include "formats/adapter.h"

#include <cmath>
#include <map>
#include <optional>

#include "formats/hf_folder.h"
#include "formats/internal/peft_config.h"
#include "formats/internal/text.h"

namespace qw::formats {
namespace {

namespace fs = std::filesystem;
using internal::quote;
using tensor::DType;

constexpr std::string_view kPeftPrefix = "base_model.model.";
// Ranks people train are below 1024; a product through more than this is no low rank any more.
constexpr std::int64_t kMaxRank = 1 << 16;

tl::unexpected<Error> wrong(std::string_view name, const std::string& why) {
  return fail(ErrorKind::kBadInput, "tensor " + quote(name) + ": " + why);
}

bool strip(std::string& name, std::string_view end) {
  if (!name.ends_with(end)) return false;
  name.resize(name.size() - end.size());
  return true;
}

// The halves of a change while the file is read.
struct Halves {
  std::optional<tensor::ConstView> a, b, magnitude;
  bool table = false, table_rows = false;
};

bool usable(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16 || tensor::is_quantised(type);
}

Result<AdapterPair> join(const std::string& name, const Halves& h) {
  if (!h.a || !h.b) return wrong(name, h.a ? "has A and no B" : "has B and no A");
  AdapterPair pair{name, *h.a, *h.b, h.magnitude.value_or(tensor::ConstView{}), 1, h.table, h.table_rows};
  const int rank = pair.a.shape.rank();
  if (rank != pair.b.shape.rank() || rank < 2 || rank > 3 || pair.a.shape.elements() == 0 || pair.b.shape.elements() == 0)
    return wrong(name, "A " + pair.a.shape.to_string() + " and B " + pair.b.shape.to_string() + " are no pair");
  const std::int64_t r = pair.b.shape.back();
  if (pair.a.shape[h.table_rows ? rank - 1 : rank - 2] != r || (rank == 3 && pair.a.shape[0] != pair.b.shape[0]) || r > kMaxRank)
    return wrong(name, "A " + pair.a.shape.to_string() + " and B " + pair.b.shape.to_string() + " differ in rank");
  for (const tensor::ConstView& v : {pair.a, pair.b})
    if (!usable(v.dtype)) return wrong(name, "is of type " + std::string(tensor::name(v.dtype)));
  if (h.magnitude) {
    const tensor::Shape& m = h.magnitude->shape;
    if (!usable(h.magnitude->dtype) || m.elements() != pair.b.shape[0] || rank != 2 || h.table)
      return wrong(name, "a magnitude of shape " + m.to_string() + " for " + std::to_string(pair.b.shape[0]) + " outputs");
  }
  return pair;
}

// Takes the PEFT name of a half apart: path of the module, and where the tensor belongs. False: no half of a change.
bool sort_peft(std::string& path, const tensor::ConstView& view, std::map<std::string, Halves>& halves) {
  struct Ending {
    std::string_view end;
    std::optional<tensor::ConstView> Halves::*half;
    bool table;
  };
  static constexpr Ending kEndings[] = {
      {".lora_A.weight", &Halves::a, false},           {".lora_B.weight", &Halves::b, false},
      {".lora_A.default.weight", &Halves::a, false},   {".lora_B.default.weight", &Halves::b, false},
      {".lora_embedding_A", &Halves::a, true},         {".lora_embedding_B", &Halves::b, true},
      {".lora_embedding_A.default", &Halves::a, true}, {".lora_embedding_B.default", &Halves::b, true},
      {".lora_magnitude_vector", &Halves::magnitude, false},
      {".lora_magnitude_vector.weight", &Halves::magnitude, false},
      {".lora_magnitude_vector.default.weight", &Halves::magnitude, false}};
  for (const Ending& e : kEndings) {
    if (!strip(path, e.end)) continue;
    Halves& h = halves[path];
    h.*e.half = view;
    h.table |= e.table;
    return true;
  }
  return false;
}

}  // namespace

Status Adapter::read_peft(const json::Object& object) {
  QW_ASSIGN(const internal::PeftConfig config, internal::read_peft_config(object));
  const Safetensors& file = std::get<Safetensors>(file_);
  std::map<std::string, Halves> halves;
  for (const TensorInfo& info : file.tensors()) {
    QW_ASSIGN(const tensor::ConstView view, file.tensor(info.name));
    std::string path = info.name;
    if (!path.starts_with(kPeftPrefix)) return wrong(info.name, "its name does not begin with " + std::string(kPeftPrefix));
    path.erase(0, kPeftPrefix.size());
    if (sort_peft(path, view, halves)) continue;
    if (path.find("lora_") != std::string::npos || path.find("trainable_tokens") != std::string::npos)
      return wrong(info.name, "is no part of a LoRA adapter that is read");
    for (const std::string_view wrapper : {std::string_view(".base_layer"), std::string_view(".modules_to_save"), std::string_view(".original_module")})
      if (const auto at = path.find(wrapper); at != std::string::npos) path.erase(at, wrapper.size());
    replaced_.push_back({path, view});
  }
  for (const auto& [path, h] : halves) {
    QW_ASSIGN(AdapterPair pair, join(path + ".weight", h));
    if (config.dora != h.magnitude.has_value() && !h.table)
      return wrong(pair.name, config.dora ? "use_dora and no magnitude" : "a magnitude without use_dora");
    pair.scale = config.scale(path, pair.b.shape.back());
    pairs_.push_back(std::move(pair));
  }
  return {};
}

Status Adapter::read_gguf() {
  kind_ = ModelKind::kGguf;
  const GgufFile& file = std::get<GgufFile>(file_);
  const auto text = [&](const char* key) {
    const json::Value* v = file.metadata().find(key);
    return v != nullptr && v->is_string() ? v->as_string() : std::string();
  };
  if (text("adapter.type") != "lora")
    return fail(ErrorKind::kBadInput, "adapter.type: " + quote(text("adapter.type")) + " is not 'lora'");
  if (file.entry("adapter.alora.invocation_tokens") != nullptr)
    return fail(ErrorKind::kBadInput, "adapter.alora.invocation_tokens: adapters that wait for their tokens are not supported");
  architecture_ = text("general.architecture");
  const json::Value* alpha = file.metadata().find("adapter.lora.alpha");
  if (alpha == nullptr || !alpha->is_number() || !std::isfinite(alpha->as_double()))
    return fail(ErrorKind::kBadInput, "adapter.lora.alpha: must be a number");
  std::map<std::string, Halves> halves;
  for (const TensorInfo& info : file.tensors()) {
    QW_ASSIGN(const tensor::ConstView view, file.tensor(info.name));
    std::string base = info.name;
    const bool a = strip(base, ".lora_a");
    if (!a && !strip(base, ".lora_b")) {
      if (info.name.find("_norm") != std::string::npos) continue;  // as the format's own readers do
      return wrong(info.name, "is neither A nor B of a weight");
    }
    Halves& h = halves[base];
    (a ? h.a : h.b) = view;
    h.table = h.table_rows = base == "token_embd.weight";
  }
  for (const auto& [name, h] : halves) {
    QW_ASSIGN(AdapterPair pair, join(name, h));
    // Without an alpha the product counts as it is.
    if (alpha->as_double() != 0) pair.scale = static_cast<float>(alpha->as_double() / static_cast<double>(pair.b.shape.back()));
    pairs_.push_back(std::move(pair));
  }
  return {};
}

Result<Adapter> Adapter::open(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    QW_ASSIGN(const auto config, read_json_object(path / "adapter_config.json"));
    const fs::path weights = path / "adapter_model.safetensors";
    if (!fs::exists(weights, ignored))
      return fail(ErrorKind::kBadInput, path.string() + (fs::exists(path / "adapter_model.bin", ignored)
                                                             ? ": adapter_model.bin is not read (reading it means running a pickle); save it as safetensors"
                                                             : ": no adapter_model.safetensors"));
    QW_ASSIGN(auto file, Safetensors::open(weights));
    Adapter out(path, std::move(file));
    if (auto read = out.read_peft(config); !read) return in_context(path.string(), std::move(read).error());
    if (out.pairs_.empty() && out.replaced_.empty()) return fail(ErrorKind::kBadInput, path.string() + ": changes nothing");
    return out;
  }
  QW_ASSIGN(auto file, GgufFile::open(path));
  const json::Value* type = file.metadata().find("general.type");
  if (type == nullptr || !type->is_string() || type->as_string() != "adapter")
    return fail(ErrorKind::kBadInput, path.string() + ": is no adapter (general.type is not \"adapter\")");
  Adapter out(path, std::move(file));
  if (auto read = out.read_gguf(); !read) return in_context(path.string(), std::move(read).error());
  if (out.pairs_.empty()) return fail(ErrorKind::kBadInput, path.string() + ": changes nothing");
  return out;
}

}  // namespace qw::formats
