// Regular expressions as grammars: the common part of ECMA 262 (which JSON Schema names), Python and RE2.
//
// Literals, `.`, classes with ranges and negation, \d \w \s \D \W \S (ASCII), \t \n \r \f \v \0 \xHH \uHHHH \u{...} \cX
// and escaped punctuation, groups ( ) (?: ) (?<name> ), |, * + ? {m} {m,} {m,n} (a trailing ? of laziness changes
// nothing in what matches), ^ at the begin and $ at the end. Refused by name: look-around, back-references, \b, \p,
// anchors elsewhere.
#pragma once

#include <functional>
#include <string_view>

#include "base/result.h"
#include "sampling/grammar/source.h"

namespace qw::sampling::grammar {

// How one code point of a set is written in the language at hand: itself, or as a JSON string spells it.
using WriteSet = std::function<Node(Source&, CodePoints)>;

enum class Anchoring : std::uint8_t {
  kWhole,   // the expression describes the whole text
  kSearch,  // it need only occur, unless ^ and $ say otherwise (JSON Schema's `pattern`)
};

// kBadInput naming the place (in bytes) of what cannot be read. Expressions longer than 64 KiB are refused.
Result<Node> parse_regex(std::string_view pattern, Source& source, Anchoring anchoring = Anchoring::kWhole,
                         const WriteSet& write = {});

}  // namespace qw::sampling::grammar
