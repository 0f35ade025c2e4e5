// A value that one thread writes and any thread reads whole, without a lock: a sequence lock whose data are atomics. Each
// word is released after the version that says it is being written, and acquired before the version is looked at again.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace qw::engine {

template <class T>
class StatsBoard {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(std::int64_t) == 0);

 public:
  void write(const T& value) {  // one thread
    std::array<std::int64_t, kWords> words;
    std::memcpy(words.data(), &value, sizeof(T));
    const std::uint64_t version = version_.load(std::memory_order_relaxed);
    version_.store(version + 1, std::memory_order_relaxed);  // odd: being written
    for (std::size_t i = 0; i < kWords; ++i) words_[i].store(words[i], std::memory_order_release);
    version_.store(version + 2, std::memory_order_release);
  }
  T read() const {
    std::array<std::int64_t, kWords> words;
    for (;;) {
      const std::uint64_t before = version_.load(std::memory_order_acquire);
      for (std::size_t i = 0; i < kWords; ++i) words[i] = words_[i].load(std::memory_order_acquire);
      if (before % 2 == 0 && version_.load(std::memory_order_relaxed) == before) break;
    }
    T value;
    std::memcpy(static_cast<void*>(&value), words.data(), sizeof(T));
    return value;
  }

 private:
  static constexpr std::size_t kWords = sizeof(T) / sizeof(std::int64_t);
  std::atomic<std::uint64_t> version_{0};
  std::array<std::atomic<std::int64_t>, kWords> words_{};
};

}  // namespace qw::engine
