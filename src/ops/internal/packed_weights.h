// The weights of a running model, as its kernels want them.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "ops/machine.h"
#include "ops/pack_cache.h"
#include "ops/program.h"
#include "tensor/tensor.h"

namespace qw::ops {

inline std::shared_ptr<std::byte> weight_memory(std::size_t bytes) {
  auto buffer = std::make_shared<const tensor::Buffer>(bytes);
  return {buffer, buffer->data()};
}

// A part of memory that several weights share.
class WeightBytes {
 public:
  WeightBytes() = default;
  explicit WeightBytes(std::size_t bytes) : WeightBytes(weight_memory(bytes), 0, bytes) {}
  WeightBytes(std::shared_ptr<std::byte> memory, std::size_t begin, std::size_t bytes)
      : memory_(std::move(memory)), data_(memory_.get() + begin), size_(bytes) {}
  std::byte* data() const { return data_; }  // may be memory that nobody may write to, once all is packed
  std::size_t size() const { return size_; }

 private:
  std::shared_ptr<std::byte> memory_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// A matrix packed in its own number format, or floats: a vector, or a table [out, in] that no product uses.
struct PackedWeight {
  kernels::WeightType type = kernels::WeightType::kF32;
  std::int64_t out = 0, in = 0;  // a vector of n: out = n, in = 1; a table as it is
  WeightBytes data;
  const float* vector() const { return reinterpret_cast<const float*>(data.data()); }
};

// Packs what the program uses, and the one beside it (or null), or finds it in `cache`, if not null, and keeps it there. Errors: kBadInput for a missing weight, or a type or shape
// that cannot be used.
Result<std::vector<PackedWeight>> pack_weights(const Machine& m, const Program& program, const Program* beside,
                                               std::span<const tensor::ConstView> weights, const PackCache* cache = nullptr);

// y[rows, out] = x W^T + bias with prepared x.
struct PackedProduct {
  const PackedWeight* weight;
  const void* prepared;
  const float* bias;  // or null
  float* y;
};
// Its outputs [begin, end), on the borders the kernels want: output o of row r to y[r ldy + o].
void multiply_outputs(const Machine& m, const PackedProduct& p, std::int64_t rows, std::int64_t ldy, std::int64_t begin,
                      std::int64_t end);
// Several products of as many rows; the outputs of all of them are shared out over the threads at once.
void packed_products(const Machine& m, std::span<const PackedProduct> products, std::int64_t rows);

// out[rows, width] = SwiGLU of two products of that width: a few outputs of both at a time, which never leave a near
// cache. The same bits as one after the other. 1 <= rows <= kMostGatedRows.
inline constexpr std::int64_t kMostGatedRows = 512;
void gated_products(const Machine& m, const PackedProduct& gate, const PackedProduct& up, std::int64_t rows,
                    float* out);

}  // namespace qw::ops
