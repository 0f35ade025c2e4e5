#include <cmath>

#include "models/qwen4_exp/qwen4_exp.h"

namespace qw::models::qwen4_exp {

using ops::Value;

// [N, D] beside itself, once for each stream.
Value Qwen4Exp::tiled(ops::Executor& ex, Value x) const {
  Value all = x;
  for (std::int32_t j = 1; j < config4_.streams; ++j) all = ex.concat(all, x);
  return all;
}

Qwen4Exp::Mixed Qwen4Exp::mix(ops::Executor& ex, Value streams, const Mixer& w) const {
  const std::int32_t d = config_.traits.width;
  const float share = 1.0f / static_cast<float>(config4_.streams);
  const Value n = ex.head_rms_norm(streams, w.norm, d, config_.eps);  // [N, streams * D]
  const Value gate = ex.linear(ex.silu(ex.scale(ex.linear(n, w.down), share)), w.up);
  const Value gated = ex.gate_rows(n, gate);
  Value sum = ex.columns(gated, 0, d);
  for (std::int32_t j = 1; j < config4_.streams; ++j) sum = ex.add(sum, ex.columns(gated, j * d, d));
  Mixed m;
  m.row = ex.scale(sum, share);
  if (w.inject.present()) m.inject = ex.scale(ex.linear(n, w.inject), share);
  return m;
}

Value Qwen4Exp::take(ops::Executor& ex, Value streams, Value made, Value inject) const {
  return ex.add(streams, ex.scale(ex.gate_rows(tiled(ex, made), inject), 2.0f));
}

// What the n-grams say, as far as each stream's row matches their key, and a convolution of it.
Value Qwen4Exp::add_ngrams(ops::Executor& ex, Value streams, const Ngrams& w) const {
  const std::int32_t d = config_.traits.width;
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  const Value e = ex.ngrams(w.spec);  // [N, E]
  const Value key = ex.head_rms_norm(ex.linear(e, w.key), w.norm_key, d, config_.eps);
  const Value query = ex.head_rms_norm(streams, w.norm_query, d, config_.eps);
  Value match;  // [N, streams]
  for (std::int32_t j = 0; j < config4_.streams; ++j) {
    const Value one = ex.match_rows(ex.columns(key, j * d, d), ex.columns(query, j * d, d), scale);
    match = j == 0 ? one : ex.concat(match, one);
  }
  const Value said = ex.gate_rows(tiled(ex, ex.linear(e, w.value)), match);
  const Value around = ex.short_conv(ex.head_rms_norm(said, w.norm_conv, d, config_.eps), w.conv,
                                     {.state = w.conv_state, .dilation = config4_.ngram_size});
  return ex.add(streams, ex.add(said, around));
}

Value Qwen4Exp::run_layer(ops::Executor& ex, Value s, const Layer& l, int cache_layer) const {
  if (l.ngrams >= 0) s = add_ngrams(ex, s, ple_[static_cast<std::size_t>(l.ngrams)]);
  const Mixed a = mix(ex, s, l.attention_mixer);
  s = take(ex, s, l.full ? attention(ex, a.row, l.attention, config_, cache_layer) : delta_net(ex, a.row, l.delta, config4_.hybrid), a.inject);
  const Mixed f = mix(ex, s, l.ffn_mixer);
  return take(ex, s, mixture(ex, f.row, l.experts, config4_.hybrid.mixture), f.inject);
}

void Qwen4Exp::forward(ops::Executor& ex) const {
  Value s = tiled(ex, ex.embed(embedding_));  // [N, streams * D]
  int with_cache = 0;
  for (const Layer& l : layers_) s = run_layer(ex, s, l, l.full ? with_cache++ : 0);
  finish(ex, mix(ex, s, last_).row, s);
}

// Given the streams behind the last layer.
void Qwen4Exp::draft(ops::Executor& ex) const {
  const std::int32_t d = config_.traits.width;
  const Value hidden = ex.head_rms_norm(ex.given(config_.traits.draft_width), draft_.hidden_norm, d, config_.eps);
  const Value token = ex.linear(ex.rms_norm(ex.embed(embedding_), draft_.embedding_norm, config_.eps), draft_.embedding);
  Value s;
  for (std::int32_t j = 0; j < config4_.streams; ++j) {
    const Value one = ex.add(token, ex.linear(ex.columns(hidden, j * d, d), draft_.hidden));
    s = j == 0 ? one : ex.concat(s, one);
  }
  s = run_layer(ex, s, draft_.layer, config_.traits.layers);
  ex.keep(s);
  ex.head(mix(ex, s, draft_.last).row, head_);
}

}  // namespace qw::models::qwen4_exp
