// Files: read-only memory maps, whole-file reads with a size limit, and replacement that survives a crash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace qw::base {

// A file mapped read-only. Moving keeps the address. An empty file maps to an empty span.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::filesystem::path& path);
  MappedFile() = default;
  MappedFile(MappedFile&&) noexcept;
  MappedFile& operator=(MappedFile&&) noexcept;
  ~MappedFile();
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::filesystem::path path_;
};

// Bytes read once from front to back: a regular file or a pipe. Folders and devices are refused, since a device may have
// no end; so is a named pipe that nobody writes to, after two seconds.
class InputFile {
 public:
  static Result<InputFile> open(const std::filesystem::path& path);
  static InputFile standard_input();   // whatever it is
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;
  ~InputFile();
  // Fills a front part of `out` and returns its length: 0 at the end only.
  Result<std::size_t> read(std::span<char> out);
  // Reads what is left; an error if that is more than `limit_bytes`.
  Result<std::string> read_all(std::uint64_t limit_bytes);

 private:
  InputFile() = default;
  Status wait_for_writer();
  int fd_ = -1;
  bool owned_ = true, pipe_ = false, begun_ = false;
  std::uint64_t size_ = 0;             // of a regular file
  std::filesystem::path path_;         // for messages
};

// Reads a whole file; an error if it is larger than `limit_bytes`.
Result<std::string> read_file(const std::filesystem::path& path, std::uint64_t limit_bytes = std::uint64_t{1} << 30);

// Writes a file so that after a crash or a full disk either the old or the new content is there, never a mixture:
// temporary file in the same folder, fsync, rename, fsync of the folder.
// Readers::kOwner: nobody but its owner may read it at any moment, the temporary file included (mode 0600; else 0644).
enum class Readers : std::uint8_t { kAll, kOwner };
class AtomicFile {
 public:
  static Result<AtomicFile> create(const std::filesystem::path& path, Readers readers = Readers::kAll);
  AtomicFile(AtomicFile&&) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();  // an uncommitted file is removed
  Status write(std::span<const std::byte> bytes);
  Status write(std::string_view text) { return write(std::as_bytes(std::span(text.data(), text.size()))); }
  // Overwrites bytes at `offset`, which must have been written already.
  Status write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  std::uint64_t size() const { return size_; }
  Status commit();

 private:
  AtomicFile() = default;
  int fd_ = -1;
  std::uint64_t size_ = 0;
  std::filesystem::path path_, temporary_;
};

Status write_file_atomically(const std::filesystem::path& path, std::string_view text, Readers readers = Readers::kAll);

// fsync of a folder, so that renames inside it are durable.
Status sync_folder(const std::filesystem::path& folder);

}  // namespace qw::base
