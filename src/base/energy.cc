#include "base/energy.h"

#include <algorithm>
#include <charconv>
#include <fstream>

namespace qw::base {
namespace {

constexpr double kMicro = 1e-6;

std::string line_of(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::optional<std::uint64_t> number_in(const std::filesystem::path& path) {
  const std::string line = line_of(path);
  std::uint64_t value = 0;
  const auto read = std::from_chars(line.data(), line.data() + line.size(), value);
  if (line.empty() || read.ec != std::errc() || read.ptr != line.data() + line.size()) return std::nullopt;
  return value;
}

}  // namespace

EnergyMeter::EnergyMeter(const std::filesystem::path& powercap) {
  std::error_code code;
  std::vector<std::filesystem::path> zones;
  for (const auto& entry : std::filesystem::directory_iterator(powercap, code))
    if (entry.path().filename().string().starts_with("intel-rapl:")) zones.push_back(entry.path());
  std::sort(zones.begin(), zones.end());
  for (const auto& zone : zones) {
    // Zones inside a package, as "core", are part of its count; "dram" is not.
    const std::string name = line_of(zone / "name");
    if (!name.starts_with("package") && name != "dram") continue;
    const auto now = number_in(zone / "energy_uj"), range = number_in(zone / "max_energy_range_uj");
    if (!now || !range || *range == 0) {
      domains_.clear();
      why_not_ = (zone / "energy_uj").string() + " cannot be read (root may)";
      return;
    }
    domains_.push_back({zone / "energy_uj", name, *now, *range});
  }
  if (domains_.empty()) why_not_ = "the system shows no energy counters (" + powercap.string() + ")";
}

std::vector<std::string> EnergyMeter::domains() const {
  std::vector<std::string> out;
  for (const Domain& one : domains_) out.push_back(one.name);
  return out;
}

std::optional<double> EnergyMeter::joules() {
  if (domains_.empty()) return std::nullopt;
  for (Domain& one : domains_) {
    const auto now = number_in(one.file);
    if (!now) {
      why_not_ = one.file.string() + " could not be read any more";
      domains_.clear();
      return std::nullopt;
    }
    const std::uint64_t more = *now >= one.last ? *now - one.last : one.range - one.last + *now;
    joules_ += kMicro * static_cast<double>(more);
    one.last = *now;
  }
  return joules_;
}

}  // namespace qw::base
