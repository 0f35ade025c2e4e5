#include "api/sessions.h"

#include "api/field_reader.h"
#include "api/oidc/provider.h"
#include "api/openai/files.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/password.h"
#include "base/sha256.h"
#include "net/ip_range.h"

namespace qw::api {
namespace {

constexpr const char* kLoginPage = R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Log in</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body><main><h1>Log in</h1>
<form method="post" action="/auth/login">
<p><label>Name or e-mail <input name="name" autocomplete="username" required autofocus></label></p>
<p><label>Password <input name="password" type="password" autocomplete="current-password" required></label></p>
<p><button>Log in</button></p>
</form>)html";
constexpr const char* kProviderLink = "<p><a href=\"/auth/oidc/login\">Log in with your organisation</a></p>";
constexpr const char* kPageEnd = "</main></body></html>\n";
// The session's cookie is not sent where another site began to lead, so the way on begins here.
constexpr const char* kEnterPage =
    "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"0;url=/\">"
    "<title>Welcome</title></head><body><a href=\"/\">Go on</a></body></html>\n";
constexpr const char* kPagePolicy = "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

struct Asked {
  std::string name, password, key;
  bool form = false;  // a browser's: it is sent on to the chat page
};

ApiResult<Asked> read_login_body(const json::Object& body) {
  Asked out;
  FieldReader in(body);
  out.name = in.text("name").value_or("");
  if (const auto email = in.text("email"); out.name.empty()) out.name = email.value_or("");
  out.password = in.text("password").value_or("");
  out.key = in.text("key").value_or("");
  if (in.error()) return tl::unexpected(*in.error());
  return out;
}

ApiResult<Asked> read_login(const net::Request& request) {
  Asked out;
  if (net::find_header(request.headers, "content-type").starts_with("application/x-www-form-urlencoded")) {
    out.form = true;
    out.name = net::query_value(request.body, "name").value_or("");
    out.password = net::query_value(request.body, "password").value_or("");
  } else {
    const auto body = parse_body(request);
    if (!body) return tl::unexpected(body.error());
    auto asked = read_login_body(*body);
    if (!asked) return asked;
    out = std::move(*asked);
  }
  if (out.key.empty() && (out.name.empty() || out.password.empty()))
    return tl::unexpected(bad_request("name", "'name' and 'password', or 'key', are needed."));
  return out;
}

// Of another site, as browsers tell: a form there must not log its visitor in, or act for him.
bool is_foreign(const net::Request& request) {
  const std::string_view site = net::find_header(request.headers, "sec-fetch-site");
  if (!site.empty()) return site != "same-origin" && site != "none";
  const std::string_view origin = net::find_header(request.headers, "origin");
  if (origin.empty()) return false;
  const auto scheme = origin.find("://");
  return scheme == std::string_view::npos || origin.substr(scheme + 3) != net::find_header(request.headers, "host");
}

ApiError foreign() { return {403, "permission_error", "This request comes from another site.", "", "cross_site"}; }

std::int64_t us(std::chrono::minutes time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time).count();
}

net::Headers page_headers() {
  return {{"Content-Type", "text/html; charset=utf-8"},
          {"Content-Security-Policy", kPagePolicy},
          {"X-Content-Type-Options", "nosniff"},
          {"Referrer-Policy", "no-referrer"},
          {"Cache-Control", "no-store"}};
}

// What a provider's answer is recognised by. It comes from another site, so this cookie is not strict.
constexpr std::string_view kPendingCookie = "qw_login";
std::string pending_cookie(const std::string& value, bool secure) {
  return std::string(kPendingCookie) + "=" + value +
         "; HttpOnly; Path=/auth/oidc; SameSite=Lax; Max-Age=" + (value.empty() ? "0" : "600") +
         (secure ? "; Secure" : "");
}

// The way to a provider of logins, and back.
class ProviderLogin {
 public:
  ProviderLogin(const net::Request& request, Exchange& exchange, store::Tenants& tenants, oidc::Provider& provider,
                const SessionOptions& options)
      : request_(request), exchange_(exchange), tenants_(tenants), provider_(provider), options_(options) {}

  void leave() {
    if (!may_try()) return;
    const oidc::Pending pending = oidc::Provider::begin();
    const auto url = provider_.authorisation_url(pending);
    if (!url) return refuse(url.error());
    exchange_.add_header("Set-Cookie", pending_cookie(pending.text(), options_.secure));
    exchange_.add_header("Cache-Control", "no-store");
    exchange_.add_header("Location", *url);
    exchange_.send_json(303, json::Object{{"location", *url}});
  }

