// Splits a template into data, tags and the tokens inside tags, with Jinja's white-space rules for trim_blocks and
// lstrip_blocks set and no line statements.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "chat/internal/place.h"

namespace qw::chat::internal {

enum class TokenKind : std::uint8_t {
  kData,
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  Place place;
  std::string text;  // data, name, operator, or the unescaped string
  std::int64_t integer = 0;
  double real = 0;
};

Result<std::vector<Token>> tokenize(std::string_view source);

}  // namespace qw::chat::internal
