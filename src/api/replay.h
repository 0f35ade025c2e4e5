// An audited answer drawn again: with what the store has of its request, encrypted, the model that the record names,
// by the hash of its files, and the same seed and mark, an engine gives the same tokens, whatever else it computes and
// whatever drafts it makes.
//
//   POST /admin/audit/replay   {"seq": N} or {"request": "req_..."} or {"produce_id": "..."}
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "api/background.h"
#include "api/exchange.h"
#include "api/served_model.h"
#include "json/value.h"
#include "store/store.h"

namespace qw::api {

// What a replay needs; all must outlive it. Null: there is none, which the verdict then says.
struct ReplaySources {
  const ModelList* models = nullptr;
  store::Store* store = nullptr;
  const governance::ContentKeys* keys = nullptr;
  const governance::MarkKeyHolder* marks = nullptr;
};

// {"object": "audit.replay", "record", "model", "verdict", ...}: "same" or "differs" with "choices" (of each its
// "tokens", whether they are the "same", and where they part: "first_difference"), or "impossible" with "reason" (a
// word) and "message". An answer that was ended early (by a client, a policy, a stop string) is drawn as far as it
// went.
using OnReplay = std::function<void(json::Object verdict)>;

// Blocks for the store; `then` comes once, from any thread. `model`: what the record's model is called here; "": as
// there.
void replay(const ReplaySources& sources, json::Value record, const std::string& model, OnReplay then);

struct ReplayRequest {
  std::string name, value;  // of the record's member: "seq" (digits), "request" or "produce_id"
};
ApiResult<ReplayRequest> read_replay_request(const json::Object& body);

// True if the path is that route; the exchange is then answered, now or later, once the replay is on record itself.
bool handle_replay(const ReplaySources& sources, Background& background, const net::Request& request,
                   const std::shared_ptr<Exchange>& exchange);

}  // namespace qw::api
