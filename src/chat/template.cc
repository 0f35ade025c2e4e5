#include "chat/template.h"

#include "chat/internal/interpreter.h"
#include "chat/internal/lexer.h"
#include "chat/internal/parser.h"

namespace qw::chat {

struct Template::Impl {
  internal::Tree tree;
};

Template::Template(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

Result<Template> Template::parse(std::string_view source) {
  if (source.size() > kMaxTemplateBytes)
    return internal::template_error({}, "template is larger than " + std::to_string(kMaxTemplateBytes) + " bytes");
  auto impl = std::make_unique<Impl>();
  QW_ASSIGN(impl->tree, internal::parse_tree(source));
  QW_TRY(internal::bind_names(&impl->tree));
  return Template(std::move(impl));
}

Result<Rendered> Template::render(const json::Object& variables, const RenderLimits& limits) const {
  return internal::Interpreter(impl_->tree, variables, limits).run();
}

}  // namespace qw::chat
