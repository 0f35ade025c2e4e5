// Logins that another vouches for: an OpenID Connect provider, by the authorisation code flow with PKCE. What it is
// asked is found by its discovery document; its keys are fetched again when a token names one that is not known, at
// most once a minute.
//
// Calls of the network block: in the background. Errors: kBadInput with the reason for what the provider said that does
// not hold; kRefused for a person who may not come in; kFailed where the provider cannot be reached. Threads: any.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "api/oidc/token.h"
#include "base/result.h"
#include "net/http_client.h"

namespace qw::api::oidc {

struct ProviderOptions {
  std::string issuer;  // "https://id.example"; http only for an address of this machine
  std::string client_id, client_secret;
  std::string redirect_uri;  // this service's /auth/oidc/callback, as the provider was told
  std::string scopes = "openid profile email";
  std::string roles_claim = "groups";        // a text or a list of texts
  std::map<std::string, std::string> roles;  // of that claim's values to roles here
  std::string other_role;                    // of who has none of them; "": may not come in
  std::vector<std::string> domains;          // of e-mail addresses, which must then be verified; empty: any, or none
  std::string organisation = "default";      // of users who come for the first time
  std::string ca_file;                       // of the provider's certificate; "": the system's
};

// What a browser brings back with the provider's answer: it kept it in a cookie.
struct Pending {
  std::string state, nonce, verifier;
  std::string text() const;
  static std::optional<Pending> parse(std::string_view text);
};

struct Identity {
  std::string external_id, name, email;
  std::vector<std::string> roles;
};

class Provider {
 public:
  // kUsage: options that make no sense.
  static Result<std::unique_ptr<Provider>> create(ProviderOptions options);

  static Pending begin();
  // Where the browser is sent.
  Result<std::string> authorisation_url(const Pending& pending);
  // Who came back with `code`.
  Result<Identity> finish(const std::string& code, const Pending& pending, std::int64_t now_s);

  const ProviderOptions& options() const { return options_; }

 private:
  struct Endpoints {
    std::string authorisation, token, keys;
  };
  Provider(ProviderOptions options, net::HttpClient client)
      : options_(std::move(options)), client_(std::move(client)) {}
  Result<json::Value> fetch(const net::ClientRequest& request) const;
  Result<Endpoints> endpoints();
  // `again`: those that are known are not enough.
  Result<std::vector<PublicKey>> keys(const Endpoints& at, bool again);
  Result<Identity> identity_of(const json::Object& claims) const;

  const ProviderOptions options_;
  const net::HttpClient client_;
  std::mutex mutex_;
  std::optional<Endpoints> endpoints_;
  std::vector<PublicKey> keys_;
  std::chrono::steady_clock::time_point endpoints_until_, keys_until_, keys_again_;
};

}  // namespace qw::api::oidc
