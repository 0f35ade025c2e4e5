#include "formats/generation_config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "base/decimal.h"

namespace qw::formats {
namespace {

// A number as a person would write it.
std::string shown(double x) {
  std::ostringstream out;
  out << x;
  return out.str();
}

// The fractions: one row serves reading and writing both formats. Beyond 100 a temperature is the uniform distribution
// and a penalty forbids every repetition: nobody means that.
struct NumberKey {
  const char *hf, *gguf;
  std::optional<double> GenerationConfig::*member;
  double low, high;
};
constexpr NumberKey kNumbers[] = {
    {"temperature", "general.sampling.temp", &GenerationConfig::temperature, 0, 100},
    {"top_p", "general.sampling.top_p", &GenerationConfig::top_p, 0, 1},
    {"min_p", "general.sampling.min_p", &GenerationConfig::min_p, 0, 1},
    {"repetition_penalty", "general.sampling.penalty_repeat", &GenerationConfig::repetition_penalty, 0.01, 100}};
constexpr const char *kTopKHf = "top_k", *kTopKGguf = "general.sampling.top_k", *kDoSample = "do_sample";

// f32 of a GGUF file as the decimal it was written from: 0.7f is 0.7, not 0.69999998807907104.
double as_written(double x) {
  const auto narrow = static_cast<float>(x);
  return static_cast<double>(narrow) == x ? base::shortest(narrow) : x;
}

Result<std::optional<double>> number(const json::Object& object, const char* key, double low, double high) {
  const json::Value* value = object.find_set(key);
  if (value == nullptr) return std::optional<double>();
  if (!value->is_number() || !(value->as_double() >= low && value->as_double() <= high)) {
    return fail(ErrorKind::kBadInput,
                std::string(key) + " must be a number from " + shown(low) + " to " + shown(high));
  }
  return std::optional(as_written(value->as_double()));
}

}  // namespace

Result<GenerationConfig> parse_generation_config(const json::Object& object, bool gguf) {
  GenerationConfig config;
  for (const NumberKey& row : kNumbers) {
    QW_ASSIGN(config.*row.member, number(object, gguf ? row.gguf : row.hf, row.low, row.high));
  }
  // -1 is how some say "all".
  QW_ASSIGN(const auto top_k,
            number(object, gguf ? kTopKGguf : kTopKHf, -1, std::numeric_limits<std::int32_t>::max()));
  if (top_k && *top_k != std::floor(*top_k)) {
    return fail(ErrorKind::kBadInput, std::string(gguf ? kTopKGguf : kTopKHf) + " must be a whole number");
  }
  if (top_k) config.top_k = std::max<std::int64_t>(0, static_cast<std::int64_t>(*top_k));
  if (gguf) return config;
  if (const json::Value* sample = object.find_set(kDoSample)) {
    if (!sample->is_bool()) return fail(ErrorKind::kBadInput, std::string(kDoSample) + " must be true or false");
    if (!sample->as_bool()) config.temperature = 0;
  }
  return config;
}

Result<GenerationConfig> read_generation_config(const ModelSource& source) {
  const bool gguf = source.gguf() != nullptr;
  auto config = parse_generation_config(gguf ? source.config() : source.generation_config(), gguf);
  if (!config) {
    const auto file = gguf ? source.path() : source.path() / "generation_config.json";
    return in_context(file.string(), std::move(config).error());
  }
  return config;
}

void write_generation_config(const GenerationConfig& config, GgufMetadata& metadata) {
  for (const NumberKey& row : kNumbers) {
    if (config.*row.member) metadata.set_typed(row.gguf, GgufType::kF32, json::Value(*(config.*row.member)));
  }
  if (config.top_k) metadata.set_typed(kTopKGguf, GgufType::kI32, json::Value(*config.top_k));
}

json::Object generation_config_json(const GenerationConfig& config) {
  json::Object out;
  if (config.temperature) out.set(kDoSample, *config.temperature > 0);
  for (const NumberKey& row : kNumbers) {
    const auto& value = config.*row.member;
    // transformers refuses a temperature of 0: greedy decoding is do_sample alone.
    if (value && !(row.member == &GenerationConfig::temperature && *value == 0)) out.set(row.hf, *value);
  }
  if (config.top_k) out.set(kTopKHf, *config.top_k);
  return out;
}

}  // namespace qw::formats
