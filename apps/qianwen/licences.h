// Licences of what a model is made of, where they are looked for, and what a policy has done about them; and the
// records that go along with a model when its files are written anew.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "governance/ledger/licence.h"
#include "governance/policy/policy.h"

namespace qw::app {

// As a model's or adapter's files state it: the key of a GGUF file, `license` of config.json or of the front matter of
// README.md, or the words that a LICENSE file begins with. "": nowhere.
std::string stated_licence(const std::string& path);
// Makes what was trained from `base`, in the folder `made`, state its licence: a README.md as model hubs have it. Nothing
// where the base states none. Errors: it cannot be written.
Status hand_on_licence(const std::string& base, const std::string& made);

// The model at `path`, the data of its ledger if there is one beside it, and the same of an adapter ("": none).
std::vector<governance::LicensedPart> licensed_parts(const std::string& path, const std::string& adapter);

// Of the sources of a data ledger (its bytes); nothing if it is none.
std::vector<governance::LicensedPart> data_parts(const std::string& ledger);

// Tells findings on standard error, a line each, as a profile's `licences` has it ("": warns of all of them). kRefused:
// it refuses one.
Status check_licences(const std::vector<governance::LicensedPart>& parts, const std::string& policy);

// Before a model is served with these adapters: kRefused if a policy that somebody follows refuses what they are made
// of. `policies` may be null. Any thread.
Status admit_licences(const governance::PolicySet* policies, const std::string& model,
                      const std::vector<std::string>& adapters);

// Records of compute and data of the model (or of the adapter that was put into it) go along to `out`, as of what was
// derived from it by `how`. Nothing is written where there are none.
Status carry_records(const std::string& in, const std::string& adapter, const std::string& out, const std::string& how);

}  // namespace qw::app
