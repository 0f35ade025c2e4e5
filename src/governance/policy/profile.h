// What an organisation has decided its service must do, as data: one JSON object per file, strictly read
// (docs/operations/policy.md says what each member means). Values; a profile that was parsed does not change.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "governance/audit/signing_key.h"
#include "governance/guard/text_guard.h"
#include "governance/ledger/licence.h"
#include "json/value.h"
#include "store/conduct.h"

namespace qw::governance {

// What stands in for a duty that the operator takes on by other means.
enum class Duty : std::uint8_t {
  kDisclosure,
  kExplicitLabels,
  kImplicitLabels,
  kStrikes,
  kMinors,
  kCompanion,
  kGuardModel,
  kTrainingConsent,
};
inline constexpr std::size_t kDuties = 8;
const char* name_of(Duty duty);  // "disclosure", "explicit_labels", ...

struct KeywordPack {
  std::string file;  // below the folder of packs
  GuardAction action = GuardAction::kFlag;
  std::vector<std::pair<std::string, GuardAction>> categories;  // that have another one
  bool in_input = true, in_output = true, in_retrieval = false;
  bool patterns = false;  // expressions (patterns/pattern_list.h), not words
};

// Expressions that a profile has itself.
struct PatternRule {
  std::string category;
  std::vector<std::string> expressions;
  std::int64_t longest = PatternList::kLongest;  // characters of a match
  GuardAction action = GuardAction::kFlag;
  bool in_input = true, in_output = true, in_retrieval = false;
  Result<PatternList> list() const;
};

struct GuardSide {
  PiiSet pii;
  std::array<GuardAction, kPiiKinds> on_pii{};
  GuardAction on_class = GuardAction::kFlag;  // what the guard model finds; never kCover
  std::string reply;                          // what is said instead of what was blocked; "": nothing
};

// Of what tools and searches bring: it is looked at as input is, and for what wants to be obeyed (guard/injection.h).
struct RetrievalSide : GuardSide {
  std::optional<GuardAction> on_injection;  // nothing: it is not looked for
  bool asks_model = false;                  // the profile says what follows of what the guard model finds
};

// What somebody is told who speaks of ending his life, and where help is.
struct Helpline {
  std::string name, contact, hours;  // hours: "" if not said
};
struct CrisisRule {
  std::vector<std::string> keywords;  // beside those of the category "crisis" of the packs
  std::string reply;
  std::vector<Helpline> helplines;
  bool instead = true;  // of an answer; false: in front of it
  // The reply and a line for each helpline: the same in every protocol.
  std::string text() const;
};

// Whose requests a minor's are is noted in the accounts.
struct MinorRule {
  std::vector<std::int64_t> ages;  // rising: younger than the last is a minor; than the first of several: with consent
  std::vector<KeywordPack> packs;  // beside everybody's
  GuardSide input, output;         // what stands here is added; of two actions the harder counts
  bool companions = true;          // false: no persona that keeps one company, as the companion rule tells them
  std::int64_t minutes_a_day = 0;  // of use; 0: any
  std::int64_t reminder_min = 0;   // instead of the companion rule's; 0: as everybody
};

// Services that keep people company.
struct CompanionRule {
  std::int64_t reminder_min = 0;      // of continuous use; 0: none
  std::int64_t pause_min = 15;        // a longer pause ends a use
  std::string reminder;               // its words; "": the program's
  std::vector<std::string> personas;  // keywords of instructions that make a companion
  std::vector<std::string> models;    // that are companions whatever the instructions
  bool only_companions = false;       // others need no reminder
};

// What a model must have been assessed for before it answers the public (governance/assess/gate.h).
struct AssessmentRule {
  std::string plan;
  Hash plan_hash{};                       // of the plan that comes with the program under that name, or as it is told
  std::int64_t max_age_days = 0;          // of the report; 0: any
  std::vector<std::string> requirements;  // ids; none: all of the plan's
  std::vector<PublicKey> assessors;       // whose reports count; none: those whose approvals do
  bool declared = false;                  // reports of a service, whose files were told and not seen, count too
};

struct ProfileSignature {
  PublicKey key;
  Signature signature{};
};

struct Profile {
  std::string name;          // "eu-public"
  std::int64_t version = 1;  // rises whenever anything changes
  std::string date;          // of that version, 2026-11-29
  std::string about;

  std::string disclosure;                    // how people are told that this is a machine; "none"
  std::vector<std::string> explicit_labels;  // styles
  std::string implicit_label = "none";       // none, gb45438, c2pa
  std::string watermark_scheme = "none";     // none, any, synthid, gumbel
  bool watermark_forced = false;
  std::int64_t watermark_min_tokens = 0;
  std::string detector = "off";  // public, expert, off
  std::vector<KeywordPack> packs;
  std::vector<PatternRule> patterns;
  GuardSide input, output;
  RetrievalSide retrieval;
  bool retracts = true;       // a stream whose answer was blocked tells clients to take back what they show of it
  bool tells_client = false;  // answers say what was found in them, where their extras were asked for
  std::string guard_model, strictness = "strict";  // strict: a class from 0.5 on is a finding; loose: from 0.9 on
  std::vector<store::StrikeStep> strikes;          // none: none are counted
  std::string strikes_of = "key";                  // key, end_user (whom the client names, else the key), both
  std::optional<CrisisRule> crisis;
  std::optional<MinorRule> minors;
  CompanionRule companion;
  std::int64_t utc_offset_min = 0;             // of where its days begin at midnight
  std::int64_t logs_days = 0, docs_years = 0;  // 0: nothing is asked
  std::string content = "hashed";              // what is kept of words: hashed, dropped or encrypted
  std::int64_t content_days = 0;               // of what is encrypted; 0: until it is erased
  bool training_opt_in_default = false;
  std::string crypto = "sha256/ed25519";                              // or sm3/sm2
  std::vector<std::pair<std::string, std::int64_t>> incident_clocks;  // name, hours
  bool complaints_open = false;                                       // to those without a key, too
  std::int64_t complaint_days = 0, appeal_days = 0;                   // within which they are answered; 0: 30
  // What becomes of findings about licences when a model is trained or written, by LicenceFinding::Kind.
  std::array<LicenceAction, 4> licence_actions = {LicenceAction::kWarn, LicenceAction::kWarn, LicenceAction::kWarn,
                                                  LicenceAction::kWarn};
  std::vector<std::string> public_page_fields, required_approvals;
  std::vector<PublicKey> approvers;  // whose approvals count; none: those of the keys that the service goes by
  std::optional<AssessmentRule> assessment;
  std::vector<Duty> operator_duties;

  json::Value document;  // as it was read, without "signature"
  Hash hash{};           // SHA-256 of that, canonical
  std::optional<ProfileSignature> signature;

  // kBadInput with one line that names the member: unknown, missing, of a wrong type, or of a value that is none.
  static Result<Profile> parse(std::string_view file);
  static Result<Profile> read(const std::filesystem::path& path);

  bool takes_on(Duty duty) const;
  // Whether the file was signed by this key, and not changed since.
  bool signed_by(const PublicKey& key) const;
  // The file with a signature; whatever signature it had is gone.
  std::string signed_file(const SigningKey& key) const;
};

// Keywords that a profile has itself, as a list of one category. kBadInput: one of them is none.
Result<KeywordList> keyword_list(const std::string& category, const std::vector<std::string>& words);

// The profiles that come with the program, by name.
const std::vector<std::string>& shipped_profiles();
std::string_view shipped_profile(std::string_view name);  // the file; "": there is none

}  // namespace qw::governance
