#include "api/openai/files.h"

#include <charconv>

#include "api/accounts.h"
#include "api/openai/uploads.h"
#include "base/clock.h"
#include "net/multipart.h"
#include "net/url.h"

namespace qw::api::openai {
namespace {

// As OpenAI has it: an hour to 30 days.
constexpr std::int64_t kLeastExpiry = 3600, kMostExpiry = 2'592'000;
constexpr std::int64_t kMostListed = 10'000;

std::optional<std::int64_t> integer_of(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

struct Upload {
  std::string filename, purpose;
  std::string_view body;
  std::int64_t lasts_s = 0;  // 0: for ever
};

ApiResult<Upload> read_upload(const net::Request& request) {
  auto parts = net::parse_form(net::find_header(request.headers, "content-type"), request.body);
  if (!parts) return tl::unexpected(bad_request("", parts.error().message));
  Upload out;
  bool has_file = false;
  for (const net::FormPart& part : *parts) {
    if (part.name == "file") {
      has_file = true;
      out.filename = part.filename.empty() ? "file" : part.filename;
      out.body = part.body;
    } else if (part.name == "purpose") {
      out.purpose = part.body;
    } else if (part.name == "expires_after[anchor]") {
      if (part.body != "created_at")
        return tl::unexpected(bad_request("expires_after[anchor]", "'expires_after[anchor]' must be created_at."));
    } else if (part.name == "expires_after[seconds]") {
      const auto seconds = integer_of(part.body);
      if (!seconds || *seconds < kLeastExpiry || *seconds > kMostExpiry)
        return tl::unexpected(
            bad_request("expires_after[seconds]", "'expires_after[seconds]' must be between 3600 and 2592000."));
      out.lasts_s = *seconds;
    }
  }
  if (!has_file) return tl::unexpected(bad_request("file", "'file' is required."));
  if (auto fine = check_purpose(out.purpose); !fine) return tl::unexpected(fine.error());
  return out;
}

void create(store::Files& files, const std::string& project, const net::Request& request, Exchange& exchange) {
  const auto upload = read_upload(request);
  if (!upload) return exchange.send_error(upload.error());
  const std::int64_t expires = upload->lasts_s == 0 ? 0 : base::unix_us() + upload->lasts_s * base::kSecondUs;
  auto file = files.begin(project, upload->filename, upload->purpose, expires);
  if (!file) return exchange.send_error(store_error(file.error()));
  if (auto added = files.append(file->id, upload->body); !added) return exchange.send_error(store_error(added.error()));
  file = files.complete(file->id);
  if (!file) return exchange.send_error(store_error(file.error()));
  exchange.send_json(200, file_object(*file));
}

void list(store::Files& files, const std::string& project, const net::Request& request, Exchange& exchange) {
  const auto query = read_list_query(request, kMostListed, kMostListed);
  if (!query) return exchange.send_error(query.error());
  auto found = files.list(project, net::query_value(request.query, "purpose").value_or(""), query->after,
                          query->limit + 1, query->oldest_first);
  if (!found) return exchange.send_error(store_error(found.error()));
  const bool more = static_cast<std::int64_t>(found->size()) > query->limit;
  if (more) found->pop_back();
  json::Array items;
  for (const store::File& file : *found) items.push_back(file_object(file));
  exchange.send_json(200, list_object(std::move(items), more));
}

// Sends a file piece by piece, as fast as the client takes it.
class Download : public std::enable_shared_from_this<Download> {
 public:
  Download(Background& background, store::Files& files, std::string id, std::shared_ptr<Exchange> exchange)
      : background_(background), files_(files), id_(std::move(id)), exchange_(std::move(exchange)) {}
  // Blocks: in the background.
  void next() {
    auto piece = files_.read(id_, offset_);
    // The head has gone: what is missing shows by the end that does not come.
    if (!piece || piece->empty()) return exchange_->reply().finish();
    offset_ += static_cast<std::int64_t>(piece->size());
    exchange_->reply().write(std::move(*piece));
    exchange_->reply().when_sent([self = shared_from_this()] {
      if (self->exchange_->reply().closed()) return;
      if (!self->background_.post([self] { self->next(); })) self->exchange_->reply().finish();
    });
  }

 private:
  Background& background_;
  store::Files& files_;
  const std::string id_;
  const std::shared_ptr<Exchange> exchange_;
  std::int64_t offset_ = 0;
};

// The name of a file as a header may carry it.
std::string attachment(const std::string& name) { return "attachment; filename*=UTF-8''" + net::percent_encode(name); }

void one_file(Background& background, store::Files& files, const std::string& project, const std::string& rest,
              const net::Request& request, const std::shared_ptr<Exchange>& exchange) {
  const bool content = rest.ends_with("/content");
  const std::string id = content ? rest.substr(0, rest.size() - 8) : rest;
  const auto file = files.find(project, id);
  if (!file || (!file->complete && !content)) {
    if (file || file.error().kind == ErrorKind::kBadInput)
      return exchange->send_error({404, "invalid_request_error", "There is no file " + id + ".", "id", "not_found"});
    return exchange->send_error(store_error(file.error()));
  }
  if (content) {
    if (!file->complete) return exchange->send_error(bad_request("id", "The file " + id + " is not complete."));
    exchange->begin_bytes(
        {{"Content-Type", "application/octet-stream"}, {"Content-Disposition", attachment(file->name)}});
    return std::make_shared<Download>(background, files, id, exchange)->next();
  }
  if (request.method != "DELETE") return exchange->send_json(200, file_object(*file));
  if (auto removed = files.remove(project, id); !removed) return exchange->send_error(store_error(removed.error()));
  exchange->send_json(200, json::Object{{"id", id}, {"object", "file"}, {"deleted", true}});
}

}  // namespace

json::Value file_object(const store::File& file) {
  json::Object out{{"id", file.id},         {"object", "file"},
                   {"bytes", file.bytes},   {"created_at", file.created_us / base::kSecondUs},
                   {"filename", file.name}, {"purpose", file.purpose},
                   {"status", "processed"}};
  if (file.expires_us != 0) out.set("expires_at", file.expires_us / base::kSecondUs);
  return out;
}

store::Store* store_of(Exchange& exchange) {
  if (exchange.accounts() != nullptr) return &exchange.accounts()->store();
  exchange.send_error({501, "invalid_request_error",
                       "This service keeps nothing: it was started without a store (serve --store).", "", "no_store"});
  return nullptr;
}

// When a project that has as many unfinished jobs as it may have should ask again.
constexpr std::int64_t kRoomAgainS = 10;

ApiError store_error(const Error& error) {
  if (error.kind == ErrorKind::kBadInput) return {404, "invalid_request_error", error.message, "", "not_found"};
  if (error.kind == ErrorKind::kResource)
    return {429, "rate_limit_error", "Limit reached: " + error.message + ".", "", "too_many_jobs", kRoomAgainS};
  return {503, "server_error", "The store cannot be reached.", "", "store_unavailable"};
}

void in_background(Background& background, const std::shared_ptr<Exchange>& exchange, std::function<void()> work) {
  if (!background.post(std::move(work)))
    exchange->send_error({503, "overloaded_error", "Too many requests wait for the store.", "", "overloaded"});
}

json::Value list_object(json::Array items, bool has_more) {
  const auto id = [](const json::Value& item) { return item.find("id") == nullptr ? json::Value() : *item.find("id"); };
  json::Object out{{"object", "list"}};
  const json::Value first = items.empty() ? json::Value() : id(items.front());
  const json::Value last = items.empty() ? json::Value() : id(items.back());
  out.set("data", std::move(items));
  out.set("first_id", first);
  out.set("last_id", last);
  out.set("has_more", has_more);
  return out;
}

ApiResult<ListQuery> read_list_query(const net::Request& request, std::int64_t usual, std::int64_t most) {
  ListQuery out;
  out.limit = usual;
  if (const auto text = net::query_value(request.query, "limit")) {
    const auto limit = integer_of(*text);
    if (!limit || *limit < 1 || *limit > most)
      return tl::unexpected(bad_request("limit", "'limit' must be between 1 and " + std::to_string(most) + "."));
    out.limit = *limit;
  }
  const std::string order = net::query_value(request.query, "order").value_or("desc");
  if (order != "asc" && order != "desc") return tl::unexpected(bad_request("order", "'order' must be asc or desc."));
  out.oldest_first = order == "asc";
  out.after = net::query_value(request.query, "after").value_or("");
  return out;
}

const std::string& project_of(const Exchange& exchange) { return exchange.who()->key.project_id; }

bool FilesApi::handle(const SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const {
  const std::string& path = request->path;
  const bool all = path == "/v1/files", one = path.starts_with("/v1/files/") && path.size() > 10;
  if (!all && !one) return handle_upload(background_, request, exchange);
  const bool content = one && path.ends_with("/content");
  if (!only(all ? "GET, POST" : content ? "GET" : "GET, DELETE", *request, *exchange)) return true;
  store::Store* store = store_of(*exchange);
  if (store == nullptr) return true;
  in_background(background_, exchange, [&background = background_, store, request, exchange, all] {
    const std::string& project = project_of(*exchange);
    if (!all) return one_file(background, store->files(), project, request->path.substr(10), *request, exchange);
    if (request->method == "POST") return create(store->files(), project, *request, *exchange);
    list(store->files(), project, *request, *exchange);
  });
  return true;
}

}  // namespace qw::api::openai
