#include "policy.h"

#include <filesystem>
#include <optional>

#include "governance/policy/approvals.h"
#include "net/ip_range.h"

namespace qw::app {
namespace {

using namespace governance;

struct Named {
  std::string project, policy;
};

Result<std::vector<Named>> named_policies(const PolicyOptions& o) {
  std::vector<Named> out;
  if (!o.policy.empty()) out.push_back({"", o.policy});
  for (const std::string& text : o.of_projects) {
    const auto at = text.find('=');
    if (at == std::string::npos || at == 0 || at + 1 == text.size())
      return fail(ErrorKind::kUsage, "serve: --project-policy " + text + ": expected PROJECT=POLICY");
    for (const Named& other : out)
      if (other.project == text.substr(0, at))
        return fail(ErrorKind::kUsage, "serve: --project-policy " + other.project + ": the project is given twice");
    out.push_back({text.substr(0, at), text.substr(at + 1)});
  }
  return out;
}

}  // namespace

void PolicyOptions::add_to(CLI::App& cmd) {
  cmd.add_option(
      "--policy", policy,
      "what requests and answers must keep to: internal, eu-public, it-public, cn-public, us-ca-public, or a "
      "profile's file (docs/operations/policy.md)");
  cmd.add_option("--project-policy", of_projects,
                 "PROJECT=POLICY: of this project instead, by its id; may be given more than once");
  cmd.add_option("--policy-packs", packs, "folder of the keyword packs that profiles name (default: beside the file)");
  cmd.add_option("--policy-key", key, "public key that profiles must be signed with (qianwen govern profile sign)");
  cmd.add_option("--assessment", assessments,
                 "report of an assessment that a profile asks for, or a folder of them, which is looked at anew before each "
                 "model is loaded; may be given more than once");
}

Result<Profile> open_profile(const std::string& name_or_file) {
  if (const std::string_view shipped = shipped_profile(name_or_file); !shipped.empty()) return Profile::parse(shipped);
  std::error_code ignored;
  if (!std::filesystem::exists(name_or_file, ignored)) {
    std::string known;
    for (const std::string& name : shipped_profiles()) known += (known.empty() ? "" : ", ") + name;
    return fail(ErrorKind::kBadInput, name_or_file + ": no such file, and no profile of that name: " + known);
  }
  return Profile::read(name_or_file);
}

Result<std::unique_ptr<const Policy>> open_policy(const std::string& name_or_file, const std::string& packs,
                                                  const TextClassifier* guard_model) {
  QW_ASSIGN(Profile profile, open_profile(name_or_file));
  std::filesystem::path folder = packs;
  if (folder.empty() && shipped_profile(name_or_file).empty())
    folder = std::filesystem::absolute(name_or_file).parent_path();
  return Policy::load(std::move(profile), folder, guard_model);
}

Result<std::unique_ptr<PolicySet>> load_policies(const PolicyOptions& o, ServiceAbilities service,
                                                 const MarkKeyHolder* marks) {
  QW_ASSIGN(const auto named, named_policies(o));
  if (named.empty()) return std::unique_ptr<PolicySet>();
  std::optional<PublicKey> key;
  if (!o.key.empty()) {
    QW_ASSIGN(key, PublicKey::read(o.key));
  }
  auto out = std::make_unique<PolicySet>();
  for (const Named& one : named) {
    QW_ASSIGN(auto policy, open_policy(one.policy, o.packs, service.guard_model));
    if (key && !policy->profile().signed_by(*key))
      return fail(ErrorKind::kRefused, "serve: the policy " + one.policy + " is not signed by " + o.key);
    const auto mark = marks == nullptr ? nullptr : marks->now()->of(one.project);
    service.watermark = mark == nullptr ? "" : name_of(mark->scheme);
    const auto unmet = policy->unmet(service);
    if (!unmet.empty()) {
      std::string lines = "serve: " + unmet.front();
      for (std::size_t i = 1; i < unmet.size(); ++i) lines += "; " + unmet[i];
      return fail(ErrorKind::kRefused, lines);
    }
    out->add(one.project, std::move(policy));
  }
  return out;
}

Result<std::vector<PublicKey>> usual_keys(const PolicyOptions& o, const std::string& audit_key) {
  std::vector<PublicKey> out;
  if (!o.key.empty()) {
    QW_ASSIGN(out.emplace_back(), PublicKey::read(o.key));
    return out;
  }
  if (audit_key.empty()) return out;
  QW_ASSIGN(const SigningKey key, SigningKey::read(audit_key));
  out.push_back(key.public_key());
  return out;
}

Status check_approvals(const PolicyOptions& o, const PolicySet& policies, const std::string& host,
                       const std::string& audit_log, const std::string& audit_key) {
  if (net::is_loopback_host(host)) return {};
  for (const auto& [project, policy] : policies.all()) {
    const Profile& p = policy->profile();
    if (p.required_approvals.empty()) continue;
    std::vector<PublicKey> keys = p.approvers;
    if (keys.empty()) {
      QW_ASSIGN(keys, usual_keys(o, audit_key));
    }
    QW_ASSIGN(const auto missing, missing_approvals(audit_log, *policy, keys));
    if (missing.empty()) continue;
    std::string names;
    for (const std::string& name : missing) names += (names.empty() ? "" : ", ") + name;
    return fail(ErrorKind::kRefused, "serve: the policy " + p.name + " goes to nobody outside this machine (--host " +
                                         host + ") before it is approved: " + names + " (qianwen govern approve)");
  }
  return {};
}

json::Array describe(const PolicySet& policies) {
  json::Array out;
  for (const auto& [project, policy] : policies.all()) {
    json::Object one{{"project", project}};
    for (auto& [name, value] : policy->description()) one.set(name, std::move(value));
    out.push_back(std::move(one));
  }
  return out;
}

}  // namespace qw::app
