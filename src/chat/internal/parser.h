// Tokens to syntax tree, following Jinja's grammar; then every name gets its place (scopes.h).
#pragma once

#include <string_view>

#include "chat/internal/ast.h"

namespace qw::chat::internal {

Result<Tree> parse_tree(std::string_view source);

// Gives every variable its slot as Jinja's compiler does, and rejects what Jinja rejects then: unknown filters and
// tests outside conditions, misplaced loop controls, assignments to `loop`.
Status bind_names(Tree* tree);

// True if `name` is a filter (or test) of the language; defined with them.
bool known_filter(std::string_view name);
bool known_predicate(std::string_view name);

}  // namespace qw::chat::internal
