#include "governance/audit/content_keys.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "base/file.h"
#include "governance/audit/merkle.h"
#include "json/value.h"

namespace qw::governance {
namespace {

constexpr std::uint64_t kMostKeyFileBytes = 1 << 20;
constexpr std::size_t kNonce = 12, kTag = 16;
constexpr std::string_view kIdStart = "ck-", kEnvironment = "env:";
constexpr const char* kKindOfFile = "content-keys";

using CipherHandle = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

const unsigned char* octets(std::string_view s) { return reinterpret_cast<const unsigned char*>(s.data()); }
unsigned char* octets(std::string& s, std::size_t at = 0) { return reinterpret_cast<unsigned char*>(s.data()) + at; }

std::string random_bytes(std::size_t n) {
  std::string out(n, '\0');
  QW_CHECK(RAND_bytes(octets(out), static_cast<int>(n)) == 1);
  return out;
}

// What each encryption is bound to.
std::string bound_to(std::string_view what, std::string_view content_id, std::string_view key_id) {
  return "qianwen " + std::string(what) + "\n" + std::string(content_id) + "\n" + std::string(key_id);
}

std::string encrypt(std::string_view key, std::string_view bound, std::string_view plain) {
  std::string out = random_bytes(kNonce);
  out.resize(kNonce + plain.size() + kTag);
  const CipherHandle c(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  int n = 0;
  QW_CHECK(c != nullptr && EVP_EncryptInit_ex(c.get(), EVP_aes_256_gcm(), nullptr, octets(key), octets(out)) == 1);
  QW_CHECK(EVP_EncryptUpdate(c.get(), nullptr, &n, octets(bound), static_cast<int>(bound.size())) == 1);
  QW_CHECK(EVP_EncryptUpdate(c.get(), octets(out, kNonce), &n, octets(plain), static_cast<int>(plain.size())) == 1);
  QW_CHECK(EVP_EncryptFinal_ex(c.get(), octets(out, kNonce + plain.size()), &n) == 1);
  QW_CHECK(EVP_CIPHER_CTX_ctrl(c.get(), EVP_CTRL_GCM_GET_TAG, kTag, octets(out, kNonce + plain.size())) == 1);
  return out;
}

// False: it is not what encrypt made with this key and binding.
bool decrypt(std::string_view key, std::string_view bound, std::string_view sealed, std::string& plain) {
  if (sealed.size() < kNonce + kTag) return false;
  const std::size_t size = sealed.size() - kNonce - kTag;
  plain.assign(size, '\0');
  std::string tag(sealed.substr(kNonce + size));
  const CipherHandle c(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  int n = 0;
  return c != nullptr && EVP_DecryptInit_ex(c.get(), EVP_aes_256_gcm(), nullptr, octets(key), octets(sealed)) == 1 &&
         EVP_DecryptUpdate(c.get(), nullptr, &n, octets(bound), static_cast<int>(bound.size())) == 1 &&
         EVP_DecryptUpdate(c.get(), octets(plain), &n, octets(sealed.substr(kNonce)), static_cast<int>(size)) == 1 &&
         EVP_CIPHER_CTX_ctrl(c.get(), EVP_CTRL_GCM_SET_TAG, kTag, octets(tag)) == 1 &&
         EVP_DecryptFinal_ex(c.get(), octets(plain) + size, &n) == 1;
}

template <class Bytes>
std::string_view raw_bytes(const Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool is_key_id(std::string_view id) {
  return id.starts_with(kIdStart) && id.size() == kIdStart.size() + 16 &&
         id.find_first_not_of("0123456789abcdef", kIdStart.size()) == std::string_view::npos;
}

}  // namespace

Result<ContentKeys> ContentKeys::parse(std::string_view text) {
  QW_ASSIGN(const json::Value file, json::parse(text, {.max_bytes = kMostKeyFileBytes, .max_depth = 4}));
  const json::Value* kind = file.find("kind");
  const json::Value* list = file.find("keys");
  if (kind == nullptr || *kind != json::Value(kKindOfFile) || list == nullptr || !list->is_array())
    return fail(ErrorKind::kBadInput, "is no file of content keys (qianwen govern content key FILE makes one)");
  ContentKeys out;
  for (const json::Value& one : list->as_array()) {
    const json::Value *id = one.find("id"), *created = one.find("created"), *secret = one.find("secret");
    const auto wrong = [&](const char* what) {
      return fail(ErrorKind::kBadInput, "key " + std::to_string(out.keys_.size() + 1) + ": " + what);
    };
    if (id == nullptr || !id->is_string() || !is_key_id(id->as_string()))
      return wrong("\"id\" must be ck- and 16 hexadecimal digits");
    if (out.find(id->as_string()) != nullptr) return wrong("its id is another's");
    if (created == nullptr || !created->is_int() || created->as_int() < 0) return wrong("\"created\" must be a time");
    const auto bytes = secret != nullptr && secret->is_string() ? hash_from_hex(secret->as_string()) : std::nullopt;
    if (!bytes) return wrong("\"secret\" must be 64 lower-case hexadecimal digits");
    if (out.keys_.size() >= kMostContentKeys) return wrong("there are too many");
    out.keys_.push_back({id->as_string(), created->as_int(), *bytes});
  }
  return out;
}

Result<ContentKeys> ContentKeys::read(const std::string& place) {
  std::string text;
  if (place.starts_with(kEnvironment)) {
    const char* value = std::getenv(place.c_str() + kEnvironment.size());
    if (value == nullptr) return fail(ErrorKind::kUsage, place + ": the environment has no such variable");
    text = value;
  } else {
    struct stat info {};
    if (::stat(place.c_str(), &info) == 0 && S_ISREG(info.st_mode) && (info.st_mode & 077) != 0)
      return fail(ErrorKind::kRefused, place + ": others than its owner may read these secret keys (chmod 600)");
    QW_ASSIGN(text, base::read_file(place, kMostKeyFileBytes));
  }
  auto keys = parse(text);
  if (keys && keys->empty()) return fail(ErrorKind::kBadInput, place + ": holds no key");
  if (!keys) return in_context(place, std::move(keys).error());
  return keys;
}

std::string ContentKeys::dump() const {
  json::Array list;
  for (const Key& key : keys_)
    list.push_back(json::Object{{"id", key.id}, {"created", key.created}, {"secret", to_hex(key.secret)}});
  return json::dump(json::Object{{"kind", kKindOfFile}, {"keys", std::move(list)}}) + "\n";
}

Status ContentKeys::write(const std::filesystem::path& path) const {
  return base::write_file_atomically(path, dump(), base::Readers::kOwner);
}

Result<std::string> ContentKeys::add(std::int64_t now) {
  if (keys_.size() >= kMostContentKeys)
    return fail(ErrorKind::kResource, "there are " + std::to_string(keys_.size()) + " content keys already");
  Key key;
  std::array<std::uint8_t, 8> name{};
  QW_CHECK(RAND_bytes(name.data(), static_cast<int>(name.size())) == 1);
  key.id = std::string(kIdStart) + to_hex(name);
  key.created = now;
  QW_CHECK(RAND_bytes(key.secret.data(), static_cast<int>(key.secret.size())) == 1);
  keys_.push_back(key);
  return key.id;
}

Status ContentKeys::remove(std::string_view id) {
  const Key* key = find(id);
  if (key == nullptr) return fail(ErrorKind::kUsage, "there is no content key " + std::string(id));
  if (key == &keys_.back())
    return fail(ErrorKind::kUsage, key->id + " is the key that contents are encrypted with now; add another first");
  keys_.erase(keys_.begin() + (key - keys_.data()));
  return {};
}

std::vector<ContentKeys::Shown> ContentKeys::list() const {
  std::vector<Shown> out;
  for (const Key& key : keys_) out.push_back({key.id, key.created});
  return out;
}

const ContentKeys::Key* ContentKeys::find(std::string_view id) const {
  const auto at = std::find_if(keys_.begin(), keys_.end(), [&](const Key& key) { return key.id == id; });
  return at == keys_.end() ? nullptr : &*at;
}

Sealed ContentKeys::seal(std::string_view content_id, std::string_view content) const {
  QW_CHECK(!keys_.empty());
  const Key& master = keys_.back();
  const std::string own = random_bytes(master.secret.size());
  return {master.id, encrypt(raw_bytes(master.secret), bound_to("content key", content_id, master.id), own),
          encrypt(own, bound_to("content", content_id, ""), content)};
}

Result<std::string> ContentKeys::unwrap(std::string_view content_id, const Sealed& sealed) const {
  if (sealed.wrapped.empty()) return fail(ErrorKind::kRefused, "it was erased");
  const Key* master = find(sealed.key_id);
  if (master == nullptr)
    return fail(ErrorKind::kRefused, "it is encrypted under the key " + sealed.key_id + ", which is not in this file");
  std::string own;
  if (!decrypt(raw_bytes(master->secret), bound_to("content key", content_id, master->id), sealed.wrapped, own) ||
      own.size() != master->secret.size())
    return fail(ErrorKind::kBadInput, "its key was changed, or is another content's");
  return own;
}

Result<std::string> ContentKeys::open(std::string_view content_id, const Sealed& sealed) const {
  QW_ASSIGN(const std::string own, unwrap(content_id, sealed));
  std::string plain;
  if (!decrypt(own, bound_to("content", content_id, ""), sealed.body, plain))
    return fail(ErrorKind::kBadInput, "its bytes were changed, or are another content's");
  return plain;
}

Result<Sealed> ContentKeys::rewrap(std::string_view content_id, const Sealed& sealed) const {
  QW_ASSIGN(const std::string own, unwrap(content_id, sealed));
  const Key& master = keys_.back();
  return Sealed{master.id, encrypt(raw_bytes(master.secret), bound_to("content key", content_id, master.id), own),
                sealed.body};
}

}  // namespace qw::governance
