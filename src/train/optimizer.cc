#include "train/optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "ops/gemm.h"
#include "train/internal/dynamic_code.h"

namespace qw::train {

struct Chunk {
  std::size_t parameter;
  std::int64_t begin, end;
};

namespace {

constexpr std::int64_t kChunk = kUpdateChunk;
using Range = Communicator::Range;

std::vector<Chunk> cut(const std::vector<Range>& ranges) {
  std::vector<Chunk> chunks;
  for (std::size_t p = 0; p < ranges.size(); ++p)
    for (std::int64_t at = ranges[p].begin; at < ranges[p].end; at += kChunk)
      chunks.push_back({p, at, std::min(at + kChunk, ranges[p].end)});
  return chunks;
}

// Sums of squares of fixed chunks, added in order.
double sum_squares(const float* x, std::int64_t n, const kernels::Kernels& kernels, base::ThreadPool& pool) {
  std::vector<double> part(static_cast<std::size_t>((n + kChunk - 1) / kChunk));
  pool.parallel_for(static_cast<std::int64_t>(part.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c)
      part[static_cast<std::size_t>(c)] = kernels.sum_squares(x + c * kChunk, std::min(kChunk, n - c * kChunk));
  });
  double sum = 0;
  for (const double d : part) sum += d;
  return sum;
}

// Coefficients of the quintic of Jordan et al.: slope at zero as large as the band [0.7, 1.2] allows.
constexpr float kA = 3.4445f, kB = -4.7750f, kC = 2.0315f;
constexpr int kNewtonSchulzSteps = 5;
constexpr float kNormEps = 1e-7f;  // keeps a zero matrix zero

constexpr double kTiny = 1e-30;  // Adafactor's: no gradient, no division by zero

// bitsandbytes' least size for 8 bits; what is smaller keeps floats.
constexpr std::int64_t kLeast8bit = 4096;
static_assert(kChunk % DynamicCode::kBlock == 0);

std::int64_t blocks_of(std::int64_t elements) { return (elements + DynamicCode::kBlock - 1) / DynamicCode::kBlock; }
bool is_8bit(UpdateRule rule) { return rule == UpdateRule::kAdamw8bit || rule == UpdateRule::kAdamw8bitNoDecay; }
bool is_sgd(UpdateRule rule) { return rule == UpdateRule::kSgd || rule == UpdateRule::kSgdNoDecay; }

}  // namespace

UpdateRule plain_rule(OptimizerKind kind, bool decays) {
  switch (kind) {
    case OptimizerKind::kSgd: return decays ? UpdateRule::kSgd : UpdateRule::kSgdNoDecay;
    case OptimizerKind::kAdafactor: return decays ? UpdateRule::kAdafactor : UpdateRule::kAdafactorNoDecay;
    case OptimizerKind::kAdamw8bit: return decays ? UpdateRule::kAdamw8bit : UpdateRule::kAdamw8bitNoDecay;
    case OptimizerKind::kAdamw:
    case OptimizerKind::kMuon: break;
  }
  return decays ? UpdateRule::kAdamw : UpdateRule::kAdamwNoDecay;
}

bool updates_whole(UpdateRule rule) {
  return rule == UpdateRule::kMuon || rule == UpdateRule::kAdafactor || rule == UpdateRule::kAdafactorNoDecay;
}

std::vector<double> squares_of(const ops::ParameterBuffer& gradients, const std::vector<UpdateRule>& rules,
                               const std::vector<Communicator::Range>& owned, const kernels::Kernels& kernels,
                               base::ThreadPool& pool) {
  std::vector<Range> all(gradients.size());
  for (std::size_t p = 0; p < all.size(); ++p)
    if (rules[p] != UpdateRule::kFrozen) all[p] = {0, gradients.elements(p)};
  const std::vector<Chunk> chunks = cut(all);
  std::vector<double> out(chunks.size());
  pool.parallel_for(static_cast<std::int64_t>(chunks.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      const Chunk& c = chunks[i];
      const bool ours = owned.empty() || (owned[c.parameter].begin <= c.begin && c.begin < owned[c.parameter].end);
      if (ours) out[i] = kernels.sum_squares(gradients.data(c.parameter) + c.begin, c.end - c.begin);
    }
  });
  return out;
}

