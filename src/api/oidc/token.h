// Signed tokens of an OpenID provider (RFC 7519, JWS compact form) and its public keys (RFC 7517). RS256, ES256 and
// EdDSA (Ed25519), by OpenSSL; nothing else, and which of them is the key's to say, never the token's.
//
// Bytes of others: any text is refused in one line. Threads: any.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "json/value.h"

namespace qw::api::oidc {

class PublicKey {
 public:
  struct Handle;  // OpenSSL's
  PublicKey(std::string id, std::string algorithm, std::shared_ptr<const Handle> handle)
      : id_(std::move(id)), algorithm_(std::move(algorithm)), handle_(std::move(handle)) {}
  const std::string& id() const { return id_; }                // "kid"; may be ""
  const std::string& algorithm() const { return algorithm_; }  // "RS256", "ES256" or "EdDSA"
  bool verifies(std::string_view message, std::string_view signature) const;

 private:
  std::string id_, algorithm_;
  std::shared_ptr<const Handle> handle_;
};

// The keys of a JWKS that sign and are of a kind that is known; others are passed over.
Result<std::vector<PublicKey>> parse_keys(std::string_view jwks);

struct Expectation {
  std::string issuer, audience, nonce;
  std::int64_t now_s = 0, skew_s = 60;  // clocks may differ by this much
};
// The claims of a token that one of `keys` signed and that says what is expected. kRefused: no key has its id (they may
// have been rotated: fetch them again); kBadInput: anything else that is wrong.
Result<json::Object> verify(std::string_view token, const std::vector<PublicKey>& keys, const Expectation& expect);

}  // namespace qw::api::oidc
