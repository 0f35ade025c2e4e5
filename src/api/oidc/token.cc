#include "api/oidc/token.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include <algorithm>
#include <array>

#include "api/field_reader.h"
#include "base/base64.h"

namespace qw::api::oidc {

struct PublicKey::Handle {
  EVP_PKEY* key = nullptr;
  explicit Handle(EVP_PKEY* k) : key(k) {}
  ~Handle() { EVP_PKEY_free(key); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
};

namespace {

constexpr std::size_t kLongestToken = 16 * 1024, kMostKeys = 64;
constexpr int kLeastRsaBits = 2048, kMostRsaBits = 8192;
constexpr std::size_t kCoordinate = 32, kEd25519 = 32, kEd25519Signature = 64;

using Handle = PublicKey::Handle;
using HandlePtr = std::shared_ptr<const Handle>;

tl::unexpected<Error> wrong(const std::string& what) { return fail(ErrorKind::kBadInput, "the token " + what); }

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

template <class T, void (*Free)(T*)>
struct Freed {
  void operator()(T* p) const { Free(p); }
};
template <class T, void (*Free)(T*)>
using Owned = std::unique_ptr<T, Freed<T, Free>>;
using Number = Owned<BIGNUM, BN_free>;
using Builder = Owned<OSSL_PARAM_BLD, OSSL_PARAM_BLD_free>;
using Parameters = Owned<OSSL_PARAM, OSSL_PARAM_free>;
using KeyContext = Owned<EVP_PKEY_CTX, EVP_PKEY_CTX_free>;
using DigestContext = Owned<EVP_MD_CTX, EVP_MD_CTX_free>;
using EcSignature = Owned<ECDSA_SIG, ECDSA_SIG_free>;

HandlePtr from_parameters(const char* kind, OSSL_PARAM_BLD* builder) {
  const Parameters parameters(OSSL_PARAM_BLD_to_param(builder));
  const KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, kind, nullptr));
  EVP_PKEY* key = nullptr;
  if (parameters == nullptr || context == nullptr || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1)
    return nullptr;
  return std::make_shared<const Handle>(key);
}

HandlePtr rsa_key(const std::string& n, const std::string& e) {
  const Number modulus(BN_bin2bn(bytes_of(n), static_cast<int>(n.size()), nullptr));
  const Number exponent(BN_bin2bn(bytes_of(e), static_cast<int>(e.size()), nullptr));
  if (modulus == nullptr || exponent == nullptr) return nullptr;
  const int bits = BN_num_bits(modulus.get());
  if (bits < kLeastRsaBits || bits > kMostRsaBits || BN_num_bits(exponent.get()) > 32 || !BN_is_odd(exponent.get()) ||
      BN_is_one(exponent.get()))
    return nullptr;
  const Builder builder(OSSL_PARAM_BLD_new());
  if (builder == nullptr || OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus.get()) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, exponent.get()) != 1)
    return nullptr;
  return from_parameters("RSA", builder.get());
}

HandlePtr ec_key(const std::string& x, const std::string& y) {
  if (x.size() != kCoordinate || y.size() != kCoordinate) return nullptr;
  const std::string point = "\x04" + x + y;
  const Builder builder(OSSL_PARAM_BLD_new());
  if (builder == nullptr ||
      OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) != 1 ||
      OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()) != 1)
    return nullptr;
  return from_parameters("EC", builder.get());  // refuses a point that is not on the curve
}

HandlePtr ed_key(const std::string& x) {
  if (x.size() != kEd25519) return nullptr;
  EVP_PKEY* key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, bytes_of(x), x.size());
  return key == nullptr ? nullptr : std::make_shared<const Handle>(key);
}

// r and s behind each other, as tokens have them, in the form that OpenSSL takes.
std::string der_of(std::string_view signature) {
  if (signature.size() != 2 * kCoordinate) return "";
  const EcSignature pair(ECDSA_SIG_new());
  BIGNUM* r = BN_bin2bn(bytes_of(signature), kCoordinate, nullptr);
  BIGNUM* s = BN_bin2bn(bytes_of(signature.substr(kCoordinate)), kCoordinate, nullptr);
  if (pair == nullptr || r == nullptr || s == nullptr || ECDSA_SIG_set0(pair.get(), r, s) != 1) {
    BN_free(r);
    BN_free(s);
    return "";
  }
  unsigned char* bytes = nullptr;
  const int size = i2d_ECDSA_SIG(pair.get(), &bytes);
  if (size <= 0) return "";
  std::string out(reinterpret_cast<char*>(bytes), static_cast<std::size_t>(size));
  OPENSSL_free(bytes);
  return out;
}

std::optional<PublicKey> key_of(const json::Value& jwk) {
  if (!jwk.is_object()) return std::nullopt;
  const std::string kind = text_member(jwk, "kty"), use = text_member(jwk, "use"), says = text_member(jwk, "alg");
  if (!use.empty() && use != "sig") return std::nullopt;
  const auto part = [&](const char* name) { return base::from_base64url(text_member(jwk, name)).value_or(""); };
  std::string algorithm;
  HandlePtr handle;
  if (kind == "RSA") {
    algorithm = "RS256";
    handle = rsa_key(part("n"), part("e"));
  } else if (kind == "EC" && text_member(jwk, "crv") == "P-256") {
    algorithm = "ES256";
    handle = ec_key(part("x"), part("y"));
  } else if (kind == "OKP" && text_member(jwk, "crv") == "Ed25519") {
    algorithm = "EdDSA";
    handle = ed_key(part("x"));
  }
  if (handle == nullptr || (!says.empty() && says != algorithm)) return std::nullopt;
  return PublicKey(text_member(jwk, "kid"), algorithm, std::move(handle));
}

