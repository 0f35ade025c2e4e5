// The public face: routes of all protocols, health, and the chat page, over one HTTP server.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "api/accounts.h"
#include "api/adapters.h"
#include "api/admin/api.h"
#include "api/anthropic/api.h"
#include "api/background.h"
#include "api/complaints.h"
#include "api/dashscope/api.h"
#include "api/dashscope/files.h"
#include "api/dashscope/tasks.h"
#include "api/deferred.h"
#include "api/dispatch.h"
#include "api/feedback/api.h"
#include "api/mcp_desk.h"
#include "api/model_swap.h"
#include "api/ollama/api.h"
#include "api/openai/api.h"
#include "api/openai/batches.h"
#include "api/openai/files.h"
#include "api/openai/fine_tuning/api.h"
#include "api/openai/moderations.h"
#include "api/openai/responses/api.h"
#include "api/preparation.h"
#include "api/provenance.h"
#include "api/request_log.h"
#include "api/rollouts/api.h"
#include "api/rollouts/evaluations.h"
#include "api/served_model.h"
#include "api/service_metrics.h"
#include "api/screening.h"
#include "api/sessions.h"
#include "api/stop_switch.h"
#include "net/http_server.h"

namespace qw::api {

struct ServiceOptions {
  net::ServerOptions http;
  // Where /admin and /metrics listen apart; nothing: they are with the rest.
  std::optional<net::ServerOptions> admin_http;
  // Bytes of a static file of the web page by name ("index.html"), "" if there is none.
  std::function<std::string_view(std::string_view name)> page;
  // Keys, limits, budgets and the ledger; null: everybody may do everything. Must outlive the service.
  Accounts* accounts = nullptr;
  // Loads and unloads adapters for /admin/adapters; null: there are no such routes. Must outlive the service.
  AdapterDesk* adapters = nullptr;
  // Replaces served models for /admin/models; null: there are no such routes. Must outlive the service.
  ModelDesk* models = nullptr;
  // Judges texts for /v1/moderations; null: that route answers 501. Must outlive the service.
  Moderator* moderator = nullptr;
  // Has a record of every answer before its end is told; null: there is none. Must outlive the service.
  governance::AuditLog* audit = nullptr;
  // What contents of answers are encrypted with where a policy keeps them, and read by replays; null: none are. Must
  // outlive the service.
  const governance::ContentKeys* content_keys = nullptr;
  // The keys that answers are marked with; null: none is, and /v1/content_provenance answers 501. Must outlive the
  // service.
  const governance::MarkKeyHolder* marks = nullptr;
  std::string label_producer;  // who answers are labelled as the work of; "": they are not labelled
  // What requests are let do and answers let say, by project; null: everything. Must outlive the service.
  const governance::PolicySet* policies = nullptr;
  // What the operator stops, for /admin/stops; null: there are no such routes. Must outlive the service.
  StopSwitch* stops = nullptr;
  bool log_requests = false;  // each but those of the health pages, at level info (request_log.h)
  openai::FineTuneOptions fine_tuning;
  GateRunner* gates = nullptr;        // judges models for /v1/evaluations; null: that route answers 501. Must outlive the service
  std::int64_t keep_answer_days = 0;  // so long the store has answers of chats, for feedback; 0: it has none
  std::chrono::milliseconds rollout_poll{2'000};  // how often it is looked what other services rolled out
  DeferredOptions deferred;
  SessionOptions sessions;
  oidc::Provider* login_provider = nullptr;  // vouches for people, beside passwords. Must outlive the service
  McpOptions mcp;                // servers whose tools may be called
  openai::BatchOptions batches;  // with accounts, whose store they are kept in
};

class Service {
 public:
  // `models` must outlive the service; their engines must be started.
  static Result<std::unique_ptr<Service>> start(const ModelList& models, ServiceOptions options);
  ~Service();
  std::uint16_t port() const { return server_->port(); }
  std::uint16_t admin_port() const { return admin_server_ == nullptr ? 0 : admin_server_->port(); }
  std::size_t preparing() const { return preparation_.outstanding(); }  // requests that are on their way to an engine
  // Readiness says no from now on; everything else goes on.
  void announce_end() { ending_.store(true); }
  // New requests are refused from now on (503, Retry-After), running answers may finish within `grace`; then nobody is
  // listened to any more. True if all finished.
  bool drain(std::chrono::milliseconds grace);

 private:
  Service(const ModelList& models, ServiceOptions options);
  enum class Door : std::uint8_t { kAll, kPublic, kAdmin };  // which listener a request came to
  void handle(Door door, net::Request request, std::shared_ptr<net::Reply> reply);
  void equip(Exchange& exchange, std::string path);  // with what every exchange has of this service
  void route_prepared(const std::shared_ptr<const net::Request>& request, const std::shared_ptr<Exchange>& exchange);
  void route(const std::shared_ptr<const net::Request>& request, const std::shared_ptr<Exchange>& exchange);
  std::unique_ptr<InnerCall> dispatch(InnerRequest request, std::function<void(net::Response)> then);
  bool serve_health(const net::Request& request, Exchange& exchange) const;
  bool serve_page(const net::Request& request, Exchange& exchange) const;

  const ModelList& models_;
  ServiceOptions options_;
  Background background_;
  Preparation preparation_;
  McpDesk mcp_;
  openai::Api openai_;
  anthropic::Api anthropic_;
  dashscope::Api dashscope_;
  dashscope::TasksApi tasks_;
  dashscope::FilesApi dashscope_files_;
  ollama::Api ollama_;
  openai::FilesApi files_;
  openai::ResponsesApi responses_;
  openai::ModerationsApi moderations_;
  ScreeningApi screening_;
  ProvenanceApi provenance_;
  ComplaintsApi complaints_;
  std::unique_ptr<DeferredRunner> deferred_;  // all three: null without accounts
  std::unique_ptr<openai::ResponseEvents> response_events_;
  std::unique_ptr<openai::BatchRunner> batch_runner_;
  openai::BatchesApi batches_;
  openai::FineTuningApi fine_tuning_;
  std::unique_ptr<RolloutTable> rollout_table_;  // null without accounts
  RolloutsApi rollouts_;
  EvaluationsApi evaluations_;
  FeedbackApi feedback_;
  admin::Api admin_;
  SessionsApi sessions_;
  std::shared_ptr<ServiceMetrics> metrics_;
  std::shared_ptr<RequestLog> request_log_;  // null: requests are not logged
  std::atomic<bool> ending_{false}, draining_{false};
  const std::shared_ptr<std::atomic<std::int64_t>> in_progress_ = std::make_shared<std::atomic<std::int64_t>>(0);
  std::unique_ptr<net::HttpServer> server_, admin_server_;
};

}  // namespace qw::api
