// JSON Schema (draft 2020-12, and what drafts 4 to 7 spell otherwise) as a grammar of the JSON texts that satisfy it.
//
// Supported
//   any       type (also a list), enum, const, anyOf, oneOf (taken as anyOf), allOf (merged), $ref to places of the
//   same
//             document, recursive too; true, and {} for anything
//   object    properties, required, additionalProperties (false, true or a schema), minProperties and maxProperties 0
//   or 1
//             where there are no properties. Properties come in the order in which they are declared; others follow
//             only where additionalProperties allows them expressly or nothing is declared
//   array     items, prefixItems, minItems, maxItems
//   string    minLength, maxLength, pattern (regex.h; not beside the lengths), format: date, time, date-time, duration,
//   uuid,
//             email, hostname, ipv4, ipv6, uri
//   integer   minimum, maximum, exclusiveMinimum, exclusiveMaximum
//   number    the same, with whole bounds
// Words that only describe (title, description, default, examples, $comment, ...) and unknown ones mean nothing. Every
// other word of the standard that restricts is refused by name and place, never passed over.
//
// The texts: no space before a colon or comma; after them, and inside brackets, nothing, one space, or (kLines) a line
// break with indentation.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "json/value.h"
#include "sampling/grammar/source.h"

namespace qw::sampling::grammar {

enum class JsonLayout : std::uint8_t { kOneLine, kLines };

// A rule of `source` for what the schema allows. kBadInput naming the place, as "#/properties/a: ...".
Result<Rule> add_json_schema(const json::Value& schema, Source& source, JsonLayout layout = JsonLayout::kLines);

// The same for a part of a document, whose references start at `root`. `where` names the part in errors.
Result<Rule> add_json_schema_part(const json::Value& root, const json::Value& part, const std::string& where,
                                  Source& source);

// A rule for any JSON object, and for any JSON value.
Rule add_json_object(Source& source, JsonLayout layout = JsonLayout::kLines);
Rule add_json_value(Source& source);

}  // namespace qw::sampling::grammar
