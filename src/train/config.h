// A training recipe: what a TOML file may say, checked key by key. docs/formats/train_config.md lists every key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/generation_config.h"
#include "json/value.h"
#include "ops/recompute.h"

namespace qw::train {

enum class Precision : std::uint8_t { kBf16, kF32 };  // of matrix products; master weights and sums are float32
enum class OptimizerKind : std::uint8_t { kAdamw, kMuon, kSgd, kAdafactor, kAdamw8bit };
enum class MuonScale : std::uint8_t {
  kMoonshot,  // 0.2 * sqrt(max(rows, cols)): update size as AdamW's, so its lr and decay carry over
  kJordan,    // sqrt(max(1, rows / cols))
};
enum class ScheduleKind : std::uint8_t { kConstant, kLinear, kCosine, kWsd };
enum class ExportType : std::uint8_t { kBf16, kF32 };

struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::kAdamw;
  double lr = 3e-4;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.1;    // on 2-D tensors only, decoupled
  double clip = 1.0;            // largest global gradient norm; 0 = no clipping
  // Muon, for the matrices inside the layers; embeddings, head, norms and biases stay with AdamW.
  double muon_lr = 0;           // 0 = lr
  double muon_momentum = 0.95;
  MuonScale muon_scale = MuonScale::kMoonshot;
  double momentum = 0;          // kSgd
};

struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::kCosine;
  std::int64_t warmup = 0;        // steps
  double min_lr_ratio = 0.1;      // lr at the end / lr
  double decay_share = 0.2;       // WSD: share of the steps spent decaying
};

struct CheckpointConfig {
  std::int64_t every = 0;  // steps; 0 = only at the end
  std::int64_t keep = 2;   // newest ones kept
};

struct EvalConfig {
  std::int64_t patience = 0;           // evaluations without a new best before training ends; 0 = never
  std::int64_t every = 0;              // steps; 0 = only at the end
  std::int64_t max_tokens = 100'000;   // of each source; 0 = all
};

// Going back when training breaks.
struct RollbackConfig {
  std::int64_t most = 0;  // times in a row that one checkpoint is gone back to; 0 = never: what is not finite is an error
  double rise = 1;        // nats above the running mean of losses at which a loss counts as broken; 0 = only what is not finite
};

// One run on several processes (internal/gradient_sum.h).
struct ParallelConfig {
  std::int64_t parts = 0;       // in which the micro-batches of a step are dealt out; 0 = as many as processes, with zero = 2 as micro-batches
  std::int64_t zero = 0;        // 1: each process keeps its share of the moments, 2: of the gradients too
  std::int64_t bucket_mib = 16; // of gradients that are summed at once
  bool overlap = true;          // with the backward pass
  std::int64_t tensor = 1;      // processes that hold one model together, each a slice of every layer (internal/tensor_group.h)
};

// What energy is reckoned with where the machine's counters cannot be read, and what is added to what they show.
struct EnergyConfig {
  double watts_a_thread = 6;  // of a busy thread: server processors take 200 to 500 W for 32 to 96 cores
  double host = 1.25;         // memory, disks, fans and power supplies beside the processors
  double pue = 1.2;           // the building
};

enum class BaseType : std::uint8_t { kAsStored, kNf4 };

// Low-rank adapters beside frozen weights.
struct LoraConfig {
  std::int64_t rank = 16;
  double alpha = 32;
  std::vector<std::string> targets;  // modules, by the ends of their names; empty: the matrices inside the layers
  bool rslora = false, dora = false;
  bool pissa = false;                // starts from the largest components of the weights in place of random ones and zero
  double b_lr_ratio = 1;             // LoRA+: learning rate of B / that of A
  BaseType base = BaseType::kAsStored;  // what the matrices inside the layers are kept in meanwhile
  bool double_quantise = true;       // kNf4: the blocks' scales in 8 bits, too
};

// Losses over pairs of answers (preference.h), in place of the likelihood of texts.
enum class PreferenceMethod : std::uint8_t { kDpo, kIpo, kSimpo, kOrpo };
struct PreferenceConfig {
  PreferenceMethod method = PreferenceMethod::kDpo;
  double beta = 0.1;
  double gamma = 1.0;            // kSimpo: margin that is asked for
  double label_smoothing = 0;    // kDpo (then cDPO), kSimpo: share of pairs that are taken to be the wrong way round
};

// The loss over rated answers (kto.h).
struct KtoConfig {
  double beta = 0.1;
  double desirable_weight = 1, undesirable_weight = 1;  // of answers that were liked, and of those that were not
  bool drift = true;  // measured on mismatched answers; false: taken to be 0 (APO-zero)
};

