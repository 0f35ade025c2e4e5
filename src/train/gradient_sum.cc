#include "train/internal/gradient_sum.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>

#include "train/internal/parts.h"
#include "train/internal/worker.h"

namespace qw::train {
namespace {

using Clock = std::chrono::steady_clock;
using Range = Communicator::Range;

constexpr std::int64_t kInFlight = std::int64_t{4} << 20;  // floats received at once: 16 MiB beside the gradients

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

// Back to zero, and where that is whole pages back to the system.
void release(float* data, std::int64_t n) {
  constexpr std::uintptr_t kPage = 4096;
  const auto begin = reinterpret_cast<std::uintptr_t>(data),
             end = begin + static_cast<std::uintptr_t>(n) * sizeof(float);
  const std::uintptr_t low = (begin + kPage - 1) / kPage * kPage, high = end / kPage * kPage;
  if (low >= high || ::madvise(reinterpret_cast<void*>(low), high - low, MADV_DONTNEED) != 0) {
    std::fill_n(data, n, 0.0f);
    return;
  }
  std::memset(data, 0, low - begin);
  std::memset(reinterpret_cast<void*>(high), 0, end - high);
}

}  // namespace

struct GradientSum::State {
  struct Bucket {
    std::size_t first = 0, last = 0;                        // parameters
    Range floats;                                           // of the table
    std::vector<Range> ranges;                              // by rank, of the table
    std::size_t missing = 0;                                // parameters whose gradients are not final yet
    std::vector<std::pair<Node, std::vector<float>>> kept;  // zero = 2: this process's range of what was summed so far
  };

  ops::TrainingGraph& graph;
  ParallelConfig config;
  Communicator *ranks, *all;
  base::ThreadPool& pool;
  int rank, size, zero;
  std::vector<Bucket> buckets;         // in the order in which they are summed
  std::vector<std::size_t> bucket_of;  // by parameter
  std::size_t next = 0;                // bucket
  std::vector<Range> owned;
  std::vector<std::pair<Node, ops::ParameterBuffer>> before;  // of parts that were computed before the current one
  std::vector<ops::ParameterBuffer> spare;
  std::vector<float> arrived;
  std::int64_t parts = 1, part = -1;  // of the step; which is being computed (-1: none)
  std::optional<Worker> worker;
  double waited = 0;

  State(ops::TrainingGraph& g, const std::vector<UpdateRule>& rules, const ParallelConfig& c, Communicator* r,
        Communicator* everyone, base::ThreadPool& p)
      : graph(g),
        config(c),
        ranks(r),
        all(everyone),
        pool(p),
        rank(r != nullptr ? r->rank() : 0),
        size(r != nullptr ? r->size() : 1),
        zero(size > 1 ? static_cast<int>(c.zero) : 0) {
    make_buckets();
    for (std::size_t b = 0; b < buckets.size(); ++b) divide(b, rules);
    for (std::size_t parameter = 0; zero > 0 && parameter < gradients().size(); ++parameter)
      owned.push_back(owned_by(rank, parameter));
    if (size > 1) worker.emplace();
  }

  ops::ParameterBuffer& gradients() const { return graph.gradients(); }
  float* at(std::int64_t begin) const { return gradients().all().data() + begin; }

