#include <algorithm>

#include "models/internal/config_reader.h"
#include "models/internal/names.h"
#include "models/qwen4_exp/qwen4_exp.h"

namespace qw::models::qwen4_exp {
namespace {

constexpr HybridDefaults kDefaults{
    .names = {.architecture = "qwen4_exp", .gguf_architecture = "qwen4exp", .head_dim = 256, .shared = true, .gguf_normalise = true},
    .mixture = true,
    .fused_inputs = false,
    .sections = true,
    .class_name = "Qwen4ExpForCausalLM",
    .hf_type = "qwen4_exp_text"};

// Bounds that the one published model does not come near (4 streams, rank 320, 16 heads of 20 million rows).
constexpr std::int64_t kMaxStreams = 64, kMaxRank = 1 << 16, kMaxIndexHeads = 1024, kMaxIndexDim = 1024, kMaxShards = 4096,
                       kMaxBase = 1 << 28, kMaxDivisor = std::int64_t{1} << 40, kMaxBudget = 1 << 30;
constexpr std::size_t kMaxNgramLayers = 8;
// The reference's defaults.
constexpr std::int64_t kBase = 20000000, kDivisor = 128, kSeed = 1234, kReferenceShards = 512, kRatio = 4;
constexpr std::string_view kGguf = "qwen4exp.";

std::int32_t small(std::int64_t i) { return static_cast<std::int32_t>(i); }

// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
constexpr std::uint64_t kGamma = 0x9E3779B97F4A7C15;
std::uint64_t split_mix(std::uint64_t v) {
  v += kGamma;
  v = (v ^ (v >> 30)) * 0xBF58476D1CE4E5B9;
  v = (v ^ (v >> 27)) * 0x94D049BB133111EB;
  return v ^ (v >> 31);
}

// Factors are odd and keep products of ids below 2^63.
constexpr std::int64_t kSeedStep = 10007;  // from one layer with n-grams to the next
std::uint64_t factor_of(std::int64_t seed, std::int32_t place, std::int64_t vocab) {
  const auto half = static_cast<std::uint64_t>(std::max<std::int64_t>(1, INT64_MAX / vocab / 2));
  return 2 * (split_mix(static_cast<std::uint64_t>(seed) + kGamma * static_cast<std::uint64_t>(place + 1)) % half) + 1;
}

bool is_prime(std::int64_t n) {
  if (n < 2 || n % 2 == 0) return n == 2;
  for (std::int64_t d = 3; d * d <= n; d += 2)
    if (n % d == 0) return false;
  return true;
}

// The number of one end-of-text token; lists name the one that n-grams end at first, as the reference takes it.
Result<std::int64_t> end_of_text(const ConfigReader& in, std::string_view key, std::int64_t vocab) {
  const json::Value* value = in.find(key);
  if (value != nullptr && value->is_array() && !value->as_array().empty() && value->as_array()[0].is_int()) value = &value->as_array()[0];
  if (value == nullptr || !value->is_int() || value->as_int() < 0 || value->as_int() >= vocab)
    return in.bad(key, "must be a token: n-grams end there");
  return value->as_int();
}

Status check_index(const ConfigReader& in, std::string_view budget, std::string_view dim, const Config& c) {
  if (c.index_budget % c.index_ratio != 0)
    return in.bad(budget, std::to_string(c.index_budget) + " is no multiple of blocks of " + std::to_string(c.index_ratio));
  if (c.index_dim < c.hybrid.mixture.dense.rope.rotary)
    return in.bad(dim, "keys of " + std::to_string(c.index_dim) + " components cannot be turned in " +
                           std::to_string(c.hybrid.mixture.dense.rope.rotary) + " of them");
  return {};
}

std::vector<std::int64_t> as_signed(const std::vector<std::uint64_t>& v) { return {v.begin(), v.end()}; }

std::int64_t rows_of(const ops::NgramSpec& n) { return n.rows_each * n.tables; }

// Numbers of the hash that a file states, `part` of `parts` of an array: they are used in place of the rule's.
Status take_numbers(const json::Value& value, std::int64_t low, std::int64_t high, std::size_t part, std::vector<std::int64_t>& to) {
  const std::size_t n = to.size(), first = part * n;
  if (!value.is_array() || value.as_array().size() < first + n) return fail(ErrorKind::kBadInput, "must hold " + std::to_string(first + n) + " numbers");
  for (std::size_t i = 0; i < n; ++i) {
    const json::Value& v = value.as_array()[first + i];
    if (!v.is_int() || v.as_int() < low || v.as_int() > high)
      return fail(ErrorKind::kBadInput, "must hold whole numbers from " + std::to_string(low) + " to " + std::to_string(high));
    to[i] = v.as_int();
  }
  return {};
}

// The three arrays of one layer. Products of factors and tokens stay below 2^63, rows within the table.
Status take_hash(const json::Value* factors, const json::Value* sizes, const json::Value* offsets, std::size_t part, std::int64_t vocab,
                 ops::NgramSpec& n) {
  if (factors != nullptr) {
    std::vector<std::int64_t> f(n.factors.size());
    if (auto ok = take_numbers(*factors, 1, INT64_MAX / vocab, part, f); !ok) return in_context("factors of n-grams", std::move(ok).error());
    n.factors.assign(f.begin(), f.end());
  }
  const auto rows = [&](const json::Value* v, std::int64_t low, std::vector<std::int64_t>& to) -> Status {
    if (v == nullptr) return {};
    if (auto ok = take_numbers(*v, low, rows_of(n), part, to); !ok) return in_context("rows of n-grams", std::move(ok).error());
    return {};
  };
  QW_TRY(rows(sizes, 1, n.sizes));
  QW_TRY(rows(offsets, 0, n.offsets));
  for (std::size_t h = 0; h < n.sizes.size(); ++h)
    if (n.offsets[h] > rows_of(n) - n.sizes[h]) return fail(ErrorKind::kBadInput, "rows of n-grams: they end behind the table's " + std::to_string(rows_of(n)));
  return {};
}

// Tensors of the folder that hold the numbers of layer `which`. (Zeros stand where nothing was filled in.)
Status take_tensors(const json::Object& integers, std::size_t which, Config& c) {
  const std::string end = "layers." + std::to_string(c.ple_layers[which]) + ".ple.ple_embedding.";
  const auto find = [&](const char* name) -> const json::Value* {
    for (const auto& [key, value] : integers)
      if (key.ends_with(end + name) && value.is_array())
        for (const json::Value& v : value.as_array())
          if (!v.is_int() || v.as_int() != 0) return &value;
    return nullptr;
  };
  return take_hash(find("layer_multipliers"), find("ngram_heads_vocab_sizes"), find("ngram_heads_offsets"), 0,
                   c.hybrid.mixture.dense.traits.vocab, c.ngrams[which]);
}

Status read_layer_list(const ConfigReader& in, std::string_view key, std::int64_t first, Config& c) {
  const json::Value* layers = in.find(key);
  if (layers == nullptr) return {};
  if (!layers->is_array() || layers->as_array().size() > kMaxNgramLayers)
    return in.bad(key, "must be an array of at most " + std::to_string(kMaxNgramLayers) + " layers");
  for (const json::Value& layer : layers->as_array()) {
    if (!layer.is_int() || layer.as_int() < first || layer.as_int() - first >= c.hybrid.layers())
      return in.bad(key, "must hold numbers of layers, the first being " + std::to_string(first));
    const std::int32_t i = small(layer.as_int() - first);
    if (std::find(c.ple_layers.begin(), c.ple_layers.end(), i) != c.ple_layers.end()) return in.bad(key, "names a layer twice");
    c.ple_layers.push_back(i);
  }
  return {};
}

Status read_ngrams_hf(const ConfigReader& in, Config& c) {
  QW_TRY(read_layer_list(in, "ple_layer_ids", 1, c));
  if (c.ple_layers.empty()) return {};
  const ModelTraits& t = c.hybrid.mixture.dense.traits;
  QW_ASSIGN(c.ple_width, in.integer("ple_embed_dim", 1, 1 << 18, t.width).map(small));
  QW_ASSIGN(c.ple_taps, in.integer("ple_conv_kernel_size", 2, 64, 4).map(small));
  QW_ASSIGN(c.ngram_size, in.integer("ngram_size", 2, ops::kMaxNgram, 3).map(small));
  QW_ASSIGN(c.heads_per_ngram, in.integer("heads_per_ngram", 1, ops::kMaxNgramHeads / (c.ngram_size - 1), 8).map(small));
  QW_ASSIGN(c.ngram_base, in.integer("ngram_vocab_size_base", 2, kMaxBase, kBase));
  QW_ASSIGN(c.ngram_divisor, in.integer("make_ngram_vocab_size_divisible_by", 1, kMaxDivisor, kDivisor));
  QW_ASSIGN(c.seed, in.integer("seed", 0, INT64_MAX, kSeed));
  QW_ASSIGN(c.shards, in.integer("split_ngram_parts", 1, kMaxShards, kReferenceShards).map(small));
  QW_ASSIGN(c.end_of_text, end_of_text(in, "eos_token_id", t.vocab).map(small));
  QW_TRY(settle_ngrams(c));
  const json::Value* integers = in.find(kHfIntegers);
  if (integers == nullptr || !integers->is_object()) return {};
  for (std::size_t i = 0; i < c.ple_layers.size(); ++i) QW_TRY(take_tensors(integers->as_object(), i, c));
  return {};
}

// GGUF states the numbers of the hash, not what they come from. Folders say the latter; a base, a divisor and a seed are sought
// that give these numbers. (If there are none, the tensors of the folder tell.)
Status find_origin(const ConfigReader& in, std::int64_t rows, Config& c) {
  const std::vector<std::int64_t> sizes = c.ngrams[0].sizes;
  const std::vector<std::uint64_t> factors = c.ngrams[0].factors;
  const auto again = [&]() -> Status {
    c.ngrams.clear();
    return settle_ngrams(c);
  };
  const json::Value* stated = in.find("ple.head_vocab_sizes");
  if (stated != nullptr && stated->is_array() && !stated->as_array().empty() && stated->as_array()[0].is_int() && !in.has("ple.vocab_size_base") &&
      stated->as_array()[0].as_int() != sizes[0] && stated->as_array()[0].as_int() >= 2 && stated->as_array()[0].as_int() <= kMaxBase)
    c.ngram_base = stated->as_array()[0].as_int();
  if (rows > 0 && rows <= kMaxDivisor && !in.has("ple.divisor")) {
    std::int64_t total = 0;
    Config plain = c;
    plain.ngrams.clear();
    plain.shards = 1;
    QW_TRY(settle_ngrams(plain));
    for (const std::int64_t n : plain.ngrams[0].sizes) total += n;
    if (rows_of(plain.ngrams[0]) != rows && rows >= total) c.ngram_divisor = rows;
  }
  const json::Value* first = in.find("ple.layer_multipliers");
  constexpr std::int64_t kSeedsTried = 1 << 16;
  if (first != nullptr && first->is_array() && !first->as_array().empty() && first->as_array()[0].is_int() && !in.has("ple.seed") &&
      static_cast<std::uint64_t>(first->as_array()[0].as_int()) != factors[0])
    for (std::int64_t seed = 0; seed < kSeedsTried; ++seed)
      if (static_cast<std::int64_t>(factor_of(seed, 0, c.hybrid.mixture.dense.traits.vocab)) == first->as_array()[0].as_int()) {
        c.seed = seed;
        break;
      }
  return again();
}

Status read_ngrams_gguf(const json::Object& metadata, const ConfigReader& in, Config& c) {
  QW_TRY(read_layer_list(in, "ple.layers", 0, c));
  if (c.ple_layers.empty()) return {};
  QW_ASSIGN(c.ple_taps, in.integer("ple.conv_kernel", 2, 64).map(small));
  QW_ASSIGN(c.ngram_size, in.integer("ple.ngram_size", 2, ops::kMaxNgram).map(small));
  QW_ASSIGN(c.heads_per_ngram, in.integer("ple.heads_per_ngram", 1, ops::kMaxNgramHeads / (c.ngram_size - 1)).map(small));
  const std::int64_t heads = std::int64_t{c.ngram_size - 1} * c.heads_per_ngram;
  QW_ASSIGN(const std::int64_t dim, in.integer("embedding_length_per_layer_input", 1, (1 << 18) / heads));
  c.ple_width = small(heads * dim);
  QW_ASSIGN(c.ngram_base, in.integer("ple.vocab_size_base", 2, kMaxBase, kBase));
  QW_ASSIGN(c.ngram_divisor, in.integer("ple.divisor", 1, kMaxDivisor, kDivisor));
  QW_ASSIGN(c.seed, in.integer("ple.seed", 0, INT64_MAX, kSeed));
  QW_ASSIGN(c.shards, in.integer("ple.parts", 1, kMaxShards, 1).map(small));
  const std::int64_t vocab = c.hybrid.mixture.dense.traits.vocab;
  QW_ASSIGN(c.end_of_text, end_of_text(in, "ple.eos_token_id", vocab).map(small));
  QW_TRY(settle_ngrams(c));
  const json::Value* rows = metadata.find(std::string(kGgufRows) + gguf_table(0));
  QW_TRY(find_origin(in, rows != nullptr && rows->is_int() ? rows->as_int() : 0, c));
  for (std::size_t i = 0; i < c.ple_layers.size(); ++i)
    QW_TRY(take_hash(in.find("ple.layer_multipliers"), in.find("ple.head_vocab_sizes"), in.find("ple.head_offsets"), i, vocab, c.ngrams[i]));
  return {};
}

Status check_streams(const ConfigReader& in, std::string_view key, const Config& c) {
  if (std::int64_t{c.streams} * c.hybrid.mixture.dense.traits.width <= 1 << 20) return {};
  return in.bad(key, std::to_string(c.streams) + " streams of so wide a model");
}

}  // namespace

std::string gguf_table(std::int32_t which) {
  return which == 0 ? "per_layer_token_embd.weight" : "per_layer_token_embd." + std::to_string(which) + ".weight";
}

Status settle_ngrams(Config& c) {
  const std::int64_t vocab = c.hybrid.mixture.dense.traits.vocab;
  std::int64_t prime = c.ngram_base - 1;  // sizes are the next primes from the base on, all layers' one after the other
  for (std::size_t layer = 0; layer < c.ple_layers.size(); ++layer) {
    ops::NgramSpec n;
    n.size = c.ngram_size;
    n.heads_each = c.heads_per_ngram;
    n.end_of_text = c.end_of_text;
    if (c.ple_width % n.heads() != 0)
      return fail(ErrorKind::kBadInput, "ple_embed_dim: " + std::to_string(c.ple_width) + " is no multiple of " + std::to_string(n.heads()) + " heads");
    n.dim = c.ple_width / n.heads();
    for (std::int32_t i = 0; i < n.size; ++i) n.factors.push_back(factor_of(c.seed + kSeedStep * static_cast<std::int64_t>(layer), i, vocab));
    std::int64_t rows = 0;
    for (std::int32_t h = 0; h < n.heads(); ++h) {
      do ++prime;
      while (!is_prime(prime));
      n.sizes.push_back(prime);
      n.offsets.push_back(rows);
      rows += prime;
    }
    rows = (rows + c.ngram_divisor - 1) / c.ngram_divisor * c.ngram_divisor;
    if (rows % c.shards != 0)
      return fail(ErrorKind::kBadInput, "split_ngram_parts: " + std::to_string(c.shards) + " do not divide " + std::to_string(rows) + " rows");
    n.tables = c.shards;
    n.rows_each = rows / c.shards;
    c.ngrams.push_back(std::move(n));
  }
  return {};
}

Result<Config> read_hf(const json::Object& config) {
  json::Object plain = config;
  // Layers with an indexer are called full in the released file and by their own name in newer libraries.
  if (const json::Value* types = config.find_set("layer_types"); types != nullptr && types->is_array()) {
    json::Array renamed = types->as_array();
    for (json::Value& type : renamed)
      if (type.is_string() && type.as_string() == "indexed_attention") type = json::Value("full_attention");
    plain.set("layer_types", std::move(renamed));
  }
  Config c;
  QW_ASSIGN(c.hybrid, read_hybrid_hf(plain, kDefaults));
  const ConfigReader in(plain, "");
  QW_ASSIGN(const std::string gate, in.string("output_gate_type", "silu"));
  if (gate != "sigmoid" && gate != "silu") return in.bad("output_gate_type", "\"" + gate.substr(0, 64) + "\" is neither sigmoid nor silu");
  c.hybrid.sigmoid_gate = gate == "sigmoid";
  QW_ASSIGN(c.streams, in.integer("hc_count", 2, kMaxStreams, 4).map(small));
  QW_ASSIGN(c.rank, in.integer("hc_lowrank", 1, kMaxRank, 320).map(small));
  QW_TRY(check_streams(in, "hc_count", c));
  QW_ASSIGN(const std::int64_t keys, in.integer("indexer_kv_heads", 1, 1));
  static_cast<void>(keys);
  QW_ASSIGN(c.index_heads, in.integer("indexer_n_heads", 1, kMaxIndexHeads).map(small));
  QW_ASSIGN(c.index_dim, in.integer("indexer_head_dim", 1, kMaxIndexDim).map(small));
  QW_ASSIGN(c.index_budget, in.integer("indexer_budget", 1, kMaxBudget));
  QW_ASSIGN(c.index_ratio, in.integer("indexer_compress_ratio", 1, kMaxBudget));
  QW_TRY(check_index(in, "indexer_budget", "indexer_head_dim", c));
  QW_TRY(read_ngrams_hf(in, c));
  return c;
}

Result<Config> read_gguf(const json::Object& metadata, bool has_output_weight, std::int64_t vocab) {
  Config c;
  QW_ASSIGN(c.hybrid, read_hybrid_gguf(metadata, kDefaults, has_output_weight, vocab));
  const ConfigReader in(metadata, std::string(kGguf));
  if (c.hybrid.draft_layers > 0) return in.bad("nextn_predict_layers", "layers that draft are not known in such files");
  QW_ASSIGN(const std::string gate, in.string("ssm.output_gate", "sigmoid"));
  if (gate != "sigmoid" && gate != "silu") return in.bad("ssm.output_gate", "is neither sigmoid nor silu");
  c.hybrid.sigmoid_gate = gate == "sigmoid";
  QW_ASSIGN(c.streams, in.integer("hyper_connection.count", 2, kMaxStreams).map(small));
  QW_ASSIGN(c.rank, in.integer("hyper_connection.low_rank", 1, kMaxRank).map(small));
  QW_TRY(check_streams(in, "hyper_connection.count", c));
  QW_ASSIGN(c.index_heads, in.integer("attention.indexer.head_count", 1, kMaxIndexHeads).map(small));
  QW_ASSIGN(c.index_dim, in.integer("attention.indexer.key_length", 1, kMaxIndexDim).map(small));
  QW_ASSIGN(c.index_budget, in.integer("attention.indexer.top_k", 1, kMaxBudget));
  constexpr std::string_view kRatios = "attention.compress_ratios";
  const json::Value* ratios = in.find(kRatios);
  if (ratios == nullptr || !ratios->is_array()) return in.bad(kRatios, "must be an array");
  for (const json::Value& r : ratios->as_array()) {
    if (!r.is_int() || r.as_int() < 0 || r.as_int() > kMaxBudget) return in.bad(kRatios, "must hold tokens of a block");
    if (r.as_int() == 0) continue;
    if (c.index_ratio != 0 && c.index_ratio != r.as_int()) return in.bad(kRatios, "blocks of different lengths are not supported");
    c.index_ratio = r.as_int();
  }
  if (c.index_ratio == 0) c.index_ratio = kRatio;  // llama.cpp's converter misses layers that newer libraries call indexed_attention
  QW_TRY(check_index(in, "attention.indexer.top_k", "attention.indexer.key_length", c));
  QW_TRY(read_ngrams_gguf(metadata, in, c));
  return c;
}

json::Object write_hf(const Config& c) {
  json::Object o = write_hybrid_hf(c.hybrid, kDefaults);
  o.set("output_gate_type", c.hybrid.sigmoid_gate ? "sigmoid" : "silu");
  o.set("hc_count", c.streams);
  o.set("hc_lowrank", c.rank);
  o.set("indexer_n_heads", c.index_heads);
  o.set("indexer_kv_heads", 1);
  o.set("indexer_head_dim", c.index_dim);
  o.set("indexer_budget", c.index_budget);
  o.set("indexer_compress_ratio", c.index_ratio);
  if (c.ple_layers.empty()) return o;
  json::Array layers;
  for (const std::int32_t i : c.ple_layers) layers.emplace_back(i + 1);
  o.set("ple_layer_ids", std::move(layers));
  o.set("ple_embed_dim", c.ple_width);
  o.set("ple_conv_kernel_size", c.ple_taps);
  o.set("ngram_size", c.ngram_size);
  o.set("heads_per_ngram", c.heads_per_ngram);
  o.set("ngram_vocab_size_base", c.ngram_base);
  o.set("make_ngram_vocab_size_divisible_by", c.ngram_divisor);
  o.set("seed", c.seed);
  o.set("split_ngram_parts", c.shards);
  o.set("eos_token_id", c.end_of_text);
  return o;
}

json::Object write_gguf(const Config& c) {
  HybridConfig hybrid = c.hybrid;
  hybrid.draft_layers = 0;  // files of llama.cpp leave them out
  json::Object o = write_hybrid_gguf(hybrid, kDefaults);
  const auto set = [&](std::string_view key, json::Value value) { o.set(std::string(kGguf) + std::string(key), std::move(value)); };
  const auto numbers = [&](std::string_view key, auto of) {
    json::Array a;
    for (const ops::NgramSpec& spec : c.ngrams)
      for (const std::int64_t n : of(spec)) a.emplace_back(n);
    set(key, std::move(a));
  };
  if (!c.hybrid.sigmoid_gate) set("ssm.output_gate", "silu");
  set("hyper_connection.count", c.streams);
  set("hyper_connection.low_rank", c.rank);
  set("attention.indexer.head_count", c.index_heads);
  set("attention.indexer.key_length", c.index_dim);
  set("attention.indexer.top_k", c.index_budget);
  json::Array ratios;
  for (const bool full : c.hybrid.full) ratios.emplace_back(full ? c.index_ratio : std::int64_t{0});
  set("attention.compress_ratios", std::move(ratios));
  if (c.ple_layers.empty()) return o;
  json::Array layers;
  for (const std::int32_t i : c.ple_layers) layers.emplace_back(i);
  set("ple.layers", std::move(layers));
  set("ple.ngram_size", c.ngram_size);
  set("ple.heads_per_ngram", c.heads_per_ngram);
  set("ple.conv_kernel", c.ple_taps);
  set("ple.eos_token_id", c.end_of_text);
  numbers("ple.layer_multipliers", [](const ops::NgramSpec& n) { return as_signed(n.factors); });
  numbers("ple.head_offsets", [](const ops::NgramSpec& n) { return n.offsets; });
  numbers("ple.head_vocab_sizes", [](const ops::NgramSpec& n) { return n.sizes; });
  set("embedding_length_per_layer_input", c.ngrams[0].dim);
  // Of this house, where they are not the released model's: what folders say in place of the numbers above.
  if (c.ngram_base != kBase) set("ple.vocab_size_base", c.ngram_base);
  if (c.ngram_divisor != kDivisor) set("ple.divisor", c.ngram_divisor);
  if (c.seed != kSeed) set("ple.seed", c.seed);
  if (c.shards != 1) set("ple.parts", c.shards);  // into which folders cut the table
  return o;
}

}  // namespace qw::models::qwen4_exp
