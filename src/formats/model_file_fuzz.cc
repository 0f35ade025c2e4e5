// Any file as a model, for what is read of it by its path: its settings, its vocabulary, as an importance matrix.
#include <cmath>

#include "base/memory_file.h"
#include "formats/generation_config.h"
#include "formats/imatrix.h"
#include "formats/model_file.h"
#include "formats/tokenizer_gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  const base::MemoryFile file(data, size);
  if (const auto matrix = formats::ImportanceMatrix::open(file.path()))
    for (const float w : matrix->find("a")) QW_CHECK(std::isfinite(w) && w >= 0);
  const auto source = formats::ModelSource::open(file.path());
  if (!source) return 0;
  (void)formats::read_generation_config(*source);
  QW_CHECK(source->gguf() != nullptr);
  const auto vocabulary = formats::read_gguf_vocabulary(*source->gguf());
  if (!vocabulary) return 0;
  QW_CHECK(vocabulary->token_types.size() == vocabulary->tokens.size());
  for (const auto& id : {vocabulary->bos, vocabulary->eos, vocabulary->pad, vocabulary->eot, vocabulary->unk})
    QW_CHECK(!id || (*id >= 0 && static_cast<std::size_t>(*id) < vocabulary->tokens.size()));
  return 0;
}
