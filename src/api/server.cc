#include "api/server.h"

#include <algorithm>
#include <thread>

#include "api/auth.h"
#include "api/complaint_content.h"
#include "api/exchange.h"
#include "api/replay.h"
#include "api/routes.h"
#include "api/token_health.h"

namespace qw::api {
namespace {

// Only this origin's own files and calls: the page must not be able to load or leak anything.
constexpr const char* kContentSecurityPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

// What waits for the store waits for one disk or one database; a few at a time keep it busy.
constexpr int kBackgroundThreads = 2;

// What is read and made into tokens in a few milliseconds is, on the thread of its connection; more than that elsewhere.
constexpr std::size_t kLongBody = 32 * 1024;
// A long request of one tenant does not keep another's waiting.
constexpr int kPreparationThreads = 2;

// How often it is looked whether running answers have ended, while the service is to end.
constexpr std::chrono::milliseconds kDrainLook{5};

const char* content_type(std::string_view name) {
  if (name.ends_with(".html")) return "text/html; charset=utf-8";
  if (name.ends_with(".css")) return "text/css; charset=utf-8";
  if (name.ends_with(".js")) return "text/javascript; charset=utf-8";
  return "application/octet-stream";
}

// A client's own request id is kept if it cannot do harm in logs and headers.
std::string request_id(const net::Request& request) {
  const std::string_view given = net::find_header(request.headers, "x-request-id");
  const bool plain = !given.empty() && given.size() <= 128 &&
                     given.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") ==
                         std::string_view::npos;
  return plain ? std::string(given) : new_id("req_");
}

// Every refusal, the first too, is in the shape of the protocol that was spoken.
ErrorShape error_shape(const net::Request& request) {
  if (anthropic::Api::speaks(request)) return &anthropic::error_body;
  if (dashscope::Api::speaks(request)) return &dashscope::error_body;
  if (ollama::Api::speaks(request)) return &ollama::error_body;
  return nullptr;
}

ApiError nothing_at(const net::Request& request) {
  return {404, "invalid_request_error", "There is nothing at " + request.method + " " + request.path + ".", "",
          "not_found"};
}

// Another service answers, or this one after its next start.
ApiError stopping() {
  return {503, "server_error", "The service is stopping.", "", "shutting_down", /*retry_after_s=*/1};
}

ApiError transport_error(int status, const std::string& message) {
  return {status, status >= 500 ? "server_error" : "invalid_request_error", message, "", ""};
}

}  // namespace

Service::Service(const ModelList& models, ServiceOptions options)
    : models_(models),
      options_(std::move(options)),
      background_(kBackgroundThreads),
      preparation_(kPreparationThreads),
      mcp_(options_.mcp),
      openai_(models),
      anthropic_(models),
      dashscope_(models),
      tasks_(models, background_),
      dashscope_files_(background_),
      ollama_(models),
      files_(background_),
      responses_(models, background_),
      moderations_(background_, options_.moderator),
      screening_(background_),
      provenance_(models, background_, options_.marks),
      complaints_(background_, options_.policies),
      batches_(background_),
      fine_tuning_(models, background_, options_.fine_tuning),
      rollout_table_(options_.accounts == nullptr ? nullptr : std::make_unique<RolloutTable>(options_.accounts->store(), options_.rollout_poll)),
      rollouts_(models, background_),
      evaluations_(models, background_, options_.gates),
      feedback_(background_),
      admin_(background_),
      sessions_(background_, options_.sessions, options_.login_provider),
      metrics_(std::make_shared<ServiceMetrics>(models)),
      request_log_(options_.log_requests ? std::make_shared<RequestLog>() : nullptr) {
  responses_.tools_by(&mcp_);
  rollouts_.uses(rollout_table_.get(), options_.gates);
  openai_.keeps_answers(&background_, options_.keep_answer_days);
}

Result<std::unique_ptr<Service>> Service::start(const ModelList& models, ServiceOptions options) {
  options.http.error_response = [](int status, const std::string& message) {
    return error_response(transport_error(status, message));
  };
  std::unique_ptr<Service> service(new Service(models, std::move(options)));
  const auto listen = [raw = service.get()](const net::ServerOptions& at, Door door) {
    return net::HttpServer::start(at, [raw, door](net::Request request, std::shared_ptr<net::Reply> reply) {
      raw->handle(door, std::move(request), std::move(reply));
    });
  };
  auto& apart = service->options_.admin_http;
  QW_ASSIGN(service->server_, listen(service->options_.http, apart ? Door::kPublic : Door::kAll));
  if (apart) {
    apart->error_response = service->options_.http.error_response;
    QW_ASSIGN(service->admin_server_, listen(*apart, Door::kAdmin));
  }
  if (Accounts* accounts = service->options_.accounts; accounts != nullptr) {
    service->batch_runner_ = std::make_unique<openai::BatchRunner>(
        accounts->store(), accounts->instance(),
        [raw = service.get()](InnerRequest inner, std::function<void(net::Response)> then) {
          return raw->dispatch(std::move(inner), std::move(then));
        },
        service->options_.batches);
    service->deferred_ = std::make_unique<DeferredRunner>(
        accounts->store(), accounts->instance(),
        [raw = service.get()](InnerRequest inner, std::function<void(net::Response)> then) {
          return raw->dispatch(std::move(inner), std::move(then));
        },
        service->options_.deferred);
    service->response_events_ = std::make_unique<openai::ResponseEvents>(accounts->store());
    service->responses_.deferred_to(service->deferred_.get());
    service->responses_.streamed_by(service->response_events_.get());
    service->tasks_.deferred_to(service->deferred_.get());
    service->batches_.runs_by(service->batch_runner_.get());
    service->fine_tuning_.start(*accounts);
    service->evaluations_.start(*accounts);
  }
  return service;
}

Service::~Service() {
  if (server_) server_->stop();
  if (admin_server_) admin_server_->stop();
  if (batch_runner_) batch_runner_->stop();
  if (deferred_) deferred_->stop();
  if (response_events_) response_events_->stop();
  fine_tuning_.stop();
  evaluations_.stop();
  mcp_.stop();
  preparation_.stop();
  background_.stop();
  if (options_.accounts != nullptr) options_.accounts->stop();  // its callbacks reach in here
}

bool Service::drain(std::chrono::milliseconds grace) {
  const auto deadline = std::chrono::steady_clock::now() + grace;
  announce_end();
  draining_.store(true);
  if (batch_runner_) batch_runner_->stop();  // gives its batch to another service, or to the next start
  if (deferred_) deferred_->stop();
  if (response_events_) response_events_->stop();
  fine_tuning_.stop();
  evaluations_.stop();
  const auto left = [&] {
    return std::max(std::chrono::milliseconds(0), std::chrono::duration_cast<std::chrono::milliseconds>(
                                                      deadline - std::chrono::steady_clock::now()));
  };
  while (in_progress_->load() > 0 && left().count() > 0) std::this_thread::sleep_for(kDrainLook);
  const bool all = server_->drain(left());
  if (admin_server_) admin_server_->drain(std::chrono::milliseconds(0));
  return all;
}

bool Service::serve_page(const net::Request& request, Exchange& exchange) const {
  if (!options_.page || (request.method != "GET" && request.method != "HEAD")) return false;
  const std::string name = request.path == "/" ? "index.html" : request.path.substr(1);
  const std::string_view bytes = options_.page(name);
  if (bytes.empty()) return false;
  exchange.send({200,
              {{"Content-Type", content_type(name)},
               {"Content-Security-Policy", kContentSecurityPolicy},
               {"X-Content-Type-Options", "nosniff"},
               {"Referrer-Policy", "no-referrer"},
               {"Cache-Control", "no-cache"}},
              std::string(bytes)});
  return true;
}

bool Service::serve_health(const net::Request& request, Exchange& exchange) const {
  if (request.path == "/health/live") {
    exchange.send_json(200, json::Object{{"status", "live"}});
  } else if (request.path == "/health/ready") {
    const bool ready = !ending_.load() && models_.find("") != nullptr;
    exchange.send_json(ready ? 200 : 503, json::Object{{"status", ready ? "ready" : "draining"}});
  } else if (request.path == "/health/tokens") {
    const TokenHealth health = token_health(models_, engine::Clock::now());
    exchange.send_json(health.stalled ? 503 : 200, health_body(health));
  } else {
    return false;
  }
  return true;
}

void Service::handle(Door door, net::Request request, std::shared_ptr<net::Reply> reply) {
  // Where DashScope keeps the protocols of OpenAI and Anthropic.
  for (const std::string_view base :
       {"/compatible-mode/v1/", "/api/v2/apps/protocols/compatible-mode/v1/", "/apps/anthropic/v1/"})
    if (request.path.starts_with(base)) {
      request.path = "/v1/" + request.path.substr(base.size());
      break;
    }
  // Counted as long as anybody may answer it, and before it is looked whether the end has come: drain() looks the other
  // way around.
  in_progress_->fetch_add(1);
  const std::shared_ptr<net::Reply> counted(reply.get(), [reply, count = in_progress_](net::Reply*) mutable {
    reply = nullptr;
    count->fetch_sub(1);
  });
  auto exchange = std::make_shared<Exchange>(counted, request_id(request));
  if (const ErrorShape shape = error_shape(request); shape != nullptr) exchange->shape_errors(shape);
  equip(*exchange, request.path);
  exchange->prepared_by(&preparation_);
  if (const auto parent = net::find_header(request.headers, "traceparent"); !parent.empty()) {
    exchange->add_header("traceparent", std::string(parent));
  }
  if (serve_health(request, *exchange)) return;
  exchange->logged_by(request_log_, request.method, false);
  if (auto fine = exchange->read_deadline(request.headers); !fine) return exchange->send_error(fine.error());
  const bool for_admin = request.path == "/metrics" || request.path == "/admin" || request.path.starts_with("/admin/");
  if (door != Door::kAll && for_admin != (door == Door::kAdmin)) return exchange->send_error(nothing_at(request));
  if (draining_.load() && !for_admin) return exchange->send_error(stopping());
  auto secret = secret_of(request.headers);
  const auto shared = std::make_shared<const net::Request>(std::move(request));
  if (options_.accounts == nullptr) return route_prepared(shared, exchange);
  if (sessions_.handle_login(shared, exchange, options_.accounts)) return;
  if (!secret && complaints_.open_to_all(shared->path) && complaints_.handle(shared, exchange, options_.accounts)) return;
  if (!secret) {
    const bool page = shared->method == "GET" && shared->path == "/" &&
                      net::find_header(shared->headers, "accept").find("text/html") != std::string_view::npos;
    if (!page) return exchange->send_error(check_access(nullptr, "", "").error());
    exchange->add_header("Location", "/auth/login");
    return exchange->send_json(303, json::Object{{"location", "/auth/login"}});
  }
  if (secret->kind == Credential::kSession) {
    if (auto fine = check_origin(*shared, secret->text); !fine) return exchange->send_error(fine.error());
  }
  options_.accounts->who(std::move(secret->text), secret->kind, [this, shared, exchange](Result<Accounts::Who> who) {
    if (!who)
      return exchange->send_error({503, "server_error", "The accounts cannot be reached.", "", "store_unavailable"});
    if (auto fine = check_access(who->get(), action_of(shared->method, shared->path), shared->remote); !fine)
      return exchange->send_error(fine.error());
    exchange->belongs_to(*options_.accounts, std::move(*who));
    route_prepared(shared, exchange);
  });
}

void Service::equip(Exchange& exchange, std::string path) {
  exchange.counted_by(metrics_, std::move(path));
  exchange.recorded_by(options_.audit);
  exchange.sealed_by(options_.content_keys);
  exchange.marked_by(options_.marks);
  if (!options_.label_producer.empty()) exchange.labelled_by(&options_.label_producer);
  exchange.governed_by(options_.policies);
  exchange.stopped_by(options_.stops);
  exchange.rolled_out_by(rollout_table_.get());
}

std::unique_ptr<InnerCall> Service::dispatch(InnerRequest inner, std::function<void(net::Response)> then) {
  auto reply = std::make_shared<InnerReply>(std::move(then));
  auto call = std::make_unique<InnerReplyCall>(reply);
  auto request = std::make_shared<net::Request>();
  request->method = std::move(inner.method);
  request->path = std::move(inner.path);
  request->headers = {{"Content-Type", "application/json"}};
  request->body = std::move(inner.body);
  auto exchange = std::make_shared<Exchange>(std::move(reply), new_id("req_"));
  equip(*exchange, request->path);
  exchange->logged_by(request_log_, request->method, true);
  exchange->set_priority(inner.priority);
  if (!inner.answer_id.empty()) exchange->set_answer_id(std::move(inner.answer_id), inner.answer_created);
  exchange->tell_events_to(std::move(inner.on_event));
  if (const ErrorShape shape = error_shape(*request); shape != nullptr) exchange->shape_errors(shape);
  if (options_.accounts != nullptr) {
    const auto fine = check_access(inner.who.get(), action_of(request->method, request->path), "");
    if (!fine) {
      exchange->send_error(fine.error());
      return call;
    }
    exchange->belongs_to(*options_.accounts, std::move(inner.who));
  }
  route(request, exchange);
  return call;
}

void Service::route_prepared(const std::shared_ptr<const net::Request>& request,
                             const std::shared_ptr<Exchange>& exchange) {
  prepare(exchange, request->body.size() > kLongBody, [this, request, exchange] { route(request, exchange); });
}

void Service::route(const std::shared_ptr<const net::Request>& shared, const std::shared_ptr<Exchange>& exchange) {
  const net::Request& request = *shared;
  // What no row of the table has is not there, whatever a handler would take it for.
  if (!has_route(request.path)) {
    if (!serve_page(request, *exchange)) exchange->send_error(nothing_at(request));
    return;
  }
  if (request.path == "/openapi.json") {
    if (only("GET", request, *exchange)) exchange->send_json(200, openapi_document());
    return;
  }
  if (request.path == "/metrics" && (request.method == "GET" || request.method == "HEAD")) {
    return exchange->send(
        {200, {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}}, metrics_->exposition()});
  }
  // A client of Anthropic's asks for models where one of OpenAI's does.
  if (tasks_.handle(shared, exchange) || dashscope_files_.handle(shared, exchange)) return;
  if (anthropic_.handle(request, exchange) || dashscope_.handle(request, exchange) || ollama_.handle(request, exchange))
    return;
  if (openai_.handle(request, exchange) || files_.handle(shared, exchange) || batches_.handle(shared, exchange) ||
      responses_.handle(shared, exchange) || moderations_.handle(request, exchange) || screening_.handle(request, exchange) || provenance_.handle(request, exchange) ||
      fine_tuning_.handle(shared, exchange) || evaluations_.handle(shared, exchange) || rollouts_.handle(shared, exchange) ||
      feedback_.handle(shared, exchange))
    return;
  if (complaints_.handle(shared, exchange, exchange->accounts()) || handle_complaint_content(background_, shared, exchange))
    return;
  if (admin_.handle(shared, exchange) || sessions_.handle(shared, exchange)) return;
  if (options_.adapters != nullptr && handle_adapters(*options_.adapters, models_, request, exchange)) return;
  if (options_.models != nullptr && handle_model_swap(*options_.models, request, exchange)) return;
  if (handle_replay({&models_, options_.accounts == nullptr ? nullptr : &options_.accounts->store(), options_.content_keys,
                     options_.marks},
                    background_, request, exchange))
    return;
  if (options_.stops != nullptr && handle_stops(*options_.stops, background_, request, exchange)) return;
  exchange->send_error(nothing_at(request));
}

}  // namespace qw::api
