// The folder of models known by name: STORE/OWNER/NAME/ with the files of one repository, and whatever people put there
// themselves (STORE/NAME/ with a config.json, STORE/NAME.gguf).
//
// A folder that was pulled has a manifest (.qianwen.json): where it came from, and the SHA-256 of every file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "hub/name.h"

namespace qw::hub {

struct ManifestFile {
  std::string path;        // within the folder; safe_path()
  std::uint64_t bytes = 0;
  std::string sha256;
};

struct Manifest {
  std::string service, id, revision;
  bool complete = false;   // false: a pull of the folder's model has begun and not ended
  std::vector<ManifestFile> files;
};
inline constexpr const char* kManifestName = ".qianwen.json";
// nullopt if the folder has none; kBadInput if it is damaged.
Result<std::optional<Manifest>> read_manifest(const std::filesystem::path& folder);
Status write_manifest(const std::filesystem::path& folder, const Manifest& manifest);

struct StoredModel {
  std::string name;              // "Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B-GGUF:Qwen3-0.6B-Q8_0", "mine"
  std::filesystem::path path;    // what to open: a folder or a .gguf file
  std::filesystem::path folder;  // where it lies
  bool gguf = false;
  bool complete = true;          // false: to be pulled again before it can be opened
  std::uint64_t bytes = 0;       // on disk, all files of it
};

// By name. An absent folder is an empty store; links to folders are followed for models, not for owners.
Result<std::vector<StoredModel>> list_models(const std::filesystem::path& store);
// By the whole name, its last part, a GGUF file's name, or NAME:PART; in any case if that is unambiguous. nullopt: none
// of that name; kUsage: several; kBadInput: not completely there.
Result<std::optional<StoredModel>> find_model(const std::filesystem::path& store, const std::string& name);

// The model's files: those of the manifest that belong to it, or without one what is there.
struct Damage {
  std::string path, what;        // "config.json", "is missing"
};
// Compares with the manifest; kUsage if there is none for this model.
Result<std::vector<Damage>> verify_model(const StoredModel& model);
// Removes the model, and folders that are empty after it. A folder that is a link is unlinked, not emptied.
Status remove_model(const std::filesystem::path& store, const StoredModel& model);

}  // namespace qw::hub
