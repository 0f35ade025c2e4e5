// qianwen render: runs a chat template over messages and prints the prompt.
#include <cstdio>

#include "api/prompt.h"
#include "base/file.h"
#include "chat/template.h"
#include "commands.h"
#include "json/value.h"
#include "open_model.h"
#include "text_source.h"

namespace qw::app {
namespace {

struct RenderOptions {
  std::string model, template_file, messages, tools;
  std::vector<std::string> set;
  bool add_generation_prompt = false, ids = false, json = false;
};

Result<std::string> template_source(const RenderOptions& o) {
  if (!o.template_file.empty()) return base::read_file(o.template_file, kMaxPromptBytes);
  if (o.model.empty()) return fail(ErrorKind::kUsage, "render: give --model or --template");
  QW_ASSIGN(auto spec, tokenizer_of(o.model));
  std::string source = chat_template_of(spec);
  if (source.empty()) return fail(ErrorKind::kBadInput, o.model + ": has no chat template");
  return source;
}

Result<json::Object> variables_of(const RenderOptions& o) {
  QW_ASSIGN(json::Array messages, read_messages(o.messages));
  json::Object variables{{"messages", std::move(messages)}, {"add_generation_prompt", o.add_generation_prompt}};
  if (!o.tools.empty()) {
    QW_ASSIGN(json::Value tools, read_json(o.tools));
    if (!tools.is_array() && !tools.is_null())
      return fail(ErrorKind::kBadInput, o.tools + ": expected an array of tools");
    variables.set("tools", std::move(tools));
  }
  for (const std::string& pair : o.set) {
    const std::size_t equals = pair.find('=');
    if (equals == std::string::npos || equals == 0)
      return fail(ErrorKind::kUsage, "render: --set expects key=value, not " + pair);
    // JSON if it is JSON (true, 3, "x", [..]); otherwise the bare word as a string.
    auto value = json::parse(pair.substr(equals + 1));
    variables.set(pair.substr(0, equals), value ? std::move(*value) : json::Value(pair.substr(equals + 1)));
  }
  return variables;
}

// The rendered prompt as a model would be given it: control tokens that stand in the messages are ordinary text.
Status print_ids(const RenderOptions& o, const chat::Template& chat_template, json::Object variables) {
  if (o.model.empty()) return fail(ErrorKind::kUsage, "render: --ids needs --model");
  QW_ASSIGN(auto spec, tokenizer_of(o.model));
  QW_ASSIGN(const auto tokenizer, tokenizer::Tokenizer::create(std::move(spec)));
  QW_ASSIGN(const auto prompt, api::chat_prompt(chat_template, std::move(variables), tokenizer));
  json::Array ids;
  for (const auto id : prompt.ids) ids.emplace_back(static_cast<std::int64_t>(id));
  const json::Object out{{"text", tokenizer.decode(prompt.ids, false)}, {"ids", std::move(ids)}};
  std::puts(json::dump(o.json ? json::Value(out) : *out.find("ids")).c_str());
  return {};
}

Status render(const RenderOptions& o) {
  QW_ASSIGN(const std::string source, template_source(o));
  auto parsed = chat::Template::parse(source);
  if (!parsed) return in_context(o.template_file.empty() ? o.model : o.template_file, parsed.error());
  QW_ASSIGN(json::Object variables, variables_of(o));
  if (o.ids) return print_ids(o, *parsed, std::move(variables));
  QW_ASSIGN(const chat::Rendered rendered, parsed->render(variables));
  const std::string out = o.json ? json::dump(json::Object{{"text", rendered.text}}) + "\n" : rendered.text;
  std::fwrite(out.data(), 1, out.size(), stdout);
  return {};
}

}  // namespace

void add_render(CLI::App& app, Outcome& outcome) {
  auto o = std::make_shared<RenderOptions>();
  CLI::App* cmd = app.add_subcommand("render", "Render chat messages through a template");
  cmd->add_option("-m,--model", o->model, "model whose chat template is used");
  add_models_option(*cmd);
  cmd->add_option("--template", o->template_file, "a Jinja file instead");
  cmd->add_option("--messages", o->messages, "JSON file of messages (- for standard input)")->required();
  cmd->add_option("--tools", o->tools, "JSON file of tools");
  cmd->add_flag("--add-generation-prompt", o->add_generation_prompt, "end with the assistant's header");
  cmd->add_option("--set", o->set, "another template variable, key=value (value as JSON)");
  cmd->add_flag("--ids", o->ids, "print the token ids a model is given: only the template writes control tokens");
  cmd->add_flag("--json", o->json, "print {\"text\": ...} (with --ids, also \"ids\")");
  cmd->callback([o, &outcome] {
    if (auto status = render(*o); !status) outcome.code = report(status.error());
  });
}

}  // namespace qw::app
