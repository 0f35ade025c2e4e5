#include "api/rollouts/api.h"

#include <cmath>

#include "api/accounts.h"
#include "api/auth.h"
#include "api/field_reader.h"
#include "api/rollouts/evaluations.h"
#include "base/clock.h"
#include "base/log.h"
#include "governance/audit/audit_log.h"

namespace qw::api {
namespace {

constexpr std::string_view kRoot = "/v1/rollouts";
constexpr std::int64_t kMostListed = 100, kUsuallyListed = 20;
constexpr std::size_t kLongestReason = 500;

// A name that can stand in "model", in a path and in a log line.
bool plain(std::string_view name) {
  constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:";
  return !name.empty() && name.size() <= 128 && name.find_first_not_of(kAllowed) == std::string_view::npos;
}

ApiResult<RolloutRequest> finish(FieldReader& in, RolloutRequest out) {
  out.reason = in.text("reason").value_or("");
  if (out.reason.size() > kLongestReason) in.reject("reason", "'reason' may have at most 500 bytes.");
  if (in.error()) return tl::unexpected(*in.error());
  out.ignored = in.unknown();
  return out;
}

ApiError conflict(std::string message) { return {409, "invalid_request_error", std::move(message), "", "conflict"}; }

ApiError rollout_error(const Error& error) {
  return error.kind == ErrorKind::kRefused ? conflict(error.message) : openai::store_error(error);
}

double percent(std::int64_t share) {
  return static_cast<double>(share) * 100 / static_cast<double>(store::Rollout::kWhole);
}
json::Value or_null(const std::string& text) { return text.empty() ? json::Value() : json::Value(text); }

}  // namespace

ApiResult<RolloutRequest> read_rollout_request(const json::Object& body) {
  FieldReader in(body);
  RolloutRequest out;
  out.name = in.text("name").value_or("");
  if (!plain(out.name)) in.reject("name", "'name' must be 1 to 128 letters, digits and -_.: characters.");
  out.model = in.text("model").value_or("");
  if (out.model.empty()) in.reject("model", "'model' is required.");
  return finish(in, std::move(out));
}

ApiResult<RolloutRequest> read_canary_request(const json::Object& body) {
  FieldReader in(body);
  RolloutRequest out;
  out.model = in.text("model").value_or("");
  out.share = in.number("share", 0, 100);
  if (!out.share)
    in.reject("share", "'share' is required: the percentage of those who ask that the candidate answers.");
  out.evaluation = in.text("evaluation").value_or("");
  return finish(in, std::move(out));
}

ApiResult<RolloutRequest> read_reason_request(const json::Object& body) {
  FieldReader in(body);
  return finish(in, {});
}

json::Object rollout_object(const store::Rollout& r) {
  return {{"object", "rollout"},
          {"name", r.name},
          {"model", r.stable},
          {"candidate", or_null(r.candidate)},
          {"share", percent(r.share)},
          {"evaluation", or_null(r.evaluation)},
          {"previous", or_null(r.previous)},
          {"version", r.version},
          {"changed_at", r.changed_us / base::kSecondUs}};
}

json::Object rollout_event_object(const store::RolloutEvent& e) {
  json::Object out{{"object", "rollout.event"}, {"number", e.number}, {"created_at", e.created_us / base::kSecondUs},
                   {"action", e.action},        {"by", e.by},         {"reason", or_null(e.reason)}};
  out.set("rollout", rollout_object(e.after));
  return out;
}

struct RolloutsApi::Call {
  store::Store& store;
  const net::Request& request;
  Exchange& exchange;
  std::string name, action;
};

ApiResult<store::Rollout> RolloutsApi::made(const Call& call, const RolloutRequest& request) const {
  if (models_.find(request.name) != nullptr)
    return tl::unexpected(conflict("There is a model of the name " + request.name + "."));
  const auto model = allowed_model(call.exchange, models_, request.model);
  if (!model) return tl::unexpected(model.error());
  store::Rollout out;
  out.project_id = openai::project_of(call.exchange);
  out.name = request.name;
  out.stable = (*model)->id;
  return out;
}

std::optional<ApiError> RolloutsApi::judged_these(const Call& call, const std::string& project,
                                                  const std::string& model, const std::string& evaluation) const {
  const auto gate = [](std::string message, const char* code) {
    return ApiError{409, "invalid_request_error", std::move(message), "evaluation", code};
  };
  const auto job = call.store.jobs().find(project, kEvaluationJob, evaluation);
  if (!job && job.error().kind != ErrorKind::kBadInput) return openai::store_error(job.error());
  if (!job) return bad_request("evaluation", "There is no evaluation " + evaluation + ".");
  const json::Value told(evaluation_object(*job));
  if (text_member(told, "model") != model)
    return bad_request("evaluation", "The evaluation " + evaluation + " is of another model.");
  if (const json::Value* passed = told.find("passed"); passed == nullptr || *passed != json::Value(true))
    return gate("The candidate did not pass the evaluation " + evaluation + ".", "gate_not_passed");
  if (gates_ == nullptr)
    return gate("This service cannot tell what the model's files hold: it runs without --fine-tune-folder.",
                "gate_unavailable");
  const auto now = gates_->digest(model);
  if (!now) return ApiError{500, "server_error", now.error().message, "", "digest_failed"};
  if (const std::string judged = text_member(told, "model_sha256"); judged != *now)
    return gate(judged.empty()
                    ? "The evaluation " + evaluation + " does not say which bytes it judged. Judge the model anew."
                    : "The evaluation " + evaluation + " judged other bytes (SHA-256 " + judged +
                          ") than the model has now (" + *now + "). Judge it anew.",
                "gate_of_other_bytes");
  return std::nullopt;
}

// `rollout` with the candidate and share that are asked for.
ApiResult<store::Rollout> RolloutsApi::canary(const Call& call, store::Rollout rollout,
                                              const RolloutRequest& request) const {
  const std::string wanted = request.model.empty() ? rollout.candidate : request.model;
  if (wanted.empty()) return tl::unexpected(bad_request("model", "'model' is required: there is no candidate yet."));
  const auto model = allowed_model(call.exchange, models_, wanted);
  if (!model) return tl::unexpected(model.error());
  if ((*model)->id == rollout.stable) return tl::unexpected(bad_request("model", "The candidate answers already."));
  const std::string evaluation =
      request.evaluation.empty() && (*model)->id == rollout.candidate ? rollout.evaluation : request.evaluation;
  if (evaluation.empty())
    return tl::unexpected(bad_request("evaluation", "'evaluation' is required: one that the candidate passed."));
  if (auto refused = judged_these(call, rollout.project_id, (*model)->id, evaluation))
    return tl::unexpected(std::move(*refused));
  rollout.candidate = (*model)->id;
  rollout.evaluation = evaluation;
  rollout.share = std::llround(*request.share * static_cast<double>(store::Rollout::kWhole) / 100);
  return rollout;
}

void RolloutsApi::change(const Call& call) const {
  const auto body = call.request.body.empty() ? ApiResult<json::Object>(json::Object{}) : parse_body(call.request);
  if (!body) return call.exchange.send_error(body.error());
  const bool creates = call.name.empty();
  const std::string action = creates ? "create" : call.request.method == "DELETE" ? "remove" : call.action;
  const auto request = creates              ? read_rollout_request(*body)
                       : action == "canary" ? read_canary_request(*body)
                                            : read_reason_request(*body);
  if (!request) return call.exchange.send_error(request.error());
  const std::string& by = call.exchange.who()->key.id;
  ApiResult<store::Rollout> wanted = tl::unexpected(ApiError{});
  if (creates) {
    wanted = made(call, *request);
  } else {
    const auto found = call.store.rollouts().find(openai::project_of(call.exchange), call.name);
    if (!found) return call.exchange.send_error(openai::store_error(found.error()));
    store::Rollout next = *found;
    if (action == "canary") {
      wanted = canary(call, std::move(next), *request);
    } else if (action == "promote") {
      if (next.candidate.empty()) return call.exchange.send_error(conflict("There is no candidate to promote."));
      if (const auto refused = judged_these(call, next.project_id, next.candidate, next.evaluation))
        return call.exchange.send_error(*refused);
      next.previous = std::exchange(next.stable, std::exchange(next.candidate, ""));
      next.share = 0;
      wanted = next;
    } else if (action == "rollback") {
      if (next.candidate.empty() && next.previous.empty())
        return call.exchange.send_error(conflict("There is nothing to go back to."));
      if (next.candidate.empty()) next.stable = std::exchange(next.previous, "");
      next.candidate = "";
      next.share = 0;
      wanted = next;
    } else {
      wanted = next;
    }
  }
  if (!wanted) return call.exchange.send_error(wanted.error());
  if (governance::AuditLog* log = call.exchange.audit(); log != nullptr) {
    const Status kept = log->append_and_wait({{"type", "rollout"},
                                              {"request", call.exchange.request_id()},
                                              {"action", action},
                                              {"project", wanted->project_id},
                                              {"key", by},
                                              {"name", wanted->name},
                                              {"model", wanted->stable},
                                              {"candidate", wanted->candidate},
                                              {"share_of_10000", wanted->share},
                                              {"evaluation", wanted->evaluation},
                                              {"reason", request->reason}});
    if (!kept) {
      base::log_error("audit log: " + kept.error().message);
      return call.exchange.send_error(
          {500, "server_error", "The audit log cannot be written; nothing was changed.", "", "audit_unavailable"});
    }
  }
  name_ignored(call.exchange, request->ignored);
  if (action == "remove") {
    const auto gone = call.store.rollouts().remove(*wanted, by, request->reason);
    if (!gone) return call.exchange.send_error(rollout_error(gone.error()));
    if (table_ != nullptr) table_->refresh();
    return call.exchange.send_json(200, json::Object{{"name", wanted->name}, {"object", "rollout"}, {"deleted", true}});
  }
  const auto written = call.store.rollouts().change(std::move(*wanted), action, by, request->reason);
  if (!written && creates && written.error().kind == ErrorKind::kBadInput)
    return call.exchange.send_error(conflict(written.error().message + "."));
  if (!written) return call.exchange.send_error(rollout_error(written.error()));
  if (table_ != nullptr) table_->refresh();
  call.exchange.send_json(200, rollout_object(*written));
}

bool RolloutsApi::handle(const openai::SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const {
  const std::string_view path = request->path;
  if (path != kRoot && !path.starts_with(std::string(kRoot) + "/")) return false;
  const std::string_view rest = path.size() > kRoot.size() ? path.substr(kRoot.size() + 1) : std::string_view();
  const auto slash = rest.find('/');
  const std::string name(rest.substr(0, slash)), action(slash == std::string_view::npos ? "" : rest.substr(slash + 1));
  const bool posts = action == "canary" || action == "promote" || action == "rollback";
  if (!only(posts                 ? "POST"
            : action == "history" ? "GET"
            : name.empty()        ? "GET, POST"
                                  : "GET, DELETE",
            *request, *exchange))
    return true;
  store::Store* store = openai::store_of(*exchange);
  if (store == nullptr) return true;
  openai::in_background(background_, exchange, [this, store, request, exchange, name, action] {
    if (request->method != "GET" && request->method != "HEAD")
      return change({*store, *request, *exchange, name, action});
    const std::string& project = openai::project_of(*exchange);
    if (action == "history") {
      const auto query = openai::read_list_query(*request, kUsuallyListed, kMostListed);
      if (!query) return exchange->send_error(query.error());
      const std::int64_t before = query->after.empty() ? 0 : std::atoll(query->after.c_str());
      auto events = store->rollouts().history(project, name, before, query->limit + 1);
      if (!events) return exchange->send_error(openai::store_error(events.error()));
      const bool more = static_cast<std::int64_t>(events->size()) > query->limit;
      if (more) events->pop_back();
      json::Array items;
      for (const auto& event : *events) items.emplace_back(rollout_event_object(event));
      return exchange->send_json(200, json::Object{{"object", "list"}, {"data", std::move(items)}, {"has_more", more}});
    }
    if (!name.empty()) {
      const auto found = store->rollouts().find(project, name);
      if (!found) return exchange->send_error(openai::store_error(found.error()));
      return exchange->send_json(200, rollout_object(*found));
    }
    const auto all = store->rollouts().all(project);
    if (!all) return exchange->send_error(openai::store_error(all.error()));
    json::Array items;
    for (const auto& one : *all) items.emplace_back(rollout_object(one));
    exchange->send_json(200, json::Object{{"object", "list"}, {"data", std::move(items)}, {"has_more", false}});
  });
  return true;
}

}  // namespace qw::api
