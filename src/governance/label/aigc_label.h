// The label of generated content that GB 45438-2025 asks for in a file's metadata (implicit): an object AIGC of seven
// texts; and the words that tell readers (explicit). What carries it in which kind of file: label_file.h.
//
// Sources: GB 45438-2025 (section 5 and annex E), TC260-PG-20252A (providers' codes).
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "json/value.h"

namespace qw::governance {

struct AigcLabel {
  std::string label = "1";  // "1" generated, "2" may be, "3" suspected
  std::string producer;     // the provider's name or its code of 27 characters
  std::string produce_id;   // the producer's own number of this content
  std::string reserved1;    // the producer's security data; may be empty, as may be what follows
  std::string propagator, propagate_id, reserved2;  // of who passed it on
  friend bool operator==(const AigcLabel&, const AigcLabel&) = default;
};

// What is wrong with a label, "" if nothing: the first three are set, all characters are in 0x21 to 0x7E, and what has
// the form of a provider's code has a valid credit code in it.
std::string fault_of(const AigcLabel& label);

// A provider's code: 0011, a unified social credit code, the service (1 generation, 2 distribution), four of [0-9A-Z].
bool is_provider_code(std::string_view code);

// The seven, in the standard's order.
json::Object to_json(const AigcLabel& label);
// The same without blanks, as carriers hold it: {"Label":"1",...}.
std::string compact_json(const AigcLabel& label);
// Exactly the seven, all of them texts; what they say is looked at by fault_of(). kBadInput.
Result<AigcLabel> read_aigc_label(const json::Value& object);

// A number for content, by RFC 9562's version 7: later ones sort behind earlier ones.
std::string new_produce_id();

// Whether a text says itself that it was generated: within its first or last 64 characters, blanks around it left out,
// it names AI (人工智能, AI) and generation (生成, 合成).
bool has_explicit_words(std::string_view text);

}  // namespace qw::governance
