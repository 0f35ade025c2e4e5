#include "formats/hf_folder.h"

#include <algorithm>
#include <vector>

#include "base/file.h"
#include "formats/internal/text.h"

namespace qw::formats {

namespace fs = std::filesystem;

tl::unexpected<Error> refuse_pickle(const fs::path& file) {
  return fail(ErrorKind::kBadInput,
              file.string() + ": a pickle is not read, because it can run any code; convert with transformers: "
                              "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)");
}

namespace {

bool is_pickle_name(std::string_view name) {
  if (name == "training_args.bin" || name == "optimizer.pt" || name == "scheduler.pt") return false;  // no weights
  for (const std::string_view end : {".bin", ".pth", ".pt", ".ckpt"})
    if (name.ends_with(end)) return true;
  return false;
}

// The first by name; "" if there is none.
std::string find_pickle(const fs::path& folder) {
  std::string first;
  std::error_code ignored;
  for (fs::directory_iterator it(folder, ignored), end; !ignored && it != end; it.increment(ignored)) {
    const std::string name = it->path().filename().string();
    if (is_pickle_name(name) && (first.empty() || name < first)) first = name;
  }
  return first;
}

// A configuration is a few kilobytes; 16 MiB leaves room for long per-layer tables.
constexpr std::uint64_t kMaxConfigBytes = 16 << 20;

// The file that Safetensors::open is to read.
Result<fs::path> find_weights(const fs::path& folder) {
  std::error_code ignored;
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    if (fs::exists(folder / name, ignored)) return folder / name;
  }
  std::vector<fs::path> found;
  for (fs::directory_iterator it(folder, ignored), end; !ignored && it != end; it.increment(ignored)) {
    const std::string name = it->path().filename().string();
    if (name.ends_with(".safetensors") && !name.starts_with("adapter_")) found.push_back(it->path());
  }
  if (found.size() == 1) return found.front();
  const std::string where = folder.string() + ": ";
  if (found.size() > 1)
    return fail(ErrorKind::kBadInput, where + "several .safetensors files but no model.safetensors.index.json");
  if (const std::string pickle = find_pickle(folder); !pickle.empty()) return refuse_pickle(folder / pickle);
  return fail(ErrorKind::kBadInput, where + "no model.safetensors");
}

}  // namespace

Result<json::Object> read_json_object(const fs::path& path) {
  QW_ASSIGN(const std::string text, base::read_file(path, kMaxConfigBytes));
  auto value = json::parse(text);
  if (!value) return in_context(path.string(), std::move(value).error());
  if (!value->is_object()) return fail(ErrorKind::kBadInput, path.string() + ": not a JSON object");
  return std::move(value->as_object());
}

Result<HfFolder> HfFolder::open(const fs::path& folder) {
  std::error_code ignored;
  // The makers' own archives have no configuration, but that is not what is wrong with them.
  if (const std::string pickle = find_pickle(folder); !pickle.empty() && !fs::exists(folder / "config.json", ignored))
    return refuse_pickle(folder / pickle);
  QW_ASSIGN(auto config, read_json_object(folder / "config.json"));
  json::Object generation;
  if (fs::exists(folder / "generation_config.json", ignored)) {
    QW_ASSIGN(generation, read_json_object(folder / "generation_config.json"));
  }
  QW_ASSIGN(const fs::path weights_path, find_weights(folder));
  QW_ASSIGN(auto weights, Safetensors::open(weights_path));
  HfFolder result(std::move(weights));
  result.path_ = folder;
  result.config_ = std::move(config);
  result.generation_config_ = std::move(generation);
  QW_TRY(result.find_quantisation());
  return result;
}

Status HfFolder::find_quantisation() {
  // Older GPTQ folders have a file of its own for it, whose method is understood.
  std::error_code ignored;
  json::Object config = config_;
  const fs::path beside = path_ / "quantize_config.json";
  if (config.find("quantization_config") == nullptr && fs::exists(beside, ignored)) {
    QW_ASSIGN(json::Object own, read_json_object(beside));
    if (own.find("quant_method") == nullptr) own.set("quant_method", "gptq");
    config.set("quantization_config", std::move(own));
  }
  auto quant = read_quant_config(config);
  if (!quant) return in_context((path_ / "config.json").string(), std::move(quant).error());
  if (!quant->has_value()) return {};
  auto seen = QuantisedWeights::create(**quant, weights_.tensors(),
                                       [this](std::string_view name) { return weights_.tensor(name); });
  if (!seen) return in_context(path_.string(), std::move(seen).error());
  quantised_ = std::move(*seen);
  return {};
}

Result<tensor::ConstView> HfFolder::tensor(std::string_view name) const {
  if (!quantised_) return weights_.tensor(name);
  if (auto made = quantised_->made(name)) return *made;
  if (quantised_->find(name) == nullptr)
    return fail(ErrorKind::kBadInput, path_.string() + ": no tensor " + internal::quote(name));
  return weights_.tensor(name);
}

}  // namespace qw::formats
