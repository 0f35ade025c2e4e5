// What a run tells, as JSON lines.
#include <cmath>

#include "train/trainer.h"

namespace qw::train {
namespace {

void set_rollouts(const RolloutRecord& r, json::Object& o) {
  if (r.answers > 0) {
    o.set("reward", r.reward);
    o.set("reward_deviation", r.reward_deviation);
    json::Object each;
    for (const auto& [name, mean] : r.rewards) each.set(name, mean);
    o.set("rewards", std::move(each));
    o.set("answers", r.answers);
    o.set("answer_tokens", r.tokens);
    o.set("cut_share", r.cut_share);
    o.set("equal_share", r.equal_share);
    o.set("redrawn_share", r.redrawn_share);
    o.set("sampler_gap", r.sampler_gap);
    o.set("draw_seconds", r.draw_seconds);
  }
  o.set("clipped_share", r.clipped_share);
  if (r.kl) o.set("kl", *r.kl);
}

}  // namespace

json::Object to_json(const StepRecord& r) {
  json::Object o;
  o.set("step", r.step);
  o.set("loss", r.loss);
  o.set("lr", r.lr);
  o.set("grad_norm", r.grad_norm);
  o.set("tokens", r.tokens);
  o.set("tps", r.tps);
  o.set("mfu", r.mfu);
  o.set("seconds_left", r.seconds_left);
  if (r.accuracy) o.set("accuracy", *r.accuracy);
  if (r.margin) o.set("margin", *r.margin);
  if (r.drift) o.set("drift", *r.drift);
  if (r.rollouts) set_rollouts(*r.rollouts, o);
  if (r.waited) o.set("waited", *r.waited);
  if (r.skipped) o.set("skipped", true);
  return o;
}

json::Object to_json(const RollbackRecord& r) {
  json::Object o;
  o.set("rollback_to", r.to);
  o.set("broken_step", r.step);
  if (std::isfinite(r.loss)) o.set("broken_loss", r.loss);
  if (std::isfinite(r.grad_norm)) o.set("broken_grad_norm", r.grad_norm);
  return o;
}

namespace {

// Of texts: bits per byte; of all else, what the method tells.
template <class Record>
void set_measures(const Record& r, json::Object& o) {
  if (r.accuracy) o.set("accuracy", *r.accuracy);
  if (r.mrr) o.set("mrr", *r.mrr);
  if (r.margin) o.set("margin", *r.margin);
  if (r.reward) o.set("reward", *r.reward);
  if (!r.accuracy && !r.margin && !r.reward) o.set("bits_per_byte", r.bits_per_byte);
}

}  // namespace

json::Object to_json(const EvalRecord& r) {
  json::Object o;
  o.set("step", r.step);
  o.set("eval_loss", r.eval_loss);
  set_measures(r, o);
  o.set("best", r.best);
  json::Array sources;
  for (const auto& source : r.sources) {
    json::Object entry;
    entry.set("name", source.name);
    entry.set("eval_loss", source.loss);
    set_measures(source, entry);
    entry.set("tokens", source.tokens);
    if (!source.accuracy && !source.margin && !source.reward) entry.set("bytes", source.bytes);
    sources.emplace_back(std::move(entry));
  }
  o.set("sources", std::move(sources));
  return o;
}

}  // namespace qw::train
