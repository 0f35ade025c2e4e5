#include "api/openai/responses/tool_rounds.h"

#include <algorithm>
#include <utility>

#include "api/auth.h"
#include "api/field_reader.h"
#include "api/generation/launch.h"
#include "base/clock.h"

namespace qw::api::openai {
namespace {

// A request for approval has its item's id as the id of the call, in the conversation, too.
bool is_approval(const json::Value& call) { return text_member(call, "id").starts_with("mcpr_"); }

json::Value function_of(const json::Value& call) {
  const json::Value* function = call.find("function");
  return function != nullptr ? *function : json::Value(json::Object{});
}

json::Value tool_message(const std::string& id, const std::string& text) {
  return json::Object{{"role", "tool"}, {"tool_call_id", id}, {"content", text}};
}

json::Value shown(const mcp::Tool& tool) {
  return json::Object{{"name", tool.name},
                      {"description", tool.description.empty() ? json::Value() : json::Value(tool.description)},
                      {"input_schema", tool.input_schema},
                      {"annotations", tool.annotations}};
}

json::Value as_function(const std::string& name, const mcp::Tool& tool) {
  json::Object function{{"name", name}};
  if (!tool.description.empty()) function.set("description", tool.description);
  function.set("parameters", tool.input_schema);
  return json::Object{{"type", "function"}, {"function", std::move(function)}};
}

}  // namespace

ToolRounds::ToolRounds(const ModelList& models, McpDesk& desk, std::shared_ptr<Exchange> exchange,
                       ResponseWriterOptions options)
    : models_(models),
      desk_(desk),
      exchange_(std::move(exchange)),
      builder_(std::make_shared<ResponseBuilder>(exchange_, std::move(options))),
      cancel_(desk.cancellation()) {}

void ToolRounds::start(const ModelList& models, McpDesk& desk, std::shared_ptr<Exchange> exchange,
                       ResponseWriterOptions options) {
  const auto entry = allowed_model(*exchange, models, options.request.model);
  if (!entry) return exchange->send_error(entry.error());
  std::vector<Server> servers;
  for (const McpServerRequest& asked : options.request.mcp) {
    auto where = desk.permitted(asked.label, asked.url, asked.headers);
    if (!where) return exchange->send_error(where.error());
    servers.push_back({asked, std::move(*where), nullptr});
  }
  const std::shared_ptr<ToolRounds> self(new ToolRounds(models, desk, std::move(exchange), std::move(options)));
  self->model_ = (*entry)->id;
  self->servers_ = std::move(servers);
  self->builder_->offer(
      [offered = self->offered_](const std::string& name) -> std::optional<McpToolName> {
        const auto at = offered->find(name);
        return at == offered->end() ? std::nullopt : std::optional(at->second.name);
      },
      [weak = std::weak_ptr(self)](const ResponseBuilder::Round& round, const ChoiceResult& choice) {
        const auto rounds = weak.lock();
        // Who left, or a service that ends, takes no more: the desk may be gone.
        if (rounds == nullptr || rounds->left()) return;
        rounds->post([rounds, round, message = assistant_message(choice).as_object()]() mutable {
          rounds->round_ended(round, std::move(message));
        });
      });
  self->post([self] { self->prepare(); });
}

void ToolRounds::post(std::function<void()> work) {
  if (!desk_.post(std::move(work)))
    builder_->fail({503, "overloaded_error", "Too many requests wait for MCP servers.", "", "overloaded"});
}

// While no round runs; a round's answer watches the client itself.
void ToolRounds::watch_client() {
  exchange_->reply().on_close([cancel = cancel_] { cancel->store(true); });
}

void ToolRounds::prepare() {
  watch_client();
  for (const auto step : {&ToolRounds::list_tools, &ToolRounds::answer_approvals}) {
    const auto done = (this->*step)();
    if (left()) return;
    if (!done) return builder_->fail(done.error());
  }
  begin_round();
}

ApiResult<void> ToolRounds::list_tools() {
  const std::int64_t created = exchange_->answer_created();
  builder_->begin(model_, created > 0 ? created : base::unix_seconds());
  for (std::size_t i = 0; i < servers_.size(); ++i) {
    Server& server = servers_[i];
    const std::size_t item = builder_->begin_mcp_list(server.asked.label);
    const auto list = [&]() -> Result<std::vector<mcp::Tool>> {
      QW_ASSIGN(server.client, desk_.connector().connect(server.where, cancel_.get()));
      return server.client->list_tools();
    };
    auto tools = list();
    if (!tools)
      return tl::unexpected(ApiError{424, "external_connector_error",
                                     "MCP server `" + server.asked.label + "`: " + tools.error().message + ".", "tools",
                                     "mcp_server_failed"});
    json::Array told;
    for (mcp::Tool& tool : *tools) {
      if (!server.asked.offers(tool)) continue;
      told.push_back(shown(tool));
      const bool approval = server.asked.wants_approval(tool);
      const std::string name = mcp_function_name(server.asked.label, tool.name);
      McpToolName known{server.asked.label, tool.name, approval};
      (*offered_)[name] = {i, std::move(tool), std::move(known)};
    }
    builder_->end_mcp_list(item, std::move(told));
  }
  const ToolChoice& choice = builder_->request().tool_choice;
  if (choice.mode == ToolChoice::Mode::kNamed && builder_->request().mcp_choice && offered_->count(choice.name) == 0)
    return tl::unexpected(bad_request("tool_choice", "'tool_choice' names a tool that the MCP server does not offer."));
  return {};
}

// Every call that waited for the client's word gets an answer, where it stands in the conversation.
json::Array ToolRounds::with_answers(const json::Array& messages, std::size_t& answered) {
  json::Array out;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    out.push_back(messages[i]);
    const json::Value* calls = messages[i].find("tool_calls");
    if (calls == nullptr || !calls->is_array()) continue;
    const json::Array waiting = calls->as_array();
    std::vector<std::string> there;
    while (i + 1 < messages.size() && text_member(messages[i + 1], "role") == "tool") {
      there.push_back(text_member(messages[i + 1], "tool_call_id"));
      out.push_back(messages[++i]);
    }
    for (const json::Value& call_of : waiting) {
      const std::string id = text_member(call_of, "id");
      if (!is_approval(call_of) || std::find(there.begin(), there.end(), id) != there.end()) continue;
      const auto& approvals = builder_->request().approvals;
      const auto word =
          std::find_if(approvals.begin(), approvals.end(), [&](const McpApproval& a) { return a.request == id; });
      if (word == approvals.end()) {
        out.push_back(tool_message(id, "This call was not approved."));
        continue;
      }
      ++answered;
      if (!word->approved) {
        out.push_back(
            tool_message(id, "The user did not approve this call." + (word->reason.empty() ? "" : " " + word->reason)));
        continue;
      }
      const json::Value function = function_of(call_of);
      const auto offered = offered_->find(text_member(function, "name"));
      Made made{"", "the tool is not offered any more"};
      if (offered != offered_->end()) {
        const std::string arguments = text_member(function, "arguments");
        const std::size_t item = builder_->begin_mcp_call(offered->second.name, arguments, id);
        made = call(offered->second, arguments);
        if (left()) return out;
        builder_->end_mcp_call(item, made.output, made.error);
      }
      out.push_back(tool_message(id, made.message()));
    }
  }
  return out;
}

