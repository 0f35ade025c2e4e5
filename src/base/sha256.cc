#include "base/sha256.h"

#include <openssl/evp.h>

#include <algorithm>

#include "base/file.h"
#include "base/mapped_pages.h"

namespace qw::base {

struct Sha256::Context {
  EVP_MD_CTX* md = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(md); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  QW_CHECK(context_->md != nullptr && EVP_DigestInit_ex(context_->md, EVP_sha256(), nullptr) == 1);
}
Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes) {
  QW_CHECK(EVP_DigestUpdate(context_->md, bytes.data(), bytes.size()) == 1);
}

std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  QW_CHECK(EVP_DigestFinal_ex(context_->md, digest, &size) == 1);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 15];
  }
  return text;
}

std::string sha256_hex(std::string_view text) {
  Sha256 hash;
  hash.update(text);
  return hash.hex();
}

Result<std::string> sha256_file_hex(const std::filesystem::path& path) {
  QW_ASSIGN(auto file, MappedFile::open(path));
  Sha256 hash;
  // What was hashed is let go of: a model's weights would else be in this process's memory beside those that are used.
  constexpr std::size_t kAtOnce = std::size_t{1} << 20;
  for (std::size_t begin = 0; begin < file.bytes().size(); begin += kAtOnce) {
    const auto part = file.bytes().subspan(begin, std::min(kAtOnce, file.bytes().size() - begin));
    hash.update(part);
    let_go_of_pages(part);
  }
  return hash.hex();
}

}  // namespace qw::base
