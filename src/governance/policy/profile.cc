#include "governance/policy/profile.h"

#include <algorithm>

#include "base/file.h"
#include "builtin_policies.h"
#include "governance/assess/plan.h"
#include "governance/audit/log_files.h"
#include "governance/internal/signature_text.h"
#include "governance/policy/internal/profile_parts.h"

namespace qw::governance {
namespace {

constexpr std::size_t kMostBytes = 1 << 20;  // of a file; what is longer is another one, given by mistake
constexpr std::array<const char*, kDuties> kDutyNames = {"disclosure",  "explicit_labels", "implicit_labels",
                                                         "strikes",     "minors",          "companion",
                                                         "guard_model", "training_consent"};
// In front of what is signed, so that no other thing that this kind of key signs can be taken for a profile.
constexpr const char* kSignedAs = "qianwen policy profile\n";

void read_pattern(Members& in, PatternRule& out) {
  in.text("category", out.category, true, 100);
  if (!Members::is_name(out.category)) in.reject("category", "must be a name of small letters, digits, _ and -");
  in.count("longest", out.longest, 1, PatternList::kMostLongest);
  if (const json::Value* action = in.find("action", true); action != nullptr) {
    const auto known = action_named(*action);
    if (!known) return in.reject("action", kActions);
    out.action = *known;
  }
  read_where(in, out);
  const json::Value* list = in.find("expressions", true);
  if (list == nullptr) return;
  if (!list->is_array()) return in.reject("expressions", "must be a list of texts");
  for (const json::Value& item : list->as_array()) {
    if (!item.is_string()) return in.reject("expressions", "must be a list of texts");
    out.expressions.push_back(item.as_string());
  }
  if (const auto made = out.list(); !made) in.reject("expressions", made.error().message);
}

void read_keys(Members& in, const char* name, std::vector<PublicKey>& out) {
  const json::Value* list = in.find(name);
  if (list == nullptr) return;
  if (!list->is_array()) return in.reject(name, "must be a list of public keys");
  for (const json::Value& item : list->as_array()) {
    const auto bytes = item.is_string() ? hash_from_hex(item.as_string()) : std::nullopt;
    if (!bytes) return in.reject(name, "must be a list of public keys");
    out.emplace_back().bytes = *bytes;
  }
}

void read_assessment(Members& in, AssessmentRule& out) {
  in.text("plan", out.plan, true, 64);
  std::string told;
  in.text("plan_sha256", told);
  if (told.empty()) {
    const auto plan = Plan::parse(shipped_plan(out.plan));
    if (!plan) return in.reject("plan", "does not come with the program, so plan_sha256 is needed");
    out.plan_hash = plan->hash;
  } else {
    const auto hash = hash_from_hex(told);
    if (!hash) return in.reject("plan_sha256", "must be 64 hexadecimal digits");
    out.plan_hash = *hash;
  }
  in.count("max_age_days", out.max_age_days, 0, 3650);
  if (const json::Value* list = in.find("requirements"); list != nullptr) {
    if (!list->is_array()) return in.reject("requirements", "must be a list of ids");
    for (const json::Value& id : list->as_array()) {
      if (!id.is_string() || id.as_string().empty()) return in.reject("requirements", "must be a list of ids");
      out.requirements.push_back(id.as_string());
    }
  }
  read_keys(in, "assessors", out.assessors);
  in.flag("declared", out.declared);
}

void read_duties(Members& in, std::vector<Duty>& out) {
  std::vector<std::string> names;
  in.names("operator_duties", names);
  for (const std::string& name : names) {
    const auto known = std::find(kDutyNames.begin(), kDutyNames.end(), name);
    if (known == kDutyNames.end()) return in.reject("operator_duties", name + " is no duty");
    out.push_back(static_cast<Duty>(known - kDutyNames.begin()));
  }
}

void read_marks(Members& in, Profile& out) {
  in.text("disclosure", out.disclosure);
  in.names("explicit_labels", out.explicit_labels);
  in.choice("implicit_label", out.implicit_label, {"none", "gb45438", "c2pa"});
  in.object("watermark", [&](Members& mark) {
    mark.choice("scheme", out.watermark_scheme, {"none", "any", "synthid", "gumbel"});
    mark.flag("forced", out.watermark_forced);
    mark.count("min_tokens", out.watermark_min_tokens, 0, 1'000'000);
  });
  if (out.watermark_forced && out.watermark_scheme == "none") in.reject("watermark", "is forced, and there is none");
  in.choice("detector", out.detector, {"public", "expert", "off"});
}

void read_retrieval(Members& in, RetrievalSide& out) {
  read_side(in, out);
  out.asks_model = in.find("model") != nullptr;
  const json::Value* action = in.find("injection");
  if (action == nullptr) return;
  out.on_injection = action_named(*action);
  if (!out.on_injection) in.reject("injection", kActions);
}

void read_guard(Members& in, Profile& out) {
  in.object("guard", [&](Members& guard) {
    guard.object("retrieval", [&](Members& side) { read_retrieval(side, out.retrieval); });
    guard.object("input", [&](Members& side) { read_side(side, out.input); });
    guard.object("output", [&](Members& side) { read_side(side, out.output); });
    guard.flag("retract", out.retracts);
    guard.flag("tell_client", out.tells_client);
    guard.text("model", out.guard_model, false, 200);
    guard.choice("strictness", out.strictness, {"strict", "loose"});
  });
  read_packs(in, out.packs);
  in.objects("patterns", [&](Members& rule) { read_pattern(rule, out.patterns.emplace_back()); });
}

void read_keeping(Members& in, Profile& out) {
  in.object("retention", [&](Members& retention) {
    retention.count("logs_days", out.logs_days, 0, 36'500);
    retention.count("docs_years", out.docs_years, 0, 100);
    retention.choice("content", out.content, {"hashed", "dropped", "encrypted"});
    retention.count("content_days", out.content_days, 1, 36'500);
  });
  if (out.content_days > 0 && out.content != "encrypted")
    in.reject("retention.content_days", "is of contents that are kept, encrypted");
  in.flag("training_opt_in_default", out.training_opt_in_default);
  in.choice("crypto", out.crypto, {"sha256/ed25519", "sm3/sm2"});
  if (const json::Value* clocks = in.find("incident_clocks"); clocks != nullptr) {
    if (!clocks->is_object()) return in.reject("incident_clocks", "must be an object of names and hours");
    for (const auto& [name, hours] : clocks->as_object()) {
      if (!Members::is_name(name) || !hours.is_int() || hours.as_int() < 1 || hours.as_int() > 87'600)
        return in.reject("incident_clocks", "must be an object of names and hours");
      out.incident_clocks.emplace_back(name, hours.as_int());
    }
  }
  in.object("complaints", [&](Members& complaints) {
    complaints.flag("open", out.complaints_open);
    complaints.count("answer_days", out.complaint_days, 1, 3650);
    complaints.count("appeal_days", out.appeal_days, 1, 3650);
  });
  in.object("licences", [&](Members& licences) {
    const auto action = [&](const char* name, LicenceFinding::Kind kind) {
      std::string word = "warn";
      licences.choice(name, word, {"ignore", "warn", "refuse"});
      out.licence_actions[static_cast<std::size_t>(kind)] = word == "ignore"   ? LicenceAction::kIgnore
                                                            : word == "refuse" ? LicenceAction::kRefuse
                                                                               : LicenceAction::kWarn;
    };
    action("missing", LicenceFinding::Kind::kMissing);
    action("unknown", LicenceFinding::Kind::kUnknown);
    action("terms", LicenceFinding::Kind::kTerms);
    action("conflict", LicenceFinding::Kind::kConflict);
  });
  in.names("public_page_fields", out.public_page_fields);
  in.names("required_approvals", out.required_approvals);
  read_keys(in, "approvers", out.approvers);
  in.object("assessment", [&](Members& rule) { read_assessment(rule, out.assessment.emplace()); });
  read_duties(in, out.operator_duties);
}

void read_signature(Members& in, std::optional<ProfileSignature>& out) {
  in.object("signature", [&](Members& sealed) {
    std::string key, text;
    sealed.text("public", key, true);
    sealed.text("sig", text, true);
    const auto signature = signature_from_hex(text);
    const auto bytes = hash_from_hex(key);
    if (!bytes || !signature) return sealed.reject("", "must be a public key and a signature in hexadecimal");
    ProfileSignature& made = out.emplace();
    made.key.bytes = *bytes;
    made.signature = *signature;
  });
}

}  // namespace

Result<KeywordList> keyword_list(const std::string& category, const std::vector<std::string>& words) {
  std::string file = "[" + category + "]\n";
  for (const std::string& word : words) file += word + "\n";
  return KeywordList::parse(file);
}

Result<PatternList> PatternRule::list() const {
  return PatternList::of(category, expressions, static_cast<std::uint32_t>(longest));
}

std::string CrisisRule::text() const {
  std::string out = reply + "\n";
  for (const Helpline& line : helplines)
    out += "\n" + line.name + ": " + line.contact + (line.hours.empty() ? "" : " (" + line.hours + ")");
  return out;
}

const char* name_of(Duty duty) { return kDutyNames[static_cast<std::size_t>(duty)]; }

Result<Profile> Profile::parse(std::string_view file) {
  QW_ASSIGN(json::Value document, json::parse(file, {.max_bytes = kMostBytes, .max_depth = 8}));
  if (!is_plain(document))
    return fail(ErrorKind::kBadInput, "the profile: its numbers are whole, and its names are of ASCII");
  Profile out;
  Status wrong;
  {
    Members in(document, "", wrong);
    in.text("profile", out.name, true);
    if (!Members::is_name(out.name)) in.reject("profile", "must be a name of small letters, digits, _ and -");
    in.count("version", out.version, 1, 1'000'000'000, true);
    in.text("date", out.date, true);
    if (!is_date(out.date)) in.reject("date", "must be a date such as 2026-11-29");
    in.text("about", out.about);
    read_marks(in, out);
    read_guard(in, out);
    read_conduct(in, out);
    read_keeping(in, out);
    read_signature(in, out.signature);
  }
  if (!wrong) return tl::unexpected(wrong.error());
  document.as_object().erase("signature");
  out.document = std::move(document);
  out.hash = sha256(canonical(out.document));
  return out;
}

Result<Profile> Profile::read(const std::filesystem::path& path) {
  QW_ASSIGN(const std::string file, base::read_file(path.string(), kMostBytes));
  auto read = parse(file);
  if (!read) return in_context(path.string(), std::move(read).error());
  return std::move(*read);
}

bool Profile::takes_on(Duty duty) const {
  return std::find(operator_duties.begin(), operator_duties.end(), duty) != operator_duties.end();
}

bool Profile::signed_by(const PublicKey& key) const {
  return signature && signature->key.bytes == key.bytes &&
         key.verifies(kSignedAs + canonical(document), signature->signature);
}

std::string Profile::signed_file(const SigningKey& key) const {
  json::Value out = document;
  out.as_object().set("signature", json::Object{{"public", to_hex(key.public_key().bytes)},
                                                {"sig", to_hex(key.sign(kSignedAs + canonical(document)))}});
  return json::dump(out, {.indent = 2, .item_separator = ",", .key_separator = ": "}) + "\n";
}

const std::vector<std::string>& shipped_profiles() {
  static const std::vector<std::string> names = {"internal", "eu-public", "it-public", "cn-public", "us-ca-public"};
  return names;
}

std::string_view shipped_profile(std::string_view name) { return policies::file(std::string(name) + ".json"); }

}  // namespace qw::governance
