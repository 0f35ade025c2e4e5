// Any bytes as adapter_config.json, and any file as an adapter: an error or a reading, never a crash.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>

#include "base/memory_file.h"
#include "formats/adapter.h"

namespace {

namespace fs = std::filesystem;
using namespace qw;  // NOLINT: a fuzz target is a program of its own

// An adapter's folder whose files are in memory.
struct Folder {
  Folder() {
    std::string name = (fs::temp_directory_path() / "qw_adapter_fuzz_XXXXXX").string();
    QW_CHECK(::mkdtemp(name.data()) != nullptr);
    path = name;
    fs::create_symlink(config.path(), path / "adapter_config.json");
    fs::create_symlink(weights.path(), path / "adapter_model.safetensors");
  }
  ~Folder() { fs::remove_all(path); }

  base::MemoryFile config, weights;
  fs::path path;
};

}  // namespace

// Input: u16 length of a JSON text, the text, then the weights: GGUF if they begin so, otherwise safetensors.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Folder folder;
  if (size < 2) return 0;
  const std::size_t length = data[0] | std::size_t{data[1]} << 8;
  if (length > size - 2) return 0;
  folder.config.set(data + 2, length);
  folder.weights.set(data + 2 + length, size - 2 - length);
  const std::string_view rest(reinterpret_cast<const char*>(data + 2 + length), size - 2 - length);
  const auto adapter = formats::Adapter::open(rest.starts_with("GGUF") ? folder.weights.path() : folder.path);
  if (!adapter) return 0;
  for (const auto& pair : adapter->pairs()) QW_CHECK(pair.a.data != nullptr && pair.b.data != nullptr);
  return 0;
}
