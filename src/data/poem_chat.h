// Conversations made from poems: exercises that teach a small model to answer requests for verse.
//
// No exercise asks for facts (who wrote what, recite this): a small model would make them up. Nothing written "in the
// style of" somebody is signed with a name.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "data/clean_text.h"
#include "json/value.h"

namespace qw::data {

struct Poem {
  std::string title, author;       // author may be empty
  std::vector<std::string> lines;
};

// Reads "《title》author\nline\nline..."; nothing when the text is not of that form, or not fit for an exercise: fewer
// than two lines, more than twelve, gaps in the text, notes in brackets.
std::optional<Poem> parse_poem(std::string_view text);

// Converters for requests; either may be null.
struct RequestScripts {
  const HanConverter *simplified = nullptr, *traditional = nullptr;
};

// A conversation ("messages") drawn by `rng`: a poem by title, by theme, in somebody's manner, a first line to go on
// from, or the other half of a couplet; the request in one of the scripts.
json::Object poem_conversation(const Poem& poem, base::Rng& rng, const RequestScripts& scripts);

}  // namespace qw::data
