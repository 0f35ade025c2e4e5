// What a TLS server shows of itself: a certificate chain and its key, read from two PEM files, and read again when they
// change. Connections keep what they began with; new ones get the new pair.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "base/result.h"

namespace qw::net {

class ServerIdentity {
 public:
  // Errors: kBadInput naming the file, and what is wrong: no certificate, no key or one with a passphrase, a key of
  // another certificate, a certificate whose time is over.
  static Result<std::shared_ptr<ServerIdentity>> load(std::string certificate_path, std::string key_path);
  ~ServerIdentity();

  // Any thread. What cannot be used leaves the pair that is in use, and is the error.
  Status reload();
  // The same if a file is not what it was when it was last read, in use or not; true: there is a new pair. Who replaces
  // both files does it one after the other: what cannot be used is an error when it still is so at the next call.
  Result<bool> reload_if_changed();

  // "CN=example.org, until 2027-03-01 12:00 GMT"
  std::string describe() const;

  struct Tls;  // what OpenSSL needs for a connection (internal/server_tls.h)
  std::shared_ptr<Tls> tls() const;

 private:
  ServerIdentity(std::string certificate_path, std::string key_path);
  const std::string certificate_path_, key_path_;
  mutable std::mutex mutex_;
  std::shared_ptr<Tls> tls_;
  std::string stamp_;    // of the files as they were read last
  std::string doubted_;  // of files that could not be used, and may be half of a new pair
};

}  // namespace qw::net
