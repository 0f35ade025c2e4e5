// Options of `serve` for people in a browser: cookies, and a provider of logins.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "api/oidc/provider.h"
#include "api/sessions.h"
#include "base/result.h"
#include "commands.h"

namespace qw::app {

struct LoginOptions {
  api::oidc::ProviderOptions provider;
  std::vector<std::string> roles;  // VALUE=ROLE
  bool secure_cookies = false;

  void add_to(CLI::App& cmd);
  // Null if no provider was named. kUsage: what was said does not fit together.
  Result<std::unique_ptr<api::oidc::Provider>> make() const;
};

}  // namespace qw::app
