#include "api/routes.h"

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "api/adapters.h"
#include "api/admin/operations.h"
#include "api/anthropic/request.h"
#include "api/complaints.h"
#include "api/dashscope/request.h"
#include "api/feedback/api.h"
#include "api/model_swap.h"
#include "api/replay.h"
#include "api/rollouts/api.h"
#include "api/rollouts/evaluations.h"
#include "api/stop_switch.h"
#include "api/ollama/request.h"
#include "api/openai/batches.h"
#include "api/openai/fine_tuning/job.h"
#include "api/openai/moderations.h"
#include "api/openai/request.h"
#include "api/openai/responses/request.h"
#include "api/openai/tokens.h"
#include "api/openai/uploads.h"
#include "api/screening.h"
#include "api/sessions.h"
#include "api/provenance.h"

namespace qw::api {
namespace {

using enum Protocol;
using enum Answers;
using Body = json::Object;

// A reader whose result nobody wants.
template <auto kRead>
void reads(const Body& body) {
  (void)kRead(body);
}
void reads_messages(const Body& body) { (void)anthropic::read_messages(body, false); }
void reads_messages_to_count(const Body& body) { (void)anthropic::read_messages(body, true); }
void reads_generation(const Body& body) { (void)dashscope::read_generation(body, false, false); }
void reads_multimodal(const Body& body) { (void)dashscope::read_generation(body, false, true); }
void reads_embed(const Body& body) { (void)ollama::read_embed(body, false); }
void reads_embeddings(const Body& body) { (void)ollama::read_embed(body, true); }
void reads_batch(const Body& body) {
  std::vector<std::string> ignored;
  (void)openai::read_batch_request(body, ignored);
}

constexpr auto kChat = &reads<&openai::read_chat_request>;
constexpr auto kCompletion = &reads<&openai::read_completion_request>;
constexpr auto kEmbedding = &reads<&openai::read_embedding_request>;
constexpr auto kRerank = &reads<&openai::read_rerank_request>;
constexpr auto kScore = &reads<&openai::read_score_request>;
constexpr auto kTokenize = &reads<&openai::read_tokenize_request>;
constexpr auto kDetokenize = &reads<&openai::read_detokenize_request>;
constexpr auto kResponse = &reads<&openai::read_response_request>;

constexpr Parameter kAfter{"after", R"({"type": "string"})"};
constexpr Parameter kOrder{"order", R"({"enum": ["asc", "desc"]})"};
constexpr Parameter kLimit{"limit", R"({"type": "integer", "minimum": 1, "maximum": 100})"};
constexpr Parameter kFileLimit{"limit", R"({"type": "integer", "minimum": 1, "maximum": 10000})"};
constexpr Parameter kPage{"page_no", R"({"type": "integer", "minimum": 1, "maximum": 10000})"};
constexpr Parameter kPageSize{"page_size", R"({"type": "integer", "minimum": 1, "maximum": 100})"};

constexpr Parameter kFrom{"from", R"({"type": "string"})"}, kTo{"to", R"({"type": "string"})"};  // days: 2026-11-28

constexpr const char* kFileForm =
    R"({"type": "object", "required": ["file", "purpose"], "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"enum": ["assistants", "batch", "fine-tune", "vision", "user_data", "evals", "file-extract"]},
        "expires_after[anchor]": {"const": "created_at"},
        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2592000}}})";
constexpr const char* kFilesForm =
    R"({"type": "object", "required": ["files"], "properties": {
        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
        "purpose": {"type": "string"}, "descriptions": {"type": "array", "items": {"type": "string"}}}})";
constexpr const char* kPartForm =
    R"({"type": "object", "required": ["data"], "properties": {"data": {"type": "string", "format": "binary"}}})";