std::vector<double> squares_by_parameter(const ops::ParameterBuffer& gradients, const std::vector<UpdateRule>& rules,
                                         const std::vector<double>& squares) {
  std::vector<double> out(gradients.size());
  auto next = squares.begin();
  for (std::size_t p = 0; p < gradients.size(); ++p) {
    if (rules[p] == UpdateRule::kFrozen) continue;
    for (std::int64_t at = 0; at < gradients.elements(p); at += kChunk) out[p] += *next++;
  }
  return out;
}

double norm_of(const ops::ParameterBuffer& gradients, const std::vector<UpdateRule>& rules, const std::vector<double>& squares) {
  double sum = 0;
  for (const double of : squares_by_parameter(gradients, rules, squares)) sum += of;
  return std::sqrt(sum);
}

double gradient_norm(const ops::ParameterBuffer& gradients, const std::vector<UpdateRule>& rules,
                     const kernels::Kernels& kernels, base::ThreadPool& pool) {
  return norm_of(gradients, rules, squares_of(gradients, rules, {}, kernels, pool));
}

// ---- Newton-Schulz -------------------------------------------------------------------------------------------------

struct NewtonSchulz::State {
  State(std::int64_t max_rows, std::int64_t max_cols, kernels::GemmPrecision precision, const kernels::Kernels& k,
        base::ThreadPool& p)
      : kernels(k), pool(p), machine{k, p}, gemm_precision(precision), workspace(machine, precision) {
    small = std::min(max_rows, max_cols);
    large = std::max(max_rows, max_cols);
    const auto floats = [](std::int64_t n) { return tensor::Buffer(static_cast<std::size_t>(n) * sizeof(float)); };
    x = floats(small * large);
    y = floats(small * large);
    a = floats(small * small);
    b = floats(small * small);
    workspace.plan(small, small, large);
    workspace.plan(small, small, small);
    workspace.plan(small, large, small);
    workspace.allocate();
  }
  static float* at(tensor::Buffer& buffer) { return reinterpret_cast<float*>(buffer.data()); }
  // c[m, n] = op(A) op(B)
  void multiply(bool trans_b, std::int64_t m, std::int64_t n, std::int64_t k, const float* left, const float* right,
                float* out) {
    kernels::GemmArgs args{};
    args.precision = gemm_precision;
    args.trans_b = trans_b;
    args.m = m, args.n = n, args.k = k;
    args.a = left, args.lda = k;
    args.b = right, args.ldb = trans_b ? k : n;
    args.c = out, args.ldc = n;
    ops::gemm(machine, workspace, args);
  }

  const kernels::Kernels& kernels;
  base::ThreadPool& pool;
  ops::Machine machine;
  kernels::GemmPrecision gemm_precision;
  ops::GemmWorkspace workspace;
  std::int64_t small = 0, large = 0;
  tensor::Buffer x, y, a, b;
};

NewtonSchulz::NewtonSchulz(std::int64_t max_rows, std::int64_t max_cols, kernels::GemmPrecision precision,
                           const kernels::Kernels& kernels, base::ThreadPool& pool)
    : state_(std::make_unique<State>(max_rows, max_cols, precision, kernels, pool)) {}
NewtonSchulz::~NewtonSchulz() = default;

