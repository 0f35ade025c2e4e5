// The four regulated forms of classical verse, and requests that name one: exercises that teach a small model to give
// an answer of the asked shape.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "data/poem_chat.h"

namespace qw::data {

// Told by shape alone (old-style verse of the same shape counts too): the characters of a phrase and how many phrases.
enum class PoemForm : std::uint8_t { kFiveQuatrain, kSevenQuatrain, kFiveOctave, kSevenOctave };
inline constexpr std::size_t kPoemForms = 4;

// The form of a poem that has two phrases a line, every phrase of the same length; nothing for any other.
std::optional<PoemForm> poem_form(const Poem& poem);

// How often each form occurs; draws that make the forms equally frequent.
class FormBalance {
 public:
  void count(PoemForm form) { ++counts_[static_cast<std::size_t>(form)]; }
  // Whether to use a poem of this form: always for the rarest, in proportion for the others.
  bool keep(PoemForm form, base::Rng& rng) const;

 private:
  std::array<std::uint64_t, kPoemForms> counts_{};
};

// A conversation ("messages"): a request that names the form, mostly with a subject taken from the poem (its title, a
// word of its verse, a theme) or its first phrase; the answer is the body of the poem and nothing else.
json::Object form_conversation(const Poem& poem, PoemForm form, base::Rng& rng, const RequestScripts& scripts);

}  // namespace qw::data
