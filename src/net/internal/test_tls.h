// What tests of TLS share: certificates made on the spot, and a client of OpenSSL's own.
#pragma once

#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "net/internal/test_client.h"

namespace qw::net::test {

struct PairOptions {
  std::string name = "first";  // of the certificate, as its CN
  long valid_s = 3600;         // from now on; negative: it is over
  const char* passphrase = nullptr;
};

// A folder with the files of pairs; gone with the object.
class PairFolder {
 public:
  PairFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "qw_pair_XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  ~PairFolder() { std::filesystem::remove_all(path_); }
  std::string path(const std::string& name) const { return (path_ / name).string(); }
  // Writes NAME.pem and NAME.key, a certificate of its own signing for 127.0.0.1.
  void make(const std::string& file, const PairOptions& options = {}) const {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -7200);
    X509_gmtime_adj(X509_getm_notAfter(certificate), options.valid_s);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(options.name.c_str()), -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    X509_EXTENSION* names = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "IP:127.0.0.1");
    X509_add_ext(certificate, names, -1);
    X509_sign(certificate, key, EVP_sha256());
    FILE* out = std::fopen(path(file + ".pem").c_str(), "w");
    PEM_write_X509(out, certificate);
    std::fclose(out);
    out = std::fopen(path(file + ".key").c_str(), "w");
    PEM_write_PrivateKey(out, key, options.passphrase ? EVP_aes_128_cbc() : nullptr,
                         reinterpret_cast<const unsigned char*>(options.passphrase),
                         options.passphrase ? static_cast<int>(std::strlen(options.passphrase)) : 0, nullptr, nullptr);
    std::fclose(out);
    X509_EXTENSION_free(names);
    X509_free(certificate);
    EVP_PKEY_free(key);
  }

 private:
  std::filesystem::path path_;
};

// Speaks TLS over a raw socket, blocking, and trusts everybody: who the server is, the tests look at themselves.
class TlsClient {
 public:
  using Setup = std::function<void(SSL_CTX*)>;
  explicit TlsClient(std::uint16_t port, const Setup& setup = nullptr) : socket_(port) {
    context_ = SSL_CTX_new(TLS_client_method());
    if (setup) setup(context_);
    ssl_ = SSL_new(context_);
    SSL_set_fd(ssl_, socket_.fd());
    ERR_clear_error();
    connected_ = SSL_connect(ssl_) == 1;
  }
  ~TlsClient() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }
  bool connected() const { return connected_; }
  SSL* ssl() { return ssl_; }
  Client& socket() { return socket_; }
  std::string certificate() const {
    X509* const shown = SSL_get0_peer_certificate(ssl_);
    char name[128] = "";
    if (shown != nullptr) X509_NAME_get_text_by_NID(X509_get_subject_name(shown), NID_commonName, name, sizeof(name));
    return name;
  }
  std::string protocol() const {
    const unsigned char* name = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl_, &name, &size);
    return {reinterpret_cast<const char*>(name), size};
  }
  bool send(std::string_view text) {
    return text.empty() || SSL_write(ssl_, text.data(), static_cast<int>(text.size())) == static_cast<int>(text.size());
  }
  void say_goodbye() { SSL_shutdown(ssl_); }  // without waiting for the other side's
  // Reads until `text` has come, or the end.
  std::string read_until(std::string_view text) {
    char buffer[4096];
    while (received_.find(text) == std::string::npos) {
      const int n = SSL_read(ssl_, buffer, sizeof(buffer));
      if (n <= 0) {
        ended_well_ = SSL_get_error(ssl_, n) == SSL_ERROR_ZERO_RETURN;
        break;
      }
      received_.append(buffer, static_cast<std::size_t>(n));
    }
    const std::size_t at = received_.find(text);
    const std::size_t take = at == std::string::npos ? received_.size() : at + text.size();
    std::string out = received_.substr(0, take);
    received_.erase(0, take);
    return out;
  }
  std::string read_all() { return read_until("\x01never"); }
  bool ended_well() const { return ended_well_; }  // the server said that this is the end

 private:
  Client socket_;
  SSL_CTX* context_;
  SSL* ssl_;
  bool connected_ = false, ended_well_ = false;
  std::string received_;
};

}  // namespace qw::net::test
