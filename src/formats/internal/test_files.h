// What the room's tests share: golden files, a folder of their own, and the values the goldens hold.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/tensor_info.h"

namespace qw::formats::test {

inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(QW_SOURCE_DIR) / "tests" / "golden" / "formats" / name;
}

// A folder that lives as long as the test. With QW_FORMATS_OUT set, keep_for_python() copies files there, for
// tools/make_format_goldens.py --check.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "qw-formats-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }
  void keep_for_python(const std::string& name) const {
    if (const char* out = std::getenv("QW_FORMATS_OUT")) {
      std::filesystem::copy(
          path_ / name, std::filesystem::path(out) / name,
          std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
    }
  }

 private:
  std::filesystem::path path_;
};

inline std::string slurp(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

inline void spill(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// Bytes in memory aligned as a mapped file is.
inline std::span<const std::byte> as_bytes(const std::string& s) {
  return std::as_bytes(std::span(s.data(), s.size()));
}

// A full disk (here: the limit on file sizes) fails the write, leaves the old file, and leaves nothing beside it.
// `write` writes 32 KiB of data to the path it is given.
inline void expect_full_disk_leaves_the_old_file(const char* name,
                                                 const std::function<Status(const std::filesystem::path&)>& write) {
  const Folder folder;
  spill(folder / name, "old");
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small{16384, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status status = write(folder / name);
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, old_handler);
  EXPECT_FALSE(status);
  EXPECT_EQ(slurp(folder / name), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

// The golden maker's ramp: (37 i mod 101 - 50) / 8.
inline std::vector<float> ramp(std::size_t n) {
  std::vector<float> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) / 8.0f;
  return values;
}

template <class T>
std::vector<T> values_of(const tensor::ConstView& view) {
  std::vector<T> values(static_cast<std::size_t>(view.bytes()) / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), view.data, values.size() * sizeof(T));
  return values;
}

}  // namespace qw::formats::test
