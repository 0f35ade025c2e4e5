// A file read front to back: plain bytes, or an .xz, .gz or (where the build has libzstd) .zst file unpacked on the fly,
// told apart by its magic, not its name.
//
// Memory is constant: one input block, and the decoder's dictionary, which is limited. A cut or damaged file is an error
// that names it, never a short read; so is one of another format that is no text (Parquet, zip, ...).
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

#include "base/result.h"

namespace qw::data {

class ByteReader {
 public:
  static Result<ByteReader> open(const std::filesystem::path& path);
  ByteReader(ByteReader&&) noexcept;
  ByteReader& operator=(ByteReader&&) noexcept;
  ~ByteReader();

  // Fills up to out.size() bytes (out not empty); 0 means the end.
  Result<std::size_t> read(std::span<char> out);

 private:
  struct State;
  explicit ByteReader(std::unique_ptr<State>);
  std::unique_ptr<State> state_;
};

}  // namespace qw::data
