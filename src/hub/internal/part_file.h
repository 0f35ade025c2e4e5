// TARGET.part and TARGET.part.json: the bytes that have come, and which they are.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "hub/listing.h"

namespace qw::hub::internal {

struct Segment {
  std::uint64_t begin = 0, end = 0;
  std::uint64_t done = 0;       // bytes from begin that are there
  bool taken = false;           // by a connection
  bool complete() const { return begin + done == end; }
};

// What a state file says; nothing if it is absent, damaged, or of another file.
std::optional<std::vector<Segment>> read_state(const std::filesystem::path& part, const RemoteFile& file);

class PartFile {
 public:
  // Goes on where the state file says, or begins with segments of `segment_bytes`.
  static Result<PartFile> open(std::filesystem::path part, const RemoteFile& file, std::uint64_t segment_bytes);
  PartFile(PartFile&&) noexcept;
  PartFile& operator=(PartFile&&) = delete;
  ~PartFile();

  std::vector<Segment> segments;
  std::uint64_t done() const;
  // Forgets all that has come; one segment.
  Status restart();
  Status write(std::uint64_t offset, std::string_view bytes) const;   // any thread
  Status save_state(std::span<const Segment> now) const;              // after making the bytes safe
  // Renames to `target` and removes the state.
  Status finish(const std::filesystem::path& target);
  Status discard();                                                   // removes both files
  const std::filesystem::path& path() const { return path_; }

 private:
  PartFile() = default;
  int fd_ = -1;
  std::filesystem::path path_;
  RemoteFile file_;
};

std::filesystem::path part_path(const std::filesystem::path& target);
std::filesystem::path state_path(const std::filesystem::path& part);

}  // namespace qw::hub::internal
