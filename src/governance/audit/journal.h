// What an audit log is about to hold, on the disk by one wait of one file whose size never changes: that is sooner
// there than the ends of two files that grow, and costs the system less. What a crash keeps from the log's files is
// written to them from here at the next start. Nothing here is believed: the log's own checks, of heads and their
// signatures, come after it.
//
// The file: kBytes, zeros at first. A batch begins at a multiple of kPage: "qwjournl", then (lowest byte first) its
// generation, where its records begin in their file and its head in its own (8 bytes each), how many bytes each of both
// has (4 each), the SHA-256 of these 40 bytes and of what follows, and what follows: records and head. Batches of one
// generation lie one behind the other from the beginning of the file; when it is full, another generation begins.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "governance/internal/growing_file.h"

namespace qw::governance {

struct JournalBatch {
  std::uint64_t records_at = 0, head_at = 0;  // bytes of the log's files that stand before
  std::string records, head;                  // lines, with their ends
};

// The batches of the first generation in the bytes of such a file, up to the first that is not whole. Any bytes.
std::vector<JournalBatch> read_journal(std::string_view bytes);

class Journal {
 public:
  static constexpr std::size_t kBytes = std::size_t{1} << 20, kPage = 4096;

  // Makes the file, or tells of what one has.
  Result<std::vector<JournalBatch>> open(const std::filesystem::path& path);
  // Whether a batch can be written at all, and whether behind those that were.
  static bool can_hold(const JournalBatch& batch);
  bool has_room(const JournalBatch& batch) const;
  // The batch is on the disk when this returns; after an error it is not there.
  Status write(const JournalBatch& batch);
  // As if the last one had not been written.
  Status take_back();
  // What was written is no longer needed: the files that it is about are on the disk.
  void begin_again();
  Status forget();  // and is not told of any more

 private:
  GrowingFile file_;
  std::uint64_t generation_ = 0, at_ = 0, last_ = 0;  // where the next begins, and where the last one does
};

}  // namespace qw::governance
