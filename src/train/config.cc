#include "train/config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "data/config_table.h"
#include "train/internal/tensor_group.h"

namespace qw::train {
namespace {

using data::ConfigTable;

// Bounds that only catch slips of the pen; memory is checked where it is taken.
constexpr std::int64_t kManySteps = std::int64_t{1} << 40;
constexpr std::int64_t kLongSequence = 1 << 20;

Status read_optimizer(ConfigTable t, OptimizerConfig& c) {
  int kind = 0, scale = 0;
  QW_TRY(t.read_choice("kind", {"adamw", "muon", "sgd", "adafactor", "adamw_8bit"}, kind));
  QW_TRY(t.read("lr", c.lr, 0, 100));
  QW_TRY(t.read("beta1", c.beta1, 0, 0.999999));
  QW_TRY(t.read("beta2", c.beta2, 0, 0.999999999));
  QW_TRY(t.read("eps", c.eps, 0, 1));
  QW_TRY(t.read("weight_decay", c.weight_decay, 0, 100));
  QW_TRY(t.read("clip", c.clip, 0, 1e9));
  QW_TRY(t.read("muon_lr", c.muon_lr, 0, 100));
  QW_TRY(t.read("muon_momentum", c.muon_momentum, 0, 0.999999));
  QW_TRY(t.read_choice("muon_scale", {"moonshot", "jordan"}, scale));
  QW_TRY(t.read("momentum", c.momentum, 0, 0.999999));
  c.kind = static_cast<OptimizerKind>(kind);
  c.muon_scale = static_cast<MuonScale>(scale);
  return t.finish();
}

Status read_schedule(ConfigTable t, ScheduleConfig& c) {
  int kind = static_cast<int>(c.kind);
  QW_TRY(t.read_choice("kind", {"constant", "linear", "cosine", "wsd"}, kind));
  QW_TRY(t.read("warmup", c.warmup, 0, kManySteps));
  QW_TRY(t.read("min_lr_ratio", c.min_lr_ratio, 0, 1));
  QW_TRY(t.read("decay_share", c.decay_share, 0, 1));
  c.kind = static_cast<ScheduleKind>(kind);
  return t.finish();
}

Status read_generation(ConfigTable t, formats::GenerationConfig& c) {
  const auto read = [&t](const char* key, std::optional<double>& out, double most) -> Status {
    double value = 0;
    if (!t.has(key)) return {};
    QW_TRY(t.read(key, value, 0, most));
    out = value;
    return {};
  };
  QW_TRY(read("temperature", c.temperature, 100));
  QW_TRY(read("top_p", c.top_p, 1));
  QW_TRY(read("min_p", c.min_p, 1));
  QW_TRY(read("repetition_penalty", c.repetition_penalty, 100));
  if (t.has("top_k")) {
    std::int64_t top_k = 0;
    QW_TRY(t.read("top_k", top_k, 0, std::numeric_limits<std::int32_t>::max()));
    c.top_k = top_k;
  }
  return t.finish();
}

Status read_lora(ConfigTable t, LoraConfig& c) {
  QW_TRY(t.read("rank", c.rank, 1, 1 << 16));
  c.alpha = 2 * static_cast<double>(c.rank);
  QW_TRY(t.read("alpha", c.alpha, 0, 1e9));
  QW_TRY(t.read("targets", c.targets));
  QW_TRY(t.read("rslora", c.rslora));
  QW_TRY(t.read("dora", c.dora));
  QW_TRY(t.read("pissa", c.pissa));
  if (c.dora && c.pissa) return fail(ErrorKind::kBadInput, "lora.pissa: not together with lora.dora");
  QW_TRY(t.read("b_lr_ratio", c.b_lr_ratio, 0, 1e6));
  int base = 0;
  QW_TRY(t.read_choice("base", {"as_stored", "nf4"}, base));
  c.base = static_cast<BaseType>(base);
  if (c.base == BaseType::kNf4) QW_TRY(t.read("double_quantise", c.double_quantise));  // else the key stays unknown
  return t.finish();
}

Status read_preference(ConfigTable t, PreferenceConfig& c) {
  int method = 0;
  QW_TRY(t.read_choice("method", {"dpo", "ipo", "simpo", "orpo"}, method));
  c.method = static_cast<PreferenceMethod>(method);
  const bool smooths = c.method == PreferenceMethod::kDpo || c.method == PreferenceMethod::kSimpo;
  if (c.method == PreferenceMethod::kSimpo) c.beta = 2;
  QW_TRY(t.read("beta", c.beta, 1e-6, 1e6));
  // Where a method has no use for a key it stays unknown.
  if (c.method == PreferenceMethod::kSimpo) QW_TRY(t.read("gamma", c.gamma, 0, 1e6));
  if (smooths) QW_TRY(t.read("label_smoothing", c.label_smoothing, 0, 0.5));
  return t.finish();
}

Status read_kto(ConfigTable t, KtoConfig& c) {
  int loss = 0;
  QW_TRY(t.read_choice("loss", {"kto", "apo_zero"}, loss));
  c.drift = loss == 0;
  QW_TRY(t.read("beta", c.beta, 1e-6, 1e6));
  QW_TRY(t.read("desirable_weight", c.desirable_weight, 0, 1e6));
  QW_TRY(t.read("undesirable_weight", c.undesirable_weight, 0, 1e6));
  return t.finish();
}

Status read_distill(ConfigTable t, DistillConfig& c) {
  int divergence = 0;
  QW_TRY(t.read("teacher", c.teacher));
  if (c.teacher.empty()) return fail(ErrorKind::kBadInput, t.name("teacher") + " is missing");
  QW_TRY(t.read_choice("divergence", {"forward", "reverse", "jsd"}, divergence));
  c.divergence = static_cast<Divergence>(divergence);
  QW_TRY(t.read("temperature", c.temperature, 0.01, 100));
  if (c.divergence == Divergence::kJsd) QW_TRY(t.read("beta", c.beta, 0.001, 0.999));  // else the key stays unknown
  QW_TRY(t.read("hard", c.hard, 0, 1));
  return t.finish();
}

Status read_reward(ConfigTable& t, AnswerReward& r) {
  if (!t.has("kind")) return fail(ErrorKind::kBadInput, t.name("kind") + " is missing");
  int check = 0;
  QW_TRY(t.read_choice("kind", {"number", "exact", "regex", "json_schema", "program", "overlong"}, check));
  r.check = static_cast<AnswerCheck>(check);
  QW_TRY(t.read("weight", r.weight, -1e6, 1e6));
  // Where a kind has no use for a key it stays unknown.
  if (r.check == AnswerCheck::kExact || r.check == AnswerCheck::kRegex) QW_TRY(t.read("pattern", r.pattern));
  if (r.check == AnswerCheck::kJsonSchema) QW_TRY(t.read("schema", r.schema));
  if (r.check == AnswerCheck::kProgram) QW_TRY(t.read("seconds", r.seconds, 0.01, 3600));
  if (r.check == AnswerCheck::kOverlong) {
    if (!t.has("tokens")) return fail(ErrorKind::kBadInput, t.name("tokens") + " is missing");
    QW_TRY(t.read("tokens", r.tokens, 1, kLongSequence));
  }
  return t.finish();
}

Status read_grpo(ConfigTable t, GrpoConfig& c) {
  int average = static_cast<int>(c.average);
  QW_TRY(t.read_choice("average", {"grpo", "dapo", "dr_grpo", "gspo"}, average));
  c.average = static_cast<GrpoAverage>(average);
  if (c.average == GrpoAverage::kGspo) c.clip_low = 3e-4, c.clip_high = 4e-4;
  QW_TRY(t.read("group", c.group, 2, 1 << 16));
  QW_TRY(t.read("max_tokens", c.max_tokens, 1, kLongSequence));
  QW_TRY(t.read("clip_low", c.clip_low, 0, 1));
  QW_TRY(t.read("clip_high", c.clip_high, 0, 1e6));
  QW_TRY(t.read("beta", c.beta, 0, 1e6));
  QW_TRY(t.read("updates", c.updates, 1, 1'000'000));
  QW_TRY(t.read("redraws", c.redraws, 0, 1'000'000));
  QW_ASSIGN(auto rewards, t.tables("reward"));
  if (rewards.empty()) return fail(ErrorKind::kBadInput, "no [[" + t.name("reward") + "]] is given");
  for (auto& reward : rewards) QW_TRY(read_reward(reward, c.rewards.emplace_back()));
  return t.finish();
}

Status read_embedding(ConfigTable t, EmbeddingConfig& c) {
  QW_TRY(t.read("temperature", c.temperature, 0.001, 100));
  QW_TRY(t.read("margin", c.margin, 0, 2));
  QW_TRY(t.read("queries", c.queries));
  QW_TRY(t.read("documents", c.documents));
  return t.finish();
}

Status read_tables(ConfigTable& top, TrainConfig& c) {
  QW_ASSIGN(auto optimizer, top.table("optimizer"));
  QW_TRY(read_optimizer(std::move(optimizer), c.optimizer));
  QW_ASSIGN(auto schedule, top.table("schedule"));
  QW_TRY(read_schedule(std::move(schedule), c.schedule));
  QW_ASSIGN(auto checkpoint, top.table("checkpoint"));
  QW_TRY(checkpoint.read("every", c.checkpoint.every, 0, kManySteps));
  QW_TRY(checkpoint.read("keep", c.checkpoint.keep, 1, 1'000'000));
  QW_TRY(checkpoint.finish());
  QW_ASSIGN(auto eval, top.table("eval"));
  QW_TRY(eval.read("every", c.eval.every, 0, kManySteps));
  QW_TRY(eval.read("max_tokens", c.eval.max_tokens, 0, kManySteps));
  QW_TRY(eval.read("patience", c.eval.patience, 0, kManySteps));
  QW_TRY(eval.finish());
  QW_ASSIGN(auto rollback, top.table("rollback"));
  QW_TRY(rollback.read("most", c.rollback.most, 0, 1'000'000));
  QW_TRY(rollback.read("rise", c.rollback.rise, 0, 1e9));
  QW_TRY(rollback.finish());
  QW_ASSIGN(auto parallel, top.table("parallel"));
  QW_TRY(parallel.read("parts", c.parallel.parts, 0, 1 << 20));
  QW_TRY(parallel.read("zero", c.parallel.zero, 0, 2));
  QW_TRY(parallel.read("bucket_mib", c.parallel.bucket_mib, 1, 1 << 20));
  QW_TRY(parallel.read("overlap", c.parallel.overlap));
  QW_TRY(parallel.read("tensor", c.parallel.tensor, 1, 1 << 12));
  QW_TRY(parallel.finish());
  QW_ASSIGN(auto energy, top.table("energy"));
  QW_TRY(energy.read("watts_a_thread", c.energy.watts_a_thread, 0, 10'000));
  QW_TRY(energy.read("host", c.energy.host, 1, 10));
  QW_TRY(energy.read("pue", c.energy.pue, 1, 10));
  QW_TRY(energy.finish());
  QW_ASSIGN(auto generation, top.table("generation"));
  QW_TRY(read_generation(std::move(generation), c.generation));
  if (top.has("lora")) {
    QW_ASSIGN(auto lora, top.table("lora"));
    QW_TRY(read_lora(std::move(lora), c.lora.emplace()));
  }
  if (top.has("preference")) {
    QW_ASSIGN(auto preference, top.table("preference"));
    QW_TRY(read_preference(std::move(preference), c.preference.emplace()));
  }
  if (top.has("kto")) {
    QW_ASSIGN(auto kto, top.table("kto"));
    QW_TRY(read_kto(std::move(kto), c.kto.emplace()));
  }
  if (top.has("reward")) {
    QW_ASSIGN(auto reward, top.table("reward"));
    QW_TRY(reward.read("center", c.reward.emplace().center, 0, 1e6));
    QW_TRY(reward.finish());
  }
  if (top.has("distill")) {
    QW_ASSIGN(auto distill, top.table("distill"));
    QW_TRY(read_distill(std::move(distill), c.distill.emplace()));
  }
  if (top.has("grpo")) {
    QW_ASSIGN(auto grpo, top.table("grpo"));
    QW_TRY(read_grpo(std::move(grpo), c.grpo.emplace()));
  }
  if (top.has("embedding")) {
    QW_ASSIGN(auto embedding, top.table("embedding"));
    QW_TRY(read_embedding(std::move(embedding), c.embedding.emplace()));
  }
  if (top.has("ranking")) {
    QW_ASSIGN(auto ranking, top.table("ranking"));
    QW_TRY(ranking.finish());
    c.ranking = true;
  }
  if (top.has("classes")) {
    QW_ASSIGN(auto classes, top.table("classes"));
    QW_TRY(classes.finish());
    c.classes = true;
  }
  QW_ASSIGN(const json::Object* model, top.raw_table("model"));
  if (model != nullptr) c.model = *model;
  return {};
}

Status check_grpo(const TrainConfig& c) {
  const GrpoConfig& g = *c.grpo;
  if (c.init_from.empty())
    return fail(ErrorKind::kBadInput, "[grpo] needs init_from: answers of fresh weights teach nothing");
  if (c.batch_sequences * c.accumulation % g.group != 0)
    return fail(ErrorKind::kBadInput, "grpo.group must divide the answers of a step, batch_sequences * accumulation = " +
                                          std::to_string(c.batch_sequences * c.accumulation));
  if (g.max_tokens >= c.sequence_length)
    return fail(ErrorKind::kBadInput, "grpo.max_tokens leaves no room for a prompt in sequence_length");
  return {};
}

// What a step learns from.
Status check_method(const TrainConfig& c) {
  const std::pair<bool, const char*> methods[] = {{c.preference.has_value(), "[preference]"},
                                                  {c.kto.has_value(), "[kto]"},
                                                  {c.reward.has_value(), "[reward]"},
                                                  {c.distill.has_value(), "[distill]"},
                                                  {c.grpo.has_value(), "[grpo]"},
                                                  {c.embedding.has_value(), "[embedding]"},
                                                  {c.ranking, "[ranking]"},
                                                  {c.classes, "[classes]"}};
  const char* first = nullptr;
  for (const auto& [given, name] : methods) {
    if (given && first != nullptr)
      return fail(ErrorKind::kBadInput, std::string("a step learns by ") + first + " or by " + name + ", not by both");
    if (given) first = name;
  }
  if (c.preference && c.init_from.empty())
    return fail(ErrorKind::kBadInput, "[preference] needs init_from: fresh weights prefer nothing");
  if (c.kto && c.init_from.empty())
    return fail(ErrorKind::kBadInput, "[kto] needs init_from: it compares with the model before training");
  if (c.grpo) QW_TRY(check_grpo(c));
  if ((c.embedding || c.ranking) && c.init_from.empty())
    return fail(ErrorKind::kBadInput, std::string(first) + " needs init_from: a model that has read much");
  if (c.embedding && c.lora) return fail(ErrorKind::kBadInput, "[embedding] takes the head away, which [lora] cannot");
  if (c.embedding && !c.generation.empty())
    return fail(ErrorKind::kBadInput, "[generation] says how a model is sampled, and one by [embedding] generates no text");
  if (!judges(c)) return {};
  if (c.init_from.empty())
    return fail(ErrorKind::kBadInput, std::string(first) + " needs init_from: the body of a language model");
  if (c.lora) return fail(ErrorKind::kBadInput, std::string(first) + " trains a head, which [lora] does not hold");
  if (c.optimizer.kind == OptimizerKind::kMuon)
    return fail(ErrorKind::kBadInput, std::string("optimizer.kind: muon is for matrices inside layers, not for the head of ") + first);
  if (!c.generation.empty())
    return fail(ErrorKind::kBadInput, std::string("[generation] says how a model is sampled, and one by ") + first + " generates no text");
  return {};
}

Status check_together(const TrainConfig& c) {
  if (c.output.empty()) return fail(ErrorKind::kBadInput, "output is missing");
  if (c.data.empty() == c.shards.empty()) return fail(ErrorKind::kBadInput, "give either data or shards");
  if (c.model.empty() && c.init_from.empty()) return fail(ErrorKind::kBadInput, "give [model] or init_from");
  if (!c.model.empty() && !c.init_from.empty())
    return fail(ErrorKind::kBadInput, "with init_from the model comes from there; remove [model]");
  if (c.eval.patience > 0 && c.eval.every == 0)
    return fail(ErrorKind::kBadInput, "eval.patience counts evaluations; set eval.every");
  if (c.parallel.parts > c.accumulation)
    return fail(ErrorKind::kBadInput, "parallel.parts deals out the micro-batches of a step, and accumulation = " +
                                          std::to_string(c.accumulation) + " is fewer");
  QW_TRY(check_tensor(c));
  if (c.rollback.most > 0 && c.checkpoint.every == 0)
    return fail(ErrorKind::kBadInput, "rollback.most goes back to checkpoints; set checkpoint.every");
  if (c.rollback.most > 0 && c.skip_non_finite)
    return fail(ErrorKind::kBadInput, "a step that is not finite is either left out (skip_non_finite) or gone back from (rollback.most)");
  if (c.lora && c.init_from.empty())
    return fail(ErrorKind::kBadInput, "[lora] needs init_from: an adapter changes a model that is there");
  if (c.lora && c.optimizer.kind == OptimizerKind::kMuon)
    return fail(ErrorKind::kBadInput, "optimizer.kind: muon is for whole matrices, not for [lora]");
  if (c.lora && !c.generation.empty())
    return fail(ErrorKind::kBadInput, "[generation] says how a model is sampled, and [lora] writes none");
  QW_TRY(check_method(c));
  if (c.steps < 1) return fail(ErrorKind::kBadInput, "steps is missing");
  if (c.sequence_length * c.batch_sequences > (std::int64_t{1} << 30))
    return fail(ErrorKind::kBadInput, "sequence_length times batch_sequences is too large");
  return {};
}

}  // namespace

Result<TrainConfig> train_config(const json::Object& object) {
  TrainConfig c;
  c.source = object;
  ConfigTable top(object, "");
  std::string output;
  QW_TRY(top.read("output", output));
  c.output = output;
  QW_TRY(top.read("data", c.data));
  QW_TRY(top.read("shards", c.shards));
  QW_TRY(top.read("init_from", c.init_from));
  auto seed = static_cast<std::int64_t>(c.seed);
  QW_TRY(top.read("seed", seed, 0, INT64_MAX));
  c.seed = static_cast<std::uint64_t>(seed);
  QW_TRY(top.read("threads", c.threads, 0, 4096));
  QW_TRY(top.read("steps", c.steps, 1, kManySteps));
  QW_TRY(top.read("sequence_length", c.sequence_length, 1, kLongSequence));
  QW_TRY(top.read("batch_sequences", c.batch_sequences, 1, 1 << 20));
  QW_TRY(top.read("accumulation", c.accumulation, 1, 1 << 20));
  int precision = 0, export_type = 0, recompute = static_cast<int>(c.recompute), activations = 0;
  QW_TRY(top.read_choice("precision", {"bf16", "f32"}, precision));
  c.precision = static_cast<Precision>(precision);
  QW_TRY(top.read_choice("recompute", {"none", "selective", "full"}, recompute));
  c.recompute = static_cast<ops::Recompute>(recompute);
  QW_TRY(top.read_choice("activations", {"f32", "bf16"}, activations));
  c.half_activations = activations == 1;
  QW_TRY(top.read("ema", c.ema, 0, 0.9999999));
  QW_TRY(top.read("skip_non_finite", c.skip_non_finite));
  QW_TRY(top.read_choice("export_type", {"bf16", "f32"}, export_type));
  c.export_type = static_cast<ExportType>(export_type);
  QW_TRY(read_tables(top, c));
  QW_TRY(top.finish());
  QW_TRY(check_together(c));
  if (c.grpo && c.grpo->max_tokens == 0) c.grpo->max_tokens = std::max<std::int64_t>(1, c.sequence_length / 2);
  return c;
}

double schedule_factor(const ScheduleConfig& s, std::int64_t step, std::int64_t steps) {
  if (step < s.warmup) return static_cast<double>(step + 1) / static_cast<double>(s.warmup);
  const double low = s.min_lr_ratio;
  const auto share = [&](double from) {  // 0 at `from`, 1 at the last step's end
    const double span = std::max(1.0, static_cast<double>(steps) - from);
    return std::clamp((static_cast<double>(step) - from) / span, 0.0, 1.0);
  };
  switch (s.kind) {
    case ScheduleKind::kConstant: return 1;
    case ScheduleKind::kLinear: return 1 - (1 - low) * share(static_cast<double>(s.warmup));
    case ScheduleKind::kCosine:
      return low + 0.5 * (1 + std::cos(std::numbers::pi * share(static_cast<double>(s.warmup)))) * (1 - low);
    case ScheduleKind::kWsd: {
      const double from = std::max(static_cast<double>(s.warmup), (1 - s.decay_share) * static_cast<double>(steps));
      return low + (1 - std::sqrt(share(from))) * (1 - low);
    }
  }
  return 1;
}

}  // namespace qw::train