// A head of one number, a reward (scores.h).
struct RewardConfig {
  double center = 0;  // how strongly rewards are drawn towards 0, which pairs alone leave open
};

// Learning what a teacher says of texts (distill.h).
enum class Divergence : std::uint8_t { kForward, kReverse, kJsd };
struct DistillConfig {
  std::string teacher;  // any model that is served
  Divergence divergence = Divergence::kForward;
  double temperature = 1;
  double beta = 0.5;    // kJsd: the teacher's share in the mixture
  double hard = 0;      // share of the likelihood of the text's own tokens
};

// Embeddings that find documents (retrieval.h).
struct EmbeddingConfig {
  double temperature = 0.05;
  double margin = 0.1;    // others that are closer than the right one by more than this count as right too, and are left out
  bool queries = true;    // other queries of a step are what a query is not like
  bool documents = true;  // and other documents what its document is not like
};

// What an answer that was drawn is judged by (answer_rewards.h).
enum class AnswerCheck : std::uint8_t { kNumber, kExact, kRegex, kJsonSchema, kProgram, kOverlong };
struct AnswerReward {
  AnswerCheck check = AnswerCheck::kExact;
  double weight = 1;
  std::string pattern{};    // kRegex: what must match, kExact: what of the answer counts; empty: the prompt's own; all of it
  std::string schema{};     // kJsonSchema; empty: the prompt's own
  double seconds = 3;       // kProgram
  std::int64_t tokens = 0;  // kOverlong: so many before the longest answer it begins to cost
};

// Learning from answers of the model's own (grpo.h).
enum class GrpoAverage : std::uint8_t { kGrpo, kDapo, kDrGrpo, kGspo };
struct GrpoConfig {
  GrpoAverage average = GrpoAverage::kDapo;
  std::int64_t group = 8;                      // answers to one prompt
  std::int64_t max_tokens = 0;                 // of an answer; 0 = half of sequence_length
  double clip_low = 0.2, clip_high = 0.2;      // how far a ratio may move from 1
  double beta = 0;                             // of the divergence from the model before training
  std::int64_t updates = 1;                    // steps that learn from the same answers
  std::int64_t redraws = 0;                    // how often groups whose rewards are all equal give way to other prompts
  std::vector<AnswerReward> rewards;
};

struct TrainConfig {
  std::filesystem::path output;        // checkpoints and the exported model go here
  std::string data;                    // data configuration (TOML); built when its output is absent
  std::string shards;                  // or: a folder with ledger.json that is already there
  std::string init_from;               // model folder to start from; empty = fresh weights. With lora: any model that is served
  std::optional<LoraConfig> lora;      // train adapters; absent: all weights
  std::optional<PreferenceConfig> preference;  // with none of these: next-token likelihood
  std::optional<KtoConfig> kto;
  std::optional<RewardConfig> reward;
  std::optional<DistillConfig> distill;
  std::optional<GrpoConfig> grpo;
  std::optional<EmbeddingConfig> embedding;
  bool ranking = false;                // whether a document answers a query, by "yes" or "no" (ranking_method.cc)
  bool classes = false;                // a head of scores, one a label of the data (scores.h)
  json::Object model;                  // config.json keys; may be empty with init_from
  std::uint64_t seed = 1;
  std::int64_t threads = 0;            // 0 = one per CPU
  std::int64_t steps = 0;
  std::int64_t sequence_length = 512;  // rows of the longest piece
  std::int64_t batch_sequences = 8;    // packed sequences in one forward/backward
  std::int64_t accumulation = 1;       // forward/backward passes of one optimizer step
  Precision precision = Precision::kBf16;
  ops::Recompute recompute = ops::Recompute::kSelective;
  bool half_activations = false;       // what products made lies in bfloat16 between the passes
  double ema = 0;                      // decay of the average of weights; 0 = none
  bool skip_non_finite = false;        // leave a step out when its loss or gradient is not finite, instead of failing
  ExportType export_type = ExportType::kBf16;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  CheckpointConfig checkpoint;
  EvalConfig eval;
  RollbackConfig rollback;
  ParallelConfig parallel;
  EnergyConfig energy;
  formats::GenerationConfig generation;  // sampling that the exported model asks for; empty: that of init_from, if any
  json::Object source;                 // the whole configuration as given, for checkpoints
};

// Whether what is trained judges documents: a model with a head of scores.
inline bool judges(const TrainConfig& config) { return config.reward || config.classes; }

// Errors: kBadInput naming the key (unknown, wrong type, out of range, missing).
Result<TrainConfig> train_config(const json::Object& config);

// The learning-rate factor of optimizer step `step` (from 0) of `steps`: what lr is multiplied with.
double schedule_factor(const ScheduleConfig& schedule, std::int64_t step, std::int64_t steps);

}  // namespace qw::train
