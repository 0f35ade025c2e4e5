// What this machine's processor can do, and which instruction set the program will use.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace qw::base {

// Ordered: a later one implies the earlier ones can run too.
enum class Isa : std::uint8_t {
  kPortable,  // plain C++
  kAvx2,      // AVX2 + FMA + F16C
  kAvx512,    // AVX-512 F/BW/CD/DQ/VL + VNNI + BF16 + VBMI (Zen 4/5, Sapphire Rapids and later)
  kAmx,       // the same and AMX tiles of bfloat16 and int8 (Sapphire Rapids and later Xeons)
};

std::string_view isa_name(Isa isa);
inline constexpr Isa kAllIsas[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAmx};

// The best set this CPU and operating system support. The first call asks the system for the use of AMX tiles, for the
// whole process, where the CPU has them.
Isa best_isa();
// QW_ISA=portable|avx2|avx512|amx if set (an error if unknown or unsupported here).
Result<std::optional<Isa>> forced_isa();
// forced_isa(), else best_isa().
Result<Isa> chosen_isa();
// Brand string of the CPU, e.g. "AMD EPYC 9655".
std::string cpu_name();
// Bytes of physical memory this process may hope to use now (MemAvailable, and the cgroup limit if lower).
std::uint64_t available_memory_bytes();

}  // namespace qw::base
