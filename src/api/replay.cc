#include "api/replay.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>

#include "api/audit_entry.h"
#include "api/field_reader.h"
#include "api/generation/drawing.h"
#include "api/kept_content.h"
#include "api/openai/files.h"
#include "base/clock.h"
#include "governance/audit/audit_log.h"
#include "governance/audit/find_answer.h"
#include "governance/watermark/mark_key.h"

namespace qw::api {
namespace {

constexpr std::string_view kReplayPath = "/admin/audit/replay";
constexpr std::int32_t kBehindClients = -1;  // priority in the engine

using Tokens = std::vector<engine::TokenId>;

std::string text_in(const json::Value& record, const char* name) {
  const json::Value* found = record.find(name);
  return found != nullptr && found->is_string() ? found->as_string() : "";
}

Found<std::vector<Tokens>> answers_kept(const json::Value& content, const Drawing& drawing) {
  const json::Value* list = content.find("answers");
  std::vector<Tokens> out;
  if (list != nullptr && list->is_array())
    for (const json::Value& answer : list->as_array()) {
      const json::Value* ids = answer.find("tokens");
      if (ids == nullptr || !ids->is_array()) break;
      Tokens& tokens = out.emplace_back();
      for (const json::Value& id : ids->as_array())
        tokens.push_back(static_cast<engine::TokenId>(id.is_int() ? id.as_int() : -1));
    }
  if (out.size() != drawing.prompts.size() * static_cast<std::size_t>(drawing.n))
    return obstacle("content_unknown", "What was kept of the answer does not fit what was kept of the request.");
  return out;
}

Found<void> same_model(const json::Value& record, const ServedModel& model) {
  const std::string recorded = text_in(record, "model_sha256"), adapter = text_in(record, "adapter_sha256");
  if (recorded.empty()) return obstacle("model_not_recorded", "The record does not say by which files it was drawn.");
  if (model.identity == nullptr) return obstacle("model_not_known", "The hash of the model here is not known.");
  if (recorded != model.identity->model)
    return obstacle("other_model", "The answer was drawn by a model of SHA-256 " + recorded + "; that of `" + model.id +
                                       "` here is " + model.identity->model + ".");
  if (adapter != model.identity->adapter)
    return obstacle("other_model", "The answer was drawn with the adapter " + (adapter.empty() ? "(none)" : adapter) +
                                       "; here it is " +
                                       (model.identity->adapter.empty() ? "(none)" : model.identity->adapter) + ".");
  return {};
}

Found<std::shared_ptr<const governance::MarkKey>> mark_of(const ReplaySources& sources, const json::Value& record) {
  const std::string id = text_in(record, "watermark");
  if (id.empty()) return nullptr;
  const auto keys = sources.marks == nullptr ? nullptr : sources.marks->now();
  if (keys != nullptr)
    for (const governance::MarkKey& key : keys->all())
      if (key.id == id) return std::shared_ptr<const governance::MarkKey>(keys, &key);
  return obstacle("no_watermark_key",
                  "The answer was marked with the key " + id + ", which is not here (--watermark-keys).");
}

// The choices of one answer under way. Lives until the last has ended.
class Redrawing : public std::enable_shared_from_this<Redrawing> {
 public:
  Redrawing(ModelLease model, json::Object verdict, std::string computed, std::vector<Tokens> recorded, OnReplay then)
      : model_(std::move(model)),
        verdict_(std::move(verdict)),
        computed_(std::move(computed)),
        recorded_(std::move(recorded)),
        drawn_(recorded_.size()),
        errors_(recorded_.size()),
        left_(recorded_.size()),
        then_(std::move(then)) {}

