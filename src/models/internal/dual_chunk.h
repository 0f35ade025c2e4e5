// Dual chunk attention (An et al., "Training-free long-context scaling of large language models", 2024) in
// configurations: what the checkpoints for a million tokens (Qwen2.5-1M, the second configuration of Qwen3-2507) reach
// these with. A chunk holds chunk_size - local_size tokens; ops/executor.h says how positions are counted. Beyond the
// trained length the cos and sin of queries and keys also grow with the logarithm of the length. Source: the published
// configurations, and what vLLM computes for them (dual_chunk_flash_attn.py, DualChunkRotaryEmbedding).
#pragma once

#include <string>

#include "base/result.h"
#include "json/value.h"
#include "models/internal/config_reader.h"
#include "models/internal/dense.h"

namespace qw::models {

// Set config.rope's chunks and growth where the file has them and the context is longer than plain attention is the
// same. The sparse attention that may be written beside them approximates long prompts; a notice says that all is
// computed.
Status read_dual_chunk_hf(const json::Object& config, DenseConfig& c);
Status read_dual_chunk_gguf(const ConfigReader& in, DenseConfig& c);
void write_dual_chunk_hf(const DenseConfig& c, json::Object& out);
// Keys of this project's own: "<arch>.attention.dual_chunk.size", ".local" and ".original_context"
// (docs/formats/gguf.md).
void write_dual_chunk_gguf(const DenseConfig& c, const std::string& prefix, json::Object& out);

}  // namespace qw::models
