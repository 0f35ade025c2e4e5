#include "api/openai/batches.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "api/accounts.h"
#include "api/field_reader.h"
#include "api/openai/batch_object.h"

namespace qw::api::openai {
namespace {

// The routes whose answer is one JSON object.
constexpr std::initializer_list<const char*> kEndpoints = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings",
                                                           "/v1/rerank",           "/v1/score",       "/v1/moderations",
                                                           "/v1/responses"};
// OpenAI has 24 hours; DashScope up to 14 days.
constexpr std::int64_t kLeastHours = 24, kMostHours = 336;
constexpr std::int64_t kMostListed = 100, kUsuallyListed = 20;
constexpr std::size_t kMostMetadata = 16, kLongestKey = 64, kLongestValue = 512;

constexpr const char* kMetadataShape =
    R"({"type": "object", "maxProperties": 16, "propertyNames": {"maxLength": 64},
        "additionalProperties": {"type": "string", "maxLength": 512}})";

// "24h", "7d": seconds.
std::optional<std::int64_t> window_of(const std::string& text) {
  std::int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end + 1 != text.data() + text.size() || n < 0 || n > kMostHours) return std::nullopt;
  const std::int64_t hours = *end == 'h' ? n : *end == 'd' ? n * 24 : 0;
  if (hours < kLeastHours || hours > kMostHours) return std::nullopt;
  return hours * 3600;
}

void read_metadata(FieldReader& in, BatchSpec& out) {
  const json::Object* metadata = in.object("metadata", kMetadataShape);
  if (metadata == nullptr) return;
  if (metadata->size() > kMostMetadata) return in.reject("metadata", "'metadata' may have at most 16 keys.");
  for (const auto& [key, value] : *metadata) {
    if (key.size() > kLongestKey || !value.is_string() || value.as_string().size() > kLongestValue)
      return in.reject("metadata", "'metadata' must hold strings of at most 512 bytes, under keys of at most 64.");
  }
  out.metadata = *metadata;
}

void create(store::Store& store, const net::Request& request, Exchange& exchange, BatchRunner* runner) {
  const auto body = parse_body(request);
  if (!body) return exchange.send_error(body.error());
  std::vector<std::string> ignored;
  auto spec = read_batch_request(*body, ignored);
  if (!spec) return exchange.send_error(spec.error());
  const std::string& project = project_of(exchange);
  const auto file = store.files().find(project, spec->input_file_id);
  if (!file && file.error().kind != ErrorKind::kBadInput) return exchange.send_error(store_error(file.error()));
  if (!file || !file->complete)
    return exchange.send_error(bad_request("input_file_id", "There is no file " + spec->input_file_id + "."));
  if (file->purpose != "batch")
    return exchange.send_error(bad_request("input_file_id", "The file's purpose is " + file->purpose + ", not batch."));
  spec->key_id = exchange.who()->key.id;
  const auto job = store.jobs().add("batch_", project, kBatchJob, spec->text());
  if (!job) return exchange.send_error(store_error(job.error()));
  name_ignored(exchange, ignored);
  exchange.send_json(200, batch_object(*job));
  if (runner != nullptr) runner->wake();
}

void list(store::Store& store, const net::Request& request, Exchange& exchange) {
  const auto query = read_list_query(request, kUsuallyListed, kMostListed);
  if (!query) return exchange.send_error(query.error());
  auto jobs = store.jobs().list(project_of(exchange), kBatchJob, query->after, query->limit + 1);
  if (!jobs) return exchange.send_error(store_error(jobs.error()));
  const bool more = static_cast<std::int64_t>(jobs->size()) > query->limit;
  if (more) jobs->pop_back();
  json::Array items;
  for (const store::Job& job : *jobs) items.push_back(batch_object(job));
  exchange.send_json(200, list_object(std::move(items), more));
}

void one_batch(store::Store& store, const std::string& id, bool cancel, Exchange& exchange) {
  const std::string& project = project_of(exchange);
  const auto job = cancel ? store.jobs().cancel(project, kBatchJob, id) : store.jobs().find(project, kBatchJob, id);
  if (!job && job.error().kind == ErrorKind::kBadInput)
    return exchange.send_error({404, "invalid_request_error", "There is no batch " + id + ".", "id", "not_found"});
  if (!job) return exchange.send_error(store_error(job.error()));
  exchange.send_json(200, batch_object(*job));
}

}  // namespace

ApiResult<BatchSpec> read_batch_request(const json::Object& body, std::vector<std::string>& ignored) {
  FieldReader in(body);
  BatchSpec out;
  out.input_file_id = in.text("input_file_id").value_or("");
  if (out.input_file_id.empty()) in.reject("input_file_id", "'input_file_id' is required.");
  const auto endpoint = in.choice("endpoint", kEndpoints);
  if (!endpoint) in.reject("endpoint", "'endpoint' is required.");
  out.endpoint = endpoint.value_or("");
  out.completion_window = in.text("completion_window").value_or("");
  const auto window = window_of(out.completion_window);
  if (!window) in.reject("completion_window", "'completion_window' must be 24h to 336h, or 1d to 14d.");
  out.window_s = window.value_or(0);
  read_metadata(in, out);
  if (in.error()) return tl::unexpected(*in.error());
  ignored = in.unknown();
  return out;
}

bool BatchesApi::handle(const SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const {
  constexpr std::string_view kRoot = "/v1/batches", kCancel = "/cancel";
  const std::string_view path = request->path;
  const bool all = path == kRoot;
  if (!all && !(path.starts_with(kRoot) && path.size() > kRoot.size() + 1 && path[kRoot.size()] == '/')) return false;
  std::string id(all ? "" : path.substr(kRoot.size() + 1));
  const bool cancel = id.ends_with(kCancel);
  if (cancel) id.resize(id.size() - kCancel.size());
  if (id.find('/') != std::string::npos) return false;
  if (!only(all ? "GET, POST" : cancel ? "POST" : "GET", *request, *exchange)) return true;
  const bool posts = request->method == "POST";
  store::Store* store = store_of(*exchange);
  if (store == nullptr) return true;
  in_background(background_, exchange, [store, request, exchange, id, all, cancel, posts, runner = runner_] {
    if (all && posts) return create(*store, *request, *exchange, runner);
    if (all) return list(*store, *request, *exchange);
    one_batch(*store, id, cancel, *exchange);
  });
  return true;
}

}  // namespace qw::api::openai
