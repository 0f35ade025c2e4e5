#include "base/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>

namespace qw::base {

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return "portable";
    case Isa::kNeon:
      return "neon";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAmx:
      return "amx";
  }
  return "portable";
}

namespace {

#if defined(QW_EMULATED_TILES)
bool may_use_amx() { return true; }  // cpu/amx/emulated_tiles.h
#elif defined(__x86_64__) && defined(__linux__)
// Tiles are 8 KB of registers that Linux gives to a process that asks for them.
bool may_use_amx() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  const bool bf16 = ((edx >> 22) & 1) != 0, tile = ((edx >> 24) & 1) != 0, int8 = ((edx >> 25) & 1) != 0;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return bf16 && tile && int8 && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#else
bool may_use_amx() { return false; }
#endif

Isa find_best_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  // Clang 16 has no name for F16C: CPUID leaf 1, ECX bit 29. (AVX2 being there means the system saves its registers.)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && ((ecx >> 29) & 1) != 0;
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") &&
                      __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi");
  if (avx2 && avx512) return may_use_amx() ? Isa::kAmx : Isa::kAvx512;
  if (avx2) return Isa::kAvx2;
#elif defined(__aarch64__)
  return Isa::kNeon;
#endif
  return Isa::kPortable;
}

}  // namespace

Isa best_isa() {
  static const Isa best = find_best_isa();
  return best;
}

ArmFeatures arm_features() {
  ArmFeatures f;
#if defined(__aarch64__) && defined(__linux__)
  const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
  f.dot_products = (first & HWCAP_ASIMDDP) != 0;
  f.byte_matrices = f.dot_products && (second & HWCAP2_I8MM) != 0;
  f.bfloat = (second & HWCAP2_BF16) != 0;
#endif
  return f;
}

Result<std::optional<Isa>> forced_isa() {
  const char* forced = std::getenv("QW_ISA");
  if (forced == nullptr || *forced == '\0') return std::nullopt;
  for (Isa isa : kAllIsas) {
    if (isa_name(isa) != forced) continue;
    if (isa > best_isa()) return fail(ErrorKind::kUsage, std::string("QW_ISA=") + forced + ": this CPU cannot run it");
    return isa;
  }
  return fail(ErrorKind::kUsage, std::string("QW_ISA=") + forced + ": expected portable, neon, avx2, avx512 or amx");
}

Result<Isa> chosen_isa() {
  QW_ASSIGN(const std::optional<Isa> forced, forced_isa());
  return forced.value_or(best_isa());
}

bool bfloat_dots_pay() {
#if defined(__x86_64__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned kGenu = 0x756e6547, kIneI = 0x49656e69, kNtel = 0x6c65746e;  // "GenuineIntel"
  return __get_cpuid(0, &eax, &ebx, &ecx, &edx) != 0 && !(ebx == kGenu && edx == kIneI && ecx == kNtel);
#else
  return false;
#endif
}

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("model name", 0) == 0) {
      const auto colon = line.find(':');
      if (colon != std::string::npos && colon + 2 <= line.size()) return line.substr(colon + 2);
    }
  }
  return "unknown";
}

std::uint64_t available_memory_bytes() {
  std::uint64_t available = std::numeric_limits<std::uint64_t>::max();
  std::ifstream info("/proc/meminfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("MemAvailable:", 0) == 0) available = std::strtoull(line.c_str() + 13, nullptr, 10) * 1024;
  }
  std::ifstream limit_file("/sys/fs/cgroup/memory.max"), used_file("/sys/fs/cgroup/memory.current");
  std::uint64_t limit = 0, used = 0;
  if (limit_file >> limit && used_file >> used) available = std::min(available, limit > used ? limit - used : 0);
  return available;
}

}  // namespace qw::base
