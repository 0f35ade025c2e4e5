// The chat-template interpreter: the part of Jinja that Hugging Face chat templates use, byte-equal to Python's.
//
// Templates are foreign code: depth, steps and output are limited, there is no I/O, and every failure is one line that
// begins "chat template line N, column M: ": where the tag, name, operator or filter stands that failed, counted from 1
// in characters.
#pragma once

#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "json/value.h"

namespace qw::chat {

inline constexpr std::size_t kMaxTemplateBytes = std::size_t{1} << 20;

struct RenderLimits {
  std::int64_t max_steps = 5'000'000;        // evaluated nodes
  std::size_t max_output_bytes = 16u << 20;  // several times a million tokens; working memory is about 16 times this
  int max_depth = 200;                       // nesting of expressions, macros, loops and values
  std::function<std::tm()> local_time;       // what strftime_now formats; unset: the local time of this machine
};

// A byte span of the rendered text that lies inside {% generation %} ... {% endgeneration %} (training masks).
struct GenerationSpan {
  std::size_t begin = 0, end = 0;
};

struct Rendered {
  std::string text;
  std::vector<GenerationSpan> generation;
  // False if a generation block stood inside a macro, call, set or filter block: its text is in `text`, but its place
  // cannot be told, so `generation` does not cover everything and no loss mask may be made of it.
  bool generation_exact = true;
};

class Template {
 public:
  // Environment as transformers sets it: trim_blocks, lstrip_blocks, loop controls, generation tag, tojson without
  // HTML escaping, raise_exception, strftime_now.
  // A source is at most kMaxTemplateBytes; published chat templates are below 64 KiB.
  static Result<Template> parse(std::string_view source);
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();

  // `variables`: messages, tools, add_generation_prompt, enable_thinking, ... Absent ones are undefined.
  // Thread-safe: renderings share nothing.
  Result<Rendered> render(const json::Object& variables, const RenderLimits& limits = {}) const;

 private:
  struct Impl;
  explicit Template(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl_;
};

}  // namespace qw::chat