void NewtonSchulz::orthogonalise(float* matrix, std::int64_t rows, std::int64_t cols) {
  State& s = *state_;
  const bool transpose = rows > cols;
  const std::int64_t r = std::min(rows, cols), c = std::max(rows, cols);
  QW_CHECK(r <= s.small && c <= s.large);
  float *x = State::at(s.x), *y = State::at(s.y), *a = State::at(s.a), *b = State::at(s.b);
  const float scale =
      1.0f / (static_cast<float>(std::sqrt(sum_squares(matrix, rows * cols, s.kernels, s.pool))) + kNormEps);
  s.pool.parallel_for(r, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t j = 0; j < c; ++j) x[i * c + j] = scale * (transpose ? matrix[j * cols + i] : matrix[i * cols + j]);
  });
  for (int step = 0; step < kNewtonSchulzSteps; ++step) {
    s.multiply(/*trans_b=*/true, r, r, c, x, x, a);    // A = X X^T
    s.multiply(/*trans_b=*/false, r, r, r, a, a, b);   // A^2
    for (std::int64_t i = 0; i < r * r; ++i) b[i] = kB * a[i] + kC * b[i];
    s.multiply(/*trans_b=*/false, r, c, r, b, x, y);   // (bA + cA^2) X
    s.pool.parallel_for(r * c, kChunk, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) x[i] = kA * x[i] + y[i];
    });
  }
  s.pool.parallel_for(rows, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t j = 0; j < cols; ++j) matrix[i * cols + j] = transpose ? x[j * c + i] : x[i * c + j];
  });
}

// ---- optimizer -------------------------------------------------------------------------------------------------------

struct Optimizer::State {
  OptimizerConfig config;
  std::vector<UpdateRule> rules;
  std::vector<Chunk> chunks;  // of parameters under AdamW, of either kind
  const kernels::Kernels& kernels;
  base::ThreadPool& pool;
  ops::ParameterBuffer m, v;
  std::unique_ptr<NewtonSchulz> newton_schulz;
  tensor::Buffer update;  // of one matrix under Muon, or of one parameter under Adafactor
  std::vector<float> lr_ratios;
  std::vector<std::vector<std::uint8_t>> m_codes{}, v_codes{};  // by parameter
  std::vector<Range> owned{};
  std::vector<tensor::Shape> first_shapes{}, second_shapes{};  // of all, whoever owns them
  std::vector<std::int64_t> codes{};

  void adamw(ops::ParameterBuffer& weights, const ops::ParameterBuffer& gradients, std::int64_t step, double lr,
             double gradient_scale);
  template <class Update>
  void by_block(const Chunk& c, const Update& move);
  double rate(std::size_t p, double lr) const {
    return lr_ratios.empty() ? lr : lr * static_cast<double>(lr_ratios[p]);
  }
  void sgd(std::size_t p, ops::ParameterBuffer& weights, const ops::ParameterBuffer& gradients, double lr,
           double gradient_scale);
  void adafactor(std::size_t p, ops::ParameterBuffer& weights, const ops::ParameterBuffer& gradients, std::int64_t step,
                 double lr, double gradient_scale);
  void factored(std::size_t p, std::int64_t rows, std::int64_t columns, const float* g, float scale, double keep, float* u);
  void muon(std::size_t p, ops::ParameterBuffer& weights, const ops::ParameterBuffer& gradients, double lr,
            double gradient_scale);
};

