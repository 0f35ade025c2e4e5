// A vector for large tables that are read here and there: it asks the system for huge pages, which spares the processor
// most look-ups of addresses. Where there are none, or the table is small, it is a vector as any other.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <vector>

namespace qw::base {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAskForHugePages = false;
#elif defined(__has_feature)
inline constexpr bool kAskForHugePages = !__has_feature(address_sanitizer);  // which marks the ends of what it gives
#else
inline constexpr bool kAskForHugePages = true;
#endif

template <class T>
struct HugePageAllocator {
  using value_type = T;
  static constexpr std::size_t kPage = std::size_t{2} << 20;
  // From here on a page of its own is worth the room that stays empty.
  static constexpr std::size_t kLeast = kPage / 4;

  HugePageAllocator() = default;
  template <class U>
  HugePageAllocator(const HugePageAllocator<U>&) {}  // NOLINT(google-explicit-constructor): as allocators do

  T* allocate(std::size_t count) {
    const std::size_t bytes = count * sizeof(T);
    if (!is_large(bytes)) return static_cast<T*>(::operator new(bytes, std::align_val_t(alignof(T))));
    const std::size_t whole = (bytes + kPage - 1) / kPage * kPage;
    void* memory = ::operator new(whole, std::align_val_t(kPage));
#if defined(MADV_HUGEPAGE)
    ::madvise(memory, whole, MADV_HUGEPAGE);  // if it is refused, small pages do
#endif
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, std::size_t count) {
    ::operator delete(memory, std::align_val_t(is_large(count * sizeof(T)) ? kPage : alignof(T)));
  }
  friend bool operator==(const HugePageAllocator&, const HugePageAllocator&) { return true; }

 private:
  static bool is_large(std::size_t bytes) { return kAskForHugePages && bytes >= kLeast; }
};

template <class T>
using HugeVector = std::vector<T, HugePageAllocator<T>>;

}  // namespace qw::base
