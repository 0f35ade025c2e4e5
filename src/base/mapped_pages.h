// Memory that mapped files take: pages of a file count as a process's own for as long as they are mapped, though the
// system may take them back at any time.
#pragma once

#include <cstddef>
#include <span>

namespace qw::base {

// Lets go of the pages that hold `bytes` of a MappedFile, which must be open: they stay readable, and come back from
// the file when they are read. Bytes that lie in no MappedFile are left alone. Any thread.
void let_go_of_pages(std::span<const std::byte> bytes);

}  // namespace qw::base