  void make_buckets();
  void divide(std::size_t bucket, const std::vector<UpdateRule>& rules);
  Range owned_by(int r, std::size_t parameter) const;
  std::int64_t parts_of(std::size_t count) const;
  Status compute(std::int64_t which, std::size_t count, bool last, const std::function<Status(std::size_t)>& learn);
  void keep(std::int64_t which);
  void submit(std::size_t bucket);
  void final_gradient(std::size_t parameter);
  Status settle();
  Status each(std::size_t count, const std::function<Status(std::size_t)>& learn);
  std::vector<Addend> nodes_before(std::int64_t begin);
  std::vector<Addend> mine(const Bucket& bucket);
  std::vector<Node> nodes_from(int from) const;
  Status sum(Bucket& bucket, bool ends);
  Status sum_piece(Bucket& bucket, const std::vector<Addend>& own, std::int64_t at, std::int64_t piece, bool ends,
                   std::vector<std::pair<Node, std::vector<float>>>& left);
};

// Of neighbours in the table, from its end: about as the backward goes.
void GradientSum::State::make_buckets() {
  const ops::ParameterBuffer& g = gradients();
  const std::int64_t most = config.bucket_mib << 18;
  bucket_of.assign(g.size(), 0);
  const auto end_of = [&](std::size_t p) {
    return p + 1 < g.size() ? g.offset(p + 1) : static_cast<std::int64_t>(g.all().size());
  };
  for (std::size_t p = g.size(); p-- > 0;) {
    if (g.elements(p) == 0) continue;
    const bool alone = buckets.empty() || g.elements(p) >= most || buckets.back().floats.length() >= most;
    if (alone) buckets.push_back({p, p, {g.offset(p), end_of(p)}, {}, 0, {}});
    buckets.back().first = p;
    buckets.back().floats.begin = g.offset(p);
  }
  // In the order in which they will be ready.
  std::vector<std::size_t> place(g.size());
  const std::vector<std::size_t> order = graph.final_gradient_order();
  for (std::size_t i = 0; i < order.size(); ++i) place[order[i]] = i;
  const auto ready = [&](const Bucket& b) {
    return *std::max_element(place.begin() + static_cast<std::ptrdiff_t>(b.first),
                             place.begin() + static_cast<std::ptrdiff_t>(b.last) + 1);
  };
  std::stable_sort(buckets.begin(), buckets.end(),
                   [&](const Bucket& a, const Bucket& b) { return ready(a) < ready(b); });
  for (std::size_t b = 0; b < buckets.size(); ++b)
    std::fill(bucket_of.begin() + static_cast<std::ptrdiff_t>(buckets[b].first),
              bucket_of.begin() + static_cast<std::ptrdiff_t>(buckets[b].last) + 1, b);
}

// Pieces are what an update may be cut into. Who begins turns from bucket to bucket, so that many ranks and few pieces
// do not leave the same ranks empty each time.
void GradientSum::State::divide(std::size_t number, const std::vector<UpdateRule>& rules) {
  Bucket& b = buckets[number];
  b.ranges.assign(index(size), {b.floats.begin, b.floats.begin});
  int filling = -1;  // place
  const auto piece = [&](std::int64_t begin) {
    const auto place = static_cast<int>((begin - b.floats.begin) * size / b.floats.length());
    if (place == filling) return;
    const auto rank_at = [&](int i) { return (index(i) + number) % index(size); };
    if (filling >= 0) b.ranges[rank_at(filling)].end = begin;
    b.ranges[rank_at(place)] = {begin, b.floats.end};
    filling = place;
  };
  for (std::size_t p = b.first; p <= b.last; ++p) {
    const std::int64_t step = updates_whole(rules[p]) && zero > 0 ? gradients().elements(p) : kUpdateChunk;
    for (std::int64_t i = 0; i < gradients().elements(p); i += step) piece(gradients().offset(p) + i);
  }
}

Range GradientSum::State::owned_by(int r, std::size_t p) const {
  const std::int64_t offset = gradients().offset(p), n = gradients().elements(p);
  if (n == 0) return {};
  const Range range = buckets[bucket_of[p]].ranges[index(r)];
  const auto within = [&](std::int64_t at) { return std::clamp<std::int64_t>(at - offset, 0, n); };
  return {within(range.begin), within(range.end)};
}

std::int64_t GradientSum::State::parts_of(std::size_t count) const {
  std::int64_t wanted = config.parts;
  if (wanted == 0) wanted = config.zero == 2 ? static_cast<std::int64_t>(count) : size;
  return std::min(wanted, static_cast<std::int64_t>(count));
}

// The micro-batches of one part; if it is the last that is summed together, buckets leave as they become final.
Status GradientSum::State::compute(std::int64_t which, std::size_t count, bool last,
                                   const std::function<Status(std::size_t)>& learn) {
  const Range batches{static_cast<std::int64_t>(count) * which / parts,
                      static_cast<std::int64_t>(count) * (which + 1) / parts};
  part = which;
  for (std::int64_t b = batches.begin; b < batches.end; ++b) {
    const bool listens = last && size > 1 && config.overlap && b + 1 == batches.end;
    if (listens) graph.on_final_gradient([this](std::size_t p) { final_gradient(p); });
    const Status status = learn(index(b));
    if (listens) graph.on_final_gradient({});
    QW_TRY(status);
  }
  return {};
}

// Puts the part that was computed beside those before it, and begins a new one.
void GradientSum::State::keep(std::int64_t which) {
  Node node{0, which};
  ops::ParameterBuffer& g = gradients();
  while (!before.empty() && siblings(before.back().first, node)) {
    float *left = before.back().second.all().data(), *right = g.all().data();
    pool.parallel_for(static_cast<std::int64_t>(g.all().size()), kUpdateChunk,
                      [&](std::int64_t begin, std::int64_t end) {
                        for (std::int64_t i = begin; i < end; ++i) right[i] = left[i] + right[i];
                      });
    node = parent(node);
    spare.push_back(std::move(before.back().second));
    before.pop_back();
  }
  if (spare.empty()) {
    spare.emplace_back(g.shapes());
  } else {
    spare.back().zero();
  }
  std::swap(g, spare.back());
  before.emplace_back(node, std::move(spare.back()));
  spare.pop_back();
}

void GradientSum::State::final_gradient(std::size_t parameter) {
  if (gradients().elements(parameter) == 0) return;
  --buckets[bucket_of[parameter]].missing;
  while (next < buckets.size() && buckets[next].missing == 0) submit(next);
}

void GradientSum::State::submit(std::size_t bucket) {
  next = bucket + 1;
  const bool ends = zero < 2 || part - rank + size >= parts;
  worker->give([this, bucket, ends] { return sum(buckets[bucket], ends); });
}

// What of the buckets did not leave yet does now; back when all are sums.
Status GradientSum::State::settle() {
  while (next < buckets.size()) submit(next);
  const auto start = Clock::now();
  const Status status = worker->wait();
  waited += std::chrono::duration<double>(Clock::now() - start).count();
  next = 0;
  for (Bucket& b : buckets) {
    b.missing = 0;
    for (std::size_t p = b.first; p <= b.last; ++p) b.missing += gradients().elements(p) > 0 ? 1 : 0;
  }
  return status;
}

Status GradientSum::State::each(std::size_t count, const std::function<Status(std::size_t)>& learn) {
  parts = parts_of(count);
  part = -1;
  waited = 0;
  before.clear();
  if (size == 1) {
    for (std::int64_t p = 0; p < parts; ++p) {
      QW_TRY(compute(p, count, false, learn));
      if (p + 1 < parts) keep(p);
    }
    for (const Bucket& b : buckets) {
      if (parts == 1) break;
      pool.parallel_for(b.floats.length(), kUpdateChunk, [&](std::int64_t begin, std::int64_t end) {
        std::vector<Addend> addends = nodes_before(b.floats.begin + begin);
        append(addends, {{0, part}, at(b.floats.begin + begin)}, end - begin);
        const float* sum = finish(addends, end - begin);
        if (sum != at(b.floats.begin + begin)) std::copy_n(sum, end - begin, at(b.floats.begin + begin));
      });
    }
  } else if (zero == 2) {
    // Dealt out in turn, so that the parts of a round are neighbours and go up the tree at once.
    for (std::int64_t p = rank; p - rank < parts; p += size) {
      if (p < parts) QW_TRY(compute(p, count, true, learn));
      part = p;
      QW_TRY(settle());
    }
  } else {
    const Range own = share_of(parts, rank, size);
    for (std::int64_t p = own.begin; p < own.end; ++p) {
      QW_TRY(compute(p, count, p + 1 == own.end, learn));
      if (p + 1 < own.end) keep(p);
    }
    QW_TRY(settle());
  }
  for (auto& [node, buffer] : before) spare.push_back(std::move(buffer));
  before.clear();
  return {};
}

std::vector<Addend> GradientSum::State::nodes_before(std::int64_t begin) {
  std::vector<Addend> out;
  for (auto& [node, buffer] : before) out.push_back({node, buffer.all().data() + begin});
  return out;
}

// This process's nodes of the parts that are being summed, with their numbers of a bucket.
std::vector<Addend> GradientSum::State::mine(const Bucket& b) {
  std::vector<Addend> out;
  if (zero == 2) {
    if (part >= 0 && part < parts) out.push_back({{0, part}, at(b.floats.begin)});
    return out;
  }
  out = nodes_before(b.floats.begin);
  if (part >= 0) append(out, {{0, part}, at(b.floats.begin)}, b.floats.length());
  return out;
}

std::vector<Node> GradientSum::State::nodes_from(int from) const {
  if (zero < 2) {
    const Range theirs = share_of(parts, from, size);
    return nodes_of(theirs.begin, theirs.end);
  }
  const std::int64_t theirs = part - rank + from;
  return theirs < parts ? std::vector<Node>{{0, theirs}} : std::vector<Node>{};
}

// `ends`: no parts come behind these.
Status GradientSum::State::sum(Bucket& b, bool ends) {
  const std::vector<Addend> own = mine(b);
  const std::int64_t piece = std::max(kUpdateChunk, kInFlight / size);
  std::int64_t longest = 0;
  for (const Range& range : b.ranges) longest = std::max(longest, range.length());
  std::vector<std::pair<Node, std::vector<float>>> left;
  for (std::int64_t from = 0; from < longest; from += piece) QW_TRY(sum_piece(b, own, from, piece, ends, left));
  b.kept = std::move(left);
  const Range range = b.ranges[index(rank)];
  if (zero == 2) {
    release(at(b.floats.begin), range.begin - b.floats.begin);
    release(at(range.end), b.floats.end - range.end);
    if (!ends) release(at(range.begin), range.length());
  }
  return zero == 0 ? ranks->gather(gradients().all().data(), b.ranges) : Status{};
}

Status GradientSum::State::sum_piece(Bucket& b, const std::vector<Addend>& own, std::int64_t from, std::int64_t piece,
                                     bool ends, std::vector<std::pair<Node, std::vector<float>>>& left) {
  const auto cut = [&](int r) {
    const Range range = b.ranges[index(r)];
    return Range{std::min(range.begin + from, range.end), std::min(range.begin + from + piece, range.end)};
  };
  const auto own_at = [&](const Addend& a, std::int64_t begin) { return a.data + (begin - b.floats.begin); };
  std::vector<Communicator::Sent> sent;
  for (int r = 0; r < size; ++r)
    for (const Addend& a : own)
      if (const Range c = cut(r); r != rank && c.length() > 0)
        sent.push_back({r, std::as_bytes(std::span(own_at(a, c.begin), index(c.length())))});
  const Range c = cut(rank);
  const std::int64_t n = c.length();
  std::vector<Communicator::Received> received;
  std::vector<std::vector<Node>> nodes(index(size));
  std::size_t slots = 0;
  for (int r = 0; r < size && n > 0; ++r)
    if (r != rank) slots += (nodes[index(r)] = nodes_from(r)).size();
  if (arrived.size() < slots * index(n)) arrived.resize(slots * index(n));
  float* slot = arrived.data();
  for (int r = 0; r < size; ++r)
    for (std::size_t i = 0; i < nodes[index(r)].size(); ++i, slot += n)
      received.push_back({r, std::as_writable_bytes(std::span(slot, index(n)))});
  QW_TRY(ranks->exchange(sent, received));
  if (n == 0) return {};

  std::vector<Addend> addends;
  for (auto& [node, numbers] : b.kept) append(addends, {node, numbers.data() + from}, n);
  slot = arrived.data();
  for (int r = 0; r < size; ++r) {
    if (r == rank)
      for (const Addend& a : own) append(addends, {a.node, own_at(a, c.begin)}, n);
    for (std::size_t i = 0; i < nodes[index(r)].size(); ++i, slot += n) append(addends, {nodes[index(r)][i], slot}, n);
  }
  if (ends) {
    const float* whole = finish(addends, n);
    if (whole != at(c.begin)) std::copy_n(whole, n, at(c.begin));
    return {};
  }
  left.resize(addends.size());
  for (std::size_t i = 0; i < addends.size(); ++i) {
    left[i].first = addends[i].node;
    left[i].second.resize(index(b.ranges[index(rank)].length()));
    std::copy_n(addends[i].data, n, left[i].second.data() + from);
  }
  return {};
}

GradientSum::GradientSum(ops::TrainingGraph& graph, const std::vector<UpdateRule>& rules, const ParallelConfig& config,
                         Communicator* ranks, Communicator* all, base::ThreadPool& pool)
    : state_(std::make_unique<State>(graph, rules, config, ranks, all, pool)) {}
GradientSum::~GradientSum() = default;

int GradientSum::rank() const { return state_->rank; }
int GradientSum::size() const { return state_->size; }
Communicator* GradientSum::ranks() const { return state_->ranks; }
Communicator* GradientSum::everyone() const { return state_->all; }
const std::vector<Communicator::Range>& GradientSum::owned() const { return state_->owned; }
Communicator::Range GradientSum::owned_by(int rank, std::size_t parameter) const {
  return state_->owned_by(rank, parameter);
}
double GradientSum::waited() const { return state_->waited; }

void GradientSum::begin() {
  State& s = *state_;
  if (s.zero == 2)
    release(s.at(0), static_cast<std::int64_t>(s.gradients().all().size()));
  else
    s.pool.parallel_for(static_cast<std::int64_t>(s.gradients().all().size()), kUpdateChunk,
                        [&](std::int64_t begin, std::int64_t end) { std::fill_n(s.at(0) + begin, end - begin, 0.0f); });
  s.next = 0;
  for (State::Bucket& b : s.buckets) {
    b.kept.clear();
    b.missing = 0;
    for (std::size_t p = b.first; p <= b.last; ++p) b.missing += s.gradients().elements(p) > 0 ? 1 : 0;
  }
}

Status GradientSum::each(std::size_t count, const std::function<Status(std::size_t)>& learn) {
  return state_->each(count, learn);
}

Status GradientSum::add_up(std::span<double> values) {
  return state_->size > 1 ? state_->ranks->add_up(values) : Status{};
}

Status GradientSum::gather(ops::ParameterBuffer& weights) {
  const State& s = *state_;
  for (const State::Bucket& b : s.buckets) {
    if (s.zero == 0) break;
    QW_TRY(s.ranks->gather(weights.all().data(), b.ranges));
  }
  return {};
}

}  // namespace qw::train
