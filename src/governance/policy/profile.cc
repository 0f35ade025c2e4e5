#include "governance/policy/profile.h"

#include <algorithm>
#include <set>

#include "base/file.h"
#include "builtin_policies.h"
#include "governance/audit/log_files.h"

namespace qw::governance {
namespace {

constexpr std::size_t kMostBytes = 1 << 20;  // of a file; what is longer is another one, given by mistake
constexpr std::array<const char*, kDuties> kDutyNames = {"disclosure",  "explicit_labels", "implicit_labels",
                                                         "strikes",     "minors",          "companion",
                                                         "guard_model", "training_consent"};
// In front of what is signed, so that no other thing that this kind of key signs can be taken for a profile.
constexpr const char* kSignedAs = "qianwen policy profile\n";

using Words = std::initializer_list<std::string_view>;

// The members of one object, each read once; the first thing that is wrong is kept.
class Members {
 public:
  Members(const json::Value& value, std::string where, Status& wrong) : where_(std::move(where)), wrong_(wrong) {
    if (value.is_object())
      object_ = &value.as_object();
    else
      reject("", "must be an object");
  }
  Members(const Members&) = delete;
  Members& operator=(const Members&) = delete;
  ~Members() {
    if (object_ == nullptr) return;
    for (const auto& [name, value] : *object_)
      if (!seen_.contains(name)) reject(name, "is not known here");
  }

  void reject(const std::string& name, const std::string& what) {
    std::string at = where_;
    if (!name.empty()) at += (at.empty() ? "" : ".") + name;
    if (wrong_) wrong_ = fail(ErrorKind::kBadInput, (at.empty() ? "the profile" : at) + ": " + what);
  }
  const json::Value* find(const char* name, bool needed = false) {
    seen_.insert(name);
    const json::Value* value = object_ == nullptr ? nullptr : object_->find(name);
    if (value == nullptr && needed && object_ != nullptr) reject(name, "is missing");
    return value;
  }
  void text(const char* name, std::string& out, bool needed = false, std::size_t most = 2000) {
    const json::Value* value = find(name, needed);
    if (value == nullptr) return;
    if (!value->is_string() || value->as_string().size() > most)
      return reject(name, "must be a text of at most " + std::to_string(most) + " bytes");
    out = value->as_string();
  }
  void choice(const char* name, std::string& out, Words known) {
    const json::Value* value = find(name);
    if (value == nullptr) return;
    if (!value->is_string() || std::find(known.begin(), known.end(), value->as_string()) == known.end())
      return reject(name, "must be " + listed(known));
    out = value->as_string();
  }
  void flag(const char* name, bool& out) {
    const json::Value* value = find(name);
    if (value == nullptr) return;
    if (!value->is_bool()) return reject(name, "must be true or false");
    out = value->as_bool();
  }
  void count(const char* name, std::int64_t& out, std::int64_t low, std::int64_t high, bool needed = false) {
    const json::Value* value = find(name, needed);
    if (value == nullptr) return;
    if (!value->is_int() || value->as_int() < low || value->as_int() > high)
      return reject(name, "must be a whole number from " + std::to_string(low) + " to " + std::to_string(high));
    out = value->as_int();
  }
  // Names of small letters, digits, "_" and "-".
  void names(const char* name, std::vector<std::string>& out) {
    const json::Value* value = find(name);
    if (value == nullptr) return;
    if (!value->is_array()) return reject(name, "must be a list of names");
    for (const json::Value& item : value->as_array()) {
      if (!item.is_string() || !is_name(item.as_string())) return reject(name, "must be a list of names");
      if (std::find(out.begin(), out.end(), item.as_string()) != out.end())
        return reject(name, "has " + item.as_string() + " twice");
      out.push_back(item.as_string());
    }
  }
  template <class Read>
  void object(const char* name, Read read) {
    if (const json::Value* value = find(name); value != nullptr) {
      Members inner(*value, under(name), wrong_);
      if (value->is_object()) read(inner);
    }
  }
  std::string under(const std::string& name) const { return where_.empty() ? name : where_ + "." + name; }
  Status& wrong() { return wrong_; }

  static bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= 64 &&
           text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string_view::npos;
  }
  static std::string listed(Words known) {
    std::string out;
    for (auto word = known.begin(); word != known.end(); ++word)
      out += (word == known.begin() ? "" : word + 1 == known.end() ? " or " : ", ") + std::string(*word);
    return out;
  }

