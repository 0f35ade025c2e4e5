// What all exercises made from poems share.
#pragma once

#include <string>
#include <string_view>

#include "base/rng.h"
#include "data/poem_chat.h"

namespace qw::data {

struct Theme {
  std::string_view in_poem, zh, en;  // how poems write it; how requests name it
};

// A theme found in the title, else in the verse; null when there is none.
const Theme* theme_of(const Poem& poem, base::Rng& rng);
// The lines from `from` on, one below the other.
std::string body_of(const Poem& poem, std::size_t from = 0);
// Half of the requests in simplified characters, a quarter in traditional ones, a quarter as they are, as far as
// `scripts` has converters: people ask in either, whatever the script of the poems.
std::string in_some_script(std::string request, base::Rng& rng, const RequestScripts& scripts);
// {"messages": [user, assistant]}
json::Object exchange(std::string request, std::string answer);

}  // namespace qw::data
