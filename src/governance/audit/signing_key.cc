#include "governance/audit/signing_key.h"

#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#ifdef QW_HAVE_SODIUM
#include <sodium.h>
#endif
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/file.h"
#include "json/value.h"

namespace qw::governance {
namespace {

using Bytes32 = std::array<std::uint8_t, 32>;
using KeyHandle = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using DigestHandle = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;
using MacHandle = std::unique_ptr<EVP_MAC_CTX, decltype(&EVP_MAC_CTX_free)>;

constexpr std::uint64_t kMaxFileBytes = 4096;

const unsigned char* unsigned_bytes(std::string_view s) { return reinterpret_cast<const unsigned char*>(s.data()); }

Result<Bytes32> field(const json::Value& file, const std::string& name, const std::string& path) {
  const json::Value* value = file.find(name);
  const auto bytes = value != nullptr && value->is_string() ? hash_from_hex(value->as_string()) : std::nullopt;
  if (!bytes) return fail(ErrorKind::kBadInput, path + ": \"" + name + "\" must be 64 lower-case hex digits");
  return *bytes;
}

Result<json::Value> read_object(const std::filesystem::path& path) {
  QW_ASSIGN(const std::string text, base::read_file(path, kMaxFileBytes));
  auto value = json::parse(text);
  if (!value) return in_context(path.string(), std::move(value).error());
  const json::Value* kind = value->find("kind");
  if (kind == nullptr || !kind->is_string() || kind->as_string() != "ed25519")
    return fail(ErrorKind::kBadInput, path.string() + ": is not a key of the kind ed25519");
  return *value;
}

Bytes32 public_of(const EVP_PKEY* key) {
  Bytes32 out;
  std::size_t size = out.size();
  QW_CHECK(EVP_PKEY_get_raw_public_key(key, out.data(), &size) == 1 && size == out.size());
  return out;
}

// HMAC-SHA-256 with its key taken in: each text is hashed by a copy.
MacHandle keyed_mac(const Bytes32& secret) {
  const std::unique_ptr<EVP_MAC, decltype(&EVP_MAC_free)> kind(EVP_MAC_fetch(nullptr, "HMAC", nullptr), EVP_MAC_free);
  QW_CHECK(kind != nullptr);
  MacHandle out(EVP_MAC_CTX_new(kind.get()), EVP_MAC_CTX_free);
  char digest[] = "SHA256";
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                               OSSL_PARAM_construct_end()};
  QW_CHECK(out != nullptr && EVP_MAC_init(out.get(), secret.data(), secret.size(), params) == 1);
  return out;
}

// A file that nobody but its owner can read, from its first moment.
Status write_secret(const std::filesystem::path& path, const std::string& text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return fail(ErrorKind::kFailed, path.string() + ": " + std::strerror(errno));
  const bool whole = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(fd) == 0;
  const int error = errno;
  ::close(fd);
  if (whole) return base::sync_folder(path.has_parent_path() ? path.parent_path() : ".");
  ::unlink(path.c_str());
  return fail(ErrorKind::kFailed, path.string() + ": " + std::strerror(error));
}

}  // namespace

struct SigningKey::Ready {
  KeyHandle key;
  MacHandle mac;
#ifdef QW_HAVE_SODIUM
  std::array<std::uint8_t, crypto_sign_SECRETKEYBYTES> both_halves{};  // the secret, and the public one behind it
#endif
};

std::shared_ptr<const SigningKey::Ready> SigningKey::ready(const Bytes32& secret, const Bytes32& content_secret) {
  auto out = std::make_shared<Ready>(Ready{
      KeyHandle(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, secret.data(), secret.size()), EVP_PKEY_free),
      keyed_mac(content_secret)});
  QW_CHECK(out->key != nullptr);
#ifdef QW_HAVE_SODIUM
  QW_CHECK(::sodium_init() >= 0);
  const Bytes32 shown = public_of(out->key.get());
  std::copy(secret.begin(), secret.end(), out->both_halves.begin());
  std::copy(shown.begin(), shown.end(), out->both_halves.begin() + secret.size());
