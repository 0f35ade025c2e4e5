// Signed tokens of a provider: keys are made here, tokens are signed by them, and then everything is tried.
#include "api/oidc/token.h"

#include <gtest/gtest.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>

#include "base/base64.h"

namespace qw::api::oidc {
namespace {

constexpr std::int64_t kNow = 1'790'000'000;

std::string number(EVP_PKEY* key, const char* name, int size = 0) {
  BIGNUM* n = nullptr;
  EXPECT_EQ(EVP_PKEY_get_bn_param(key, name, &n), 1);
  std::string out(static_cast<std::size_t>(size == 0 ? BN_num_bytes(n) : size), '\0');
  BN_bn2binpad(n, reinterpret_cast<unsigned char*>(out.data()), static_cast<int>(out.size()));
  BN_free(n);
  return out;
}

// A key pair of one of the three kinds.
class Signer {
 public:
  Signer(std::string id, std::string algorithm) : id_(std::move(id)), algorithm_(std::move(algorithm)) {
    key_ = algorithm_ == "RS256"   ? EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", std::size_t{2048})
           : algorithm_ == "ES256" ? EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256")
                                   : EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
    EXPECT_NE(key_, nullptr);
  }
  ~Signer() { EVP_PKEY_free(key_); }
  Signer(const Signer&) = delete;
  Signer& operator=(const Signer&) = delete;

  json::Value jwk() const {
    json::Object out{{"kid", id_}, {"use", "sig"}, {"alg", algorithm_}};
    if (algorithm_ == "RS256") {
      out.set("kty", "RSA");
      out.set("n", base::to_base64url(number(key_, OSSL_PKEY_PARAM_RSA_N)));
      out.set("e", base::to_base64url(number(key_, OSSL_PKEY_PARAM_RSA_E)));
    } else if (algorithm_ == "ES256") {
      out.set("kty", "EC");
      out.set("crv", "P-256");
      out.set("x", base::to_base64url(number(key_, OSSL_PKEY_PARAM_EC_PUB_X, 32)));
      out.set("y", base::to_base64url(number(key_, OSSL_PKEY_PARAM_EC_PUB_Y, 32)));
    } else {
      std::string raw(32, '\0');
      std::size_t size = raw.size();
      EVP_PKEY_get_raw_public_key(key_, reinterpret_cast<unsigned char*>(raw.data()), &size);
      out.set("kty", "OKP");
      out.set("crv", "Ed25519");
      out.set("x", base::to_base64url(raw));
    }
    return out;
  }
  std::string sign(const std::string& message) const {
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    EVP_DigestSignInit(context, nullptr, algorithm_ == "EdDSA" ? nullptr : EVP_sha256(), nullptr, key_);
    std::string out(1024, '\0');
    std::size_t size = out.size();
    const auto* bytes = reinterpret_cast<const unsigned char*>(message.data());
    EXPECT_EQ(EVP_DigestSign(context, reinterpret_cast<unsigned char*>(out.data()), &size, bytes, message.size()), 1);
    EVP_MD_CTX_free(context);
    out.resize(size);
    if (algorithm_ != "ES256") return out;
    const auto* der = reinterpret_cast<const unsigned char*>(out.data());
    ECDSA_SIG* pair = d2i_ECDSA_SIG(nullptr, &der, static_cast<long>(size));
    std::string both(64, '\0');
    BN_bn2binpad(ECDSA_SIG_get0_r(pair), reinterpret_cast<unsigned char*>(both.data()), 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(pair), reinterpret_cast<unsigned char*>(both.data()) + 32, 32);
    ECDSA_SIG_free(pair);
    return both;
  }
  json::Object head() const { return {{"alg", algorithm_}, {"kid", id_}, {"typ", "JWT"}}; }

