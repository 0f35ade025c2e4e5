// What this machine's processor can do, and which instruction set the program will use.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace qw::base {

// Ordered: a processor runs every set up to its best one. Sets of another family of processors therefore stand last:
// NEON comes first where it exists, and after all of x86 elsewhere.
enum class Isa : std::uint8_t {
  kPortable,  // plain C++
#if defined(__aarch64__)
  kNeon,      // NEON (any 64-bit ARM); what came later is used where arm_features() has it
#endif
  kAvx2,      // AVX2 + FMA + F16C
  kAvx512,    // AVX-512 F/BW/CD/DQ/VL + VNNI + BF16 + VBMI (Zen 4/5, Sapphire Rapids and later)
  kAmx,       // the same and AMX tiles of bfloat16 and int8 (Sapphire Rapids and later Xeons)
#if !defined(__aarch64__)
  kNeon,
#endif
};

std::string_view isa_name(Isa isa);
inline constexpr Isa kAllIsas[] = {Isa::kPortable, Isa::kNeon, Isa::kAvx2, Isa::kAvx512, Isa::kAmx};

// The best set this CPU and operating system support. The first call asks the system for the use of AMX tiles, for the
// whole process, where the CPU has them.
Isa best_isa();
// QW_ISA=portable|neon|avx2|avx512|amx if set (an error if unknown or unsupported here).
Result<std::optional<Isa>> forced_isa();
// forced_isa(), else best_isa().
Result<Isa> chosen_isa();
// What a 64-bit ARM processor has beyond NEON; nothing on others.
struct ArmFeatures {
  bool dot_products = false;    // SDOT: ARMv8.2 option, in every server core since Neoverse N1
  bool byte_matrices = false;   // SMMLA (FEAT_I8MM)
  bool bfloat = false;          // BFMMLA (FEAT_BF16)
};
ArmFeatures arm_features();
// Whether a processor with AVX-512 multiplies more pairs of bfloat16 (VDPBF16PS) than floats in a time. Known by its maker:
// AMD's (Zen 4 and later) take that instruction as often as a multiply-add of half as many floats, twice the rate; Intel's
// a quarter as often (123 beside 248 Gop/s measured on Granite Rapids), half the rate.
bool bfloat_dots_pay();
// Brand string of the CPU, e.g. "AMD EPYC 9655".
std::string cpu_name();
// Bytes of physical memory this process may hope to use now (MemAvailable, and the cgroup limit if lower).
std::uint64_t available_memory_bytes();

}  // namespace qw::base
