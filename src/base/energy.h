// How much energy the processors of this machine have taken, where Linux lets it be read (RAPL, by powercap: usually
// for root only, and not in most virtual machines).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace qw::base {

// Counters of every package, and of memory where it has one of its own. They count the whole machine, whoever uses it.
// One thread at a time. Counters wrap (after minutes to hours): ask at least once a minute.
class EnergyMeter {
 public:
  explicit EnergyMeter(const std::filesystem::path& powercap = "/sys/class/powercap");
  bool works() const { return !domains_.empty(); }
  const std::string& why_not() const { return why_not_; }  // "" where it works
  std::vector<std::string> domains() const;                // "package-0", "dram"
  // Since this was made; nothing where no counter can be read, or one could not be any more.
  std::optional<double> joules();

 private:
  struct Domain {
    std::filesystem::path file;
    std::string name;
    std::uint64_t last = 0, range = 0;  // microjoules
  };
  std::vector<Domain> domains_;
  std::string why_not_;
  double joules_ = 0;
};

}  // namespace qw::base