 private:
  std::string id_, algorithm_;
  EVP_PKEY* key_ = nullptr;
};

std::string part(const json::Object& object) { return base::to_base64url(json::dump(json::Value(object))); }
std::string token(const Signer& signer, const json::Object& claims, const json::Object& head) {
  const std::string message = part(head) + "." + part(claims);
  return message + "." + base::to_base64url(signer.sign(message));
}
json::Object claims() {
  return {{"iss", "https://id.example"}, {"aud", "client"},     {"sub", "7"}, {"nonce", "n1"},
          {"iat", kNow - 5},             {"exp", kNow + 300}, {"name", "lin"}};
}
json::Object with(json::Object object, const char* name, json::Value value) {
  object.set(name, std::move(value));
  return object;
}
std::vector<PublicKey> keys_of(std::initializer_list<const Signer*> signers) {
  json::Array list;
  for (const Signer* signer : signers) list.push_back(signer->jwk());
  auto keys = parse_keys(json::dump(json::Object{{"keys", std::move(list)}}));
  EXPECT_TRUE(keys.has_value());
  EXPECT_EQ(keys->size(), signers.size());
  return *keys;
}
const Expectation kExpect{"https://id.example", "client", "n1", kNow, 60};

TEST(OidcToken, EachAlgorithmVerifies) {
  for (const char* algorithm : {"RS256", "ES256", "EdDSA"}) {
    const Signer signer("k1", algorithm), stranger("k1", algorithm);
    const auto keys = keys_of({&signer});
    const std::string good = token(signer, claims(), signer.head());
    const auto verified = verify(good, keys, kExpect);
    ASSERT_TRUE(verified.has_value()) << algorithm << ": " << verified.error().message;
    EXPECT_EQ(verified->find("name")->as_string(), "lin");
    EXPECT_FALSE(verify(token(stranger, claims(), signer.head()), keys, kExpect).has_value()) << algorithm;
    for (std::size_t i = 0; i < good.size(); i += 3) {
      std::string changed = good;
      changed[i] = changed[i] == 'A' ? 'B' : 'A';
      EXPECT_FALSE(verify(changed, keys, kExpect).has_value()) << algorithm << " at " << i;
    }
  }
}

TEST(OidcToken, TheKeySaysTheAlgorithm) {
  const Signer rsa("k1", "RS256"), ec("k2", "ES256");
  const auto keys = keys_of({&rsa, &ec});
  const auto refused = [&](const std::string& t) { return !verify(t, keys, kExpect).has_value(); };
  // No signature at all, in every spelling.
  for (const char* none : {"none", "None", "NONE", ""}) {
    const std::string message = part({{"alg", none}, {"kid", "k1"}}) + "." + part(claims()) + ".";
    EXPECT_TRUE(refused(message)) << none;
    EXPECT_TRUE(refused(message + base::to_base64url(rsa.sign(message.substr(0, message.size() - 1))))) << none;
  }
  // The public key, taken for the secret of an HMAC.
  const std::string message = part({{"alg", "HS256"}, {"kid", "k1"}}) + "." + part(claims());
  const std::string secret = json::dump(rsa.jwk());
  unsigned char mac[32];
  unsigned size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(message.data()), message.size(), mac, &size);
  EXPECT_TRUE(refused(message + "." + base::to_base64url(std::string_view(reinterpret_cast<char*>(mac), size))));
  // Another key's id, another key's algorithm, an id that nobody has.
  EXPECT_TRUE(refused(token(rsa, claims(), ec.head())));
  EXPECT_TRUE(refused(token(rsa, claims(), {{"alg", "ES256"}, {"kid", "k1"}})));
  EXPECT_TRUE(refused(token(rsa, claims(), {{"alg", "RS512"}, {"kid", "k1"}})));
  EXPECT_TRUE(refused(token(rsa, claims(), with(rsa.head(), "crit", json::Array{"x"}))));
  const auto unknown = verify(token(rsa, claims(), {{"alg", "RS256"}, {"kid", "k9"}}), keys, kExpect);
  ASSERT_FALSE(unknown.has_value());
  EXPECT_EQ(unknown.error().kind, ErrorKind::kRefused) << "its keys may have been rotated";
  EXPECT_FALSE(refused(token(rsa, claims(), {{"alg", "RS256"}}))) << "without an id it may be any key's";
}

TEST(OidcToken, ClaimsMustBeWhatIsExpected) {
  const Signer signer("k1", "EdDSA");
  const auto keys = keys_of({&signer});
  const auto refused = [&](const json::Object& body) { return !verify(token(signer, body, signer.head()), keys, kExpect); };
  EXPECT_FALSE(refused(claims()));
  EXPECT_TRUE(refused(with(claims(), "iss", "https://id.example/")));
  EXPECT_TRUE(refused(with(claims(), "iss", nullptr)));
  EXPECT_TRUE(refused(with(claims(), "aud", "another")));
  EXPECT_TRUE(refused(with(claims(), "aud", json::Array{"another"})));
  EXPECT_TRUE(refused(with(claims(), "aud", json::Array{"client", "another"}))) << "given to whom?";
  EXPECT_FALSE(refused(with(with(claims(), "aud", json::Array{"client", "another"}), "azp", "client")));
  EXPECT_TRUE(refused(with(claims(), "azp", "another")));
  EXPECT_TRUE(refused(with(claims(), "exp", kNow - 61)));
  EXPECT_FALSE(refused(with(claims(), "exp", kNow - 59))) << "clocks differ";
  EXPECT_TRUE(refused(with(claims(), "exp", "tomorrow")));
  EXPECT_TRUE(refused(with(claims(), "exp", nullptr)));
  EXPECT_TRUE(refused(with(claims(), "iat", kNow + 61)));
  EXPECT_TRUE(refused(with(claims(), "nbf", kNow + 61)));
  EXPECT_TRUE(refused(with(claims(), "nbf", "x")));
  EXPECT_TRUE(refused(with(claims(), "nonce", "n2")));
  EXPECT_TRUE(refused(with(claims(), "nonce", nullptr)));
  EXPECT_TRUE(refused(with(claims(), "sub", "")));
}

TEST(OidcToken, WhatIsNoTokenIsRefused) {
  const Signer signer("k1", "EdDSA");
  const auto keys = keys_of({&signer});
  const std::string good = token(signer, claims(), signer.head());
  for (const std::string& text :
       {std::string(), std::string("a"), std::string("a.b"), std::string("a.b.c"), std::string("..."), good + ".", good + "=",
        "." + good, good.substr(0, good.rfind('.')), good.substr(0, good.rfind('.') + 1), std::string(20'000, 'a')})
    EXPECT_FALSE(verify(text, keys, kExpect).has_value()) << text.substr(0, 40);
  EXPECT_FALSE(verify(good, {}, kExpect).has_value());
}

TEST(OidcToken, WeakAndDamagedKeysArePassedOver) {
  const Signer rsa("k1", "RS256"), ec("k2", "ES256");
  const auto count = [](const json::Value& jwk) {
    const auto keys = parse_keys(json::dump(json::Object{{"keys", json::Array{jwk}}}));
    return keys ? keys->size() : 99;
  };
  const json::Object good = rsa.jwk().as_object(), point = ec.jwk().as_object();
  EXPECT_EQ(count(good), 1u);
  EXPECT_EQ(count(with(good, "use", "enc")), 0u);
  EXPECT_EQ(count(with(good, "alg", "RS512")), 0u);
  EXPECT_EQ(count(with(good, "n", base::to_base64url(std::string(128, '\xff')))), 0u) << "1024 bits";
  EXPECT_EQ(count(with(good, "e", "AQ")), 0u) << "an exponent of 1 verifies everything";
  EXPECT_EQ(count(with(good, "n", "!")), 0u);
  EXPECT_EQ(count(with(point, "x", point.find("y")->as_string())), 0u) << "not on the curve";
  EXPECT_EQ(count(with(point, "crv", "P-521")), 0u);
  EXPECT_EQ(count("x"), 0u);
  for (const char* text : {"", "[]", "{}", R"({"keys":1})"}) EXPECT_FALSE(parse_keys(text).has_value()) << text;
}

}  // namespace
}  // namespace qw::api::oidc
