#include "tensor/tensor.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace qw::tensor {

Shape::Shape(std::initializer_list<std::int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const std::int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  QW_CHECK(dims.size() <= kMaxRank);
  for (std::size_t i = 0; i < dims.size(); ++i) dims_[i] = dims[i];
}

std::int64_t Shape::elements() const {
  std::int64_t n = 1;
  for (int i = 0; i < rank_; ++i) n *= (*this)[i];
  return n;
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += (i > 0 ? ", " : "") + std::to_string((*this)[i]);
  return text + "]";
}

Result<std::int64_t> checked_elements(std::span<const std::int64_t> dims) {
  std::int64_t n = 1;
  for (const std::int64_t d : dims) {
    // 2^48 elements is far above any model and leaves room for a byte size in 64 bits.
    if (d < 0 || __builtin_mul_overflow(n, d, &n) || n > (std::int64_t{1} << 48)) {
      return fail(ErrorKind::kBadInput, "tensor size out of range: " + std::to_string(d));
    }
  }
  return n;
}

namespace {

// From here on memory comes from the system in huge pages: already zero, touched when it is used, and a walk through
// gigabytes of weights misses few translations. Sanitizers see the ends of what malloc gives only.
constexpr std::size_t kHugePage = std::size_t{2} << 20;
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kMapLarge = false;
#else
constexpr bool kMapLarge = true;
#endif

// Stands before every buffer's bytes.
struct alignas(64) Origin {
  std::size_t mapped;  // bytes of the mapping that begins here; 0: from malloc
};

// `bytes` (whole pages) at a multiple of a huge page; null if there is no memory. What lies before and after it is given
// back, and the end that fills no huge page takes no more than it is.
void* map(std::size_t bytes) {
  void* const all = mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(all);
  const std::size_t before = (kHugePage - reinterpret_cast<std::uintptr_t>(begin) % kHugePage) % kHugePage;
  if (before > 0) munmap(begin, before);
  munmap(begin + before + bytes, kHugePage - before);
#if defined(MADV_HUGEPAGE)
  madvise(begin + before, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);  // if it is refused, small pages do
#endif
  return begin + before;
}

}  // namespace

void Buffer::Free::operator()(std::byte* p) const {
  auto* const origin = reinterpret_cast<Origin*>(p) - 1;
  if (origin->mapped > 0) munmap(origin, origin->mapped);
  else std::free(origin);
}

Buffer::Buffer(std::size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  const auto rounded = [&](std::size_t unit) { return (bytes + sizeof(Origin) + unit - 1) / unit * unit; };
  const bool mapped = kMapLarge && bytes >= kHugePage;
  const std::size_t all = rounded(mapped ? 4096 : alignof(Origin));
  void* const memory = mapped ? map(all) : std::aligned_alloc(alignof(Origin), all);
  QW_CHECK(memory != nullptr);  // memory needs are foreseen and refused before load
  if (!mapped) std::memset(memory, 0, all);
  auto* const origin = new (memory) Origin{mapped ? all : 0};
  data_.reset(reinterpret_cast<std::byte*>(origin + 1));
}

ConstView rows_of(const ConstView& view, std::int64_t begin, std::int64_t count) {
  QW_CHECK(begin >= 0 && count >= 0 && begin + count <= view.shape.rows());
  ConstView part = view;
  if (view.maker != nullptr) part.first_row += begin;
  else part.data += begin * row_bytes(view.dtype, view.shape.back());
  part.shape = Shape{count, view.shape.back()};
  return part;
}

ConstView in_memory(const ConstView& view, Buffer& own) {
  if (view.maker == nullptr) return view;
  own = Buffer(static_cast<std::size_t>(view.bytes()));
  view.maker->make_rows(view.first_row, view.shape.rows(), own.data());
  return {view.dtype, view.shape, own.data()};
}

Tensor::Tensor(DType dtype, Shape shape)
    : dtype_(dtype),
      shape_(shape),
      buffer_(static_cast<std::size_t>(row_bytes(dtype, shape.back()) * shape.rows())) {}

}  // namespace qw::tensor
