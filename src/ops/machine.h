// What an op runs on, and how it cuts its work.
//
// Every op cuts its work into pieces whose number and borders depend on shapes alone, never on the thread count, and
// each piece writes only to its own place. Where pieces sum into one place (gradients of norms and biases), each
// leaves a partial sum, and the partial sums are added in piece order. So any thread count gives the same bytes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace qw::ops {

struct Machine {
  const kernels::Kernels& kernels;
  base::ThreadPool& pool;
};

// Rows of one piece of a row-wise op: enough work to pay for handing it out, small enough to balance.
inline constexpr std::int64_t kRowPiece = 64;

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
inline std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }
inline std::size_t align64(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

// Rows of one piece where much is done with each; and rows that one thread does sooner than several meet.
inline constexpr std::int64_t kFewRows = 4;

// Calls body(worker, piece) for each piece in [0, n); `worker` names scratch space nobody else uses meanwhile.
template <class Body>
void for_pieces(base::ThreadPool& pool, std::int64_t n, Body&& body) {
  if (n <= 1 || pool.size() == 1) {
    for (std::int64_t i = 0; i < n; ++i) body(0, i);
    return;
  }
  std::atomic<std::int64_t> next{0};
  pool.run([&](int worker) {
    for (std::int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) body(worker, i);
  });
}

// Calls body(begin, end) over [0, rows) in pieces of kRowPiece rows.
template <class Body>
void for_rows(base::ThreadPool& pool, std::int64_t rows, Body&& body) {
  pool.parallel_for(rows, kRowPiece, body);
}

// The same in pieces of kFewRows rows.
template <class Body>
void for_few_rows(base::ThreadPool& pool, std::int64_t rows, Body&& body) {
  pool.parallel_for(rows, kFewRows, body);
}

}  // namespace qw::ops
