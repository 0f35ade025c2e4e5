// What the room's tests share: a folder of their own and shards with known tokens.
#pragma once

#include <gtest/gtest.h>
#include <lzma.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "data/config_table.h"
#include "data/token_shard.h"

namespace qw::data::test {

namespace fs = std::filesystem;

class DataTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "qw_data_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path write(const std::string& name, std::string_view text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  fs::path write_xz(const std::string& name, const std::string& text) {
    std::vector<std::uint8_t> out(text.size() + 4096);
    std::size_t size = 0;
    EXPECT_EQ(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, nullptr, reinterpret_cast<const std::uint8_t*>(text.data()),
                                      text.size(), out.data(), &size, out.size()),
              LZMA_OK);
    return write(name, {reinterpret_cast<const char*>(out.data()), size});
  }
  // A data configuration of this folder with a small tokenizer: lines before its tables, and its sources.
  json::Object config_of(const std::string& top, int vocab, const std::string& sources) {
    return *parse_toml("output = '" + (folder_ / "out").string() + "'\n" + top + "[tokenizer]\nfolder = '" +
                           (folder_ / "tok").string() + "'\nvocab = " + std::to_string(vocab) +
                           "\nadded = [\"<|endoftext|>\", \"<|im_start|>\", \"<|im_end|>\"]\n" + sources,
                       "config");
  }
  fs::path folder_;
};

inline const std::string kHash(64, 'a');

// A shard of documents with lengths as given; ids count up so that every token is its own name.
inline fs::path make_shard(const fs::path& path, const std::vector<int>& lengths, std::int64_t vocab = 60000, bool masked = false) {
  auto writer = *ShardWriter::create(path, vocab, kHash, masked);
  TokenId next = 0;
  for (const int n : lengths) {
    std::vector<TokenId> ids;
    std::vector<std::uint8_t> kept;
    for (int i = 0; i < n; ++i) {
      kept.push_back(static_cast<std::uint8_t>(next % 3 == 0));
      ids.push_back(next++);
    }
    EXPECT_TRUE(writer.add(ids, static_cast<std::uint32_t>(10 * n), masked ? std::span<const std::uint8_t>(kept) : std::span<const std::uint8_t>()));
  }
  EXPECT_TRUE(writer.finish(0, {}));
  return path;
}

}  // namespace qw::data::test
