// The list of a dossier's files with their hashes, signed; and the check of a folder against it by somebody who has the
// public key and nothing else.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "governance/audit/signing_key.h"

namespace qw::governance {

inline constexpr const char* kManifestFile = "manifest.json";

// Writes DIR/manifest.json over every other file below DIR. `made`: a moment, for people.
Status write_manifest(const std::filesystem::path& folder, const SigningKey& key, const std::string& made);

struct ManifestReport {
  std::string made;
  std::size_t files = 0;
  std::vector<std::string> findings;  // empty: all is as it was signed
};
// An error: there is no manifest, or it is none. A wrong signature, files that were changed, are missing or were added
// are findings. Links and names that lead out of the folder are findings, too, and are not followed.
Result<ManifestReport> verify_manifest(const std::filesystem::path& folder, const PublicKey& key);

}  // namespace qw::governance
