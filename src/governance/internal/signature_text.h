// Signatures as they stand in files.
#pragma once

#include <algorithm>
#include <optional>
#include <string_view>

#include "governance/audit/signing_key.h"

namespace qw::governance {

// 128 hex digits, lower case.
inline std::optional<Signature> signature_from_hex(std::string_view hex) {
  Signature out;
  if (hex.size() != 2 * out.size()) return std::nullopt;
  const auto first = hash_from_hex(hex.substr(0, 64)), second = hash_from_hex(hex.substr(64));
  if (!first || !second) return std::nullopt;
  std::copy(first->begin(), first->end(), out.begin());
  std::copy(second->begin(), second->end(), out.begin() + 32);
  return out;
}

}  // namespace qw::governance
