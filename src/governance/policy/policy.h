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
  bool labels = false;        // answers carry the label of GB 45438
  bool accounts = false;      // it knows who asks, and remembers (a store)
  bool content_keys = false;  // what contents are encrypted with
  std::string watermark{};    // the scheme of the key in use, "synthid" or "gumbel"; "": none
  // What asks a guard model; null: none. Its name must be the one that a profile names. Must outlive the policies.
  const TextClassifier* guard_model = nullptr;
};

class Policy {
 public:
  // `packs`: the folder that keyword packs are in; "": there is none. kBadInput, kFailed: a pack cannot be read.
  // `guard_model` is asked if the profile names it.
  static Result<std::unique_ptr<const Policy>> load(Profile profile, const std::filesystem::path& packs,
                                                    const TextClassifier* guard_model = nullptr);

  const Profile& profile() const { return profile_; }
  // Of the profile and of every byte of its packs: what audit records name.
  const std::string& hash() const { return hash_; }
  // What is looked for; of minors, with their part of it.
  const GuardRules& input(bool minor = false) const { return minor ? minor_input_ : input_; }
  const GuardRules& output(bool minor = false) const { return minor ? minor_output_ : output_; }
  // In what tools and searches bring, whoever asks.
  const GuardRules& retrieval() const { return retrieval_; }
  // What tells that somebody is in danger, and that instructions make a companion; empty: nothing is looked for.
  const GuardRules& crisis() const { return crisis_; }
  const GuardRules& personas() const { return personas_; }
  // Whether somebody of that age (0: not known) is a minor here, and whether a guardian must have agreed.
  bool is_minor(std::int64_t age) const;
  bool needs_consent(std::int64_t age) const;
  // What the store is to count of whoever asks.
  store::ConductRules conduct(bool minor) const;
  // For the log of a service's start.
  json::Object description() const;
  // What it asks for and this service does not do, a line each; empty: all of it is done, or the operator's duty.
  std::vector<std::string> unmet(const ServiceAbilities& service) const;

 private:
  explicit Policy(Profile profile) : profile_(std::move(profile)) {}
  Profile profile_;
  struct Pack {
    std::string file, sha256;
    std::unique_ptr<const KeywordList> list;  // of words, or
    std::unique_ptr<const PatternList> patterns;
  };
  std::vector<Pack> packs_;
  std::vector<std::unique_ptr<const KeywordList>> own_;  // lists of the profile itself
  std::vector<std::unique_ptr<const PatternList>> own_patterns_;
  Status add_pack(const KeywordPack& pack, const std::filesystem::path& folder, bool minors, std::string& hashed);
  Status add_words(const KeywordPack& pack, Pack& kept, std::string_view file, bool minors);
  Status add_patterns(const KeywordPack& pack, Pack& kept, std::string_view file, bool minors);
  Status add_own_words();
  Status add_own_patterns();
  GuardRules input_, output_, minor_input_, minor_output_, crisis_, personas_, retrieval_;
  std::string hash_;
};

// Of findings: somebody is in danger.
inline constexpr const char* kCrisisCategory = "crisis";
inline constexpr const char* kCrisisFinding = "keyword/crisis";

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