  void run(const Drawing& drawing) {
    for (std::size_t i = 0; i < recorded_.size(); ++i) {
      if (recorded_[i].empty()) {
        ended();
        continue;
      }
      std::shared_ptr<sampling::LoopWatch> loops;
      engine::Request request = request_of(drawing, *model_, i / static_cast<std::size_t>(drawing.n),
                                           static_cast<std::int64_t>(i) % drawing.n, loops);
      request.max_tokens = static_cast<std::int64_t>(recorded_[i].size());
      request.params.logprobs = false;
      request.params.top_logprobs = 0;
      request.priority = kBehindClients;
      request.tenant = "audit replay";
      request.cache_salt = "audit replay";
      request.sink = std::make_shared<Listener>(shared_from_this(), i);
      if (const auto id = model_->engine->submit(std::move(request)); !id) {
        errors_[i] = id.error().message;
        ended();
      }
    }
  }

 private:
  class Listener final : public engine::Sink {
   public:
    Listener(std::shared_ptr<Redrawing> of, std::size_t index) : of_(std::move(of)), index_(index) {}
    engine::Verdict on_token(const engine::TokenEvent& event) noexcept override {
      of_->drawn_[index_].push_back(event.id);
      return engine::Verdict::kContinue;
    }
    void on_finished(const engine::Finished& finished) noexcept override {
      if (finished.error) of_->errors_[index_] = finished.error->message;
      if (finished.reason == engine::FinishReason::kCancelled) of_->errors_[index_] = "the engine was stopped";
      of_->ended();
    }

   private:
    std::shared_ptr<Redrawing> of_;
    std::size_t index_;
  };

  void ended() {
    if (left_.fetch_sub(1) > 1) return;
    for (const std::string& error : errors_) {
      if (error.empty()) continue;
      verdict_.set("verdict", "impossible");
      verdict_.set("reason", "not_drawn");
      verdict_.set("message", "The engine does not draw it: " + error);
      return then_(std::move(verdict_));
    }
    bool all = true;
    json::Array choices;
    for (std::size_t i = 0; i < recorded_.size(); ++i) {
      const Tokens &then = recorded_[i], &now = drawn_[i];
      const bool same = then == now;
      all = all && same;
      json::Object one{{"tokens", static_cast<std::int64_t>(then.size())}, {"same", same}};
      if (!same) {
        const auto [a, b] = std::mismatch(then.begin(), then.end(), now.begin(), now.end());
        one.set("first_difference", static_cast<std::int64_t>(a - then.begin()));
      }
      choices.push_back(std::move(one));
    }
    verdict_.set("verdict", all ? "same" : "differs");
    verdict_.set("choices", std::move(choices));
    if (!all && model_->identity->compute != computed_)
      verdict_.set("message", "It was computed with " + computed_ + ", and now with " + model_->identity->compute +
                                  "; different forms of numbers may give different tokens.");
    then_(std::move(verdict_));
  }

