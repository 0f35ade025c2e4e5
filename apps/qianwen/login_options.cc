#include "login_options.h"

namespace qw::app {

void LoginOptions::add_to(CLI::App& cmd) {
  cmd.add_flag("--secure-cookies", secure_cookies, "cookies of sessions go over https only: for a service behind one that speaks https (with --tls-cert it is so anyway)");
  cmd.add_option("--oidc-issuer", provider.issuer, "people may log in by this OpenID Connect provider (https://...)");
  cmd.add_option("--oidc-client-id", provider.client_id, "what the provider calls this service");
  cmd.add_option("--oidc-client-secret", provider.client_secret, "better given as QW_SERVE_OIDC_CLIENT_SECRET");
  cmd.add_option("--oidc-redirect", provider.redirect_uri, "this service's /auth/oidc/callback as browsers reach it (https://...)");
  cmd.add_option("--oidc-scopes", provider.scopes, "what the provider is asked for");
  cmd.add_option("--oidc-claim", provider.roles_claim, "claim whose values give roles");
  cmd.add_option("--oidc-role", roles, "VALUE=ROLE of that claim; may be given more than once");
  cmd.add_option("--oidc-other-role", provider.other_role, "role of everybody else (default: they stay out)");
  cmd.add_option("--oidc-domain", provider.domains, "only verified e-mail addresses of this domain; may be given more than once");
  cmd.add_option("--oidc-organisation", provider.organisation, "of users who come for the first time");
  cmd.add_option("--oidc-ca-file", provider.ca_file, "certificates that the provider's is checked by (default: the system's)");
}

Result<std::unique_ptr<api::oidc::Provider>> LoginOptions::make() const {
  if (provider.issuer.empty()) return std::unique_ptr<api::oidc::Provider>();
  api::oidc::ProviderOptions out = provider;
  for (const std::string& text : roles) {
    const auto at = text.rfind('=');
    if (at == std::string::npos || at == 0 || at + 1 == text.size())
      return fail(ErrorKind::kUsage, "serve: --oidc-role " + text + ": expected VALUE=ROLE");
    out.roles[text.substr(0, at)] = text.substr(at + 1);
  }
  auto made = api::oidc::Provider::create(std::move(out));
  if (!made) return in_context("serve: --oidc", std::move(made).error());
  return std::move(*made);
}

}  // namespace qw::app
