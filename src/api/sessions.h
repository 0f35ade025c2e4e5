// People in a browser: they log in with a password (or a key), and a cookie says who they are from then on.
//
//   GET  /auth/login       a page with a form
//   POST /auth/login       {"name": name or e-mail, "password": P} or {"key": K}, as JSON or as a form
//   GET  /auth/oidc/login  to the provider of logins, where there is one; it sends back to /auth/oidc/callback
//   GET  /auth/session     who this is, and the token for changes
//   POST /auth/logout, /auth/logout_all    this session; all of this user's
//
// The cookie is HttpOnly and SameSite=Strict; the store keeps its SHA-256, so it outlives a restart and holds at every
// service of the store. What changes something and shows a cookie must also show the session's token in the header
// X-CSRF-Token (a page reads it from the cookie qw_csrf), and come from this origin. Attempts are limited for a name,
// an address and both; a wrong name takes as long as a wrong password.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "api/auth.h"
#include "api/background.h"
#include "api/exchange.h"

namespace qw::api {

namespace oidc {
class Provider;
}

struct SessionOptions {
  std::chrono::minutes lasts{12 * 60};  // whatever happens
  std::chrono::minutes idle{120};       // without a request
  bool secure = false;                  // the browser speaks https: the cookie must not travel otherwise
  std::int64_t attempts_for_name = 10;  // a minute, from one address
  std::int64_t attempts_from_address = 60;
};

// Reads the body of POST /auth/login to describe it (field_notes.h).
void describe_login(const json::Object& body);

// What a page must show with a change. It follows from the session's secret and does not reveal it.
std::string csrf_token(std::string_view session_secret);

// Whether a request that shows a session may do this: it reads, or it shows the token and is of this origin.
ApiResult<void> check_origin(const net::Request& request, std::string_view session_secret);

// "qw_session=...; HttpOnly..." and the cookie of the token, for a new session; without a secret: their end.
net::Headers session_cookies(std::string_view secret, const SessionOptions& options);

class SessionsApi {
 public:
  // `provider`: null, or outlives this object.
  SessionsApi(Background& background, SessionOptions options, oidc::Provider* provider)
      : background_(background), options_(options), provider_(provider) {}

  // The routes that nobody needs to be known for. True if the path is one of them; the exchange is then answered.
  bool handle_login(const std::shared_ptr<const net::Request>& request, const std::shared_ptr<Exchange>& exchange,
                    Accounts* accounts) const;
  // The others; `exchange` knows who asks.
  bool handle(const std::shared_ptr<const net::Request>& request, const std::shared_ptr<Exchange>& exchange) const;

  const SessionOptions& options() const { return options_; }

 private:
  Background& background_;
  const SessionOptions options_;
  oidc::Provider* const provider_;
};

}  // namespace qw::api
