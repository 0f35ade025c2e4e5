#include "train/internal/tensor_group.h"

#include <algorithm>
#include <chrono>

#include "train/internal/parts.h"
#include "train/optimizer.h"

namespace qw::train {
namespace {

constexpr const char* kKey = "parallel.tensor";

std::vector<int> every(int first, int step, int count) {
  std::vector<int> out;
  for (int i = 0; i < count; ++i) out.push_back(first + i * step);
  return out;
}

}  // namespace

Status check_tensor(const TrainConfig& c) {
  if (c.parallel.tensor == 1) return {};
  const auto refused = [](const std::string& what) {
    return fail(ErrorKind::kBadInput, std::string(kKey) + " > 1 does not go together with " + what);
  };
  if (c.lora) return refused("[lora]: adapters are not cut");
  if (c.grpo) return refused("[grpo]: the engine that draws answers needs the whole model");
  const OptimizerKind kind = c.optimizer.kind;
  if (kind == OptimizerKind::kAdamw || kind == OptimizerKind::kSgd) return {};
  return refused(kind == OptimizerKind::kAdamw8bit
                     ? "optimizer.kind = \"adamw_8bit\": its blocks would be others in slices"
                     : "an optimizer.kind that looks at whole matrices; adamw and sgd do not");
}

Result<std::unique_ptr<TensorGroup>> TensorGroup::create(Communicator* all, int columns, base::ThreadPool& pool) {
  const int n = all != nullptr ? all->size() : 1;
  if (n % columns != 0)
    return fail(ErrorKind::kUsage, std::string(kKey) + " = " + std::to_string(columns) + " does not divide the " +
                                       std::to_string(n) +
                                       (n == 1 ? " process: start as many with mpirun -n" : " processes"));
  return std::unique_ptr<TensorGroup>(new TensorGroup(*all, columns, pool));
}

TensorGroup::TensorGroup(Communicator& all, int columns, base::ThreadPool& pool)
    : pool_(pool),
      row_(all, every(all.rank() / columns * columns, 1, columns)),
      column_(all, every(all.rank() % columns, columns, all.size() / columns)) {}

Result<ops::Slicing> slicing_for(const models::Model& model, const ops::Program& program, int columns) {
  const models::ModelTraits& t = model.traits();
  const auto refused = [&t](const std::string& what) {
    return fail(ErrorKind::kUsage, std::string(kKey) + " > 1 cuts dense models, not " + t.architecture + ": " + what);
  };
  if (t.experts > 0) return refused("it has experts");
  if (!t.recurrent.empty()) return refused("it has layers that carry a state");
  for (const auto& p : model.parameters())
    if (!p.hf.same()) return refused("folders hold " + p.hf_name + " in another form");
  auto slicing = ops::slicing_of(program, model.parameters().size(), columns);
  if (!slicing) return in_context(kKey, std::move(slicing).error());
  return slicing;
}

Status TensorGroup::cut(const models::Model& model, ops::Program& program) {
  QW_ASSIGN(slicing_, slicing_for(model, program, row_.size()));
  for (const auto& parameter : model.parameters()) {
    whole_.push_back(parameter.shape);
    own_.push_back(ops::slice_shape(parameter.shape, cut_of(own_.size()), row_.size()));
  }
  program = ops::sliced(program, slicing_);
  return {};
}

void TensorGroup::sum(std::span<float> numbers) {
  if (!status_) return;
  const auto start = std::chrono::steady_clock::now();
  status_ = sum_up(numbers);
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Each process adds up a range of the numbers, for all.
Status TensorGroup::sum_up(std::span<float> numbers) {
  const int size = row_.size(), rank = row_.rank();
  std::vector<Communicator::Range> ranges;
  for (int r = 0; r < size; ++r) ranges.push_back(share_of(static_cast<std::int64_t>(numbers.size()), r, size));
  const auto range = ranges[static_cast<std::size_t>(rank)];
  const auto n = static_cast<std::size_t>(range.length());
  if (arrived_.size() < n * static_cast<std::size_t>(size - 1)) arrived_.resize(n * static_cast<std::size_t>(size - 1));
  std::vector<Communicator::Sent> sent;
  std::vector<Communicator::Received> received;
  std::vector<const float*> from;  // by rank
  float* const own = numbers.data() + range.begin;
  for (int r = 0; r < size; ++r) {
    if (r == rank) {
      from.push_back(own);
      continue;
    }
    const auto theirs = ranges[static_cast<std::size_t>(r)];
    float* const slot = arrived_.data() + received.size() * n;
    if (theirs.length() > 0)
      sent.push_back({r, std::as_bytes(numbers.subspan(static_cast<std::size_t>(theirs.begin),
                                                       static_cast<std::size_t>(theirs.length())))});
    received.push_back({r, std::as_writable_bytes(std::span(slot, n))});
    from.push_back(slot);
  }
  if (n == 0) received.clear();
  QW_TRY(row_.exchange(sent, received));
  pool_.parallel_for(range.length(), kUpdateChunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      float sum = from[0][i];
      for (std::size_t r = 1; r < from.size(); ++r) sum += from[r][i];
      own[i] = sum;
    }
  });
  return row_.gather(numbers.data(), ranges);
}

Status TensorGroup::sum_partial(ops::ParameterBuffer& gradients) {
  QW_TRY(status_);
  std::vector<float> all;
  const auto each = [&](const auto& move) {
    for (std::size_t p = 0; p < whole_.size(); ++p)
      if (slicing_.partial[p]) move(gradients.tensor(p));
  };
  each([&](std::span<float> of) { all.insert(all.end(), of.begin(), of.end()); });
  if (all.empty()) return {};
  sum(all);
  auto next = all.begin();
  each([&](std::span<float> of) {
    std::copy_n(next, of.size(), of.begin());
    next += static_cast<std::ptrdiff_t>(of.size());
  });
  return status_;
}

Status TensorGroup::add_up_cut(std::span<double> by_parameter) {
  std::vector<double> mine(by_parameter.begin(), by_parameter.end());
  for (std::size_t p = 0; p < mine.size(); ++p)
    if (!cuts(p)) mine[p] = 0;
  QW_TRY(row_.add_up(mine));
  for (std::size_t p = 0; p < mine.size(); ++p)
    if (cuts(p)) by_parameter[p] = mine[p];
  return {};
}

void TensorGroup::take(std::size_t p, const float* whole, float* own) const {
  ops::take_slice(whole, whole_[p], cut_of(p), row_.size(), row_.rank(), own);
}

Status TensorGroup::join(std::size_t p, std::span<const float> own, std::vector<std::byte>& whole) {
  if (row_.rank() > 0) {
    const Communicator::Sent sent{0, std::as_bytes(own)};
    return cuts(p) ? row_.exchange({&sent, 1}, {}) : Status{};
  }
  whole.resize(static_cast<std::size_t>(whole_[p].elements()) * sizeof(float));
  auto* const out = reinterpret_cast<float*>(whole.data());
  ops::put_slice(own.data(), whole_[p], cut_of(p), row_.size(), 0, out);
  std::vector<float> slice(cuts(p) ? own.size() : 0);
  for (int r = 1; cuts(p) && r < row_.size(); ++r) {
    const Communicator::Received received{r, std::as_writable_bytes(std::span(slice))};
    QW_TRY(row_.exchange({}, {&received, 1}));
    ops::put_slice(slice.data(), whole_[p], cut_of(p), row_.size(), r, out);
  }
  return {};
}

}  // namespace qw::train
