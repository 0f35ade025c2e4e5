// A profile ready to be followed: its keyword packs are loaded, what guards look for is known, and what it asks of a
// service is told apart into what the service does and what it cannot.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "governance/keywords/keyword_list.h"
#include "governance/policy/profile.h"

namespace qw::governance {

// What a service has that profiles may ask for.
struct ServiceAbilities {
  bool audit_log = false;
  bool labels = false;    // answers carry the label of GB 45438
  std::string watermark;  // the scheme of the key in use, "synthid" or "gumbel"; "": none
};

class Policy {
 public:
  // `packs`: the folder that keyword packs are in; "": there is none. kBadInput, kFailed: a pack cannot be read.
  static Result<std::unique_ptr<const Policy>> load(Profile profile, const std::filesystem::path& packs);

  const Profile& profile() const { return profile_; }
  // Of the profile and of every byte of its packs: what audit records name.
  const std::string& hash() const { return hash_; }
  const GuardRules& input() const { return input_; }
  const GuardRules& output() const { return output_; }
  // For the log of a service's start.
  json::Object description() const;
  // What it asks for and this service does not do, a line each; empty: all of it is done, or the operator's duty.
  std::vector<std::string> unmet(const ServiceAbilities& service) const;

 private:
  explicit Policy(Profile profile) : profile_(std::move(profile)) {}
  Profile profile_;
  struct Pack {
    std::string file, sha256;
    std::unique_ptr<const KeywordList> list;
  };
  std::vector<Pack> packs_;
  GuardRules input_, output_;
  std::string hash_;
};

// Whose requests follow which policy. Read only: any thread.
class PolicySet {
 public:
  void add(std::string tenant, std::unique_ptr<const Policy> policy) {
    policies_[std::move(tenant)] = std::move(policy);
  }
  // That of the tenant, or that of "" which is everybody's; null: none.
  const Policy* of(const std::string& tenant) const;
  const std::map<std::string, std::unique_ptr<const Policy>>& all() const { return policies_; }

 private:
  std::map<std::string, std::unique_ptr<const Policy>> policies_;
};

}  // namespace qw::governance
