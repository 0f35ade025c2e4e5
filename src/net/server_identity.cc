#include "net/server_identity.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ssl.hpp>
#include <utility>

#include "base/file.h"
#include "net/internal/server_tls.h"

namespace qw::net {
namespace {

namespace asio = boost::asio;
namespace ssl = asio::ssl;
using boost::system::error_code;

// A chain of a few certificates is some kilobytes; what is far longer is another file, given by mistake.
constexpr std::size_t kMostPemBytes = 1 << 20;
// Of TLS 1.2: keys that are not kept, and ciphers that authenticate what they encrypt. TLS 1.3 has no others.
constexpr const char* kCiphers = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr std::string_view kProtocol = "http/1.1";

// Changes whenever a file is written, replaced, or reached by another link.
std::string stamp_of(const std::string& path) {
  struct stat s {};
  if (::stat(path.c_str(), &s) != 0) return "absent";
  return std::to_string(s.st_dev) + ":" + std::to_string(s.st_ino) + ":" + std::to_string(s.st_size) + ":" +
         std::to_string(s.st_mtim.tv_sec) + ":" + std::to_string(s.st_mtim.tv_nsec);
}

// Of what a client offers; one that does not offer HTTP/1.1 is told so in the handshake.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* offered,
                    unsigned size, void*) {
  for (unsigned at = 0; at < size && at + 1 + offered[at] <= size; at += 1 + offered[at]) {
    const std::string_view name(reinterpret_cast<const char*>(offered) + at + 1, offered[at]);
    if (name != kProtocol) continue;
    *out = offered + at + 1;
    *out_size = offered[at];
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

std::string text_of(BIO* memory) {
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(memory, &bytes);
  return size > 0 ? std::string(bytes, static_cast<std::size_t>(size)) : "";
}

std::string describe(X509* certificate) {
  BIO* memory = BIO_new(BIO_s_mem());
  X509_NAME_print_ex(memory, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
  BIO_puts(memory, ", until ");
  ASN1_TIME_print_ex(memory, X509_get0_notAfter(certificate), ASN1_DTFLGS_ISO8601);
  std::string text = text_of(memory);
  BIO_free(memory);
  return text;
}

Status limit_protocol(SSL_CTX* context) {
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  // A client must not be able to ask for one expensive handshake after the other on one connection.
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  // Clients that come back bring a ticket; nothing is kept here for them.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 1);
  // Of thousands of connections most are silent most of the time.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(context, choose_protocol, nullptr);
  if (SSL_CTX_set_cipher_list(context, kCiphers) != 1)
    return fail(ErrorKind::kFailed, "TLS: the cryptographic library has none of the ciphers " + std::string(kCiphers));
  return {};
}

Result<std::shared_ptr<ServerIdentity::Tls>> read_pair(const std::string& certificate_path,
                                                       const std::string& key_path) {
  QW_ASSIGN(const std::string chain, base::read_file(certificate_path, kMostPemBytes));
  QW_ASSIGN(const std::string key, base::read_file(key_path, kMostPemBytes));
  auto tls = std::make_shared<ServerIdentity::Tls>();
  SSL_CTX* const context = tls->context.native_handle();
  QW_TRY(limit_protocol(context));
  // Without this the library would ask for a passphrase at the terminal.
  tls->context.set_password_callback([](std::size_t, ssl::context::password_purpose) { return std::string(); });
  error_code error;
  tls->context.use_certificate_chain(asio::buffer(chain), error);
  if (error)
    return fail(ErrorKind::kBadInput, certificate_path + ": no certificate in PEM form (" + error.message() + ")");
  tls->context.use_private_key(asio::buffer(key), ssl::context::pem, error);
  if (error && ERR_GET_LIB(static_cast<unsigned long>(error.value())) == ERR_LIB_X509)
    return fail(ErrorKind::kBadInput, key_path + ": the key is not that of the certificate " + certificate_path);
  if (error)
    return fail(ErrorKind::kBadInput,
                key_path + ": no private key in PEM form without a passphrase (" + error.message() + ")");
  if (SSL_CTX_check_private_key(context) != 1)
    return fail(ErrorKind::kBadInput, key_path + ": the key is not that of the certificate " + certificate_path);
  X509* const certificate = SSL_CTX_get0_certificate(context);
  tls->description = describe(certificate);
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0)
    return fail(ErrorKind::kBadInput, certificate_path + ": the certificate's time is over (" + tls->description + ")");
  return tls;
}

}  // namespace

ServerIdentity::ServerIdentity(std::string certificate_path, std::string key_path)
    : certificate_path_(std::move(certificate_path)), key_path_(std::move(key_path)) {}
ServerIdentity::~ServerIdentity() = default;

Result<std::shared_ptr<ServerIdentity>> ServerIdentity::load(std::string certificate_path, std::string key_path) {
  std::shared_ptr<ServerIdentity> made(new ServerIdentity(std::move(certificate_path), std::move(key_path)));
  QW_TRY(made->reload());
  return made;
}

Status ServerIdentity::reload() {
  // Before reading: what is written meanwhile is looked at again.
  std::string stamp = stamp_of(certificate_path_) + " " + stamp_of(key_path_);
  auto pair = read_pair(certificate_path_, key_path_);
  const std::lock_guard lock(mutex_);
  stamp_ = std::move(stamp);
  if (!pair) return tl::unexpected(std::move(pair).error());
  tls_ = std::move(*pair);
  return {};
}

Result<bool> ServerIdentity::reload_if_changed() {
  {
    const std::lock_guard lock(mutex_);
    if (stamp_ == stamp_of(certificate_path_) + " " + stamp_of(key_path_)) return false;
  }
  const Status took = reload();
  if (took) return true;
  const std::lock_guard lock(mutex_);
  if (stamp_ == doubted_) return tl::unexpected(took.error());
  doubted_ = std::exchange(stamp_, "");
  return false;
}

std::string ServerIdentity::describe() const { return tls()->description; }

std::shared_ptr<ServerIdentity::Tls> ServerIdentity::tls() const {
  const std::lock_guard lock(mutex_);
  return tls_;
}

}  // namespace qw::net
