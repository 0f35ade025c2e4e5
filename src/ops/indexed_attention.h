// Training's attention where an index chooses what a row sees (token_index.h). Documents up to IndexSpec::all_seen() tokens are those
// of attention.h; of longer ones the rows beyond see their choice, one by one. The choice has no gradient, as in the reference.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/attention.h"
#include "ops/token_index.h"
#include "tensor/tensor.h"

namespace qw::ops {

struct IndexedAttentionArgs {
  AttentionArgs attention;
  const float* index_q = nullptr;     // [N, heads * dim]
  const float* index_k = nullptr;     // [N, dim]
  const float* key_norm = nullptr;    // [dim]
};

// What it needs beside its arguments: for every attention with an index of the same numbers, one after the other.
class IndexedAttention {
 public:
  // For batches of at most `max_tokens` rows.
  IndexedAttention(const IndexSpec& index, const AttentionSpec& attention, std::int64_t max_tokens, int workers);
  void forward(const Machine& m, const IndexedAttentionArgs& args);
  void backward(const Machine& m, const IndexedAttentionArgs& args);  // args.attention's o and lse are those of forward

 private:
  struct Document {
    std::int64_t number, first, tokens, blocks, keys;  // among the batch's; rows; complete blocks; where their keys begin
  };
  bool find_long(const AttentionArgs& a);
  void choose(const Machine& m, const IndexedAttentionArgs& args);
  std::int64_t seen(const Document& d, std::int64_t t, kernels::CacheRun* runs) const;
  void row_forward(const Document& doc, const kernels::AttentionTrainArgs& p, std::int64_t t, int worker);
  void row_backward(const Document& doc, const kernels::AttentionTrainArgs& p, std::int64_t t, int worker);

  IndexSpec index_;
  std::int64_t max_tokens_;
  std::vector<float> frequencies_;
  std::vector<Document> long_;
  std::vector<std::int32_t> positions_, chosen_, order_;  // of blocks; [max_tokens, blocks]; [workers, blocks of max_tokens]
  std::vector<float> cos_, sin_, keys_, scores_, weights_;  // .. [workers, blocks of max_tokens]; [workers, all_seen]
  std::vector<kernels::CacheRun> runs_;                     // [workers, blocks + 1]
};

}  // namespace qw::ops
