// Marks the region of a source file that is compiled for an instruction set beyond the build's baseline:
//
//   #include <...>                     every header first: nothing inside a region may be shared with other files
//   #include "kernels/internal/target.h"
//   QW_TARGET_AVX512_BEGIN
//   namespace ... { ... }              internal linkage, but for the fill functions
//   QW_TARGET_END
//
// No per-file compiler flags: an inline function of the standard library can then never be emitted with instructions
// the baseline CPU lacks and be picked by the linker for everyone.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#define QW_X86 1
#else
#define QW_X86 0
#endif
#if defined(__aarch64__)
#include <arm_neon.h>
#define QW_NEON 1
#else
#define QW_NEON 0
#endif

#define QW_PRAGMA(text) _Pragma(#text)

#if defined(__clang__)
#define QW_TARGET_AVX2_BEGIN \
  QW_PRAGMA(clang attribute push(__attribute__((target("avx,avx2,fma,f16c"))), apply_to = function))
#define QW_TARGET_AVX512_BEGIN                                                                                       \
  QW_PRAGMA(clang attribute push(                                                                                    \
      __attribute__((target(                                                                                         \
          "avx,avx2,fma,f16c,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,avx512bf16,avx512vbmi"))), \
      apply_to = function))
#define QW_TARGET_AMX_BEGIN                                                                                             \
  QW_PRAGMA(clang attribute push(                                                                                       \
      __attribute__((target("avx,avx2,fma,f16c,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,avx512bf16,"      \
                            "avx512vbmi,amx-tile,amx-bf16"))),                                                         \
      apply_to = function))
// NEON itself is the baseline of 64-bit ARM; these are what a processor may have beside it.
#define QW_TARGET_DOT_BEGIN QW_PRAGMA(clang attribute push(__attribute__((target("dotprod"))), apply_to = function))
#define QW_TARGET_I8MM_BEGIN QW_PRAGMA(clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function))
#define QW_TARGET_BF16_BEGIN QW_PRAGMA(clang attribute push(__attribute__((target("bf16"))), apply_to = function))
#define QW_TARGET_END QW_PRAGMA(clang attribute pop)
#else
#define QW_TARGET_AVX2_BEGIN QW_PRAGMA(GCC push_options) QW_PRAGMA(GCC target("avx,avx2,fma,f16c"))
#define QW_TARGET_AVX512_BEGIN   \
  QW_PRAGMA(GCC push_options)    \
  QW_PRAGMA(GCC target(          \
      "avx,avx2,fma,f16c,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,avx512bf16,avx512vbmi"))
#define QW_TARGET_AMX_BEGIN   \
  QW_PRAGMA(GCC push_options) \
  QW_PRAGMA(GCC target(       \
      "avx,avx2,fma,f16c,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,avx512bf16,avx512vbmi,amx-tile,amx-bf16"))
#define QW_TARGET_DOT_BEGIN QW_PRAGMA(GCC push_options) QW_PRAGMA(GCC target("arch=armv8.2-a+dotprod"))
#define QW_TARGET_I8MM_BEGIN QW_PRAGMA(GCC push_options) QW_PRAGMA(GCC target("arch=armv8.2-a+dotprod+i8mm"))
#define QW_TARGET_BF16_BEGIN QW_PRAGMA(GCC push_options) QW_PRAGMA(GCC target("arch=armv8.2-a+bf16"))
#define QW_TARGET_END QW_PRAGMA(GCC pop_options)
#endif

// A kernel's inner function must be inlined into its template instance whatever the optimiser thinks of its size.
#define QW_INLINE inline __attribute__((always_inline))
