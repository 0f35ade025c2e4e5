#include "tensor/groups.h"

#include <cstring>

#include "base/result.h"

namespace qw::tensor {
namespace {

using Byte = std::uint8_t;

float half_at(const Byte* p) {
  std::uint16_t h;
  std::memcpy(&h, p, 2);
  return f16_to_f32(h);
}

void set_scale(Groups8& g, float scale, float min) {
  g.scale[0] = g.scale[1] = scale;
  g.min[0] = g.min[1] = min;
}

// Nibbles of 16 bytes: the low ones are elements 0..15, the high ones 16..31.
void set_nibbles(Groups8& g, const Byte* q) {
  for (int j = 0; j < 16; ++j) {
    g.q[j] = static_cast<std::int8_t>(q[j] & 15);
    g.q[j + 16] = static_cast<std::int8_t>(q[j] >> 4);
  }
}

void set_levels(Groups8& g, const Byte* q, const std::int8_t* levels) {
  for (int j = 0; j < 16; ++j) {
    g.q[j] = levels[q[j] & 15];
    g.q[j + 16] = levels[q[j] >> 4];
  }
}

// The fifth bits of a block of 32, element j in bit j.
void add_fifth_bits(Groups8& g, const Byte* high, int offset) {
  std::uint32_t bits;
  std::memcpy(&bits, high, 4);
  for (int j = 0; j < 32; ++j) g.q[j] = static_cast<std::int8_t>(g.q[j] + 16 * static_cast<int>(bits >> j & 1) - offset);
}

void open_q4_1(const Byte* b, Groups8* g) {
  set_scale(*g, half_at(b), -half_at(b + 2));
  set_nibbles(*g, b + 4);
}
// d * q and d * zero have at most 16 digits, so neither they nor their difference is rounded: exactly d * (q - zero).
void open_q4_z(const Byte* b, Groups8* g) {
  const float d = half_at(b);
  set_scale(*g, d, d * static_cast<float>(b[2] | b[3] << 8));
  set_nibbles(*g, b + 4);
}
void open_q5_0(const Byte* b, Groups8* g) {
  set_scale(*g, half_at(b), 0);
  set_nibbles(*g, b + 6);
  add_fifth_bits(*g, b + 2, 16);
}
void open_q5_1(const Byte* b, Groups8* g) {
  set_scale(*g, half_at(b), -half_at(b + 2));
  set_nibbles(*g, b + 8);
  add_fifth_bits(*g, b + 4, 0);
}
void open_iq4_nl(const Byte* b, Groups8* g) {
  set_scale(*g, half_at(b), 0);
  set_levels(*g, b + 2, kIq4Levels);
}
void open_mxfp4(const Byte* b, Groups8* g) {
  set_scale(*g, mxfp4_scale(b[0]), 0);
  set_levels(*g, b + 1, kMxfp4Levels);
}

// d, dmin, scales[12], (qh[32],) qs[128]: eight sub-blocks of 32; two share 32 bytes of nibbles.
void open_q45_k(const Byte* b, Groups8* g, bool five) {
  const float d = half_at(b), dmin = half_at(b + 2);
  const Byte* high = b + 16;
  const Byte* q = five ? b + 48 : b + 16;
  for (int j = 0; j < 8; ++j, ++g) {
    const ScaleMin s = scale_min(b + 4, j);
    set_scale(*g, d * static_cast<float>(s.scale), dmin * static_cast<float>(s.min));
    for (int l = 0; l < 32; ++l) {
      const int nibble = q[j / 2 * 32 + l] >> (j % 2 * 4) & 15;
      g->q[l] = static_cast<std::int8_t>(nibble + (five ? (high[l] >> j & 1) * 16 : 0));
    }
  }
}
void open_q4_k(const Byte* b, Groups8* g) { open_q45_k(b, g, false); }
void open_q5_k(const Byte* b, Groups8* g) { open_q45_k(b, g, true); }

// ql[128], qh[64], scales[16], d: sixteen groups of 16.
void open_q6_k(const Byte* b, Groups8* g) {
  const float d = half_at(b + 208);
  for (int t = 0; t < 8; ++t, ++g) {  // 32 elements each; four of them share 64 bytes of ql and 32 of qh
    const Byte* low = b + t / 4 * 64 + t % 2 * 32;
    const Byte* high = b + 128 + t / 4 * 32;
    for (int h = 0; h < 2; ++h) {
      g->scale[h] = d * static_cast<float>(static_cast<std::int8_t>(b[192 + 2 * t + h]));
      g->min[h] = 0;
    }
    for (int l = 0; l < 32; ++l) {
      g->q[l] = static_cast<std::int8_t>(((low[l] >> (t % 4 / 2 * 4) & 15) | (high[l] >> (t % 4 * 2) & 3) << 4) - 32);
    }
  }
}

// scales[16], qs[64], d, dmin.
void open_q2_k(const Byte* b, Groups8* g) {
  const float d = half_at(b + 80), dmin = half_at(b + 82);
  for (int t = 0; t < 8; ++t, ++g) {
    for (int h = 0; h < 2; ++h) {
      const Byte s = b[2 * t + h];
      g->scale[h] = d * static_cast<float>(s & 15);
      g->min[h] = dmin * static_cast<float>(s >> 4);
    }
    for (int l = 0; l < 32; ++l) g->q[l] = static_cast<std::int8_t>(b[16 + t / 4 * 32 + l] >> (t % 4 * 2) & 3);
  }
}

// hmask[32], qs[64], scales[12], d: scale j has its low four bits in byte j % 8 and its high two in byte 8 + j % 4.
void open_q3_k(const Byte* b, Groups8* g) {
  const float d = half_at(b + 108);
  const Byte* s = b + 96;
  for (int t = 0; t < 8; ++t, ++g) {
    for (int h = 0; h < 2; ++h) {
      const int j = 2 * t + h;
      const int scale = (s[j % 8] >> (j / 8 * 4) & 15) | (s[8 + j % 4] >> (j / 4 * 2) & 3) << 4;
      g->scale[h] = d * static_cast<float>(scale - 32);
      g->min[h] = 0;
    }
    for (int l = 0; l < 32; ++l) {
      g->q[l] = static_cast<std::int8_t>((b[32 + t / 4 * 32 + l] >> (t % 4 * 2) & 3) - ((b[l] >> t & 1) != 0 ? 0 : 4));
    }
  }
}

// d, scales_h, scales_l[4], qs[128].
void open_iq4_xs(const Byte* b, Groups8* g) {
  const float d = half_at(b);
  const int high = b[2] | b[3] << 8;
  for (int t = 0; t < 8; ++t, ++g) {
    const int scale = (b[4 + t / 2] >> (t % 2 * 4) & 15) | (high >> (2 * t) & 3) << 4;
    set_scale(*g, d * static_cast<float>(scale - 32), 0);
    set_levels(*g, b + 8 + 16 * t, kIq4Levels);
  }
}

using Open = void (*)(const Byte*, Groups8*);
Open opener(DType type) {
  switch (type) {
    case DType::kQ4_1: return open_q4_1;
    case DType::kQ5_0: return open_q5_0;
    case DType::kQ5_1: return open_q5_1;
    case DType::kQ2_K: return open_q2_k;
    case DType::kQ3_K: return open_q3_k;
    case DType::kQ4_K: return open_q4_k;
    case DType::kQ5_K: return open_q5_k;
    case DType::kQ6_K: return open_q6_k;
    case DType::kIQ4_NL: return open_iq4_nl;
    case DType::kIQ4_XS: return open_iq4_xs;
    case DType::kMXFP4: return open_mxfp4;
    case DType::kQ4_Z: return open_q4_z;
    default: return nullptr;
  }
}

}  // namespace

bool has_groups(DType type) { return opener(type) != nullptr; }
bool fits_groups4(DType type) { return type == DType::kQ4_K || type == DType::kQ4_1 || type == DType::kQ4_Z; }

void open_groups(DType type, const void* row, std::int64_t n, Groups8* out) {
  const Open open = opener(type);
  QW_CHECK(open != nullptr);
  const DTypeInfo& format = info(type);
  const auto* block = static_cast<const Byte*>(row);
  for (std::int64_t i = 0; i < n; i += format.block_elements) {
    open(block, out);
    block += format.block_bytes;
    out += format.block_elements / 32;
  }
}

void open_groups(DType type, const void* row, std::int64_t n, Groups4* out) {
  QW_CHECK(fits_groups4(type));
  const Open open = opener(type);
  const DTypeInfo& format = info(type);
  const auto* block = static_cast<const Byte*>(row);
  Groups8 wide[8];
  for (std::int64_t i = 0; i < n; i += format.block_elements, block += format.block_bytes) {
    open(block, wide);
    for (int g = 0; g < format.block_elements / 32; ++g, ++out) {
      out->scale = wide[g].scale[0];
      out->min = wide[g].min[0];
      for (int j = 0; j < 16; ++j) out->q[j] = static_cast<Byte>(wide[g].q[j] | wide[g].q[j + 16] << 4);
    }
  }
}

}  // namespace qw::tensor
