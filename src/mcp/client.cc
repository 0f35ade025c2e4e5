#include "mcp/client.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "mcp/internal/transport.h"

namespace qw::mcp {
namespace {

using internal::Transport;

std::string rpc_text(const RpcError& error) {
  return "the server answered: " + (error.message.empty() ? "error" : error.message) + " (" +
         std::to_string(error.code) + ")";
}

// Arguments that the server wants to see in headers, too: top-level properties marked with x-mcp-header.
net::Headers marked_headers(const Tool& tool, const json::Object& arguments) {
  net::Headers out;
  const json::Value* properties = tool.input_schema.find("properties");
  if (properties == nullptr || !properties->is_object()) return out;
  for (const auto& [name, schema] : properties->as_object()) {
    const json::Value *mark = schema.find("x-mcp-header"), *value = arguments.find(name);
    if (mark == nullptr || !mark->is_string() || value == nullptr) continue;
    const std::string text = value->is_string() ? value->as_string() : json::dump(*value);
    if (value->is_string() || value->is_int() || value->is_bool())
      out.emplace_back("Mcp-Param-" + mark->as_string(), header_value(text));
  }
  return out;
}

class AnyClient final : public Client {
 public:
  AnyClient(std::unique_ptr<Transport> transport, Limits limits, std::optional<Reply> first_list)
      : transport_(std::move(transport)), limits_(limits), first_(std::move(first_list)) {}

  Result<std::vector<Tool>> list_tools() override {
    std::vector<Tool> out;
    std::string cursor;
    for (std::size_t page = 0; page < limits_.pages; ++page) {
      json::Object params;
      if (!cursor.empty()) params.set("cursor", cursor);
      QW_ASSIGN(const json::Object result, ask("tools/list", std::move(params), {}));
      QW_ASSIGN(ToolPage more, read_tools(result));
      for (Tool& tool : more.tools) out.push_back(std::move(tool));
      if (out.size() > limits_.tools)
        return fail(ErrorKind::kBadInput, "more than " + std::to_string(limits_.tools) + " tools");
      if (more.next.empty()) return out;
      cursor = std::move(more.next);
    }
    return fail(ErrorKind::kBadInput, "a list of tools of more than " + std::to_string(limits_.pages) + " pages");
  }

  Result<CallResult> call_tool(const Tool& tool, const json::Object& arguments) override {
    net::Headers headers = marked_headers(tool, arguments);
    headers.emplace_back("Mcp-Name", header_value(tool.name));
    QW_ASSIGN(const json::Object result,
              ask("tools/call", {{"name", tool.name}, {"arguments", arguments}}, std::move(headers)));
    return read_call_result(result);
  }

 private:
  Result<json::Object> ask(const std::string& method, json::Object params, net::Headers headers) {
    Reply reply;
    if (first_ && method == "tools/list" && params.empty()) {  // it was asked to find out the server's age
      reply = std::move(*std::exchange(first_, std::nullopt));
    } else {
      QW_ASSIGN(reply, transport_->ask(method, std::move(params), std::move(headers)));
    }
    if (reply.error) return fail(ErrorKind::kRefused, rpc_text(*reply.error));
    return std::move(reply.result);
  }

  std::unique_ptr<Transport> transport_;
  const Limits limits_;
  std::optional<Reply> first_;
};

}  // namespace

Result<std::unique_ptr<Client>> Connector::connect(Server server, const std::atomic<bool>* cancel) {
  Age known = Age::kUnknown;
  {
    const std::lock_guard lock(mutex_);
    if (const auto at = ages_.find(server.url); at != ages_.end()) known = at->second;
  }
  const std::string url = server.url;
  const auto made = [&](Age age, std::unique_ptr<Transport> transport, std::optional<Reply> first = {}) {
    const std::lock_guard lock(mutex_);
    ages_[url] = age;
    return std::unique_ptr<Client>(std::make_unique<AnyClient>(std::move(transport), limits_, std::move(first)));
  };
  if (known == Age::kUnknown || known == Age::kAlone) {
    QW_ASSIGN(auto alone, internal::open_alone(server, limits_, cancel));
    if (alone.transport != nullptr) return made(Age::kAlone, std::move(alone.transport), std::move(alone.first));
  }
  if (known != Age::kStream) {
    QW_ASSIGN(auto session, internal::open_session(server, limits_, cancel));
    if (session != nullptr) return made(Age::kSession, std::move(session));
  }
  QW_ASSIGN(auto stream, internal::open_stream(server, limits_, cancel));
  return made(Age::kStream, std::move(stream));
}

}  // namespace qw::mcp
