// The keys that contents of audited requests are encrypted with, and the file they are kept in, which is not the
// store's.
//
// Each content has a key of its own (AES-256-GCM, by OpenSSL), which encrypts it once, and which is kept beside it
// encrypted under a master key of the file. Whoever forgets a content's key has erased the content, wherever copies of
// it are; whoever takes a new master key encrypts the small keys anew and no content. Both encryptions are bound to the
// content's id, so that no content can stand in another's place.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace qw::governance {

// As the store has it: bytes.
struct Sealed {
  std::string key_id;   // of the master key
  std::string wrapped;  // the content's own key under it; "": it was erased
  std::string body;     // the content under its own key: nonce (12 bytes), ciphertext, tag (16 bytes)
};

class ContentKeys {
 public:
  // kBadInput says what is wrong with the file.
  static Result<ContentKeys> parse(std::string_view text);
  // Of a file (kRefused: others than its owner may read it), or of what the environment has: "env:NAME".
  static Result<ContentKeys> read(const std::string& place);
  std::string dump() const;
  Status write(const std::filesystem::path& path) const;  // mode 0600

  // A fresh master key, which what is sealed from now on is under; its id. kResource: there are too many.
  Result<std::string> add(std::int64_t now);
  // What is still under it can never be read again. kUsage: there is none of that id, or it is the newest.
  Status remove(std::string_view id);
  struct Shown {
    std::string id;
    std::int64_t created = 0;  // Unix seconds
  };
  std::vector<Shown> list() const;  // oldest first
  bool empty() const { return keys_.empty(); }
  const std::string& newest() const { return keys_.back().id; }  // not of an empty file

  Sealed seal(std::string_view content_id, std::string_view content) const;
  // kRefused: its key was erased, or its master key is not in this file; kBadInput: bytes were changed.
  Result<std::string> open(std::string_view content_id, const Sealed& sealed) const;
  // The same content under the newest master key. Errors as open's.
  Result<Sealed> rewrap(std::string_view content_id, const Sealed& sealed) const;

 private:
  using Secret = std::array<std::uint8_t, 32>;
  struct Key {
    std::string id;
    std::int64_t created = 0;
    Secret secret{};
  };
  const Key* find(std::string_view id) const;
  Result<std::string> unwrap(std::string_view content_id, const Sealed& sealed) const;
  std::vector<Key> keys_;  // oldest first
};

inline constexpr std::size_t kMostContentKeys = 1000;

}  // namespace qw::governance
