// Grammars in EBNF, in the dialect of GBNF that llama.cpp, vLLM and XGrammar read.
//
//   root ::= greeting " " name+      # the rule `root` is where it begins
//   greeting ::= "hello" | "你好"
//   name ::= [A-Z] [a-z]{1,20}
//
// "text" or 'text' with the escapes \n \r \t \\ \" \' \[ \] \xHH \uHHHH \UHHHHHHHH; classes [a-z], [^a-z] with the
// same; `.` any code point; groups ( ), |, * + ? {m} {m,} {m,n}; comments from # to the end of the line. A rule goes on
// over lines until the next `name ::=`.
#pragma once

#include <string_view>

#include "base/result.h"
#include "sampling/grammar/source.h"

namespace qw::sampling::grammar {

// kBadInput naming line and column. Longer than 1 MiB is refused. `effort`: of the source (source.h).
Result<Source> parse_ebnf(std::string_view text, Effort* effort = nullptr);

}  // namespace qw::sampling::grammar
