#include "governance/ledger/licence.h"

#include <algorithm>
#include <array>

namespace qw::governance {
namespace {

using Family = LicenceFamily;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  return out;
}

struct Pattern {
  const char* begins;  // of a word
  Family family;
};
// The first that fits decides: the narrower stand in front.
constexpr Pattern kWords[] = {
    {"cc-by-nc", Family::kNonCommercial},
    {"cc-by-nd", Family::kNoDerivatives},
    {"cc-by-sa", Family::kShareAlike},
    {"cc-by", Family::kPermissive},
    {"cc0", Family::kPublicDomain},
    {"pddl", Family::kPublicDomain},
    {"unlicense", Family::kPublicDomain},
    {"odbl", Family::kShareAlike},
    {"odc-by", Family::kPermissive},
    {"apache", Family::kPermissive},
    {"mit", Family::kPermissive},
    {"mit-0", Family::kPermissive},
    {"bsd", Family::kPermissive},
    {"isc", Family::kPermissive},
    {"zlib", Family::kPermissive},
    {"bsl-1.0", Family::kPermissive},
    {"python-2.0", Family::kPermissive},
    {"cdla-permissive", Family::kPermissive},
    {"cdla-sharing", Family::kShareAlike},
    {"agpl", Family::kCopyleft},
    {"lgpl", Family::kCopyleft},
    {"gpl", Family::kCopyleft},
    {"mpl", Family::kCopyleft},
    {"epl", Family::kCopyleft},
    {"gfdl", Family::kShareAlike},
    {"tongyi", Family::kCommunity},
    {"llama", Family::kCommunity},
    {"gemma", Family::kCommunity},
    {"openrail", Family::kCommunity},
    {"bigscience", Family::kCommunity},
    {"creativeml", Family::kCommunity},
};
struct Phrase {
  const char* holds;
  Family family;
};
constexpr Phrase kPhrases[] = {{"license agreement", Family::kCommunity},  {"non-commercial", Family::kNonCommercial},
                               {"noncommercial", Family::kNonCommercial},  {"research only", Family::kNonCommercial},
                               {"-research", Family::kNonCommercial},      {"research license", Family::kNonCommercial},
                               {"no derivatives", Family::kNoDerivatives}, {"public domain", Family::kPublicDomain},
                               {"public-domain", Family::kPublicDomain}};

bool is_word_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '+' || c == '_';
}

Family family_of_word(std::string_view word) {
  for (const Pattern& one : kWords) {
    const std::string_view begins = one.begins;
    if (!word.starts_with(begins)) continue;
    // "mit" and not "mitigated".
    if (word.size() == begins.size() || !(word[begins.size()] >= 'a' && word[begins.size()] <= 'z')) return one.family;
  }
  return Family::kUnknown;
}

// Of a stretch without OR: the strictest of what is known in it.
Family family_of_part(const std::string& text) {
  Family out = Family::kUnknown;
  for (const Phrase& one : kPhrases)
    if (text.find(one.holds) != std::string::npos) out = std::max(out, one.family);
  for (std::size_t at = 0; at < text.size();) {
    if (!is_word_character(text[at])) {
      ++at;
      continue;
    }
    std::size_t end = at;
    while (end < text.size() && is_word_character(text[end])) ++end;
    out = std::max(out, family_of_word(std::string_view(text).substr(at, end - at)));
    at = end;
  }
  return out;
}

struct Met {
  const LicensedPart* part;
  Family family;
};

std::string named(const Met& one) { return one.part->what + " (" + one.part->licence + ")"; }

}  // namespace

const char* family_name(LicenceFamily family) {
  static constexpr const char* kNames[] = {"missing",    "unknown",         "public domain",
                                           "permissive", "community terms", "share-alike",
                                           "copyleft",   "non-commercial",  "no derivatives"};
  return kNames[static_cast<std::size_t>(family)];
}

LicenceFamily licence_family(std::string_view text) {
  const std::string all = lower(text);
  if (all.find_first_not_of(" \t\r\n") == std::string::npos) return Family::kMissing;
  Family mildest = Family::kNoDerivatives;
  bool any = false;
  for (std::size_t at = 0;;) {
    const auto end = all.find(" or ", at);
    const Family part = family_of_part(all.substr(at, end == std::string::npos ? end : end - at));
    if (part != Family::kUnknown) {
      mildest = std::min(mildest, part);
      any = true;
    }
    if (end == std::string::npos) break;
    at = end + 4;
  }
  return any ? mildest : Family::kUnknown;
}

std::vector<LicenceFinding> licence_findings(const std::vector<LicensedPart>& parts) {
  using Kind = LicenceFinding::Kind;
  std::vector<LicenceFinding> out;
  std::vector<Met> share_alike, copyleft, limited;  // limited: terms that a share-alike licence does not allow to add
  for (const LicensedPart& part : parts) {
    const Met met{&part, licence_family(part.licence)};
    switch (met.family) {
      case Family::kMissing:
        out.push_back({Kind::kMissing, part.what + ": no licence is stated"});
        break;
      case Family::kUnknown:
        out.push_back({Kind::kUnknown, named(met) + ": the licence is not known here; read it"});
        break;
      case Family::kNoDerivatives:
        out.push_back({Kind::kConflict, named(met) + ": nothing that was made of it may be given on"});
        break;
      case Family::kNonCommercial:
        out.push_back({Kind::kTerms, named(met) + ": not for commercial use"});
        limited.push_back(met);
        break;
      case Family::kCommunity:
        out.push_back({Kind::kTerms, named(met) + ": its terms go along with the model"});
        limited.push_back(met);
        break;
      case Family::kShareAlike:
        out.push_back({Kind::kTerms, named(met) + ": what is made of it may have to carry the same licence"});
        share_alike.push_back(met);
        break;
      case Family::kCopyleft:
        out.push_back({Kind::kTerms, named(met) + ": what is made of it may have to carry the same licence"});
        copyleft.push_back(met);
        break;
      case Family::kPublicDomain:
      case Family::kPermissive:
        break;
    }
  }
  for (const auto* mine : {&share_alike, &copyleft})
    for (const Met& one : *mine)
      for (const Met& other : limited)
        out.push_back(
            {Kind::kConflict, named(one) + " asks for the same licence, which " + named(other) + " does not allow"});
  if (!share_alike.empty() && !copyleft.empty())
    out.push_back({Kind::kConflict,
                   named(share_alike.front()) + " and " + named(copyleft.front()) + " each ask for their own licence"});
  return out;
}

}  // namespace qw::governance
