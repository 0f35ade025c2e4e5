#include "models/internal/dual_chunk.h"

#include <algorithm>

namespace qw::models {
namespace {

constexpr std::int64_t kMaxContext = std::int64_t{1} << 30;
constexpr std::string_view kHfKey = "dual_chunk_attention_config", kGgufPrefix = "attention.dual_chunk.";

struct Keys {
  std::string_view size, local, original;
};

Status read(const ConfigReader& in, const Keys& key, DenseConfig& c) {
  QW_ASSIGN(const std::int64_t size, in.integer(key.size, 1, kMaxContext));
  QW_ASSIGN(const std::int64_t local, in.integer(key.local, 0, size - 1));
  QW_ASSIGN(const std::int64_t original, in.integer(key.original, 1, kMaxContext, size));
  const std::int64_t chunk = size - local;
  // A query sees the chunk before its own at the true distance while it stands below `size`.
  if (c.traits.context <= std::min({size, 2 * chunk, original})) return {};
  if (chunk % ops::kChunkUnit != 0)
    return in.bad(key.size, "chunks of " + std::to_string(chunk) + " tokens (less " + std::string(key.local) +
                                "); must be a multiple of " + std::to_string(ops::kChunkUnit));
  if (c.window > 0) return in.bad(key.size, "chunks and a sliding window are not computed together");
  c.rope.chunk = chunk;
  c.rope.chunk_reach = size;
  c.rope.growth_context = static_cast<float>(original);
  return {};
}

std::int64_t local_size(const DenseConfig& c) { return c.rope.chunk_reach - c.rope.chunk; }

}  // namespace

Status read_dual_chunk_hf(const json::Object& config, DenseConfig& c) {
  const ConfigReader top(config, "");
  const json::Value* value = top.find(kHfKey);
  if (value == nullptr) return {};
  if (!value->is_object()) return top.bad(kHfKey, "must be an object");
  const std::string prefix = std::string(kHfKey) + ".";
  json::Object flat;
  for (const auto& [k, v] : value->as_object()) flat.set(prefix + k, v);
  const ConfigReader in(flat, prefix);
  QW_TRY(read(in, {"chunk_size", "local_size", "original_max_position_embeddings"}, c));
  QW_ASSIGN(const bool sparse, in.boolean("sparse_attention_enabled", in.has("sparse_attention_config")));
  if (sparse && c.rope.chunk > 0)
    c.traits.notices.push_back(
        "attention to long prompts is computed in full, not by the sparse pattern beside the configuration");
  return {};
}

Status read_dual_chunk_gguf(const ConfigReader& in, DenseConfig& c) {
  const std::string size = std::string(kGgufPrefix) + "size", local = std::string(kGgufPrefix) + "local",
                    original = std::string(kGgufPrefix) + "original_context";
  if (!in.has(size)) return {};
  return read(in, {size, local, original}, c);
}

void write_dual_chunk_hf(const DenseConfig& c, json::Object& out) {
  if (c.rope.chunk == 0) return;
  out.set(std::string(kHfKey),
          json::Object{{"chunk_size", c.rope.chunk_reach},
                       {"local_size", local_size(c)},
                       {"original_max_position_embeddings", static_cast<std::int64_t>(c.rope.growth_context)}});
}

void write_dual_chunk_gguf(const DenseConfig& c, const std::string& prefix, json::Object& out) {
  if (c.rope.chunk == 0) return;
  const std::string keys = prefix + std::string(kGgufPrefix);
  out.set(keys + "size", c.rope.chunk_reach);
  out.set(keys + "local", local_size(c));
  out.set(keys + "original_context", static_cast<std::int64_t>(c.rope.growth_context));
}

}  // namespace qw::models
