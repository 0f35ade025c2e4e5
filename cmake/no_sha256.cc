// In place of base/sha256.cc where only processors' code is built (kernels_only.cmake), for which there is no OpenSSL: of what is
// tested there nothing asks for a hash, and who does ends the program.
#include "base/sha256.h"

namespace qw::base {

struct Sha256::Context {};

Sha256::Sha256() { QW_CHECK(!"this build has no SHA-256"); }
Sha256::~Sha256() = default;
void Sha256::update(std::span<const std::byte>) { QW_CHECK(!"this build has no SHA-256"); }
std::string Sha256::hex() { QW_CHECK(!"this build has no SHA-256"); }

}  // namespace qw::base
