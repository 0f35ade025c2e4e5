// Phrases that texts carry which want a model to obey them instead of whoever asks it: "ignore all previous
// instructions" on a page that a tool fetched. Chinese and English, as keywords, so that what keywords see through
// (keywords/folding.h) hides none of them. They are a first line: whoever says it in other words passes.
#pragma once

#include <string>

#include "governance/keywords/keyword_list.h"

namespace qw::governance {

// Made on first use. Its categories: "override" (earlier instructions are not to be followed), "role" (the model is to
// be another), "address" (whoever reads is spoken to as a model), "leak" (instructions or secrets are to be told or
// sent), "hide" (the user is not to know), "markup" (what parts messages in prompts).
const KeywordList& injection_list();
// The file that it is made of (keyword_list.h).
const std::string& injection_file();

}  // namespace qw::governance
