#include "api/oidc/provider.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>

#include "api/field_reader.h"
#include "base/base64.h"

namespace qw::api::oidc {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr std::size_t kLongestAnswer = 256 * 1024;
constexpr auto kBelieved = 1h;       // what a provider says of itself
constexpr auto kKeysAgain = 60s;     // so that forged tokens do not make us ask it for each
constexpr std::size_t kSecret = 32;  // bytes of state, nonce and verifier

std::string secret() {
  std::array<unsigned char, kSecret> bytes{};
  if (RAND_bytes(bytes.data(), bytes.size()) != 1) std::abort();  // OpenSSL has no randomness: nothing may go on
  return base::to_base64url(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

std::string sha256(std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr);
  return {reinterpret_cast<const char*>(digest.data()), size};
}

std::string form(const std::vector<std::pair<std::string, std::string>>& fields) {
  std::string out;
  for (const auto& [name, value] : fields) out += (out.empty() ? "" : "&") + name + "=" + net::percent_encode(value);
  return out;
}

// What is sent there is secret: it goes by https, or does not leave the machine.
bool is_private(const net::Url& url) {
  return url.tls || url.host == "localhost" || url.host == "127.0.0.1" || url.host == "::1";
}

Result<std::string> endpoint(const json::Value& document, const char* name) {
  const std::string text = text_member(document, name);
  const auto url = net::parse_url(text);
  if (!url || !is_private(*url))
    return fail(ErrorKind::kBadInput, std::string("the provider's ") + name + " is no https address");
  return text;
}

}  // namespace

std::string Pending::text() const { return state + "." + nonce + "." + verifier; }

std::optional<Pending> Pending::parse(std::string_view text) {
  const auto first = text.find('.'), second = text.find('.', first == text.npos ? first : first + 1);
  if (second == text.npos || text.find('.', second + 1) != text.npos) return std::nullopt;
  Pending out{std::string(text.substr(0, first)), std::string(text.substr(first + 1, second - first - 1)),
              std::string(text.substr(second + 1))};
  if (out.state.empty() || out.nonce.empty() || out.verifier.empty()) return std::nullopt;
  return out;
}

Result<std::unique_ptr<Provider>> Provider::create(ProviderOptions options) {
  const auto issuer = net::parse_url(options.issuer), back = net::parse_url(options.redirect_uri);
  if (!issuer || !is_private(*issuer)) return fail(ErrorKind::kUsage, "the issuer of logins must be an https address");
  if (!back || !is_private(*back))
    return fail(ErrorKind::kUsage, "the address that logins come back to must be an https address");
  if (options.client_id.empty()) return fail(ErrorKind::kUsage, "a login provider needs a client id");
  if (options.roles.empty() && options.other_role.empty())
    return fail(ErrorKind::kUsage, "no role is given to anybody who logs in by the provider");
  net::ClientOptions client;
  client.ca_file = options.ca_file;
  client.connect_timeout = 10s;
  client.idle_timeout = 10s;
  QW_ASSIGN(net::HttpClient made, net::HttpClient::create(std::move(client)));
  return std::unique_ptr<Provider>(new Provider(std::move(options), std::move(made)));
}

Result<json::Value> Provider::fetch(const net::ClientRequest& request) const {
  QW_ASSIGN(const net::Response answer, client_.get(request, kLongestAnswer));
  auto value = json::parse(answer.body);
  if (answer.status != 200) {
    const std::string said = value ? text_member(*value, "error") : "";
    return fail(answer.status >= 500 ? ErrorKind::kFailed : ErrorKind::kBadInput,
                "the provider answered " + std::to_string(answer.status) + (said.empty() ? "" : " (" + said + ")"));
  }
  if (!value || !value->is_object()) return fail(ErrorKind::kBadInput, "the provider's answer is no JSON object");
  return std::move(*value);
}

Result<Provider::Endpoints> Provider::endpoints() {
  {
    const std::lock_guard lock(mutex_);
    if (endpoints_ && Clock::now() < endpoints_until_) return *endpoints_;
  }
  std::string base = options_.issuer;
  if (base.ends_with('/')) base.pop_back();
  net::ClientRequest request;
  request.url = base + "/.well-known/openid-configuration";
  QW_ASSIGN(const json::Value document, fetch(request));
  if (text_member(document, "issuer") != options_.issuer)
    return fail(ErrorKind::kBadInput, "the provider calls itself " + text_member(document, "issuer"));
  Endpoints found;
  QW_ASSIGN(found.authorisation, endpoint(document, "authorization_endpoint"));
  QW_ASSIGN(found.token, endpoint(document, "token_endpoint"));
  QW_ASSIGN(found.keys, endpoint(document, "jwks_uri"));
  const std::lock_guard lock(mutex_);
  endpoints_ = found;
  endpoints_until_ = Clock::now() + kBelieved;
  return found;
}

Result<std::vector<PublicKey>> Provider::keys(const Endpoints& at, bool again) {
  {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    if (now < keys_until_ && (!again || now < keys_again_)) return keys_;
    if (again) keys_again_ = now + kKeysAgain;
  }
  net::ClientRequest request;
  request.url = at.keys;
  QW_ASSIGN(const json::Value document, fetch(request));
  QW_ASSIGN(auto found, parse_keys(json::dump(document)));
  const std::lock_guard lock(mutex_);
  keys_ = std::move(found);
  keys_until_ = Clock::now() + kBelieved;
  return keys_;
}

Pending Provider::begin() { return {secret(), secret(), secret()}; }

Result<std::string> Provider::authorisation_url(const Pending& pending) {
  QW_ASSIGN(const Endpoints at, endpoints());
  return at.authorisation + (at.authorisation.find('?') == std::string::npos ? "?" : "&") +
         form({{"response_type", "code"},
               {"client_id", options_.client_id},
               {"redirect_uri", options_.redirect_uri},
               {"scope", options_.scopes},
               {"state", pending.state},
               {"nonce", pending.nonce},
               {"code_challenge", base::to_base64url(sha256(pending.verifier))},
               {"code_challenge_method", "S256"}});
}

Result<Identity> Provider::finish(const std::string& code, const Pending& pending, std::int64_t now_s) {
  QW_ASSIGN(const Endpoints at, endpoints());
  net::ClientRequest request;
  request.method = "POST";
  request.url = at.token;
  request.headers = {{"Content-Type", "application/x-www-form-urlencoded"}, {"Accept", "application/json"}};
  std::vector<std::pair<std::string, std::string>> fields = {{"grant_type", "authorization_code"},
                                                             {"code", code},
                                                             {"redirect_uri", options_.redirect_uri},
                                                             {"client_id", options_.client_id},
                                                             {"code_verifier", pending.verifier}};
  if (!options_.client_secret.empty()) fields.emplace_back("client_secret", options_.client_secret);
  request.body = form(fields);
  QW_ASSIGN(const json::Value answer, fetch(request));
  const std::string token = text_member(answer, "id_token");
  const Expectation expect{options_.issuer, options_.client_id, pending.nonce, now_s, 60};
  QW_ASSIGN(const auto known, keys(at, false));
  auto claims = verify(token, known, expect);
  if (!claims && claims.error().kind == ErrorKind::kRefused) {
    QW_ASSIGN(const auto rotated, keys(at, true));
    claims = verify(token, rotated, expect);
  }
  if (!claims) return fail(ErrorKind::kBadInput, claims.error().message);
  return identity_of(*claims);
}

Result<Identity> Provider::identity_of(const json::Object& object) const {
  const json::Value claims(object);
  Identity out;
  out.external_id = options_.issuer + "#" + text_member(claims, "sub");
  out.email = text_member(claims, "email");
  const json::Value* verified = claims.find("email_verified");
  if (verified == nullptr || *verified != json::Value(true)) out.email.clear();  // anybody could have said it
  for (const char* name : {"preferred_username", "email", "name", "sub"}) {
    if (out.name.empty()) out.name = text_member(claims, name);
  }
  if (!options_.domains.empty()) {
    const std::string domain = out.email.substr(out.email.rfind('@') + 1);
    if (out.email.find('@') == std::string::npos ||
        std::find(options_.domains.begin(), options_.domains.end(), domain) == options_.domains.end())
      return fail(ErrorKind::kRefused, "who has no verified e-mail address of the allowed domains may not come in");
  }
  const auto add = [&](const json::Value& value) {
    if (!value.is_string()) return;
    const auto role = options_.roles.find(value.as_string());
    if (role != options_.roles.end()) out.roles.push_back(role->second);
  };
  if (const json::Value* groups = claims.find(options_.roles_claim); groups != nullptr) {
    if (groups->is_array()) {
      for (const json::Value& group : groups->as_array()) add(group);
    } else {
      add(*groups);
    }
  }
  if (out.roles.empty() && !options_.other_role.empty()) out.roles.push_back(options_.other_role);
  if (out.roles.empty())
    return fail(ErrorKind::kRefused, "who is in none of the provider's groups that have a role may not come in");
  return out;
}

}  // namespace qw::api::oidc
