// What licences of a base, of data and of an adapter mean for a model that is made of them, as far as a program can
// tell: families of well-known ones, and what about them stands in the way of giving a model on. No legal advice.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qw::governance {

enum class LicenceFamily {
  kMissing,        // nothing is stated
  kUnknown,        // stated, and not known here
  kPublicDomain,   // CC0-1.0, PDDL-1.0, Unlicense, "public domain"
  kPermissive,     // Apache-2.0, MIT, BSD, CC-BY, ODC-By
  kCommunity,      // with terms of its own: Qwen, Llama, Gemma licences
  kShareAlike,     // CC-BY-SA, ODbL
  kCopyleft,       // GPL, LGPL, AGPL, MPL
  kNonCommercial,  // CC-BY-NC..., research only
  kNoDerivatives,  // CC-BY-ND...
};
const char* family_name(LicenceFamily family);
// Of an SPDX identifier or expression ("Apache-2.0", "MIT OR Apache-2.0": the milder one, AND: the stricter one), or of
// words that hold one. Letters' case is no matter.
LicenceFamily licence_family(std::string_view text);

struct LicensedPart {
  std::string what;     // "base qwen3-0.6b", "data poems", "adapter poet"
  std::string licence;  // as stated; "": none is
};
struct LicenceFinding {
  enum class Kind { kMissing, kUnknown, kTerms, kConflict } kind = Kind::kMissing;
  std::string text;
};
// What speaks against giving on a model made of these: what is not stated or not known, terms that go along with it,
// and parts that cannot go together (no derivatives; share-alike beside non-commercial or community terms; copyleft of
// one kind beside share-alike of another).
std::vector<LicenceFinding> licence_findings(const std::vector<LicensedPart>& parts);

// What a profile has done about findings of a kind.
enum class LicenceAction { kIgnore, kWarn, kRefuse };

}  // namespace qw::governance
