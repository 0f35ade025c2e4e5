#include "governance/policy/internal/profile_parts.h"

namespace qw::governance {
namespace {

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
  read_where(in, out);
}

}  // namespace

std::optional<GuardAction> action_named(const json::Value& value) {
  for (const GuardAction action : {GuardAction::kFlag, GuardAction::kCover, GuardAction::kBlock})
    if (value.is_string() && value.as_string() == name_of(action)) return action;
  return std::nullopt;
}

void read_side(Members& in, GuardSide& out) {
  in.text("reply", out.reply);
  if (const json::Value* action = in.find("model"); action != nullptr) {
    const auto known = action_named(*action);
    if (!known || *known == GuardAction::kCover) return in.reject("model", "must be flag or block");
    out.on_class = *known;
  }
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

void read_packs(Members& in, std::vector<KeywordPack>& out) {
  in.objects("keyword_packs", [&](Members& pack) { read_pack(pack, out.emplace_back()); });
  in.objects("pattern_packs", [&](Members& pack) {
    read_pack(pack, out.emplace_back());
    out.back().patterns = true;
  });
}

}  // namespace qw::governance