Optimizer::Optimizer(const std::vector<tensor::Shape>& shapes, std::vector<UpdateRule> rules,
                     const OptimizerConfig& config, kernels::GemmPrecision muon_precision,
                     const kernels::Kernels& kernels, base::ThreadPool& pool, std::vector<float> lr_ratios,
                     std::vector<Range> owned)
    : state_(new State{config, std::move(rules), {}, kernels, pool, {}, {}, nullptr, {}, std::move(lr_ratios)}) {
  State& s = *state_;
  for (std::size_t p = 0; p < s.rules.size(); ++p)
    if (is_8bit(s.rules[p]) && shapes[p].elements() < kLeast8bit)
      s.rules[p] = s.rules[p] == UpdateRule::kAdamw8bit ? UpdateRule::kAdamw : UpdateRule::kAdamwNoDecay;
  QW_CHECK(s.rules.size() == shapes.size() && (s.lr_ratios.empty() || s.lr_ratios.size() == shapes.size()));
  if (owned.empty())
    for (const tensor::Shape& shape : shapes) owned.push_back({0, shape.elements()});
  QW_CHECK(owned.size() == shapes.size());
  s.owned = std::move(owned);
  s.m_codes.resize(s.rules.size());
  s.v_codes.resize(s.rules.size());
  s.codes.resize(s.rules.size());
  std::vector<Range> adam(shapes.size());
  std::int64_t small = 0, large = 0, most = 0;
  for (std::size_t p = 0; p < shapes.size(); ++p) {
    const UpdateRule rule = s.rules[p];
    const bool adamw = rule == UpdateRule::kAdamw || rule == UpdateRule::kAdamwNoDecay;
    const bool adafactor = rule == UpdateRule::kAdafactor || rule == UpdateRule::kAdafactorNoDecay;
    const bool momentum = adamw || rule == UpdateRule::kMuon || (is_sgd(rule) && config.momentum > 0);
    if (adamw || is_8bit(rule)) adam[p] = s.owned[p];
    const tensor::Shape none{0};
    if (is_8bit(rule)) {
      s.codes[p] = shapes[p].elements();
      s.first_shapes.push_back(tensor::Shape{blocks_of(shapes[p].elements())});
      s.second_shapes.push_back(s.first_shapes.back());
      s.m_codes[p].resize(static_cast<std::size_t>(s.owned[p].length()));
      s.v_codes[p].resize(s.m_codes[p].size());
      continue;
    }
    s.first_shapes.push_back(momentum ? shapes[p] : none);
    if (adafactor && shapes[p].rank() == 2) s.second_shapes.push_back({shapes[p][0] + shapes[p][1]});
    else s.second_shapes.push_back(adamw || adafactor ? shapes[p] : none);
    if (updates_whole(rule) && s.owned[p].length() > 0) most = std::max(most, shapes[p].elements());
    if (rule != UpdateRule::kMuon || s.owned[p].length() == 0) continue;
    QW_CHECK(shapes[p].rank() == 2);
    small = std::max(small, std::min(shapes[p][0], shapes[p][1]));
    large = std::max(large, std::max(shapes[p][0], shapes[p][1]));
  }
  const auto held = [&](std::vector<tensor::Shape> whole) {
    for (std::size_t p = 0; p < shapes.size(); ++p) {
      const std::int64_t n = s.owned[p].length();
      if (n == shapes[p].elements() || whole[p].elements() == 0) continue;
      QW_CHECK(n == 0 || !updates_whole(s.rules[p]));
      whole[p] = tensor::Shape{is_8bit(s.rules[p]) ? blocks_of(n) : n};
    }
    return whole;
  };
  s.m = ops::ParameterBuffer(held(s.first_shapes));
  s.v = ops::ParameterBuffer(held(s.second_shapes));
  s.chunks = cut(adam);
  if (large > 0) s.newton_schulz = std::make_unique<NewtonSchulz>(small, large, muon_precision, kernels, pool);
  if (most > 0) s.update = tensor::Buffer(static_cast<std::size_t>(most) * sizeof(float));
}
Optimizer::~Optimizer() = default;

OptimizerNeed optimizer_need(const std::vector<tensor::Shape>& shapes, const std::vector<UpdateRule>& rules,
                             const OptimizerConfig& config, kernels::GemmPrecision muon_precision,
                             const kernels::Kernels& kernels, base::ThreadPool& pool) {
  constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
  OptimizerNeed out;
  std::int64_t small = 0, large = 0, most = 0;
  for (std::size_t p = 0; p < shapes.size(); ++p) {
    const UpdateRule rule = rules[p];
    const std::int64_t n = shapes[p].elements();
    const bool adafactor = rule == UpdateRule::kAdafactor || rule == UpdateRule::kAdafactorNoDecay;
    if (is_8bit(rule) && n >= kLeast8bit) {
      out.moments += 2 * (n + kFloat * blocks_of(n));
    } else if (is_8bit(rule) || rule == UpdateRule::kAdamw || rule == UpdateRule::kAdamwNoDecay) {
      out.moments += 2 * kFloat * n;
    } else if (adafactor) {
      out.moments += kFloat * (shapes[p].rank() == 2 ? shapes[p][0] + shapes[p][1] : n);
    } else if (rule == UpdateRule::kMuon || (is_sgd(rule) && config.momentum > 0)) {
      out.moments += kFloat * n;
    }
    if (adafactor || rule == UpdateRule::kMuon) most = std::max(most, n);
    if (rule != UpdateRule::kMuon) continue;
    small = std::max(small, std::min(shapes[p][0], shapes[p][1]));
    large = std::max(large, std::max(shapes[p][0], shapes[p][1]));
  }
  out.workspaces = kFloat * most;
  if (large == 0) return out;
  ops::GemmWorkspace products({kernels, pool}, muon_precision);
  products.plan(small, small, large);
  products.plan(small, small, small);
  products.plan(small, large, small);
  out.workspaces += products.planned_bytes() + kFloat * 2 * (small * large + small * small);
  return out;
}

