#include "base/password.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <array>
#include <cstdint>
#include <cstdio>

#ifdef QW_HAVE_SODIUM
#include <sodium.h>
#endif

namespace qw::base {
namespace {

constexpr std::size_t kLongest = 1024;  // bytes: more is no password, and costs time to hash

Status check_length(std::string_view password) {
  if (password.size() <= kLongest) return {};
  return fail(ErrorKind::kBadInput, "a password has at most " + std::to_string(kLongest) + " bytes");
}

std::string hex(const unsigned char* bytes, std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) {
    out += "0123456789abcdef"[bytes[i] >> 4];
    out += "0123456789abcdef"[bytes[i] & 15];
  }
  return out;
}

}  // namespace

bool same_secret(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

namespace scrypt {
namespace {

// "$scrypt$<log2 N>$<salt>$<hash>", r = 8 and p = 1: 2^16 blocks of 1 KiB, which OWASP names for interactive logins.
constexpr int kLogN = 16, kLeastLogN = 14, kMostLogN = 20;
constexpr std::uint64_t kBlock = 8, kParallel = 1;
constexpr std::size_t kSalt = 16, kHash = 32;

Result<std::string> derive(std::string_view password, const std::string& salt, int log_n) {
  std::array<unsigned char, kHash> out{};
  const std::uint64_t n = std::uint64_t{1} << log_n;
  const std::uint64_t memory = 128 * kBlock * (n + 2) + 1024 * 1024;
  if (EVP_PBE_scrypt(password.data(), password.size(), reinterpret_cast<const unsigned char*>(salt.data()), salt.size(),
                     n, kBlock, kParallel, memory, out.data(), out.size()) != 1)
    return fail(ErrorKind::kResource, "there is no memory to hash a password");
  return hex(out.data(), out.size());
}

}  // namespace

Result<std::string> hash(std::string_view password) {
  QW_TRY(check_length(password));
  std::array<unsigned char, kSalt> raw{};
  if (RAND_bytes(raw.data(), raw.size()) != 1) return fail(ErrorKind::kFailed, "the system gives no random bytes");
  const std::string salt = hex(raw.data(), raw.size());
  QW_ASSIGN(const std::string derived, derive(password, salt, kLogN));
  return "$scrypt$" + std::to_string(kLogN) + "$" + salt + "$" + derived;
}

Result<bool> matches(std::string_view password, const std::string& hash) {
  QW_TRY(check_length(password));
  int log_n = 0;
  char salt[2 * kSalt + 1] = {}, derived[2 * kHash + 1] = {};
  if (std::sscanf(hash.c_str(), "$scrypt$%2d$%32[0-9a-f]$%64[0-9a-f]", &log_n, salt, derived) != 3 ||
      log_n < kLeastLogN || log_n > kMostLogN)
    return fail(ErrorKind::kBadInput, "a stored password's hash is damaged");
  QW_ASSIGN(const std::string mine, derive(password, salt, log_n));
  return same_secret(mine, derived);
}

}  // namespace scrypt

Result<std::string> hash_password(std::string_view password) {
#ifdef QW_HAVE_SODIUM
  QW_TRY(check_length(password));
  char out[crypto_pwhash_STRBYTES];
  if (::sodium_init() < 0 ||
      ::crypto_pwhash_str_alg(out, password.data(), password.size(), crypto_pwhash_OPSLIMIT_INTERACTIVE,
                              crypto_pwhash_MEMLIMIT_INTERACTIVE, crypto_pwhash_ALG_ARGON2ID13) != 0)
    return fail(ErrorKind::kResource, "there is no memory to hash a password");
  return std::string(out);
#else
  return scrypt::hash(password);
#endif
}

Result<bool> password_matches(std::string_view password, const std::string& hash) {
  if (hash.empty()) {
    static const Result<std::string> nobody = hash_password("nobody has this password");
    QW_ASSIGN(const std::string stand_in, nobody);
    QW_TRY(password_matches(password, stand_in));
    return false;
  }
  if (hash.starts_with("$scrypt$")) return scrypt::matches(password, hash);
  if (!hash.starts_with("$argon2id$")) return fail(ErrorKind::kBadInput, "a stored password's hash is damaged");
#ifdef QW_HAVE_SODIUM
  QW_TRY(check_length(password));
  if (::sodium_init() < 0) return fail(ErrorKind::kFailed, "libsodium does not start");
  return ::crypto_pwhash_str_verify(hash.c_str(), password.data(), password.size()) == 0;
#else
  return fail(ErrorKind::kUsage, "this password was hashed by Argon2id: use a program that was built with libsodium");
#endif
}

}  // namespace qw::base
