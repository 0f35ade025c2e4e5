#include "governance/policy/policy.h"

#include <algorithm>

#include "base/file.h"

namespace qw::governance {
namespace {

constexpr std::uint64_t kMostPackBytes = std::uint64_t{256} << 20;  // ten million keywords

Result<GuardedWords> words_of(const KeywordPack& pack, const KeywordList& list) {
  GuardedWords out{&list, pack.action, {}};
  out.by_category.assign(list.categories().size(), pack.action);
  for (const auto& [name, action] : pack.categories) {
    const auto at = std::find(list.categories().begin(), list.categories().end(), name);
    if (at == list.categories().end() || at == list.categories().begin() + KeywordList::kExcept)
      return fail(ErrorKind::kBadInput, pack.file + " has no category " + name + ", which the profile names");
    out.by_category[static_cast<std::size_t>(at - list.categories().begin())] = action;
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<const Policy>> Policy::load(Profile profile, const std::filesystem::path& packs) {
  std::unique_ptr<Policy> out(new Policy(std::move(profile)));
  const Profile& p = out->profile_;
  out->input_.pii = p.input.pii;
  out->input_.on_pii = p.input.on_pii;
  out->output_.pii = p.output.pii;
  out->output_.on_pii = p.output.on_pii;
  std::string hashed(p.hash.begin(), p.hash.end());
  for (const KeywordPack& pack : p.packs) {
    if (packs.empty())
      return fail(ErrorKind::kBadInput, "the policy " + p.name + " asks for the keyword pack " + pack.file +
                                            ", which the operator has: --policy-packs FOLDER says where");
    QW_ASSIGN(const std::string file, base::read_file(packs / pack.file, kMostPackBytes));
    auto list = KeywordList::parse(file);
    if (!list) return in_context((packs / pack.file).string(), std::move(list).error());
    const Hash hash = sha256(file);
    hashed.append(hash.begin(), hash.end());
    Pack& kept = out->packs_.emplace_back();
    kept.file = pack.file;
    kept.sha256 = to_hex(hash);
    kept.list = std::make_unique<const KeywordList>(std::move(*list));
    QW_ASSIGN(const GuardedWords words, words_of(pack, *kept.list));
    if (pack.in_input) out->input_.words.push_back(words);
    if (pack.in_output) out->output_.words.push_back(words);
  }
  out->hash_ = to_hex(sha256(hashed));
  return std::unique_ptr<const Policy>(std::move(out));
}

json::Object Policy::description() const {
  json::Object out{{"profile", profile_.name},
                   {"version", profile_.version},
                   {"profile_sha256", to_hex(profile_.hash)},
                   {"policy", hash_}};
  if (profile_.signature) out.set("key", profile_.signature->key.id());
  json::Array packs, duties;
  for (const Pack& pack : packs_) packs.push_back(json::Object{{"file", pack.file}, {"sha256", pack.sha256}});
  for (const Duty duty : profile_.operator_duties) duties.emplace_back(name_of(duty));
  out.set("packs", std::move(packs));
  out.set("operator_duties", std::move(duties));
  return out;
}

std::vector<std::string> Policy::unmet(const ServiceAbilities& service) const {
  std::vector<std::string> out;
  const Profile& p = profile_;
  const auto lacks = [&](const std::string& what) { out.push_back("the policy " + p.name + " asks for " + what); };
  // What a service does not do by itself is somebody's duty, or not done.
  const auto not_done = [&](bool asked, Duty duty, const std::string& what) {
    if (asked && !p.takes_on(duty))
      lacks(what + ", which this service does not do: an operator who does names " + name_of(duty) +
            " in operator_duties");
  };
  not_done(!p.disclosure.empty() && p.disclosure != "none", Duty::kDisclosure, "telling people that this is a machine");
  not_done(!p.explicit_labels.empty(), Duty::kExplicitLabels, "labels that people see");
  not_done(p.implicit_label == "c2pa", Duty::kImplicitLabels, "labels in metadata (c2pa)");
  if (p.implicit_label == "gb45438" && !service.labels && !p.takes_on(Duty::kImplicitLabels))
    lacks("labels in metadata (--label-producer)");
  not_done(p.strikes_in_a_row > 0 || p.strikes_a_day > 0, Duty::kStrikes, "counting strikes");
  not_done(!p.minor_ages.empty(), Duty::kMinors, "a mode for minors");
  not_done(p.reminder_minutes > 0, Duty::kCompanion, "reminders in long conversations");
  not_done(!p.guard_model.empty(), Duty::kGuardModel, "the guard model " + p.guard_model);
  not_done(p.training_opt_in_default, Duty::kTrainingConsent, "training on what users write");
  if (p.crypto != "sha256/ed25519") lacks(p.crypto + ", and the audit log has sha256/ed25519");
  if (p.logs_days > 0 && !service.audit_log) lacks("an audit log (--audit-log, --audit-key)");
  if (!p.required_approvals.empty() && !service.audit_log)
    lacks("approvals, which are kept in an audit log (--audit-log, --audit-key)");
  if (p.watermark_forced && service.watermark.empty()) lacks("marked answers (--watermark-keys)");
  if (p.watermark_forced && !service.watermark.empty() && p.watermark_scheme != "any" &&
      p.watermark_scheme != service.watermark)
    lacks("the watermark " + p.watermark_scheme + ", and the key in use is of " + service.watermark);
  if (p.detector != "off" && service.watermark.empty()) lacks("a detector of marks (--watermark-keys)");
  return out;
}

const Policy* PolicySet::of(const std::string& tenant) const {
  auto found = policies_.find(tenant);
  if (found == policies_.end()) found = policies_.find("");
  return found == policies_.end() ? nullptr : found->second.get();
}

}  // namespace qw::governance