ops::ParameterBuffer& Optimizer::first_moments() { return state_->m; }
ops::ParameterBuffer& Optimizer::second_moments() { return state_->v; }
std::span<std::uint8_t> Optimizer::first_codes(std::size_t parameter) { return state_->m_codes[parameter]; }
std::span<std::uint8_t> Optimizer::second_codes(std::size_t parameter) { return state_->v_codes[parameter]; }
std::int64_t Optimizer::moment_bytes() const {
  std::int64_t bytes = 0;
  for (std::size_t p = 0; p < state_->rules.size(); ++p)
    bytes += static_cast<std::int64_t>(state_->m_codes[p].size() + state_->v_codes[p].size()) +
             static_cast<std::int64_t>(sizeof(float)) * (state_->m.elements(p) + state_->v.elements(p));
  return bytes;
}
tensor::Shape Optimizer::first_shape(std::size_t parameter) const { return state_->first_shapes[parameter]; }
tensor::Shape Optimizer::second_shape(std::size_t parameter) const { return state_->second_shapes[parameter]; }
std::int64_t Optimizer::codes(std::size_t parameter) const { return state_->codes[parameter]; }
const std::vector<UpdateRule>& Optimizer::rules() const { return state_->rules; }

void Optimizer::State::adamw(ops::ParameterBuffer& weights, const ops::ParameterBuffer& gradients, std::int64_t step,
                             double lr, double gradient_scale) {
  const auto t = static_cast<double>(step);
  const auto correction1 = static_cast<float>(1 - std::pow(config.beta1, t));
  const auto correction2 = static_cast<float>(1 - std::pow(config.beta2, t));
  pool.parallel_for(static_cast<std::int64_t>(chunks.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const Chunk& c = chunks[static_cast<std::size_t>(i)];
      const bool decays = rules[c.parameter] == UpdateRule::kAdamw || rules[c.parameter] == UpdateRule::kAdamw8bit;
      const double rate = this->rate(c.parameter, lr);
      const auto move = [&](std::int64_t at, std::int64_t n, float* first, float* second) {
        kernels.adamw(weights.data(c.parameter) + at, gradients.data(c.parameter) + at, first, second, n,
                      static_cast<float>(rate), static_cast<float>(config.beta1), static_cast<float>(config.beta2),
                      static_cast<float>(config.eps), decays ? static_cast<float>(rate * config.weight_decay) : 0.0f,
                      correction1, correction2, static_cast<float>(gradient_scale));
      };
      const std::int64_t held = c.begin - owned[c.parameter].begin;
      if (is_8bit(rules[c.parameter])) by_block(c, move);
      else move(c.begin, c.end - c.begin, m.data(c.parameter) + held, v.data(c.parameter) + held);
    }
  });
}

