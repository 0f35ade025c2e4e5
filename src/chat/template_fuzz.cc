// Any template over any variables: "template NUL json".
#include <cstdint>
#include <string_view>

#include "chat/messages.h"
#include "chat/prompt.h"
#include "chat/template.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t cut = input.find('\0');
  const auto chat_template = qw::chat::Template::parse(input.substr(0, cut));
  qw::json::Object variables;
  if (cut != std::string_view::npos) {
    const auto given = qw::json::parse(input.substr(cut + 1));
    if (given && given->is_object()) variables = given->as_object();
    if (given && given->is_array()) (void)qw::chat::template_messages(given->as_array());
    if (given) (void)qw::chat::template_tools(*given);
  }
  if (!chat_template) return 0;
  qw::chat::RenderLimits limits;
  limits.max_steps = 4000;  // what a template does with more it does with these
  limits.max_output_bytes = 1 << 16;
  (void)chat_template->render(variables, limits);
  (void)qw::chat::render_prompt(*chat_template, variables, {"<|im_end|>", "<|"}, limits);
  return 0;
}