#endif
  return out;
}

std::string PublicKey::id() const {
  return to_hex(sha256({reinterpret_cast<const char*>(bytes.data()), bytes.size()})).substr(0, 16);
}

bool PublicKey::verifies(std::string_view message, const Signature& signature) const {
  const KeyHandle key(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, bytes.data(), bytes.size()),
                      EVP_PKEY_free);
  const DigestHandle context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  return key != nullptr && context != nullptr &&
         EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
         EVP_DigestVerify(context.get(), signature.data(), signature.size(), unsigned_bytes(message), message.size()) ==
             1;
}

Result<PublicKey> PublicKey::read(const std::filesystem::path& path) {
  QW_ASSIGN(const json::Value file, read_object(path));
  QW_ASSIGN(const Bytes32 bytes, field(file, "public", path.string()));
  return PublicKey{bytes};
}

Result<SigningKey> SigningKey::create(const std::filesystem::path& path) {
  SigningKey key;
  QW_CHECK(RAND_bytes(key.secret_.data(), static_cast<int>(key.secret_.size())) == 1);
  QW_CHECK(RAND_bytes(key.content_secret_.data(), static_cast<int>(key.content_secret_.size())) == 1);
  key.ready_ = ready(key.secret_, key.content_secret_);
  key.public_.bytes = public_of(key.ready_->key.get());
  const json::Object shown{{"kind", "ed25519"}, {"id", key.public_.id()}, {"public", to_hex(key.public_.bytes)}};
  json::Object all = shown;
  all.set("secret", to_hex(key.secret_));
  all.set("content_secret", to_hex(key.content_secret_));
  QW_TRY(write_secret(path, json::dump(all) + "\n"));
  QW_TRY(base::write_file_atomically(path.string() + ".pub", json::dump(shown) + "\n"));
  return key;
}

Result<SigningKey> SigningKey::read(const std::filesystem::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && (info.st_mode & 077) != 0)
    return fail(ErrorKind::kRefused, path.string() + ": others than its owner may read this secret key (chmod 600)");
  QW_ASSIGN(const json::Value file, read_object(path));
  SigningKey key;
  QW_ASSIGN(key.secret_, field(file, "secret", path.string()));
  QW_ASSIGN(key.content_secret_, field(file, "content_secret", path.string()));
  QW_ASSIGN(key.public_.bytes, field(file, "public", path.string()));
  key.ready_ = ready(key.secret_, key.content_secret_);
  if (public_of(key.ready_->key.get()) != key.public_.bytes)
    return fail(ErrorKind::kBadInput, path.string() + ": its two halves do not belong together");
  return key;
}

Signature SigningKey::sign(std::string_view message) const {
  QW_CHECK(ready_ != nullptr);
  Signature out;
#ifdef QW_HAVE_SODIUM  // the same signature in less than half of OpenSSL's time
  QW_CHECK(::crypto_sign_detached(out.data(), nullptr, unsigned_bytes(message), message.size(),
                                  ready_->both_halves.data()) == 0);
#else
  const DigestHandle context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  std::size_t size = out.size();
  QW_CHECK(context != nullptr && EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, ready_->key.get()) == 1);
  QW_CHECK(EVP_DigestSign(context.get(), out.data(), &size, unsigned_bytes(message), message.size()) == 1 &&
           size == out.size());
#endif
  return out;
}

Hash SigningKey::conceal(std::string_view content) const {
  QW_CHECK(ready_ != nullptr);
  const MacHandle mac(EVP_MAC_CTX_dup(ready_->mac.get()), EVP_MAC_CTX_free);
  Hash out;
  std::size_t size = 0;
  QW_CHECK(mac != nullptr && EVP_MAC_update(mac.get(), unsigned_bytes(content), content.size()) == 1 &&
           EVP_MAC_final(mac.get(), out.data(), &size, out.size()) == 1 && size == out.size());
  return out;
}

}  // namespace qw::governance