const Route kRoutes[] = {
    {"POST", "/v1/chat/completions", kOpenAi, "Answer a conversation", kJsonOrEvents, kChat},
    {"POST", "/v1/completions", kOpenAi, "Go on with texts, or fill in between", kJsonOrEvents, kCompletion},
    {"POST", "/v1/embeddings", kOpenAi, "Embed texts", kJson, kEmbedding},
    {"POST", "/v1/rerank", kOpenAi, "Rank documents", kJson, kRerank},
    {"POST", "/v2/rerank", kOpenAi, "Rank documents", kJson, kRerank},
    {"POST", "/rerank", kOpenAi, "Rank documents", kJson, kRerank},
    {"POST", "/v1/score", kOpenAi, "Score pairs of texts", kJson, kScore},
    {"POST", "/score", kOpenAi, "Score pairs of texts", kJson, kScore},
    {"POST", "/v1/tokenize", kOpenAi, "The tokens of a text or conversation", kJson, kTokenize},
    {"POST", "/tokenize", kOpenAi, "The tokens of a text or conversation", kJson, kTokenize},
    {"POST", "/v1/detokenize", kOpenAi, "The text of tokens", kJson, kDetokenize},
    {"POST", "/detokenize", kOpenAi, "The text of tokens", kJson, kDetokenize},
    {"POST", "/v1/moderations", kOpenAi, "Judge texts", kJson, &reads<&openai::read_moderation_request>},
    {"POST", "/v1/screen", kService, "What the policy would do with texts, stage by stage", kJson,
     &reads<&read_screen_request>},
    {"POST", "/v1/content_provenance", kOpenAi, "Look for this service's marks in texts, or for its answers by their numbers", kJson,
     &reads<&read_provenance_request>},
    {"GET", "/v1/models", kOpenAi, "List the models (in Anthropic's shape with anthropic-version)"},
    {"GET", "/v1/models/{model*}", kOpenAi, "Show a model"},

    {"POST", "/v1/responses", kOpenAi, "Answer, and keep the answer", kJsonOrEvents, kResponse},
    {"POST", "/v1/responses/input_tokens", kOpenAi, "Count what a response would read", kJson, kResponse},
    {"GET",
     "/v1/responses/{response_id}",
     kOpenAi,
     "Show a response, or stream the events of one in the background",
     kJsonOrEvents,
     nullptr,
     {{"stream", R"({"type": "boolean"})"}, {"starting_after", R"({"type": "integer", "minimum": 0})"}}},
    {"DELETE", "/v1/responses/{response_id}", kOpenAi, "Delete a response"},
    {"GET",
     "/v1/responses/{response_id}/input_items",
     kOpenAi,
     "List what a response was asked",
     kJson,
     nullptr,
     {kAfter, kOrder, kLimit}},
    {"POST", "/v1/responses/{response_id}/cancel", kOpenAi, "Cancel a response in the background"},

    {"POST", "/v1/files", kOpenAi, "Leave a file", kJson, nullptr, {}, kFileForm},
    {"GET",
     "/v1/files",
     kOpenAi,
     "List files",
     kJson,
     nullptr,
     {{"purpose", R"({"type": "string"})"}, kAfter, kOrder, kFileLimit}},
    {"GET", "/v1/files/{file_id}", kOpenAi, "Show a file"},
    {"DELETE", "/v1/files/{file_id}", kOpenAi, "Delete a file"},
    {"GET", "/v1/files/{file_id}/content", kOpenAi, "Read a file", kBytes},
    {"POST", "/v1/uploads", kOpenAi, "Begin a file that comes in parts", kJson, &reads<&openai::read_upload_request>},
    {"POST", "/v1/uploads/{upload_id}/parts", kOpenAi, "Add a part", kJson, nullptr, {}, kPartForm},
    {"POST", "/v1/uploads/{upload_id}/complete", kOpenAi, "Join the parts", kJson,
     &reads<&openai::read_upload_completion>},
    {"POST", "/v1/uploads/{upload_id}/cancel", kOpenAi, "Give up an upload"},
    {"POST", "/v1/batches", kOpenAi, "Execute a file of requests", kJson, &reads_batch},
    {"GET", "/v1/batches", kOpenAi, "List batches", kJson, nullptr, {kAfter, kOrder, kLimit}},
    {"GET", "/v1/batches/{batch_id}", kOpenAi, "Show a batch"},
    {"POST", "/v1/batches/{batch_id}/cancel", kOpenAi, "Cancel a batch"},
    {"POST", "/v1/fine_tuning/jobs", kOpenAi, "Train a model", kJson, &reads<&openai::read_fine_tune_request>},
    {"GET", "/v1/fine_tuning/jobs", kOpenAi, "List jobs", kJson, nullptr, {kAfter, kOrder, kLimit}},
    {"GET", "/v1/fine_tuning/jobs/{job_id}", kOpenAi, "Show a job"},
    {"POST", "/v1/fine_tuning/estimate", kOpenAi, "What training a model would take; nothing is begun", kJson,
     &reads<&openai::read_fine_tune_request>},
    {"POST", "/v1/fine_tuning/jobs/{job_id}/cancel", kOpenAi, "Cancel a job"},
    {"POST", "/v1/fine_tuning/jobs/{job_id}/pause", kOpenAi, "Lay a job aside: what it trained is saved, its memory freed"},
    {"POST", "/v1/fine_tuning/jobs/{job_id}/resume", kOpenAi, "Go on with a paused job"},
    {"GET", "/v1/fine_tuning/jobs/{job_id}/validation", kOpenAi, "What is in a job's files, and wrong with them"},
    {"GET",
     "/v1/fine_tuning/jobs/{job_id}/events",
     kOpenAi,
     "List what happened in a job",
     kJson,
     nullptr,
     {kAfter, kOrder, kLimit}},
    {"GET",
     "/v1/fine_tuning/jobs/{job_id}/checkpoints",
     kOpenAi,
     "List what a job made",
     kJson,
     nullptr,
     {kAfter, kOrder, kLimit}},

    {"POST", "/v1/feedback", kService, "Say what an answer that is kept was worth", kJson, &reads<&read_feedback_request>},
    {"GET", "/v1/feedback/{feedback_id}", kService, "Show feedback"},
    {"DELETE", "/v1/feedback/{feedback_id}", kService, "Erase the texts of feedback, in data sets too"},
    {"GET",
     "/v1/reviews",
     kService,
     "The queue of feedback, oldest first",
     kJson,
     nullptr,
     {{"status", R"({"enum": ["", "open", "accepted", "rejected", "erased"]})"}, kAfter, kLimit}},
    {"GET", "/v1/reviews/{feedback_id}", kService, "Show feedback of the queue"},
    {"POST", "/v1/reviews/{feedback_id}/edit", kService, "Write what an answer should have been", kJson, &reads<&read_edit_request>},
    {"POST", "/v1/reviews/{feedback_id}/accept", kService, "Let be learnt from it", kJson, &reads<&read_decision_request>},
    {"POST", "/v1/reviews/{feedback_id}/reject", kService, "Let it be", kJson, &reads<&read_decision_request>},
    {"POST", "/v1/datasets", kService, "Make a version of a data set of all that was accepted", kJson, &reads<&read_dataset_request>},
    {"GET", "/v1/datasets", kService, "List data sets", kJson, nullptr, {kAfter, kLimit}},
    {"GET", "/v1/datasets/{dataset_id}", kService, "Show a data set with the digests of its items"},
    {"GET", "/v1/lineage/{model*}", kService, "From a model that was trained here back to ratings"},
    {"POST", "/v1/evaluations", kService, "Judge a model by a task, and whether it reaches a bound", kJson,
     &reads<&read_evaluation_request>},
    {"GET", "/v1/evaluations", kService, "List evaluations", kJson, nullptr, {kAfter, kLimit}},
    {"GET", "/v1/evaluations/{evaluation_id}", kService, "Show an evaluation"},
    {"POST", "/v1/rollouts", kService, "Give a name to the version of a model that answers to it", kJson, &reads<&read_rollout_request>},
    {"GET", "/v1/rollouts", kService, "List rollouts"},
    {"GET", "/v1/rollouts/{name}", kService, "Show a rollout"},
    {"DELETE", "/v1/rollouts/{name}", kService, "Take the name away"},
    {"POST", "/v1/rollouts/{name}/canary", kService, "Let a candidate answer a share of those who ask", kJson, &reads<&read_canary_request>},
    {"POST", "/v1/rollouts/{name}/promote", kService, "Let the candidate answer everybody", kJson, &reads<&read_reason_request>},
    {"POST", "/v1/rollouts/{name}/rollback", kService, "Go back to what answered before", kJson, &reads<&read_reason_request>},
    {"GET", "/v1/rollouts/{name}/history", kService, "List what was done to a rollout", kJson, nullptr, {kAfter, kLimit}},

    {"POST", "/v1/messages", kAnthropic, "Answer a conversation", kJsonOrEvents, &reads_messages},
    {"POST", "/v1/messages/count_tokens", kAnthropic, "Count a conversation's tokens", kJson, &reads_messages_to_count},

    {"POST", "/api/v1/services/aigc/text-generation/generation", kDashscope, "Answer a conversation or prompt",
     kJsonOrEvents, &reads_generation},
    {"POST", "/api/v1/services/aigc/multimodal-generation/generation", kDashscope,
     "Answer a conversation, in parts (of text)", kJsonOrEvents, &reads_multimodal},
    {"POST", "/api/v1/services/embeddings/text-embedding/text-embedding", kDashscope, "Embed texts", kJson,
     &reads<&dashscope::read_embedding>},
    {"POST", "/api/v1/services/rerank/text-rerank/text-rerank", kDashscope, "Rank documents", kJson,
     &reads<&dashscope::read_rerank>},
    {"POST", "/api/v1/tokenizer", kDashscope, "The tokens of a conversation", kJson, &reads_generation},
    {"GET", "/api/v1/models", kDashscope, "List the models"},
    {"GET",
     "/api/v1/tasks",
     kDashscope,
     "List tasks",
     kJson,
     nullptr,
     {kPage, kPageSize, {"status", R"({"enum": ["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELED"]})"}}},
    {"POST", "/api/v1/files", kDashscope, "Leave files", kJson, nullptr, {}, kFilesForm},
    {"GET",
     "/api/v1/files",
     kDashscope,
     "List files",
     kJson,
     nullptr,
     {kPage, kPageSize, {"purpose", R"({"type": "string"})"}}},
    {"GET", "/api/v1/files/{file_id}", kDashscope, "Show a file"},
    {"DELETE", "/api/v1/files/{file_id}", kDashscope, "Delete a file"},
    {"GET", "/api/v1/tasks/{task_id}", kDashscope, "Show a task"},
    {"POST", "/api/v1/tasks/{task_id}/cancel", kDashscope, "Cancel a task"},

    {"POST", "/api/chat", kOllama, "Answer a conversation", kJsonOrLines, &reads<&ollama::read_chat>},
    {"POST", "/api/generate", kOllama, "Answer a prompt, or fill in before a suffix", kJsonOrLines,
     &reads<&ollama::read_generate>},
    {"POST", "/api/embed", kOllama, "Embed texts", kJson, &reads_embed},
    {"POST", "/api/embeddings", kOllama, "Embed a text", kJson, &reads_embeddings},
    {"POST", "/api/show", kOllama, "Show a model", kJson, &reads<&ollama::read_show>},
    {"GET", "/api/tags", kOllama, "List the models"},
    {"GET", "/api/ps", kOllama, "List the models that are loaded"},
    {"GET", "/api/version", kOllama, "The release whose protocol is spoken"},

    {"GET",
     "/v1/usage",
     kService,
     "Sum what the key's project used",
     kJson,
     nullptr,
     {{"by", R"({"enum": ["", "key", "user", "project", "organisation", "model", "day"]})"}, kFrom, kTo}},
    {"GET",
     "/v1/usage/rows",
     kService,
     "Export what the key's project used",
     kJsonOrCsv,
     nullptr,
     {kFrom,
      kTo,
      {"limit", R"({"type": "integer", "minimum": 1, "maximum": 1000})"},
      kAfter,
      {"format", R"({"enum": ["json", "csv"]})"}}},
    {"POST", "/v1/complaints", kService, "Complain", kJson, &reads<&read_complaint_request>},
    {"GET", "/v1/complaints", kService, "List complaints of one's own", kJson, nullptr, {kAfter, kLimit}},
    {"GET",
     "/v1/complaints/{complaint_id}",
     kService,
     "Show a complaint, by its receipt or as one's own",
     kJson,
     nullptr,
     {{"receipt", R"({"type": "string"})"}}},
    {"POST", "/v1/complaints/{complaint_id}/appeal", kService, "Appeal against an answer", kJson,
     &reads<&read_appeal_request>},
    {"GET", "/admin/v1/contents/{complaint_id}", kService, "What a complaint is about, opened"},
    {"GET", "/v1/my/data", kService, "What is held of the key's user or project"},
    {"DELETE", "/v1/my/data", kService, "Erase what is held of the key's user or project"},
    {"GET", "/metrics", kService, "Figures for Prometheus", kText},
    {"GET", "/openapi.json", kService, "This document"},
    {"GET", "/admin/adapters", kService, "List adapters"},
    {"POST", "/admin/adapters", kService, "Load an adapter", kJson, &reads<&read_adapter_request>},
    {"DELETE", "/admin/adapters/{adapter}", kService, "Unload an adapter"},
    {"GET", "/auth/login", kService, "The form to log in", kHtml},
    {"POST", "/auth/login", kService, "Log in with a password or key", kJson, &describe_login},
    {"GET", "/auth/oidc/login", kService, "Log in by a provider"},
    {"GET", "/auth/oidc/callback", kService, "Where a provider sends back to", kHtml},
    {"GET", "/auth/session", kService, "Who is logged in"},
    {"POST", "/auth/logout", kService, "End this session"},
    {"POST", "/auth/logout_all", kService, "End all sessions of a user"},
    {"GET", "/admin/stops", kService, "List what is stopped"},
    {"POST", "/admin/stops", kService, "Stop everything, a model, an adapter or a project", kJson,
     &reads<&read_stop_request>},
    {"POST", "/admin/stops/release", kService, "Let go on what was stopped", kJson, &reads<&read_stop_request>},
    {"POST", "/admin/audit/replay", kService, "Draw an audited answer again, and compare its tokens", kJson,
     &reads<&read_replay_request>},
    {"GET", "/admin/models", kService, "List the models with their memory and use"},
    {"PUT", "/admin/models/{model}", kService, "Replace a model", kJson, &reads<&read_swap_request>},
};

