#include "ranks.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "base/thread_pool.h"
#include "commands.h"

namespace qw::app {
namespace {

constexpr const char* kModule = "qianwen_mpi.so";

int number_in(const char* variable, int otherwise) {
  const char* text = std::getenv(variable);
  int value = 0;
  if (text == nullptr || std::from_chars(text, text + std::strlen(text), value).ec != std::errc()) return otherwise;
  return value;
}

// Beside the program, as it is built, or in ../lib/qianwen, as it is installed.
std::filesystem::path module_path() {
  std::error_code code;
  const auto folder = std::filesystem::read_symlink("/proc/self/exe", code).parent_path();
  const auto beside = folder / kModule, installed = folder.parent_path() / "lib" / "qianwen" / kModule;
  return std::filesystem::exists(installed, code) && !std::filesystem::exists(beside, code) ? installed : beside;
}

}  // namespace

Launched launched() {
  // Open MPI, MPICH and its kin, Slurm with PMIx.
  for (const auto& [rank, size] : {std::pair{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                   {"PMI_RANK", "PMI_SIZE"},
                                   {"PMIX_RANK", "SLURM_NTASKS"}})
    if (const Launched found{number_in(rank, -1), number_in(size, 0)}; found.rank >= 0 && found.size > 0) return found;
  return {};
}

Result<std::unique_ptr<LaunchedRanks>> open_ranks() {
  const Launched here = launched();
  if (here.size == 1) return nullptr;
  const auto refused = [&here](const std::string& why) {
    return fail(ErrorKind::kUsage, "started as one of " + std::to_string(here.size) +
                                       " processes, but this program has no MPI here: " + why);
  };
  const auto path = module_path();
  std::error_code code;
  if (!std::filesystem::exists(path, code)) return refused(path.string() + " is not there");
  // Open MPI's own modules look its symbols up, so these have to be seen by all. Never closed: MPI's threads may still
  // run.
  void* const module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (module == nullptr) return refused(::dlerror());
  const auto* const version = static_cast<const char*>(::dlsym(module, kRanksVersion));
  auto* const open = reinterpret_cast<OpenRanks*>(::dlsym(module, kOpenRanks));
  if (version == nullptr || open == nullptr || std::strcmp(version, QW_VERSION) != 0)
    return refused(path.string() + " is of another version");
  char error[256] = "";
  std::unique_ptr<LaunchedRanks> ranks(open(error, sizeof(error)));
  if (!ranks) return refused(error);
  return ranks;
}

int threads_each(const train::Communicator& ranks) {
  const int here = base::hardware_threads(), all = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  return here < all ? here : std::max(1, here / ranks.on_host());
}

int report_for_all(LaunchedRanks* ranks, const Error& error) {
  const Launched here = launched();
  if (here.size == 1) return report(error);
  if (here.rank == 0) {
    report(error);
  } else {
    ::sleep(2);
    report({error.kind, "rank " + std::to_string(here.rank) + ": " + error.message});
  }
  if (ranks != nullptr) ranks->end_all(exit_code(error.kind));
  return exit_code(error.kind);
}

}  // namespace qw::app