Result<json::Object> object_of(std::string_view part, const char* what) {
  const auto text = base::from_base64url(part);
  if (!text) return wrong(std::string("has a ") + what + " that is no base64url");
  auto value = json::parse(*text);
  if (!value || !value->is_object()) return wrong(std::string("has a ") + what + " that is no JSON object");
  return std::move(value->as_object());
}

bool is_for(const json::Object& claims, const std::string& audience) {
  const json::Value* aud = claims.find("aud");
  if (aud == nullptr) return false;
  if (aud->is_string()) return aud->as_string() == audience;
  if (!aud->is_array()) return false;
  const auto& all = aud->as_array();
  const bool among =
      std::any_of(all.begin(), all.end(), [&](const json::Value& one) { return one == json::Value(audience); });
  // Of a token for several, the one that it was given to is named.
  return among && (all.size() == 1 || text_member(json::Value(claims), "azp") == audience);
}

Status check_claims(const json::Object& claims, const Expectation& expect) {
  const json::Value value(claims);
  if (text_member(value, "iss") != expect.issuer) return wrong("is another issuer's");
  if (!is_for(claims, expect.audience)) return wrong("is for another client");
  const json::Value* azp = claims.find("azp");
  if (azp != nullptr && *azp != json::Value(expect.audience)) return wrong("was given to another client");
  const auto time = [&](const char* name) -> std::optional<double> {
    const json::Value* found = claims.find(name);
    return found != nullptr && found->is_number() ? std::optional(found->as_double()) : std::nullopt;
  };
  const auto now = static_cast<double>(expect.now_s), skew = static_cast<double>(expect.skew_s);
  const auto expires = time("exp"), issued = time("iat"), begins = time("nbf");
  if (!expires || !(*expires + skew > now)) return wrong("has expired");
  if (!issued || !(*issued - skew <= now)) return wrong("was issued in the future");
  if (claims.find("nbf") != nullptr && !(begins && *begins - skew <= now)) return wrong("is not valid yet");
  if (text_member(value, "nonce") != expect.nonce || expect.nonce.empty()) return wrong("answers another login");
  if (text_member(value, "sub").empty()) return wrong("names nobody");
  return {};
}

}  // namespace

bool PublicKey::verifies(std::string_view message, std::string_view signature) const {
  const DigestContext context(EVP_MD_CTX_new());
  const bool ed = algorithm_ == "EdDSA";
  const std::string der = algorithm_ == "ES256" ? der_of(signature) : std::string(signature);
  if (context == nullptr || der.empty() || (ed && der.size() != kEd25519Signature)) return false;
  // RSA's padding is PKCS #1 v1.5 unless said otherwise.
  if (EVP_DigestVerifyInit(context.get(), nullptr, ed ? nullptr : EVP_sha256(), nullptr, handle_->key) != 1)
    return false;
  return EVP_DigestVerify(context.get(), bytes_of(der), der.size(), bytes_of(message), message.size()) == 1;
}

Result<std::vector<PublicKey>> parse_keys(std::string_view jwks) {
  const auto value = json::parse(std::string(jwks));
  const json::Value* list = value ? value->find("keys") : nullptr;
  if (list == nullptr || !list->is_array()) return fail(ErrorKind::kBadInput, "the provider's keys are no JWKS");
  std::vector<PublicKey> out;
  for (const json::Value& jwk : list->as_array()) {
    if (out.size() == kMostKeys) break;
    if (auto key = key_of(jwk)) out.push_back(std::move(*key));
  }
  return out;
}

Result<json::Object> verify(std::string_view token, const std::vector<PublicKey>& keys, const Expectation& expect) {
  if (token.size() > kLongestToken) return wrong("is too long");
  const auto first = token.find('.'), second = token.find('.', first == token.npos ? first : first + 1);
  if (second == token.npos || token.find('.', second + 1) != token.npos) return wrong("does not have three parts");
  QW_ASSIGN(const json::Object head, object_of(token.substr(0, first), "head"));
  const json::Value header(head);
  const std::string id = text_member(header, "kid"), algorithm = text_member(header, "alg");
  if (head.find("crit") != nullptr) return wrong("demands what is not known here");
  const auto signature = base::from_base64url(token.substr(second + 1));
  if (!signature) return wrong("has a signature that is no base64url");
  bool known = false, signed_by_one = false;
  for (const PublicKey& key : keys) {
    // A token without an id may be any key's; its algorithm must be the key's in any case.
    if ((!id.empty() && key.id() != id) || key.algorithm() != algorithm) continue;
    known = true;
    signed_by_one = signed_by_one || key.verifies(token.substr(0, second), *signature);
  }
  if (!known) return fail(ErrorKind::kRefused, "the token is signed by a key that is not the provider's");
  if (!signed_by_one) return wrong("has a wrong signature");
  QW_ASSIGN(json::Object claims, object_of(token.substr(first + 1, second - first - 1), "body"));
  QW_TRY(check_claims(claims, expect));
  return claims;
}

}  // namespace qw::api::oidc
