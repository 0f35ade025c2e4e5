// Ledgers of any bytes beside one good shard: refused with an error, or opened whole.
#include <cstdlib>
#include <fstream>

#include "data/packing.h"

namespace {

std::filesystem::path make_folder() {
  using namespace qw;
  std::string name = (std::filesystem::temp_directory_path() / "qw_ledger_fuzz_XXXXXX").string();
  QW_CHECK(::mkdtemp(name.data()) != nullptr);
  auto writer = data::ShardWriter::create(std::filesystem::path(name) / "a.train.shard", 300, std::string(64, 'a'), false);
  const data::TokenId ids[] = {1, 2, 299};
  QW_CHECK(writer && writer->add(ids, 3) && writer->finish(0, {}));
  return name;
}

struct Folder {
  std::filesystem::path path = make_folder();
  ~Folder() { std::filesystem::remove_all(path); }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  static const Folder folder;
  std::ofstream(folder.path / "ledger.json", std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  if (const auto dataset = data::open_dataset(folder.path))
    for (const auto& source : dataset->train) QW_CHECK(source.shard.documents() > 0);
  return 0;
}
