// How people name models of the public services.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace qw::hub {

enum class Service { kHuggingFace, kModelScope };
const char* service_name(Service service);  // "huggingface", "modelscope": as manifests spell it

struct ModelName {
  Service service = Service::kHuggingFace;
  std::string owner, repository;
  std::string pattern;  // which GGUF file: a part of its name, or a glob; empty: none given
  std::string id() const { return owner + "/" + repository; }
};

// "Qwen/Qwen3-0.6B", "hf:Qwen/Qwen3-0.6B", "ms:Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B-GGUF:q8_0", and short names of the
// Qwen family in any case: "qwen3-0.6b", "qwen2.5-7b-instruct-gguf:q4_k_m". kUsage with what is wrong.
Result<ModelName> parse_name(std::string_view text);

std::string lower(std::string_view text);  // ASCII only

}  // namespace qw::hub