  void come_back() {
    if (!may_try()) return;
    const auto pending = oidc::Pending::parse(cookie_of(request_.headers, kPendingCookie));
    const auto state = net::query_value(request_.query, "state"), code = net::query_value(request_.query, "code");
    if (!pending || !state || !base::same_secret(*state, pending->state))
      return refuse({ErrorKind::kBadInput, "this login was not begun here, or took too long"});
    if (!code) return refuse({ErrorKind::kRefused, "the provider let nobody in"});
    const auto who = provider_.finish(*code, *pending, base::unix_us() / base::kSecondUs);
    if (!who) return refuse(who.error());
    const auto user = tenants_.user_of_provider(who->external_id, provider_.options().organisation, who->name,
                                                who->email, who->roles);
    if (!user) return refuse(user.error());
    if (user->disabled) return refuse({ErrorKind::kRefused, "this account is disabled"});
    const auto session = tenants_.begin_user_session(user->id, us(options_.lasts), us(options_.idle), request_.remote);
    if (!session) return refuse(session.error());
    base::log_info("login: " + user->name + " by the provider from " + request_.remote);
    net::Headers headers = page_headers();
    for (auto& cookie : session_cookies(session->secret, options_)) headers.push_back(std::move(cookie));
    headers.emplace_back("Set-Cookie", pending_cookie("", options_.secure));
    exchange_.send({200, std::move(headers), kEnterPage});
  }

 private:
  bool may_try() {
    const auto wait = tenants_.attempt(
        {{"provider from " + std::string(net::address_of(request_.remote)), options_.attempts_from_address}});
    if (wait && *wait == 0) return true;
    exchange_.send_error(
        {wait ? 429 : 503, "rate_limit_error", "Too many attempts to log in.", "", "too_many_attempts"});
    return false;
  }
  void refuse(const Error& error) {
    base::log_warning("login: by the provider from " + request_.remote + ": " + error.message);
    const bool reached = error.kind != ErrorKind::kFailed;
    exchange_.send_error({reached ? 403 : 502, reached ? "permission_error" : "server_error",
                          "The login failed: " + error.message + ".", "", "login_failed"});
  }

  const net::Request& request_;
  Exchange& exchange_;
  store::Tenants& tenants_;
  oidc::Provider& provider_;
  const SessionOptions& options_;
};

json::Value session_object(const store::Principal& who, const std::string& token) {
  return json::Object{{"user", who.user},
                      {"project", who.project},
                      {"organisation", who.organisation},
                      {"key", who.key.id},
                      {"csrf_token", token}};
}

class Login {
 public:
  Login(const net::Request& request, Exchange& exchange, store::Tenants& tenants, const SessionOptions& options)
      : request_(request), exchange_(exchange), tenants_(tenants), options_(options) {}

  void run() {
    const auto asked = read_login(request_);
    if (!asked) return exchange_.send_error(asked.error());
    const std::string from = std::string(net::address_of(request_.remote));
    // One who tries many names is stopped by his address, one who tries one from many by the name's own slower limit.
    const auto wait = tenants_.attempt({{"from " + from, options_.attempts_from_address},
                                        {"name " + asked->name + " from " + from, options_.attempts_for_name},
                                        {"name " + asked->name, options_.attempts_from_address}});
    if (!wait) return unreachable(wait.error());
    if (*wait > 0) {
      ApiError error{429, "rate_limit_error", "Too many attempts to log in.", "", "too_many_attempts"};
      error.retry_after_s = retry_after_of(*wait);
      return exchange_.send_error(error);
    }
    auto session = asked->key.empty() ? by_password(*asked) : by_key(*asked);
    if (!session && session.error().kind != ErrorKind::kRefused) return unreachable(session.error());
    if (!session) {
      base::log_warning("login: refused from " + from);
      return exchange_.send_error(
          {401, "authentication_error", "The name or the password is wrong.", "", "invalid_login"});
    }
    answer(*session, asked->form);
  }

 private:
  static tl::unexpected<Error> wrong() { return fail(ErrorKind::kRefused, "wrong"); }
  void unreachable(const Error& error) {
    base::log_error("login: " + error.message);
    exchange_.send_error({503, "server_error", "The accounts cannot be reached.", "", "store_unavailable"});
  }

  Result<std::string> by_password(const Asked& asked) {
    QW_ASSIGN(const store::Login login, tenants_.login(asked.name));
    const auto fits = base::password_matches(asked.password, login.password_hash);
    if (!fits && fits.error().kind != ErrorKind::kBadInput) return tl::unexpected(fits.error());
    if (!fits || !*fits) return wrong();
    QW_ASSIGN(auto made,
              tenants_.begin_user_session(login.user_id, us(options_.lasts), us(options_.idle), request_.remote));
    return std::move(made.secret);
  }
  Result<std::string> by_key(const Asked& asked) {
    QW_ASSIGN(const auto who, tenants_.principal_of_key(asked.key));
    if (!who || !check_access(&*who, "", request_.remote)) return wrong();
    return tenants_.begin_session(who->key.id, us(options_.lasts), request_.remote, us(options_.idle));
  }
  void answer(const std::string& secret, bool form) {
    const auto who = tenants_.principal_of_session(secret);
    if (!who || !*who) return unreachable(who ? Error{ErrorKind::kFailed, "the session is gone"} : who.error());
    if ((*who)->disabled)
      return exchange_.send_error({403, "permission_error", "This account is disabled.", "", "account_disabled"});
    base::log_info("login: " + ((*who)->user.empty() ? (*who)->key.id : (*who)->user) + " from " + request_.remote);
    for (auto& [name, value] : session_cookies(secret, options_)) exchange_.add_header(name, value);
    exchange_.add_header("Cache-Control", "no-store");
    if (!form) return exchange_.send_json(200, session_object(**who, csrf_token(secret)));
    exchange_.add_header("Location", "/");
    exchange_.send_json(303, json::Object{{"location", "/"}});
  }

