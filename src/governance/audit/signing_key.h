// Ed25519 keys (RFC 8032, by OpenSSL) that sign the heads of a log, in files of one JSON object.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "governance/audit/merkle.h"

namespace qw::governance {

using Signature = std::array<std::uint8_t, 64>;

// What verifies. Its id, the first 16 hex digits of the key's SHA-256, names it in heads.
struct PublicKey {
  std::array<std::uint8_t, 32> bytes{};
  std::string id() const;
  bool verifies(std::string_view message, const Signature& signature) const;
  static Result<PublicKey> read(const std::filesystem::path& path);  // {"kind":"ed25519","public":"<hex>"}
};

// What signs, and what texts are hashed with: without the second secret nobody can try out guesses at a short text.
class SigningKey {
 public:
  // Makes one: FILE (mode 0600; there must be none) and FILE.pub.
  static Result<SigningKey> create(const std::filesystem::path& path);
  // kBadInput: not such a file; kRefused: others may read it.
  static Result<SigningKey> read(const std::filesystem::path& path);
  const PublicKey& public_key() const { return public_; }
  Signature sign(std::string_view message) const;
  // HMAC-SHA-256 of what must not stand in a log itself.
  Hash conceal(std::string_view content) const;

 private:
  struct Ready;  // the same, as the library computes with it: made once, as that takes as long as a signature
  static std::shared_ptr<const Ready> ready(const std::array<std::uint8_t, 32>& secret,
                                            const std::array<std::uint8_t, 32>& content_secret);
  std::array<std::uint8_t, 32> secret_{}, content_secret_{};
  std::shared_ptr<const Ready> ready_;
  PublicKey public_;
};

}  // namespace qw::governance