ApiResult<void> ToolRounds::answer_approvals() {
  std::size_t answered = 0;
  builder_->history() = with_answers(builder_->history(), answered);
  builder_->request().messages = with_answers(builder_->request().messages, answered);
  if (answered < builder_->request().approvals.size())
    return tl::unexpected(
        bad_request("input", "An 'mcp_approval_response' answers no request that waits for approval."));
  return {};
}

ToolRounds::Made ToolRounds::call(const Offered& offered, const std::string& arguments) {
  ++calls_;
  const auto parsed = json::parse(arguments.empty() ? "{}" : arguments);
  if (!parsed || !parsed->is_object()) return {"", "the arguments are no JSON object"};
  const auto result = servers_[offered.server].client->call_tool(offered.tool, parsed->as_object());
  if (!result) return {"", result.error().message};
  const std::size_t most = desk_.options().result_bytes;
  if (result->text.size() > most)
    return {"", "the result has " + std::to_string(result->text.size()) + " bytes, more than " + std::to_string(most)};
  return result->failed ? Made{"", result->text.empty() ? "the tool failed" : result->text} : Made{result->text, ""};
}

void ToolRounds::round_ended(const ResponseBuilder::Round& round, json::Object message) {
  watch_client();
  // Calls of the message, in the order of the round's; those that wait are known by their items.
  json::Array answers;
  bool waits = round.functions;
  json::Array& calls = message.find("tool_calls")->as_array();
  std::size_t at = 0;
  for (const ResponseBuilder::McpCall& one : round.calls) {
    while (at < calls.size() && text_member(function_of(calls[at]), "name") != one.name) ++at;
    if (at == calls.size()) break;
    json::Object& as_message = calls[at++].as_object();
    if (one.wants_approval) {
      waits = true;
      as_message.set("id", builder_->item_id(one.item));
      continue;
    }
    const Made made = call(offered_->at(one.name), one.arguments);
    if (left()) return;
    builder_->end_mcp_call(one.item, made.output, made.error);
    answers.push_back(tool_message(text_member(as_message, "id"), made.message()));
  }
  builder_->turn().push_back(std::move(message));
  for (json::Value& answer : answers) builder_->turn().push_back(std::move(answer));
  if (waits) return builder_->end("completed");
  begin_round();
}

void ToolRounds::begin_round() {
  ChatRequest chat = builder_->request();
  chat.messages = with_history(builder_->request(), builder_->history());
  const json::Array& turn = builder_->turn();
  chat.messages.insert(chat.messages.end(), turn.begin(), turn.end());
  json::Array tools = chat.tools ? chat.tools->as_array() : json::Array{};
  for (const auto& [name, offered] : *offered_) tools.push_back(as_function(name, offered.tool));
  if (!tools.empty()) chat.tools = json::Value(std::move(tools));
  using Mode = ToolChoice::Mode;
  if (!chat.tools && chat.tool_choice.mode == Mode::kRequired)
    return builder_->fail(bad_request("tool_choice", "'tool_choice' asks for a tool, and there are none."));
  // Once it has called, it may answer; and it must, when it has called often enough.
  if (rounds_ > 0 && chat.tool_choice.mode != Mode::kNone) chat.tool_choice = {};
  const std::int64_t most = builder_->request().max_tool_calls.value_or(calls_ + 1);
  if (rounds_ >= desk_.options().rounds || calls_ >= most) chat.tool_choice.mode = Mode::kNone;
  ++rounds_;
  start_chat(models_, exchange_, std::move(chat),
             [self = shared_from_this()](const LaunchedPrompts&) { return make_round_writer(self->builder_, self); });
}

}  // namespace qw::api::openai
