// Token shards of any bytes: one that is accepted can be read to its end and packed.
#include "base/memory_file.h"
#include "data/packing.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  const base::MemoryFile file(data, size);
  const auto shard = data::TokenShard::open(file.path());
  if (!shard) return 0;
  std::vector<data::Piece> pieces;
  for (std::uint64_t d = 0; d < shard->documents(); ++d) data::cut_document(*shard, 0, d, 16, pieces);
  data::PackedBatch batch;
  for (const auto& piece : pieces) data::append_piece(*shard, piece, batch);
  for (const auto id : batch.tokens) QW_CHECK(id >= 0);
  for (std::uint64_t d = 0; shard->has_values() && d < shard->documents(); ++d) QW_CHECK(shard->value(d) == shard->value(d));
  if (!pieces.empty()) (void)data::best_fit(pieces, 16);
  return 0;
}