 private:
  const json::Object* object_ = nullptr;
  std::string where_;
  Status& wrong_;
  std::set<std::string, std::less<>> seen_;
};

std::optional<GuardAction> action_named(const json::Value& value) {
  for (const GuardAction action : {GuardAction::kFlag, GuardAction::kCover, GuardAction::kBlock})
    if (value.is_string() && value.as_string() == name_of(action)) return action;
  return std::nullopt;
}
constexpr const char* kActions = "must be flag, mask or block";

void read_side(Members& in, GuardSide& out) {
  in.text("reply", out.reply);
  const json::Value* pii = in.find("pii");
  if (pii == nullptr) return;
  if (!pii->is_object()) return in.reject("pii", "must be an object of kinds and actions");
  for (const auto& [name, value] : pii->as_object()) {
    const auto kinds = PiiSet::parse(name);
    if (!kinds) return in.reject("pii", kinds.error().message);
    const auto action = action_named(value);
    if (!action) return in.reject("pii." + name, kActions);
    for (std::size_t i = 0; i < kPiiKinds; ++i) {  // what is said later counts
      if (!kinds->has(static_cast<PiiKind>(i))) continue;
      out.pii.add(static_cast<PiiKind>(i));
      out.on_pii[i] = *action;
    }
  }
}

void read_pack(Members& in, KeywordPack& out) {
  in.text("file", out.file, true, 200);
  if (out.file.starts_with('/') || out.file.find("..") != std::string::npos || out.file.find('\0') != std::string::npos)
    in.reject("file", "must be below the folder of packs");
  if (const json::Value* action = in.find("action", true); action != nullptr) {
    const auto known = action_named(*action);
    if (!known) return in.reject("action", kActions);
    out.action = *known;
  }
  if (const json::Value* categories = in.find("categories"); categories != nullptr) {
    if (!categories->is_object()) return in.reject("categories", "must be an object of categories and actions");
    for (const auto& [name, value] : categories->as_object()) {
      const auto known = action_named(value);
      if (!known) return in.reject("categories." + name, kActions);
      out.categories.emplace_back(name, *known);
    }
  }
  std::string where = "both";
  in.choice("where", where, {"input", "output", "both"});
  out.in_input = where != "output";
  out.in_output = where != "input";
}

void read_packs(Members& in, std::vector<KeywordPack>& out) {
  const json::Value* list = in.find("keyword_packs");
  if (list == nullptr) return;
  if (!list->is_array()) return in.reject("keyword_packs", "must be a list of objects");
  for (const json::Value& item : list->as_array()) {
    Members pack(item, in.under("keyword_packs"), in.wrong());
    if (item.is_object()) read_pack(pack, out.emplace_back());
  }
}

void read_approvers(Members& in, std::vector<PublicKey>& out) {
  const json::Value* list = in.find("approvers");
  if (list == nullptr) return;
  if (!list->is_array()) return in.reject("approvers", "must be a list of public keys");
  for (const json::Value& item : list->as_array()) {
    const auto bytes = item.is_string() ? hash_from_hex(item.as_string()) : std::nullopt;
    if (!bytes) return in.reject("approvers", "must be a list of public keys");
    out.emplace_back().bytes = *bytes;
  }
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

bool is_date(std::string_view text) {
  if (text.size() != 10) return false;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (i == 4 || i == 7 ? text[i] != '-' : text[i] < '0' || text[i] > '9') return false;
  return true;
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

void read_guard(Members& in, Profile& out) {
  in.object("guard", [&](Members& guard) {
    guard.object("input", [&](Members& side) { read_side(side, out.input); });
    guard.object("output", [&](Members& side) { read_side(side, out.output); });
    guard.flag("retract", out.retracts);
    guard.flag("tell_client", out.tells_client);
    guard.text("model", out.guard_model, false, 200);
    guard.choice("strictness", out.strictness, {"strict", "loose"});
  });
  read_packs(in, out.packs);
  in.object("strikes", [&](Members& strikes) {
    strikes.count("in_a_row", out.strikes_in_a_row, 0, 1000);
    strikes.count("a_day", out.strikes_a_day, 0, 1000);
  });
  in.object("minors", [&](Members& minors) {
    const json::Value* ages = minors.find("ages", true);
    if (ages == nullptr) return;
    if (!ages->is_array()) return minors.reject("ages", "must be a list of ages");
    for (const json::Value& age : ages->as_array()) {
      if (!age.is_int() || age.as_int() < 1 || age.as_int() > 21)
        return minors.reject("ages", "must be a list of ages");
      out.minor_ages.push_back(age.as_int());
    }
  });
  in.object("companion", [&](Members& companion) { companion.count("reminder_min", out.reminder_minutes, 0, 1440); });
}

void read_keeping(Members& in, Profile& out) {
  in.object("retention", [&](Members& retention) {
    retention.count("logs_days", out.logs_days, 0, 36'500);
    retention.count("docs_years", out.docs_years, 0, 100);
  });
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
  in.names("public_page_fields", out.public_page_fields);
  in.names("required_approvals", out.required_approvals);
  read_approvers(in, out.approvers);
  read_duties(in, out.operator_duties);
}

void read_signature(Members& in, std::optional<ProfileSignature>& out) {
  in.object("signature", [&](Members& sealed) {
    std::string key, text;
    sealed.text("public", key, true);
    sealed.text("sig", text, true);
    const auto first = text.size() == 128 ? hash_from_hex(std::string_view(text).substr(0, 64)) : std::nullopt,
               second = text.size() == 128 ? hash_from_hex(std::string_view(text).substr(64)) : std::nullopt;
    const auto bytes = hash_from_hex(key);
    if (!bytes || !first || !second) return sealed.reject("", "must be a public key and a signature in hexadecimal");
    ProfileSignature& made = out.emplace();
    made.key.bytes = *bytes;
    std::copy(first->begin(), first->end(), made.signature.begin());
    std::copy(second->begin(), second->end(), made.signature.begin() + 32);
  });
}

// What canonical JSON cannot hold.
bool is_plain(const json::Value& value) {
  if (value.is_double()) return false;
  if (value.is_array()) return std::all_of(value.as_array().begin(), value.as_array().end(), is_plain);
  if (!value.is_object()) return true;
  return std::all_of(value.as_object().begin(), value.as_object().end(), [](const json::Member& member) {
    return std::all_of(member.first.begin(), member.first.end(), [](char c) { return c > 0; }) &&
           is_plain(member.second);
  });
}

}  // namespace

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
