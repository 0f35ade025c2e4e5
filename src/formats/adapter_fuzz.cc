// Any bytes as adapter_config.json, and any file as an adapter: an error or a reading, never a crash.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>

#include "formats/adapter.h"

// Input: u16 length of a JSON text, the text, then the weights: GGUF if they begin so, otherwise safetensors.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace fs = std::filesystem;
  if (size < 2) return 0;
  const std::size_t length = data[0] | std::size_t{data[1]} << 8;
  if (length > size - 2) return 0;
  static const fs::path folder = fs::temp_directory_path() / ("qw_adapter_fuzz_" + std::to_string(::getpid()));
  fs::create_directories(folder);
  const auto spill = [&](const char* name, const std::uint8_t* from, std::size_t n) {
    std::ofstream(folder / name, std::ios::binary).write(reinterpret_cast<const char*>(from), static_cast<std::streamsize>(n));
  };
  spill("adapter_config.json", data + 2, length);
  spill("adapter_model.safetensors", data + 2 + length, size - 2 - length);
  spill("adapter.gguf", data + 2 + length, size - 2 - length);
  for (const fs::path& path : {folder, folder / "adapter.gguf"})
    if (const auto adapter = qw::formats::Adapter::open(path))
      for (const auto& pair : adapter->pairs()) QW_CHECK(pair.a.data != nullptr && pair.b.data != nullptr);
  return 0;
}