// Opens the moments of a chunk, some blocks at a time, around their update.
template <class Update>
void Optimizer::State::by_block(const Chunk& c, const Update& move) {
  constexpr std::int64_t kBlock = DynamicCode::kBlock, kTogether = 4 * kBlock;  // few enough to stay in a first-level cache
  const kernels::CodeBook &with_sign = DynamicCode::with_sign(), &without = DynamicCode::without_sign();
  const kernels::CodeKernels& code = kernels::code_kernels(kernels.isa);
  std::array<float, kTogether> first, second;
  for (std::int64_t at = c.begin; at < c.end; at += kTogether) {
    const std::int64_t held = at - owned[c.parameter].begin, n = std::min(kTogether, c.end - at);
    std::uint8_t *mc = m_codes[c.parameter].data() + held, *vc = v_codes[c.parameter].data() + held;
    float *m_scales = m.data(c.parameter) + held / kBlock, *v_scales = v.data(c.parameter) + held / kBlock;
    for (std::int64_t i = 0; i < n; i += kBlock) {
      const std::int64_t block = i / kBlock, length = std::min(kBlock, n - i);
      code.open(with_sign, mc + i, length, m_scales[block], first.data() + i);
      code.open(without, vc + i, length, v_scales[block], second.data() + i);
    }
    move(at, n, first.data(), second.data());
    for (std::int64_t i = 0; i < n; i += kBlock) {
      const std::int64_t block = i / kBlock, length = std::min(kBlock, n - i);
      m_scales[block] = code.close(with_sign, first.data() + i, length, mc + i);
      v_scales[block] = code.close(without, second.data() + i, length, vc + i);
    }
  }
}

void Optimizer::State::muon(std::size_t p, ops::ParameterBuffer& weights, const ops::ParameterBuffer& gradients,
                            double lr, double gradient_scale) {
  const std::int64_t rows = weights.shape(p)[0], cols = weights.shape(p)[1], n = rows * cols;
  const auto mu = static_cast<float>(config.muon_momentum), scale = static_cast<float>(gradient_scale);
  float* momentum = m.data(p);
  const float* g = gradients.data(p);
  float* u = reinterpret_cast<float*>(update.data());
  pool.parallel_for(n, kChunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float fresh = (1 - mu) * (scale * g[i]);
      momentum[i] = mu * momentum[i] + fresh;
      u[i] = fresh + mu * momentum[i];  // Nesterov
    }
  });
  newton_schulz->orthogonalise(u, rows, cols);
  const double r = static_cast<double>(rows), c = static_cast<double>(cols);
  const double size =
      config.muon_scale == MuonScale::kMoonshot ? 0.2 * std::sqrt(std::max(r, c)) : std::sqrt(std::max(1.0, r / c));
  const auto pull = static_cast<float>(lr * size), keep = static_cast<float>(1 - lr * config.weight_decay);
  float* w = weights.data(p);
  pool.parallel_for(n, kChunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) w[i] = keep * w[i] - pull * u[i];
  });
}

void Optimizer::State::sgd(std::size_t p, ops::ParameterBuffer& weights, const ops::ParameterBuffer& gradients, double lr,
                           double gradient_scale) {
  const auto mu = static_cast<float>(config.momentum), scale = static_cast<float>(gradient_scale), pull = static_cast<float>(lr);
  const float keep = rules[p] == UpdateRule::kSgd ? static_cast<float>(1 - lr * config.weight_decay) : 1.0f;
  float* w = weights.data(p) + owned[p].begin;
  float* velocity = config.momentum > 0 ? m.data(p) : nullptr;
  const float* g = gradients.data(p) + owned[p].begin;
  pool.parallel_for(owned[p].length(), kChunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      float move = scale * g[i];
      if (velocity != nullptr) move = velocity[i] = mu * velocity[i] + move;
      w[i] = keep * w[i] - pull * move;
    }
  });
}

