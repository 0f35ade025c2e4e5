// Grammars are foreign bytes: EBNF, regular expressions and JSON schemas of requests. What can be read is compiled and
// run a little. A grammar may cost far less here than in a request (kMost), so that inputs are many: what is too much is
// refused in the same places.
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/rng.h"
#include "json/value.h"
#include "sampling/grammar/ebnf.h"
#include "sampling/grammar/effort.h"
#include "sampling/grammar/grammar.h"
#include "sampling/grammar/json_schema.h"
#include "sampling/grammar/regex.h"
#include "sampling/grammar/runner.h"

namespace {

using qw::sampling::grammar::Configurations;
using qw::sampling::grammar::Effort;
using qw::sampling::grammar::Grammar;
using qw::sampling::grammar::Runner;
using qw::sampling::grammar::Source;
using qw::sampling::grammar::Stacks;

constexpr std::size_t kMost = std::size_t{1} << 18;  // of 2^31: a fifth of a millisecond

void run(const Source& source, std::size_t seed) {
  auto grammar = Grammar::compile(source);
  if (!grammar) return;
  Runner runner(*grammar);
  Configurations now, next;
  runner.enter(grammar->start(), Stacks::kBottom, now);
  qw::base::Rng rng(seed, 0);
  for (int i = 0; i < 64 && !now.items.empty() && now.items.size() < 64; ++i) {
    const auto& c = now.items[rng.below(now.items.size())];
    const auto edges = grammar->edges(c.state);
    runner.step(now, edges[rng.below(edges.size())].first, next);
    if (runner.overflow()) return;
    if (next.dead()) __builtin_trap();  // every edge leads somewhere
    std::swap(now, next);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2 || size > 4096) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  Effort effort({}, kMost);
  if (data[0] % 3 == 0) {
    if (auto source = qw::sampling::grammar::parse_ebnf(text, &effort)) run(*source, size);
    return 0;
  }
  Source source(&effort);
  if (data[0] % 3 == 1) {
    const auto node = qw::sampling::grammar::parse_regex(text, source, qw::sampling::grammar::Anchoring::kSearch);
    if (!node) return 0;
    source.set_root(source.add_rule("root", *node));
  } else {
    const auto schema = qw::json::parse(text);
    if (!schema) return 0;
    const auto rule = qw::sampling::grammar::add_json_schema(*schema, source);
    if (!rule) return 0;
    source.set_root(*rule);
  }
  run(source, size);
  return 0;
}