  const net::Request& request_;
  Exchange& exchange_;
  store::Tenants& tenants_;
  const SessionOptions& options_;
};

}  // namespace

void describe_login(const json::Object& body) { (void)read_login_body(body); }

std::string csrf_token(std::string_view session_secret) {
  return base::sha256_hex("token of the session " + std::string(session_secret)).substr(0, 32);
}

ApiResult<void> check_origin(const net::Request& request, std::string_view session_secret) {
  if (request.method == "GET" || request.method == "HEAD" || request.method == "OPTIONS") return {};
  if (is_foreign(request)) return tl::unexpected(foreign());
  if (base::same_secret(net::find_header(request.headers, "x-csrf-token"), csrf_token(session_secret))) return {};
  return tl::unexpected(ApiError{403, "permission_error",
                                 "A session's changes need its token (X-CSRF-Token, from GET /auth/session).", "",
                                 "csrf_token"});
}

net::Headers session_cookies(std::string_view secret, const SessionOptions& options) {
  const bool ends = secret.empty();
  const auto seconds = ends ? 0 : std::chrono::duration_cast<std::chrono::seconds>(options.lasts).count();
  const std::string tail =
      "; Path=/; SameSite=Strict; Max-Age=" + std::to_string(seconds) + (options.secure ? "; Secure" : "");
  return {{"Set-Cookie", "qw_session=" + std::string(secret) + "; HttpOnly" + tail},
          {"Set-Cookie", "qw_csrf=" + (ends ? std::string() : csrf_token(secret)) + tail}};
}

bool SessionsApi::handle_login(const std::shared_ptr<const net::Request>& request,
                               const std::shared_ptr<Exchange>& exchange, Accounts* accounts) const {
  const bool leaves = request->path == "/auth/oidc/login", returns = request->path == "/auth/oidc/callback";
  if (leaves || returns) {
    if (!only("GET", *request, *exchange)) return true;
    if (provider_ == nullptr) {
      exchange->send_error({501, "invalid_request_error",
                            "This service has no provider of logins: it was started without one (serve --oidc-issuer).", "",
                            "no_provider"});
      return true;
    }
    openai::in_background(background_, exchange, [this, request, exchange, accounts, leaves] {
      ProviderLogin login(*request, *exchange, accounts->store().tenants(), *provider_, options_);
      if (leaves) return login.leave();
      login.come_back();
    });
    return true;
  }
  if (request->path != "/auth/login") return false;
  if (!only("GET, POST", *request, *exchange)) return true;
  if (request->method != "POST") {
    exchange->send(
        {200, page_headers(), std::string(kLoginPage) + (provider_ == nullptr ? "" : kProviderLink) + kPageEnd});
    return true;
  }
  if (is_foreign(*request)) {
    exchange->send_error(foreign());
    return true;
  }
  openai::in_background(background_, exchange, [this, request, exchange, accounts] {
    Login(*request, *exchange, accounts->store().tenants(), options_).run();
  });
  return true;
}

bool SessionsApi::handle(const std::shared_ptr<const net::Request>& request,
                         const std::shared_ptr<Exchange>& exchange) const {
  const std::string_view path = request->path;
  if (path != "/auth/session" && path != "/auth/logout" && path != "/auth/logout_all") return false;
  if (!only(path == "/auth/session" ? "GET" : "POST", *request, *exchange)) return true;
  if (exchange->accounts() == nullptr) {
    exchange->send_error(
        {501, "invalid_request_error", "This service keeps no accounts (serve --store).", "", "no_store"});
    return true;
  }
  const auto secret = secret_of(request->headers);
  const bool session = secret && secret->kind == Credential::kSession;
  if (path == "/auth/session") {
    exchange->add_header("Cache-Control", "no-store");
    exchange->send_json(200, session_object(*exchange->who(), session ? csrf_token(secret->text) : ""));
    return true;
  }
  openai::in_background(background_, exchange, [this, request, exchange, secret, session] {
    Accounts& accounts = *exchange->accounts();
    store::Tenants& tenants = accounts.store().tenants();
    std::int64_t ended = session ? 1 : 0;
    Status done;
    if (request->path == "/auth/logout_all") {
      const auto all = tenants.end_sessions_of(exchange->who()->key);
      done = all.map([](std::int64_t) {});
      ended = all.value_or(0);
    } else if (session) {
      done = tenants.end_session(secret->text);
    }
    if (!done) return exchange->send_error(openai::store_error(done.error()));
    accounts.forget();
    for (auto& [name, value] : session_cookies("", options_)) exchange->add_header(name, value);
    exchange->send_json(200, json::Object{{"sessions_ended", ended}});
  });
  return true;
}

}  // namespace qw::api
