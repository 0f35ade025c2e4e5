// JSON schemas as documents: what a reference points to, and one schema that says what two say. For json_schema.cc.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "json/value.h"
#include "sampling/grammar/source.h"

namespace qw::sampling::grammar {

inline constexpr int kMaxSchemaDepth = 64;  // of schemas in schemas, and of merged references

// kBadInput: "where: what".
tl::unexpected<Error> bad_schema(const std::string& where, const std::string& what);

// A word that restricts nothing: title, description, $defs, ...
bool describes_only(std::string_view key);
bool restricts(const json::Object& schema);
json::Object without(const json::Object& schema, std::string_view key);

// The place of `root` that a $ref names, such as #/$defs/name.
Result<const json::Value*> resolve_reference(const json::Value& root, const json::Value& ref, const std::string& where);
// What copying, comparing or writing it takes, in steps of an Effort.
std::size_t weight_of(const json::Value& value);
std::size_t weight_of(const json::Object& object);

// What holds for both; its cost is spent of `source`. References of `b` are followed. kBadInput for words whose
// meanings cannot be put together.
Result<json::Object> merge_schemas(const json::Value& root, json::Object a, const json::Value& b,
                                   const std::string& where, int depth, const Source& source);

}  // namespace qw::sampling::grammar
