// A response whose model may call tools of MCP servers: what they offer is told to the model, what it calls is called
// (or, where the client wants to be asked, waits for its approval), and the model goes on with what came back. Each
// round is a request as every other: the same limits, accounts and cache.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "api/mcp_desk.h"
#include "api/openai/responses/writer.h"
#include "api/served_model.h"

namespace qw::api::openai {

class ToolRounds : public std::enable_shared_from_this<ToolRounds> {
 public:
  // Answers the exchange, now or later. `models` and `desk` must outlive what it begins.
  static void start(const ModelList& models, McpDesk& desk, std::shared_ptr<Exchange> exchange,
                    ResponseWriterOptions options);

 private:
  struct Server {
    McpServerRequest asked;
    mcp::Server where;
    std::unique_ptr<mcp::Client> client;
  };
  struct Offered {
    std::size_t server = 0;
    mcp::Tool tool;
    McpToolName name;
  };
  struct Made {
    std::string output, error;
    std::string message() const { return error.empty() ? output : "Error: " + error; }
  };

  ToolRounds(const ModelList& models, McpDesk& desk, std::shared_ptr<Exchange> exchange, ResponseWriterOptions options);
  void post(std::function<void()> work);
  void watch_client();
  ApiResult<void> list_tools();
  ApiResult<void> answer_approvals();
  json::Array with_answers(const json::Array& messages, std::size_t& answered);
  Made call(const Offered& offered, const std::string& arguments);
  void prepare();
  void begin_round();
  void round_ended(const ResponseBuilder::Round& round, json::Object message);
  bool left() const { return cancel_->load() || exchange_->reply().closed(); }

  const ModelList& models_;
  McpDesk& desk_;
  const std::shared_ptr<Exchange> exchange_;
  const std::shared_ptr<ResponseBuilder> builder_;
  const std::shared_ptr<std::atomic<bool>> cancel_;  // clients of servers look at it
  std::string model_;
  std::vector<Server> servers_;
  std::shared_ptr<std::map<std::string, Offered>> offered_ = std::make_shared<std::map<std::string, Offered>>();
  int rounds_ = 0;
  std::int64_t calls_ = 0;
};

}  // namespace qw::api::openai