// u = g / sqrt(R C^T / mean(R)), R and C the running means of g^2 over the columns and over the rows. Rows are summed each
// by one thread, columns in stripes, rows in order: the same bytes for any thread count.
void Optimizer::State::factored(std::size_t p, std::int64_t rows, std::int64_t columns, const float* g, float scale,
                                double keep, float* u) {
  float *by_row = v.data(p), *by_column = by_row + rows;
  const auto square = [scale](float x) { return static_cast<double>(scale * x) * static_cast<double>(scale * x) + kTiny; };
  pool.parallel_for(rows, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      double sum = 0;
      for (std::int64_t c = 0; c < columns; ++c) sum += square(g[r * columns + c]);
      by_row[r] = static_cast<float>(keep * static_cast<double>(by_row[r]) + (1 - keep) * sum / static_cast<double>(columns));
    }
  });
  constexpr std::int64_t kStripe = 64;
  pool.parallel_for(columns, kStripe, [&](std::int64_t begin, std::int64_t end) {
    std::array<double, kStripe> sum{};
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = begin; c < end; ++c) sum[static_cast<std::size_t>(c - begin)] += square(g[r * columns + c]);
    for (std::int64_t c = begin; c < end; ++c)
      by_column[c] = static_cast<float>(keep * static_cast<double>(by_column[c]) +
                                        (1 - keep) * sum[static_cast<std::size_t>(c - begin)] / static_cast<double>(rows));
  });
  double mean = 0;
  for (std::int64_t r = 0; r < rows; ++r) mean += static_cast<double>(by_row[r]);
  mean /= static_cast<double>(rows);
  pool.parallel_for(rows, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      for (std::int64_t c = 0; c < columns; ++c) {
        const double second = static_cast<double>(by_row[r]) * static_cast<double>(by_column[c]) / mean;
        u[r * columns + c] = static_cast<float>(static_cast<double>(scale * g[r * columns + c]) / std::sqrt(second));
      }
  });
}

void Optimizer::State::adafactor(std::size_t p, ops::ParameterBuffer& weights, const ops::ParameterBuffer& gradients,
                                 std::int64_t step, double lr, double gradient_scale) {
  const double keep = 1 - std::pow(static_cast<double>(step), -0.8);  // of the second moment; the first step keeps nothing
  const auto scale = static_cast<float>(gradient_scale);
  const std::int64_t n = weights.elements(p);
  float* u = reinterpret_cast<float*>(update.data());
  const float* g = gradients.data(p);
  if (weights.shape(p).rank() == 2) {
    factored(p, weights.shape(p)[0], weights.shape(p)[1], g, scale, keep, u);
  } else {
    float* second = v.data(p);
    for (std::int64_t i = 0; i < n; ++i) {
      const double x = static_cast<double>(scale * g[i]);
      second[i] = static_cast<float>(keep * static_cast<double>(second[i]) + (1 - keep) * (x * x + kTiny));
      u[i] = static_cast<float>(x / std::sqrt(static_cast<double>(second[i])));
    }
  }
  const double rms = std::sqrt(sum_squares(u, n, kernels, pool) / static_cast<double>(n));
  const auto pull = static_cast<float>(lr / std::max(1.0, rms));
  const float left = rules[p] == UpdateRule::kAdafactor ? static_cast<float>(1 - lr * config.weight_decay) : 1.0f;
  float* w = weights.data(p);
  pool.parallel_for(n, kChunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) w[i] = left * w[i] - pull * u[i];
  });
}

void Optimizer::step(ops::ParameterBuffer& weights, const ops::ParameterBuffer& gradients, std::int64_t step,
                     double lr_factor, double gradient_scale) {
  State& s = *state_;
  s.adamw(weights, gradients, step, s.config.lr * lr_factor, gradient_scale);
  const double muon_lr = (s.config.muon_lr > 0 ? s.config.muon_lr : s.config.lr) * lr_factor;
  for (std::size_t p = 0; p < s.rules.size(); ++p) {
    if (s.owned[p].length() == 0) continue;
    const double lr = s.rate(p, s.config.lr * lr_factor);
    switch (s.rules[p]) {
      case UpdateRule::kFrozen:
      case UpdateRule::kAdamw:
      case UpdateRule::kAdamwNoDecay:
      case UpdateRule::kAdamw8bit:
      case UpdateRule::kAdamw8bitNoDecay: break;
      case UpdateRule::kMuon: s.muon(p, weights, gradients, muon_lr, gradient_scale); break;
      case UpdateRule::kSgd:
      case UpdateRule::kSgdNoDecay: s.sgd(p, weights, gradients, lr, gradient_scale); break;
      case UpdateRule::kAdafactor:
      case UpdateRule::kAdafactorNoDecay: s.adafactor(p, weights, gradients, step, lr, gradient_scale); break;
    }
  }
}

}  // namespace qw::train
