// Manifests and statements of operators of any bytes: refused, or findings; nothing outside the folder is read.
#include <cstdlib>
#include <fstream>

#include "governance/dossier/documents.h"
#include "governance/dossier/manifest.h"

namespace {

std::filesystem::path make_folder() {
  std::string name = (std::filesystem::temp_directory_path() / "qw_manifest_fuzz_XXXXXX").string();
  QW_CHECK(::mkdtemp(name.data()) != nullptr);
  std::ofstream(std::filesystem::path(name) / "a.html") << "a";
  return name;
}

struct Folder {
  std::filesystem::path path = make_folder();
  ~Folder() { std::filesystem::remove_all(path); }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  static const Folder folder;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::ofstream(folder.path / governance::kManifestFile, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(size));
  // No input is signed by this key.
  static const governance::PublicKey key{
      *governance::hash_from_hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")};  // RFC 8032, 7.1
  if (const auto report = governance::verify_manifest(folder.path, key)) QW_CHECK(!report->findings.empty());
  (void)governance::parse_operator_facts(bytes);
  return 0;
}
