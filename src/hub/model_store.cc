#include "hub/model_store.h"

#include <algorithm>
#include <map>

#include "base/file.h"
#include "base/sha256.h"
#include "hub/listing.h"
#include "hub/select.h"
#include "json/value.h"

namespace qw::hub {
namespace {

namespace fs = std::filesystem;
// A hundred thousand files at 200 bytes each.
constexpr std::uint64_t kMaxManifestBytes = std::uint64_t{32} << 20;

std::string text_of(const json::Value& object, const char* key) {
  const json::Value* v = object.find(key);
  return v != nullptr && v->is_string() ? v->as_string() : "";
}

Result<Manifest> parse_manifest(const json::Value& value) {
  const json::Value *files = value.find("files"), *complete = value.find("complete");
  if (files == nullptr || !files->is_array() || complete == nullptr || !complete->is_bool())
    return fail(ErrorKind::kBadInput, "is no manifest");
  Manifest out{text_of(value, "service"), text_of(value, "id"), text_of(value, "revision"), complete->as_bool(), {}};
  for (const json::Value& entry : files->as_array()) {
    const json::Value* bytes = entry.find("bytes");
    ManifestFile file{text_of(entry, "path"), 0, text_of(entry, "sha256")};
    if (!safe_path(file.path) || bytes == nullptr || !bytes->is_int() || bytes->as_int() < 0)
      return fail(ErrorKind::kBadInput, "has a damaged entry");
    file.bytes = static_cast<std::uint64_t>(bytes->as_int());
    out.files.push_back(std::move(file));
  }
  return out;
}

std::uint64_t size_on_disk(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    const auto bytes = fs::file_size(path, error);
    return error ? 0 : bytes;
  }
  std::uint64_t sum = 0;
  for (fs::recursive_directory_iterator at(path, error), end; !error && at != end; at.increment(error)) {
    std::error_code ignored;
    if (const auto bytes = at->file_size(ignored); !ignored && at->is_regular_file(ignored)) sum += bytes;
  }
  return sum;
}

bool is_gguf(const fs::path& path) { return lower(path.extension().string()) == ".gguf"; }

// Parts of a split model: the first one is opened, the others belong to it.
bool later_part(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.substr(gguf_stem(name).size()).starts_with("-") && name.find("-00001-of-") == std::string::npos;
}

std::vector<fs::path> parts_of(const fs::path& gguf) {
  std::vector<fs::path> parts;
  std::error_code error;
  const std::string stem = gguf_stem(gguf.filename().string());
  for (fs::directory_iterator at(gguf.parent_path(), error), end; !error && at != end; at.increment(error)) {
    if (is_gguf(at->path()) && gguf_stem(at->path().filename().string()) == stem) parts.push_back(at->path());
  }
  return parts;
}

StoredModel gguf_model(const std::string& prefix, const fs::path& path) {
  StoredModel model{prefix + gguf_stem(path.filename().string()), path, path.parent_path(), true, true, 0};
  for (const fs::path& part : parts_of(path)) model.bytes += size_on_disk(part);
  return model;
}

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (at->path().filename().string().front() != '.') out.push_back(at->path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

// The models of one folder. False if there are none: then it may be an owner's.
bool add_folder(const fs::path& folder, const std::string& name, std::vector<StoredModel>& out) {
  const std::size_t before = out.size();
  const auto manifest = read_manifest(folder);
  const bool incomplete = manifest && *manifest && !(*manifest)->complete;
  std::error_code error;
  const bool has_config = fs::exists(folder / "config.json", error) || fs::exists(folder / "adapter_config.json", error);
  if (has_config || incomplete) out.push_back({name, folder, folder, false, !incomplete, size_on_disk(folder)});
  for (const fs::path& entry : entries(folder)) {
    if (is_gguf(entry) && !later_part(entry)) out.push_back(gguf_model(name + ":", entry));
    // Some repositories hold each split model in a folder of its own.
    if (!fs::is_directory(entry, error) || !manifest || !*manifest) continue;
    for (const fs::path& inner : entries(entry)) {
      if (is_gguf(inner) && !later_part(inner)) out.push_back(gguf_model(name + ":", inner));
    }
  }
  return out.size() > before || (manifest && *manifest);
}

// The names a model answers to.
std::vector<std::string> names_of(const StoredModel& m) {
  std::vector<std::string> names{m.name};
  const std::size_t colon = m.name.find(':');
  const std::string id = m.name.substr(0, colon);
  const std::string last = id.substr(id.rfind('/') + 1);
  names.push_back(colon == std::string::npos ? last : last + m.name.substr(colon));
  if (m.gguf) {
    names.push_back(m.path.filename().string());
    names.push_back(gguf_stem(names.back()));
    names.push_back(id);      // if it is the only one of its repository
    names.push_back(last);
  }
  return names;
}

// NAME:PART as `pull` takes it.
bool named_by_part(const StoredModel& m, const std::string& wanted) {
  const std::size_t colon = wanted.find(':');
  if (colon == std::string::npos || !m.gguf) return false;
  const std::string id = lower(m.name.substr(0, m.name.find(':'))), asked = lower(wanted.substr(0, colon));
  return (id == asked || id.ends_with("/" + asked)) && matches(m.path.filename().string(), wanted.substr(colon + 1));
}

Result<std::optional<StoredModel>> only_one(const std::vector<StoredModel>& found, const std::string& name) {
  if (found.empty()) return std::optional<StoredModel>();
  if (found.size() == 1) return std::optional<StoredModel>(found.front());
  std::string all;
  for (const StoredModel& m : found) all += (all.empty() ? "" : ", ") + m.name;
  return fail(ErrorKind::kUsage, name + ": several models of that name: " + all.substr(0, 1000));
}

}  // namespace

Result<std::optional<Manifest>> read_manifest(const fs::path& folder) {
  const fs::path path = folder / kManifestName;
  std::error_code error;
  if (!fs::exists(path, error)) return std::optional<Manifest>();
  QW_ASSIGN(const std::string text, base::read_file(path, kMaxManifestBytes));
  const auto value = json::parse(text);
  if (!value) return in_context(path.string(), value.error());
  auto manifest = parse_manifest(*value);
  if (!manifest) return in_context(path.string(), manifest.error());
  return std::optional<Manifest>(std::move(*manifest));
}

Status write_manifest(const fs::path& folder, const Manifest& manifest) {
  json::Array files;
  for (const ManifestFile& f : manifest.files) files.push_back(json::Object{{"path", f.path}, {"bytes", f.bytes}, {"sha256", f.sha256}});
  const json::Object whole{{"service", manifest.service},
                           {"id", manifest.id},
                           {"revision", manifest.revision},
                           {"complete", manifest.complete},
                           {"files", std::move(files)}};
  json::WriteStyle style;
  style.indent = 1;
  return base::write_file_atomically(folder / kManifestName, json::dump(whole, style) + "\n");
}

Result<std::vector<StoredModel>> list_models(const fs::path& store) {
  std::vector<StoredModel> out;
  std::error_code error;
  for (const fs::path& entry : entries(store)) {
    const std::string name = entry.filename().string();
    if (!fs::is_directory(entry, error)) {
      if (is_gguf(entry) && !later_part(entry)) out.push_back(gguf_model("", entry));
      continue;
    }
    if (add_folder(entry, name, out) || fs::is_symlink(entry, error)) continue;
    for (const fs::path& inner : entries(entry)) {
      if (fs::is_directory(inner, error)) add_folder(inner, name + "/" + inner.filename().string(), out);
    }
  }
  return out;
}

Result<std::optional<StoredModel>> find_model(const fs::path& store, const std::string& asked) {
  std::string name = asked;
  if (name.starts_with("hf:") || name.starts_with("ms:")) name.erase(0, 3);
  QW_ASSIGN(const auto models, list_models(store));
  const auto search = [&](const auto& fits) {
    std::vector<StoredModel> found;
    std::copy_if(models.begin(), models.end(), std::back_inserter(found), fits);
    return found;
  };
  auto found = search([&](const StoredModel& m) {
    const auto names = names_of(m);
    return m.name == name || std::find(names.begin(), names.end(), name) != names.end();
  });
  if (found.empty()) {
    found = search([&](const StoredModel& m) {
      const auto names = names_of(m);
      return std::any_of(names.begin(), names.end(), [&](const std::string& n) { return lower(n) == lower(name); });
    });
  }
  if (found.empty()) found = search([&](const StoredModel& m) { return named_by_part(m, name); });
  QW_ASSIGN(auto one, only_one(found, name));
  if (one && !one->complete)
    return fail(ErrorKind::kBadInput, one->name + ": is not completely there; go on with: qianwen models pull " + one->name);
  return one;
}

Result<std::vector<Damage>> verify_model(const StoredModel& model) {
  QW_ASSIGN(const auto manifest, read_manifest(model.folder));
  std::vector<ManifestFile> files;
  for (const ManifestFile& f : manifest ? manifest->files : std::vector<ManifestFile>()) {
    const bool gguf = is_gguf(f.path);
    if (gguf == model.gguf && (!gguf || gguf_stem(fs::path(f.path).filename().string()) == gguf_stem(model.path.filename().string())))
      files.push_back(f);
  }
  if (files.empty()) return fail(ErrorKind::kUsage, model.name + ": was not pulled, so there are no checksums to compare with");
  std::vector<Damage> damage;
  for (const ManifestFile& f : files) {
    const fs::path path = model.folder / f.path;
    std::error_code error;
    const auto bytes = fs::file_size(path, error);
    if (error) {
      damage.push_back({f.path, "is missing"});
    } else if (bytes != f.bytes) {
      damage.push_back({f.path, "has " + std::to_string(bytes) + " bytes, should have " + std::to_string(f.bytes)});
    } else {
      const auto hash = base::sha256_file_hex(path);
      if (!hash) damage.push_back({f.path, hash.error().message});
      else if (*hash != f.sha256) damage.push_back({f.path, "has SHA-256 " + *hash + ", should be " + f.sha256});
    }
  }
  return damage;
}

Status remove_model(const fs::path& store, const StoredModel& model) {
  std::error_code error;
  QW_ASSIGN(auto manifest, read_manifest(model.folder));
  if (fs::is_symlink(model.path, error) || (model.gguf && !manifest)) {
    for (const fs::path& part : model.gguf ? parts_of(model.path) : std::vector<fs::path>{model.path}) fs::remove(part, error);
  } else if (model.gguf) {
    for (const fs::path& part : parts_of(model.path)) {
      const std::string relative = part.lexically_relative(model.folder).string();
      std::erase_if(manifest->files, [&](const ManifestFile& f) { return fs::path(f.path).filename() == part.filename(); });
      fs::remove(part, error);
      if (error) return fail(ErrorKind::kFailed, part.string() + ": cannot remove: " + error.message());
    }
    const bool more = std::any_of(manifest->files.begin(), manifest->files.end(), [](const ManifestFile& f) { return is_gguf(f.path); });
    if (more) return write_manifest(model.folder, *manifest);
    fs::remove_all(model.folder, error);
  } else {
    fs::remove_all(model.path, error);
  }
  if (error) return fail(ErrorKind::kFailed, model.path.string() + ": cannot remove: " + error.message());
  // remove() takes empty folders only; the store itself stays.
  for (fs::path up = model.path.parent_path(); up != store && up.native().size() > store.native().size(); up = up.parent_path()) {
    if (!fs::is_empty(up, error) || error) break;
    fs::remove(up, error);
  }
  return {};
}

}  // namespace qw::hub