  const ModelLease model_;
  json::Object verdict_;
  const std::string computed_;
  const std::vector<Tokens> recorded_;
  std::vector<Tokens> drawn_;
  std::vector<std::string> errors_;
  std::atomic<std::size_t> left_;
  const OnReplay then_;
};

json::Object impossible(json::Object verdict, const Obstacle& why) {
  verdict.set("verdict", "impossible");
  verdict.set("reason", why.reason);
  verdict.set("message", why.message);
  return verdict;
}

void draw_again(const ReplaySources& sources, const json::Value& record, const json::Value& content,
                const ModelLease& model, json::Object verdict, OnReplay then) {
  if (const auto same = same_model(record, *model); !same) return then(impossible(std::move(verdict), same.error()));
  auto mark = mark_of(sources, record);
  if (!mark) return then(impossible(std::move(verdict), mark.error()));
  auto drawing = drawing_from(*model, content);
  if (!drawing) return then(impossible(std::move(verdict), {"content_unknown", drawing.error().message}));
  drawing->mark = std::move(*mark);
  auto recorded = answers_kept(content, *drawing);
  if (!recorded) return then(impossible(std::move(verdict), recorded.error()));
  if (std::all_of(recorded->begin(), recorded->end(), [](const Tokens& tokens) { return tokens.empty(); }))
    return then(
        impossible(std::move(verdict),
                   {"not_an_answer", "No tokens were drawn: nothing came of it, or the policy answered itself."}));
  std::make_shared<Redrawing>(model, std::move(verdict), text_in(record, "compute"), std::move(*recorded),
                              std::move(then))
      ->run(*drawing);
}

}  // namespace

void replay(const ReplaySources& sources, json::Value record, const std::string& model, OnReplay then) {
  const json::Value* seq = record.find("seq");
  const std::string recorded = text_in(record, "model"), name = model.empty() ? recorded : model;
  json::Object verdict{{"object", "audit.replay"},
                       {"record", seq == nullptr ? json::Value() : *seq},
                       {"model", recorded},
                       {"verdict", ""}};
  if (text_in(record, "type") != "generation")
    return then(impossible(
        std::move(verdict),
        {"not_an_answer", "The record is of the type " + text_in(record, "type") + ": no tokens were drawn."}));
  auto content = open_content(record, sources.store, sources.keys);
  if (!content) return then(impossible(std::move(verdict), content.error()));
  const ModelEntry entry = sources.models->find(name);
  if (entry == nullptr || name.empty())
    return then(impossible(std::move(verdict), {"no_model", "There is no model `" + name + "` here."}));
  const auto go = [sources, record = std::move(record), content = std::move(*content), verdict,
                   then](const ModelLease& m) { draw_again(sources, record, content, m, verdict, then); };
  if (!entry->acquire) return go(entry);
  entry->acquire([go, verdict, then](Result<ModelLease> lease) {
    lease ? go(*lease) : then(impossible(verdict, {"no_model", lease.error().message}));
  });
}

ApiResult<ReplayRequest> read_replay_request(const json::Object& body) {
  FieldReader in(body);
  ReplayRequest out;
  const char* asked = in.one_of({"seq", "request", "produce_id"}, R"({"type": ["integer", "string"]})");
  if (asked != nullptr) {
    out.name = asked;
    if (out.name == "seq") {
      out.value = std::to_string(in.integer("seq", 0, std::numeric_limits<std::int64_t>::max()).value_or(0));
    } else {
      out.value = in.text(asked).value_or("");
      if (out.value.empty()) in.reject(asked, "'" + out.name + "' is empty.");
    }
  }
  if (in.error()) return tl::unexpected(*in.error());
  return out;
}

bool handle_replay(const ReplaySources& sources, Background& background, const net::Request& request,
                   const std::shared_ptr<Exchange>& exchange) {
  if (request.path != kReplayPath) return false;
  if (!only("POST", request, *exchange)) return true;
  const auto body = parse_body(request);
  const auto asked = body ? read_replay_request(*body) : tl::unexpected(body.error());
  if (!asked) {
    exchange->send_error(asked.error());
    return true;
  }
  if (exchange->audit() == nullptr) {
    exchange->send_error({501, "invalid_request_error",
                          "This service keeps no record of its answers (serve --audit-log).", "", "no_audit_log"});
    return true;
  }
  openai::in_background(background, exchange, [sources, exchange, wanted = *asked] {
    auto record = governance::find_record(exchange->audit()->folder(), wanted.name, wanted.value);
    if (!record) return exchange->send_error(from_internal(record.error()));
    if (!*record)
      return exchange->send_error({404, "invalid_request_error",
                                   "The audit log has no record of " + wanted.name + " " + wanted.value + ".",
                                   wanted.name, "not_found"});
    replay(sources, std::move(**record), "", [exchange](const json::Object& verdict) {
      json::Object entry{{"type", "replay"}, {"request", exchange->request_id()}};
      if (exchange->who() != nullptr) entry.set("key", exchange->who()->key.id);
      for (const char* name : {"record", "verdict", "reason"})
        if (const json::Value* found = verdict.find(name); found != nullptr)
          entry.set(std::string(name) == "record" ? "replayed" : name, *found);
      keep(*exchange, std::move(entry), [exchange, verdict](const Status& kept) {
        kept ? exchange->send_json(200, verdict) : exchange->send_error(not_kept());
      });
    });
  });
  return true;
}

}  // namespace qw::api
