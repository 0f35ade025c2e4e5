// Memory that mapped files take: pages of a file count as a process's own for as long as they are mapped, though the
// system may take them back at any time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace qw::base {

// Lets go of the pages that hold `bytes` of a MappedFile, which must be open: they stay readable, and come back from
// the file when they are read. Bytes that lie in no MappedFile are left alone. Any thread.
void let_go_of_pages(std::span<const std::byte> bytes);

// What tells a file's contents from others' without reading them: who writes to a file changes its times, and cannot set the
// latter.
struct FileIdentity {
  std::uint64_t device, inode, bytes;
  std::int64_t modified_ns, changed_ns;
};
struct MappedFrom {
  FileIdentity file;  // when it was opened
  std::uint64_t at;   // where the bytes begin in it
};
// Of bytes that lie in a MappedFile which is open; else nothing. Any thread.
std::optional<MappedFrom> mapped_from(std::span<const std::byte> bytes);

}  // namespace qw::base
