// A cursor over foreign bytes (little-endian) that cannot leave them; every error says at which byte.
#pragma once

#include <bit>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace qw::formats::internal {

static_assert(std::endian::native == std::endian::little, "files are read in place and are little-endian");

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::uint64_t position() const { return at_; }
  std::uint64_t remaining() const { return bytes_.size() - at_; }
  tl::unexpected<Error> error(std::string_view why) const {
    return fail(ErrorKind::kBadInput, "byte " + std::to_string(at_) + ": " + std::string(why));
  }

  template <class T>
  Result<T> read(std::string_view what) {
    if (remaining() < sizeof(T)) return error("the file ends inside " + std::string(what));
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  Result<std::span<const std::byte>> take(std::uint64_t count, std::string_view what) {
    if (remaining() < count) return error("the file ends inside " + std::string(what));
    const auto piece = bytes_.subspan(at_, count);
    at_ += count;
    return piece;
  }

  // u64 length, then the bytes.
  Result<std::string_view> read_string(std::string_view what) {
    QW_ASSIGN(const std::uint64_t length, read<std::uint64_t>(what));
    if (length > remaining()) {
      at_ -= sizeof(length);
      return error(std::string(what) + " of " + std::to_string(length) + " bytes is longer than the file");
    }
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data() + at_), length);
    at_ += length;
    return text;
  }

 private:
  std::span<const std::byte> bytes_;
  std::uint64_t at_ = 0;
};

}  // namespace qw::formats::internal
