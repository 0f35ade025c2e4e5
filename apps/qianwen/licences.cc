#include "licences.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/file.h"
#include "formats/model_file.h"
#include "formats/weights_digest.h"
#include "governance/ledger/compute_ledger.h"
#include "ledger_files.h"
#include "policy.h"
#include "text_source.h"

namespace qw::app {
namespace {

namespace fs = std::filesystem;
using namespace governance;

constexpr std::uint64_t kMostRead = 1 << 20;

// `license: apache-2.0` between two lines of dashes at the beginning.
std::string of_front_matter(const fs::path& readme) {
  const auto text = base::read_file(readme, kMostRead);
  if (!text || !text->starts_with("---")) return "";
  std::string_view rest(*text);
  rest.remove_prefix(std::min(rest.find('\n'), rest.size() - 1) + 1);
  while (!rest.empty()) {
    const auto end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    if (line.starts_with("---")) break;
    if (line.starts_with("license:")) {
      std::string_view value = line.substr(8);
      while (!value.empty() && (value.front() == ' ' || value.front() == '"' || value.front() == '\''))
        value.remove_prefix(1);
      while (!value.empty() &&
             (value.back() == ' ' || value.back() == '"' || value.back() == '\'' || value.back() == '\r'))
        value.remove_suffix(1);
      return std::string(value);
    }
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return "";
}

// Licences are known by their first words.
std::string of_licence_file(const fs::path& folder) {
  constexpr std::array<std::pair<const char*, const char*>, 8> kBegin = {
      {{"Apache License", "Apache-2.0"},
       {"MIT License", "MIT"},
       {"Qwen RESEARCH LICENSE", "Qwen RESEARCH LICENSE"},
       {"Qwen LICENSE AGREEMENT", "Qwen LICENSE AGREEMENT"},
       {"Tongyi Qianwen", "tongyi-qianwen"},
       {"GNU AFFERO", "AGPL"},
       {"GNU LESSER", "LGPL"},
       {"GNU GENERAL PUBLIC LICENSE", "GPL"}}};
  for (const char* name : {"LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE"}) {
    const auto text = base::read_file(folder / name, kMostRead);
    if (!text) continue;
    const std::string_view head = std::string_view(*text).substr(0, 400);
    for (const auto& [words, licence] : kBegin)
      if (head.find(words) != std::string_view::npos) return licence;
    return std::string("file ") + name;
  }
  return "";
}

std::string base_name(const std::string& path) {
  fs::path p = fs::path(path).lexically_normal();
  if (!p.has_filename()) p = p.parent_path();
  return p.filename().string();
}

void add_data_parts(const std::string& path, std::vector<LicensedPart>& out) {
  const auto files = find_ledgers(path);
  if (!files || !files->data) return;
  const auto text = base::read_file(*files->data);
  if (!text) return;
  for (LicensedPart& part : data_parts(*text)) out.push_back(std::move(part));
}

Status refused_by(const Profile& profile, const std::vector<LicensedPart>& parts) {
  std::string refused;
  for (const LicenceFinding& one : licence_findings(parts))
    if (profile.licence_actions[static_cast<std::size_t>(one.kind)] == LicenceAction::kRefuse)
      refused += (refused.empty() ? "" : "; ") + one.text;
  if (refused.empty()) return {};
  return fail(ErrorKind::kRefused, "the policy " + profile.name + " refuses: " + refused);
}

LicenceAction action_of(const Profile* profile, LicenceFinding::Kind kind) {
  return profile == nullptr ? LicenceAction::kWarn : profile->licence_actions[static_cast<std::size_t>(kind)];
}

}  // namespace

std::string stated_licence(const std::string& path) {
  // An adapter's folder is no model, and has what stands below alone.
  if (const auto source = formats::ModelSource::open(path))
    for (const char* key : {"general.license", "license"})
      if (const json::Value* found = source->config().find(key); found != nullptr && found->is_string())
        return found->as_string();
  if (std::string licence = of_front_matter(fs::path(path) / "README.md"); !licence.empty()) return licence;
  return of_licence_file(path);
}

Status hand_on_licence(const std::string& base, const std::string& made) {
  const std::string licence = stated_licence(base);
  if (licence.empty()) return {};
  // JSON's strings are YAML's. What was trained has the licence of what it was trained from, as long as nobody says
  // another.
  return base::write_file_atomically(fs::path(made) / "README.md",
                                     "---\nlicense: " + json::dump(json::Value(licence)) +
                                         "\nbase_model: " + json::dump(json::Value(base_name(base))) + "\n---\n");
}

std::vector<LicensedPart> data_parts(const std::string& text) {
  std::vector<LicensedPart> out;
  const auto ledger = DatasetLedger::parse(text);
  if (!ledger) return out;
  for (const json::Value& source : ledger->sources()) {
    auto licence = field_text(source, "provenance.spdx");
    if (!licence) licence = field_text(source, "licence");
    out.push_back({"data " + field_text(source, "name").value_or("?"), licence.value_or("")});
  }
  return out;
}

std::vector<LicensedPart> licensed_parts(const std::string& path, const std::string& adapter) {
  std::vector<LicensedPart> out{{"model " + base_name(path), stated_licence(path)}};
  add_data_parts(path, out);
  if (adapter.empty()) return out;
  out.push_back({"adapter " + base_name(adapter), stated_licence(adapter)});
  add_data_parts(adapter, out);
  return out;
}

Status check_licences(const std::vector<LicensedPart>& parts, const std::string& policy) {
  std::optional<Profile> profile;
  if (!policy.empty()) {
    QW_ASSIGN(profile, open_profile(policy));
  }
  for (const LicenceFinding& one : licence_findings(parts))
    if (action_of(profile ? &*profile : nullptr, one.kind) == LicenceAction::kWarn)
      std::fprintf(stderr, "licence: %s\n", one.text.c_str());
  return profile ? refused_by(*profile, parts) : Status();
}

Status admit_licences(const PolicySet* policies, const std::string& model, const std::vector<std::string>& adapters) {
  if (policies == nullptr) return {};
  std::vector<std::vector<LicensedPart>> made;  // looked for once, if any policy asks
  for (const auto& [project, policy] : policies->all()) {
    const Profile& p = policy->profile();
    if (std::find(p.licence_actions.begin(), p.licence_actions.end(), LicenceAction::kRefuse) ==
        p.licence_actions.end())
      continue;
    if (made.empty()) {
      QW_ASSIGN(const std::string path, resolve_model(model));
      made.push_back(licensed_parts(path, ""));
      for (const std::string& adapter : adapters) made.push_back(licensed_parts(path, adapter));
    }
    for (const std::vector<LicensedPart>& parts : made) QW_TRY(refused_by(p, parts));
  }
  return {};
}

Status carry_records(const std::string& in, const std::string& adapter, const std::string& out,
                     const std::string& how) {
  const std::string& from = adapter.empty() ? in : adapter;
  const auto files = find_ledgers(from);
  if (!files) return {};
  std::error_code code;
  const auto beside = [&](const char* name) {
    return fs::is_directory(out, code) ? fs::path(out) / name : fs::path(out + "." + name);
  };
  if (files->data) {
    QW_ASSIGN(const std::string text, base::read_file(*files->data));
    QW_TRY(base::write_file_atomically(beside("data_ledger.json"), text));
  }
  if (!files->compute) return {};
  QW_ASSIGN(json::Value record, read_compute(*files->compute));
  QW_ASSIGN(const auto digest, formats::weights_digest(from));
  const auto known = governance::weights_of(record);
  json::Object parent{{"name", base_name(from)}, {"weights_sha256", digest.sha256}};
  const json::Value* total = record.find("cumulative_flops");
  json::Object derived{{"format", "qianwen-compute-derived-1"}, {"derived", how}, {"cumulative_flops", nullptr}};
  if (std::find(known.begin(), known.end(), digest.sha256) == known.end()) {
    parent.set("record", nullptr);
    parent.set("no_record", "the record beside these weights is of other weights");
  } else {
    if (total != nullptr) derived.set("cumulative_flops", *total);
    parent.set("record", std::move(record));
  }
  derived.set("parent", std::move(parent));
  QW_ASSIGN(const auto made, formats::weights_digest(out));
  derived.set("outputs", json::Array{json::Object{{"weights_sha256", made.sha256}}});
  json::WriteStyle style;
  style.indent = 2;
  return base::write_file_atomically(beside("compute.json"), json::dump(json::Value(std::move(derived)), style) + "\n");
}

}  // namespace qw::app
