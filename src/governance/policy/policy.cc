#include "governance/policy/policy.h"

#include <algorithm>

#include "base/file.h"
#include "governance/guard/injection.h"

namespace qw::governance {
namespace {

constexpr double kStrict = 0.5, kLoose = 0.9;                       // scores of a guard model
constexpr std::uint64_t kMostPackBytes = std::uint64_t{256} << 20;  // ten million keywords

// What becomes of what is found, by category. `first`: of those that a profile can name.
Result<std::vector<GuardAction>> actions_of(const KeywordPack& pack, const std::vector<std::string>& categories,
                                            std::ptrdiff_t first = 0) {
  std::vector<GuardAction> out(categories.size(), pack.action);
  for (const auto& [name, action] : pack.categories) {
    const auto at = std::find(categories.begin() + first, categories.end(), name);
    if (at == categories.end())
      return fail(ErrorKind::kBadInput, "it has no category " + name + ", which the profile names");
    out[static_cast<std::size_t>(at - categories.begin())] = action;
  }
  return out;
}

Result<GuardedWords> words_of(const KeywordPack& pack, const KeywordList& list) {
  GuardedWords out{&list, pack.action, {}};
  QW_ASSIGN(out.by_category, actions_of(pack, list.categories(), KeywordList::kExcept + 1));
  return out;
}

// Of minors what stands in their part is added; of two actions the harder counts.
void add_side(GuardRules& out, const GuardSide& side) {
  for (std::size_t i = 0; i < kPiiKinds; ++i) {
    const auto kind = static_cast<PiiKind>(i);
    if (!side.pii.has(kind)) continue;
    out.on_pii[i] = out.pii.has(kind) ? std::max(out.on_pii[i], side.on_pii[i]) : side.on_pii[i];
    out.pii.add(kind);
  }
  out.classes.action = std::max(out.classes.action, side.on_class);
}

// By number; that of phrases that hide others if there is none of the name.
std::size_t category_in(const KeywordList& list, std::string_view category) {
  const auto& names = list.categories();
  const auto at = std::find(names.begin() + 1, names.end(), category);
  return at == names.end() ? std::size_t{KeywordList::kExcept} : static_cast<std::size_t>(at - names.begin());
}

// Blocks what is of one category of a list, and tells of the others.
std::optional<GuardedWords> only(const KeywordList& list, std::string_view category) {
  const std::size_t at = category_in(list, category);
  if (at == KeywordList::kExcept) return std::nullopt;
  GuardedWords out{&list, GuardAction::kFlag, std::vector(list.categories().size(), GuardAction::kFlag)};
  out.by_category[at] = GuardAction::kBlock;
  return out;
}

}  // namespace

Status Policy::add_pack(const KeywordPack& pack, const std::filesystem::path& packs, bool minors, std::string& hashed) {
  if (packs.empty())
    return fail(ErrorKind::kBadInput, "the policy " + profile_.name + " asks for the keyword pack " + pack.file +
                                          ", which the operator has: --policy-packs FOLDER says where");
  QW_ASSIGN(const std::string file, base::read_file(packs / pack.file, kMostPackBytes));
  const Hash hash = sha256(file);
  hashed.append(hash.begin(), hash.end());
  Pack& kept = packs_.emplace_back();
  kept.file = pack.file;
  kept.sha256 = to_hex(hash);
  if (Status added = pack.patterns ? add_patterns(pack, kept, file, minors) : add_words(pack, kept, file, minors);
      !added)
    return in_context((packs / pack.file).string(), std::move(added).error());
  return {};
}

Status Policy::add_words(const KeywordPack& pack, Pack& kept, std::string_view file, bool minors) {
  QW_ASSIGN(auto list, KeywordList::parse(file));
  kept.list = std::make_unique<const KeywordList>(std::move(list));
  QW_ASSIGN(GuardedWords words, words_of(pack, *kept.list));
  const auto add = [&](GuardRules& everybodys, GuardRules& minors_own) {
    if (!minors) everybodys.words.push_back(words);
    minors_own.words.push_back(words);
  };
  if (pack.in_input) add(input_, minor_input_);
  if (pack.in_retrieval && !minors) retrieval_.words.push_back(words);
  if (profile_.crisis)
    if (auto crisis = only(*kept.list, kCrisisCategory)) {
      // A model that speaks of it is answered for in the same way.
      words.by_category[category_in(*kept.list, kCrisisCategory)] = GuardAction::kBlock;
      if (!minors) crisis_.words.push_back(std::move(*crisis));
    }
  if (pack.in_output) add(output_, minor_output_);
  return {};
}

Status Policy::add_patterns(const KeywordPack& pack, Pack& kept, std::string_view file, bool minors) {
  QW_ASSIGN(auto list, PatternList::parse(file));
  kept.patterns = std::make_unique<const PatternList>(std::move(list));
  GuardedPatterns rule{kept.patterns.get()};
  QW_ASSIGN(rule.by_category, actions_of(pack, kept.patterns->categories()));
  const auto add = [&](GuardRules& everybodys, GuardRules& minors_own) {
    if (!minors) everybodys.patterns.push_back(rule);
    minors_own.patterns.push_back(rule);
  };
  if (pack.in_input) add(input_, minor_input_);
  if (pack.in_output) add(output_, minor_output_);
  if (pack.in_retrieval && !minors) retrieval_.patterns.push_back(rule);
  return {};
}

// So are its expressions.
Status Policy::add_own_patterns() {
  for (const PatternRule& rule : profile_.patterns) {
    QW_ASSIGN(auto list, rule.list());
    own_patterns_.push_back(std::make_unique<const PatternList>(std::move(list)));
    const GuardedPatterns made{own_patterns_.back().get(), {rule.action}};
    for (GuardRules* side : {&input_, &minor_input_})
      if (rule.in_input) side->patterns.push_back(made);
    for (GuardRules* side : {&output_, &minor_output_})
      if (rule.in_output) side->patterns.push_back(made);
    if (rule.in_retrieval) retrieval_.patterns.push_back(made);
  }
  return {};
}

// The words that the profile has itself: they are a part of its hash.
Status Policy::add_own_words() {
  const auto add = [&](const char* category, const std::vector<std::string>& words, GuardRules& out) -> Status {
    if (words.empty()) return {};
    QW_ASSIGN(auto list, keyword_list(category, words));
    own_.push_back(std::make_unique<const KeywordList>(std::move(list)));
    out.words.push_back({own_.back().get(), GuardAction::kBlock, {}});
    return {};
  };
  if (profile_.crisis && !profile_.crisis->keywords.empty()) {
    QW_TRY(add(kCrisisCategory, profile_.crisis->keywords, crisis_));
    for (GuardRules* answers : {&output_, &minor_output_}) answers->words.push_back(crisis_.words.back());
  }
  return add("companion", profile_.companion.personas, personas_);
}

Result<std::unique_ptr<const Policy>> Policy::load(Profile profile, const std::filesystem::path& packs,
                                                   const TextClassifier* guard_model) {
  std::unique_ptr<Policy> out(new Policy(std::move(profile)));
  const Profile& p = out->profile_;
  out->input_.pii = p.input.pii;
  out->input_.on_pii = p.input.on_pii;
  out->output_.pii = p.output.pii;
  out->output_.on_pii = p.output.on_pii;
  if (guard_model != nullptr && guard_model->name() == p.guard_model) {
    const double threshold = p.strictness == "loose" ? kLoose : kStrict;
    out->input_.classes = {guard_model, p.input.on_class, threshold};
    out->output_.classes = {guard_model, p.output.on_class, threshold};
    if (p.retrieval.asks_model) out->retrieval_.classes = {guard_model, p.retrieval.on_class, threshold};
  }
  out->minor_input_ = out->input_;
  out->minor_output_ = out->output_;
  out->retrieval_.pii = p.retrieval.pii;
  out->retrieval_.on_pii = p.retrieval.on_pii;
  std::string hashed(p.hash.begin(), p.hash.end());
  if (p.retrieval.on_injection) {
    out->retrieval_.words.push_back({&injection_list(), *p.retrieval.on_injection, {}, "injection/"});
    const Hash phrases = sha256(injection_file());
    hashed.append(phrases.begin(), phrases.end());
  }
  for (const KeywordPack& pack : p.packs) QW_TRY(out->add_pack(pack, packs, false, hashed));
  if (p.minors) {
    for (const KeywordPack& pack : p.minors->packs) QW_TRY(out->add_pack(pack, packs, true, hashed));
    add_side(out->minor_input_, p.minors->input);
    add_side(out->minor_output_, p.minors->output);
  }
  QW_TRY(out->add_own_words());
  QW_TRY(out->add_own_patterns());
  out->hash_ = to_hex(sha256(hashed));
  return std::unique_ptr<const Policy>(std::move(out));
}

bool Policy::is_minor(std::int64_t age) const { return profile_.minors && age < profile_.minors->ages.back(); }

bool Policy::needs_consent(std::int64_t age) const {
  return profile_.minors && profile_.minors->ages.size() > 1 && age < profile_.minors->ages.front();
}

store::ConductRules Policy::conduct(bool minor) const {
  store::ConductRules out;
  out.strikes = profile_.strikes;
  out.utc_offset_min = profile_.utc_offset_min;
  out.pause_min = profile_.companion.pause_min;
  out.reminder_min = profile_.companion.reminder_min;
  if (!minor || !profile_.minors) return out;
  out.minutes_a_day = profile_.minors->minutes_a_day;
  if (profile_.minors->reminder_min > 0) out.reminder_min = profile_.minors->reminder_min;
  return out;
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
  const auto needs_accounts = [&](bool asked, Duty duty, const std::string& what) {
    if (asked && !service.accounts && !p.takes_on(duty)) lacks(what + ", which needs to know who asks (--store)");
  };
  needs_accounts(!p.strikes.empty(), Duty::kStrikes, "counting strikes");
  needs_accounts(p.minors.has_value(), Duty::kMinors, "a mode for minors");
  needs_accounts(p.companion.reminder_min > 0, Duty::kCompanion, "reminders in long conversations");
  if (service.guard_model == nullptr || service.guard_model->name() != p.guard_model)
    not_done(!p.guard_model.empty(), Duty::kGuardModel,
             "the guard model " + p.guard_model + " (--guard-model " + p.guard_model + ")");
  not_done(p.training_opt_in_default, Duty::kTrainingConsent, "training on what users write");
  if (p.crypto != "sha256/ed25519") lacks(p.crypto + ", and the audit log has sha256/ed25519");
  if (p.logs_days > 0 && !service.audit_log) lacks("an audit log (--audit-log, --audit-key)");
  if (p.content == "encrypted" && !(service.audit_log && service.accounts && service.content_keys))
    lacks("contents that are kept encrypted (--audit-log, --store, --content-keys)");
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
