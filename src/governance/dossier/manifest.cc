#include "governance/dossier/manifest.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/file.h"
#include "base/sha256.h"
#include "governance/audit/log_files.h"
#include "json/value.h"

namespace qw::governance {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormat = "qianwen-dossier-1";
// In front of what is signed, so that nothing else that the key signs can be taken for a manifest.
constexpr const char* kSignedAs = "qianwen dossier\n";
constexpr std::uint64_t kMostBytes = 64 << 20;
constexpr std::size_t kMostFindings = 50;

// Names below the folder, with slashes, of everything that is no folder; sorted.
Result<std::vector<std::string>> files_below(const fs::path& folder) {
  std::vector<std::string> out;
  std::error_code code;
  for (fs::recursive_directory_iterator it(folder, code), end; !code && it != end; it.increment(code))
    if (it->is_symlink(code) || !it->is_directory(code))
      out.push_back(it->path().lexically_relative(folder).generic_string());
  if (code) return fail(ErrorKind::kFailed, folder.string() + ": " + code.message());
  std::sort(out.begin(), out.end());
  return out;
}

bool stays_inside(const std::string& name) {
  const fs::path path = fs::path(name).lexically_normal();
  return !name.empty() && !path.is_absolute() && *path.begin() != "..";
}

std::string text(const json::Value& object, const char* key) {
  const json::Value* found = object.find(key);
  return found != nullptr && found->is_string() ? found->as_string() : "";
}

std::optional<Signature> signature_of(const std::string& hex) {
  if (hex.size() != 128) return std::nullopt;
  const auto first = hash_from_hex(hex.substr(0, 64)), second = hash_from_hex(hex.substr(64));
  if (!first || !second) return std::nullopt;
  Signature out{};
  std::copy(first->begin(), first->end(), out.begin());
  std::copy(second->begin(), second->end(), out.begin() + 32);
  return out;
}

// What canonical JSON cannot hold would be a bug there, and is foreign here.
bool is_plain(const json::Value& value) {
  if (value.is_double()) return false;
  if (value.is_array()) return std::all_of(value.as_array().begin(), value.as_array().end(), is_plain);
  if (!value.is_object()) return true;
  return std::all_of(value.as_object().begin(), value.as_object().end(), [](const json::Member& member) {
    return std::all_of(member.first.begin(), member.first.end(), [](char c) { return c > 0; }) &&
           is_plain(member.second);
  });
}

bool signed_by(const json::Value& manifest, const PublicKey& key) {
  json::Value body = manifest;
  body.as_object().erase("sig");
  const auto signature = signature_of(text(manifest, "sig"));
  return signature && is_plain(body) && text(manifest, "key") == key.id() &&
         key.verifies(kSignedAs + canonical(body), *signature);
}

}  // namespace

Status write_manifest(const fs::path& folder, const SigningKey& key, const std::string& made) {
  QW_ASSIGN(const auto names, files_below(folder));
  json::Array files;
  for (const std::string& name : names) {
    if (name == kManifestFile) continue;
    QW_ASSIGN(auto sha, base::sha256_file_hex(folder / name));
    std::error_code code;
    files.push_back(json::Object{{"name", name},
                                 {"bytes", static_cast<std::int64_t>(fs::file_size(folder / name, code))},
                                 {"sha256", std::move(sha)}});
  }
  json::Object manifest{
      {"format", kFormat}, {"made", made}, {"files", std::move(files)}, {"key", key.public_key().id()}};
  manifest.set("sig", to_hex(key.sign(kSignedAs + canonical(json::Value(manifest)))));
  json::WriteStyle style;
  style.indent = 1;
  return base::write_file_atomically(folder / kManifestFile,
                                     json::dump(json::Value(std::move(manifest)), style) + "\n");
}

Result<ManifestReport> verify_manifest(const fs::path& folder, const PublicKey& key) {
  QW_ASSIGN(const std::string file, base::read_file(folder / kManifestFile, kMostBytes));
  auto manifest = json::parse(file, {.max_bytes = kMostBytes, .max_depth = 8});
  if (!manifest) return in_context((folder / kManifestFile).string(), std::move(manifest).error());
  const json::Value* files = manifest->find("files");
  if (!manifest->is_object() || text(*manifest, "format") != kFormat || files == nullptr || !files->is_array())
    return fail(ErrorKind::kBadInput, (folder / kManifestFile).string() + ": not the manifest of a dossier");
  ManifestReport out;
  out.made = text(*manifest, "made");
  const auto find = [&](std::string what) {
    if (out.findings.size() < kMostFindings) out.findings.push_back(std::move(what));
  };
  if (!signed_by(*manifest, key)) find("manifest.json: not signed by the key " + key.id() + ", or changed since");
  std::set<std::string> listed{kManifestFile};
  for (const json::Value& one : files->as_array()) {
    const std::string name = text(one, "name");
    if (!stays_inside(name)) {
      find("manifest.json: \"" + name + "\" leads out of the folder");
      continue;
    }
    listed.insert(name);
    ++out.files;
    std::error_code code;
    const fs::path path = folder / name;
    if (!fs::is_regular_file(fs::symlink_status(path, code))) {
      find(name + ": missing, or no file");
      continue;
    }
    const auto sha = base::sha256_file_hex(path);
    if (!sha)
      find(sha.error().message);
    else if (*sha != text(one, "sha256"))
      find(name + ": changed");
  }
  QW_ASSIGN(const auto names, files_below(folder));
  for (const std::string& name : names)
    if (!listed.contains(name)) find(name + ": was added");
  return out;
}

}  // namespace qw::governance