// With the operations of the administration, whose table is their own.
std::vector<Route> with_administration() {
  std::vector<Route> out(std::begin(kRoutes), std::end(kRoutes));
  static std::deque<std::string> texts;  // what the rows point to
  for (const admin::Operation& one : admin::operations()) {
    const char* path = texts.emplace_back("/admin/v1" + std::string(one.path)).c_str();
    const char* method = texts.emplace_back(one.method).c_str();
    out.push_back({method, path, kService, one.summary});
    out.back().administers = &one;
  }
  return out;
}

// Refused by name, and no part of what is offered: what manages models over Ollama's protocol (ollama/api.cc).
constexpr std::string_view kRefusedPaths[] = {"/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete"};

bool fits(std::string_view pattern, std::string_view path) {
  while (!pattern.empty()) {
    if (pattern[0] != '{') {
      if (path.empty() || path[0] != pattern[0]) return false;
      pattern.remove_prefix(1);
      path.remove_prefix(1);
      continue;
    }
    const auto close = pattern.find('}');
    const bool rest = pattern[close - 1] == '*';
    const auto end = rest ? path.size() : std::min(path.find('/'), path.size());
    if (end == 0) return false;
    path.remove_prefix(end);
    pattern.remove_prefix(close + 1);
  }
  return path.empty();
}

}  // namespace

std::span<const Route> routes() {
  static const std::vector<Route> all = with_administration();
  return all;
}

const Route* route_at(std::string_view method, std::string_view path) {
  for (const Route& route : routes())
    if (route.method == method && fits(route.path, path)) return &route;
  return nullptr;
}

bool has_route(std::string_view path) {
  for (const Route& route : routes())
    if (fits(route.path, path)) return true;
  return std::find(std::begin(kRefusedPaths), std::end(kRefusedPaths), path) != std::end(kRefusedPaths);
}

}  // namespace qw::api
