#include <algorithm>

#include "formats/internal/text.h"
#include "formats/quantised_weights.h"

namespace qw::formats {
namespace {

constexpr const char* kWhere = "quantization_config";
// No weight has rows this long: a group or block beyond it is a mistake.
constexpr std::int64_t kMaxGroup = std::int64_t{1} << 24;

tl::unexpected<Error> bad(const std::string& key, const std::string& why) {
  return fail(ErrorKind::kBadInput, std::string(kWhere) + "." + key + ": " + why);
}

Result<std::int64_t> integer(const json::Object& o, const char* key, std::int64_t least, std::int64_t most) {
  const json::Value* v = o.find_set(key);
  if (v == nullptr) return bad(key, "is missing");
  if (!v->is_int() || v->as_int() < least || v->as_int() > most)
    return bad(key, "must be an integer from " + std::to_string(least) + " to " + std::to_string(most));
  return v->as_int();
}

// A key that must be one of `known` where it stands at all.
Result<std::string> choice(const json::Object& o, const char* key, std::initializer_list<const char*> known) {
  const json::Value* v = o.find_set(key);
  if (v == nullptr) return std::string(*known.begin());
  std::string list;
  for (const char* k : known) {
    if (v->is_string() && v->as_string() == k) return v->as_string();
    list += (list.empty() ? "" : ", ") + std::string(k);
  }
  return bad(key, (v->is_string() ? internal::quote(v->as_string()) : std::string(v->type_name())) +
                      " is not one that is read (" + list + ")");
}

Result<std::int64_t> group_size(const json::Object& o) {
  QW_ASSIGN(const std::int64_t group, integer(o, "group_size", -1, kMaxGroup));
  if (group == 0) return bad("group_size", "must not be 0");
  return group;
}

Status read_gptq(const json::Object& o, QuantConfig& c) {
  QW_ASSIGN(const std::int64_t bits, integer(o, "bits", 2, 8));
  if (bits != 4 && bits != 8) return bad("bits", std::to_string(bits) + " bits are not read (4 and 8 are)");
  c.bits = static_cast<int>(bits);
  QW_ASSIGN(c.group, group_size(o));
  for (const char* key : {"checkpoint_format", "format"}) {
    QW_ASSIGN(const std::string format, choice(o, key, {"gptq", "gptq_v2"}));
    if (format == "gptq_v2") c.zeros_less_one = false;
  }
  QW_TRY(choice(o, "pack_dtype", {"int32"}));
  const json::Value* marlin = o.find_set("is_marlin_format");
  if (marlin != nullptr && marlin->is_bool() && marlin->as_bool())
    return bad("is_marlin_format", "Marlin's packing is not read");
  const json::Value* dynamic = o.find_set("dynamic");
  c.dynamic = dynamic != nullptr && dynamic->is_object() && !dynamic->as_object().empty();
  return {};
}

Status read_awq(const json::Object& o, QuantConfig& c) {
  // AutoAWQ's own files call it w_bit and q_group_size.
  QW_ASSIGN(const std::int64_t bits, integer(o, o.find_set("bits") == nullptr && o.find_set("w_bit") ? "w_bit" : "bits", 1, 8));
  if (bits != 4) return bad("bits", std::to_string(bits) + " bits are not read (4 are)");
  if (o.find_set("group_size") == nullptr && o.find_set("q_group_size") != nullptr) {
    QW_ASSIGN(c.group, integer(o, "q_group_size", 1, kMaxGroup));
  } else {
    QW_ASSIGN(c.group, group_size(o));
  }
  QW_TRY(choice(o, "version", {"gemm", "GEMM"}));
  QW_TRY(choice(o, "format", {"gemm", "GEMM"}));
  c.zeros_less_one = false;
  return {};
}

Status read_fp8(const json::Object& config, const json::Object& o, QuantConfig& c) {
  QW_TRY(choice(o, "fmt", {"e4m3", "float8_e4m3fn"}));
  // Static and dynamic scales of activations are about a product in FP8, which is not what is computed here.
  QW_TRY(choice(o, "activation_scheme", {"dynamic", "static"}));
  if (const json::Value* block = o.find_set("weight_block_size")) {
    if (!block->is_array() || block->as_array().size() != 2) return bad("weight_block_size", "must hold two numbers");
    for (const json::Value& v : block->as_array())
      if (!v.is_int() || v.as_int() < 1 || v.as_int() > kMaxGroup)
        return bad("weight_block_size", "must hold integers from 1 to " + std::to_string(kMaxGroup));
    c.block_rows = block->as_array()[0].as_int();
    c.block_columns = block->as_array()[1].as_int();
  }
  for (const char* key : {"dtype", "torch_dtype"}) {
    const json::Value* type = config.find_set(key);
    if (type != nullptr && type->is_string() && type->as_string() == "float32") c.float_type = tensor::DType::kF32;
  }
  return {};
}

}  // namespace

Result<std::optional<QuantConfig>> read_quant_config(const json::Object& config) {
  const json::Value* value = config.find_set(kWhere);
  if (value == nullptr) return std::optional<QuantConfig>();
  if (!value->is_object()) return fail(ErrorKind::kBadInput, std::string(kWhere) + ": must be an object");
  const json::Object& o = value->as_object();
  if (o.find_set("quant_method") == nullptr) return bad("quant_method", "is missing");
  QW_ASSIGN(const std::string method, choice(o, "quant_method", {"fp8", "gptq", "awq"}));
  if (const json::Value* left = o.find_set("modules_to_not_convert")) {
    const bool names = left->is_array() && std::all_of(left->as_array().begin(), left->as_array().end(),
                                                       [](const json::Value& v) { return v.is_string(); });
    if (!names) return bad("modules_to_not_convert", "must be an array of names");
  }
  QuantConfig c;
  if (method == "gptq") {
    c.method = QuantMethod::kGptq;
    QW_TRY(read_gptq(o, c));
  } else if (method == "awq") {
    c.method = QuantMethod::kAwq;
    QW_TRY(read_awq(o, c));
  } else {
    c.method = QuantMethod::kFp8;
    c.bits = 8;
    QW_TRY(read_fp8(config, o, c));
  }
  return std::optional<QuantConfig>(c);
}

std::string QuantConfig::describe() const {
  if (method == QuantMethod::kFp8) {
    if (block_rows == 0) return "fp8, one scale a weight";
    return "fp8, blocks of " + std::to_string(block_rows) + " x " + std::to_string(block_columns);
  }
  std::string text = method == QuantMethod::kGptq ? "gptq, " : "awq, ";
  text += std::to_string(bits) + " bits, ";
  return text + (group < 0 ? "one group a row" : "groups of " + std::to_string(group));
}

}  // namespace qw::formats
