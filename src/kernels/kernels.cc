#include "kernels/kernels.h"

#include <array>
#include <iterator>

#include "base/result.h"
#include "kernels/fast_halves.h"
#include "kernels/internal/fill.h"

namespace qw::kernels {
namespace {

void fill_portable(Kernels& k) {
  portable::fill_matmul(k);
  portable::fill_gemm(k);
  portable::fill_rows(k);
  portable::fill_attention(k);
  portable::fill_recurrent(k);
}

Kernels make_table(Isa isa) {
  Kernels k{};
  k.isa = isa;
  k.name = base::isa_name(isa).data();
  fill_portable(k);
#if defined(__aarch64__)
  if (isa == Isa::kNeon) {
    neon::fill_matmul(k);
    neon::fill_gemm(k);
    neon::fill_rows(k);
    neon::fill_attention(k);
    neon::fill_recurrent(k);
  }
#endif
#if defined(__x86_64__)
  if (isa == Isa::kAvx2) {
    avx2::fill_matmul(k);
    avx2::fill_gemm(k);
    avx2::fill_rows(k);
    avx2::fill_attention(k);
    avx2::fill_recurrent(k);
  }
  if (isa == Isa::kAvx512 || isa == Isa::kAmx) {
    avx512::fill_matmul(k);
    avx512::fill_gemm(k);
    avx512::fill_rows(k);
    avx512::fill_attention(k);
    avx512::fill_recurrent(k);
  }
  if (isa == Isa::kAmx) {
    amx::fill_matmul(k);
    amx::fill_gemm(k);
    amx::fill_attention(k);
  }
#endif
  return k;
}

}  // namespace

CacheType fast_halves(Isa isa) {
  const bool pairs = isa == Isa::kAmx || (isa == Isa::kAvx512 && base::bfloat_dots_pay());
  return pairs ? CacheType::kBF16 : CacheType::kF16;
}

const Kernels& kernels_for(Isa isa) {
  QW_CHECK(isa <= base::best_isa());
  static const auto tables = [] {
    std::array<Kernels, std::size(base::kAllIsas)> all;
    for (const Isa each : base::kAllIsas) all[static_cast<std::size_t>(each)] = make_table(each);
    return all;
  }();
  return tables[static_cast<std::size_t>(isa)];
}

}  // namespace qw::kernels
