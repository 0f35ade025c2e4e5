#include "api/openai/uploads.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "api/field_reader.h"
#include "base/clock.h"
#include "net/multipart.h"

namespace qw::api::openai {
namespace {

constexpr const char* kKind = "upload";
constexpr const char* kPartPurpose = "upload_part";
constexpr std::int64_t kLastsUs = 3600 * base::kSecondUs;  // an upload is completed within an hour, as OpenAI has it
constexpr std::int64_t kMostBytes = std::int64_t{8} << 30;
constexpr std::size_t kMostParts = 10'000;

class Md5 {
 public:
  Md5() : context_(EVP_MD_CTX_new()) { EVP_DigestInit_ex(context_, EVP_md5(), nullptr); }
  ~Md5() { EVP_MD_CTX_free(context_); }
  Md5(const Md5&) = delete;
  Md5& operator=(const Md5&) = delete;
  void update(std::string_view bytes) { EVP_DigestUpdate(context_, bytes.data(), bytes.size()); }
  std::string hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned n = 0;
    EVP_DigestFinal_ex(context_, digest.data(), &n);
    std::string out;
    for (unsigned i = 0; i < n; ++i) {
      out += "0123456789abcdef"[digest[i] >> 4];
      out += "0123456789abcdef"[digest[i] & 15];
    }
    return out;
  }

 private:
  EVP_MD_CTX* context_;
};

// What is known of an upload: the document's body, and what goes to the client.
json::Object upload_object(const store::Document& document) {
  auto body = json::parse(document.body);
  json::Object out{{"id", document.id}, {"object", "upload"}, {"created_at", document.created_us / base::kSecondUs}};
  if (body && body->is_object())
    for (const auto& [key, value] : body->as_object()) out.set(key, value);
  out.set("expires_at", (document.created_us + kLastsUs) / base::kSecondUs);
  return out;
}

const std::string& text_of(const json::Object& object, const char* key) {
  static const std::string kNone;
  const json::Value* value = object.find(key);
  return value != nullptr && value->is_string() ? value->as_string() : kNone;
}

struct Place {
  store::Store& store;
  const std::string& project;
};

ApiResult<store::Document> find_upload(const Place& place, const std::string& id, const char* status) {
  auto document = place.store.documents().find(place.project, kKind, id);
  if (!document && document.error().kind == ErrorKind::kBadInput)
    return tl::unexpected(ApiError{404, "invalid_request_error", "There is no upload " + id + ".", "id", "not_found"});
  if (!document) return tl::unexpected(store_error(document.error()));
  const json::Object upload = upload_object(*document);
  if (text_of(upload, "status") != status)
    return tl::unexpected(bad_request("id", "The upload " + id + " is " + text_of(upload, "status") + "."));
  return std::move(*document);
}

// The document with other values; written.
ApiResult<json::Object> change(const Place& place, const store::Document& document, json::Object values) {
  auto body = json::parse(document.body);
  json::Object whole = body && body->is_object() ? body->as_object() : json::Object();
  for (auto& [key, value] : values) whole.set(key, value);
  if (auto fine = place.store.documents().change(place.project, document.id, json::dump(whole)); !fine)
    return tl::unexpected(store_error(fine.error()));
  json::Object out = upload_object(document);
  for (auto& [key, value] : whole) out.set(key, value);
  return out;
}

void create(const Place& place, const net::Request& request, Exchange& exchange) {
  auto body = parse_body(request);
  if (!body) return exchange.send_error(body.error());
  const auto wanted = read_upload_request(*body);
  if (!wanted) return exchange.send_error(wanted.error());
  store::Document document;
  document.id = new_id("upload_");
  document.project_id = place.project;
  document.kind = kKind;
  document.body = json::dump(json::Object{{"filename", wanted->filename},
                                          {"purpose", wanted->purpose},
                                          {"bytes", wanted->bytes},
                                          {"mime_type", wanted->mime_type},
                                          {"status", "pending"},
                                          {"file", nullptr}});
  const auto added = place.store.documents().add(std::move(document));
  if (!added) return exchange.send_error(store_error(added.error()));
  name_ignored(exchange, wanted->ignored);
  exchange.send_json(200, upload_object(*added));
}

void add_part(const Place& place, const std::string& id, const net::Request& request, Exchange& exchange) {
  const auto upload = find_upload(place, id, "pending");
  if (!upload) return exchange.send_error(upload.error());
  const auto parts = net::parse_form(net::find_header(request.headers, "content-type"), request.body);
  if (!parts) return exchange.send_error(bad_request("", parts.error().message));
  const auto data = std::find_if(parts->begin(), parts->end(), [](const net::FormPart& p) { return p.name == "data"; });
  if (data == parts->end()) return exchange.send_error(bad_request("data", "'data' is required."));
  store::Files& files = place.store.files();
  const auto part = files.begin(place.project, id, kPartPurpose);
  if (!part) return exchange.send_error(store_error(part.error()));
  if (auto added = files.append(part->id, data->body); !added) return exchange.send_error(store_error(added.error()));
  exchange.send_json(200, json::Object{{"id", part->id},
                                       {"object", "upload.part"},
                                       {"created_at", part->created_us / base::kSecondUs},
                                       {"upload_id", id}});
}

// The parts as they were asked for, all of this upload and together as long as was said.
ApiResult<void> check_parts(const Place& place, const std::string& id, const std::vector<std::string>& parts,
                            std::int64_t expected) {
  std::int64_t bytes = 0;
  for (const std::string& part : parts) {
    const auto file = place.store.files().find(place.project, part);
    if (!file && file.error().kind != ErrorKind::kBadInput) return tl::unexpected(store_error(file.error()));
    if (!file || file->purpose != kPartPurpose || file->name != id)
      return tl::unexpected(bad_request("part_ids", "The upload " + id + " has no part " + part + "."));
    bytes += file->bytes;
  }
  if (bytes != expected)
    return tl::unexpected(bad_request("part_ids", "The parts have " + std::to_string(bytes) +
                                                      " bytes; the upload was announced with " +
                                                      std::to_string(expected) + "."));
  return {};
}

// One part after the other, a piece at a time.
Status join(store::Files& files, const std::vector<std::string>& parts, const std::string& to, Md5& sum) {
  for (const std::string& part : parts) {
    for (std::int64_t at = 0;;) {
      QW_ASSIGN(const std::string piece, files.read(part, at));
      if (piece.empty()) break;
      sum.update(piece);
      QW_TRY(files.append(to, piece));
      at += static_cast<std::int64_t>(piece.size());
    }
  }
  return {};
}

void complete(const Place& place, const std::string& id, const net::Request& request, Exchange& exchange) {
  const auto body = parse_body(request);
  if (!body) return exchange.send_error(body.error());
  const auto wanted = read_upload_completion(*body);
  if (!wanted) return exchange.send_error(wanted.error());
  const auto document = find_upload(place, id, "pending");
  if (!document) return exchange.send_error(document.error());
  const json::Object upload = upload_object(*document);
  if (auto fine = check_parts(place, id, wanted->parts, upload.find("bytes")->as_int()); !fine)
    return exchange.send_error(fine.error());
  store::Files& files = place.store.files();
  auto file = files.begin(place.project, text_of(upload, "filename"), text_of(upload, "purpose"));
  if (!file) return exchange.send_error(store_error(file.error()));
  Md5 sum;
  if (auto joined = join(files, wanted->parts, file->id, sum); !joined)
    return exchange.send_error(store_error(joined.error()));
  if (const std::string found = sum.hex(); !wanted->md5.empty() && found != wanted->md5) {
    (void)files.remove(place.project, file->id);  // otherwise it is swept away later
    return exchange.send_error(bad_request("md5", "The parts' MD5 sum is " + found + ", not " + wanted->md5 + "."));
  }
  file = files.complete(file->id);
  if (!file) return exchange.send_error(store_error(file.error()));
  const auto changed = change(place, *document, {{"status", "completed"}, {"file", file_object(*file)}});
  if (!changed) return exchange.send_error(changed.error());
  for (const std::string& part : wanted->parts) (void)files.remove(place.project, part);  // as above
  exchange.send_json(200, *changed);
}

void cancel(const Place& place, const std::string& id, Exchange& exchange) {
  const auto document = find_upload(place, id, "pending");
  if (!document) return exchange.send_error(document.error());
  const auto changed = change(place, *document, {{"status", "cancelled"}});
  if (!changed) return exchange.send_error(changed.error());
  exchange.send_json(200, *changed);
}

constexpr std::initializer_list<const char*> kPurposes = {"assistants", "batch", "fine-tune",   "vision",
                                                          "user_data",  "evals", "file-extract"};

}  // namespace

ApiResult<UploadRequest> read_upload_request(const json::Object& body) {
  FieldReader in(body);
  const auto filename = in.text("filename"), purpose = in.choice("purpose", kPurposes), mime = in.text("mime_type");
  const auto bytes = in.integer("bytes", 0, kMostBytes);
  in.refuse({"expires_after"});
  if (!filename) in.reject("filename", "'filename' is required.");
  if (!purpose) in.reject("purpose", "'purpose' is required.");
  if (!bytes) in.reject("bytes", "'bytes' is required.");
  if (in.error()) return tl::unexpected(*in.error());
  return UploadRequest{*filename, *purpose, mime.value_or("application/octet-stream"), *bytes, in.unknown()};
}

ApiResult<UploadCompletion> read_upload_completion(const json::Object& body) {
  FieldReader in(body);
  UploadCompletion out;
  out.md5 = in.text("md5").value_or("");
  const json::Array* ids = in.array("part_ids", R"({"type": "array", "maxItems": 10000, "items": {"type": "string"}})");
  if (ids == nullptr || ids->size() > kMostParts)
    in.reject("part_ids", "'part_ids' must be an array of at most 10000 ids.");
  if (ids != nullptr) {
    for (const json::Value& id : *ids) {
      if (!id.is_string()) in.reject("part_ids", "'part_ids' must hold strings.");
      if (id.is_string()) out.parts.push_back(id.as_string());
    }
  }
  if (in.error()) return tl::unexpected(*in.error());
  return out;
}

ApiResult<void> check_purpose(const std::string& purpose) {
  if (purpose.empty()) return tl::unexpected(bad_request("purpose", "'purpose' is required."));
  if (std::find(kPurposes.begin(), kPurposes.end(), purpose) != kPurposes.end()) return {};
  std::string names;
  for (const char* name : kPurposes) names += (names.empty() ? "" : ", ") + std::string(name);
  return tl::unexpected(bad_request("purpose", "'" + purpose + "' is not one of " + names + "."));
}

bool handle_upload(Background& background, const SharedRequest& request, const std::shared_ptr<Exchange>& exchange) {
  constexpr std::string_view kRoot = "/v1/uploads";
  const std::string_view path = request->path;
  if (!path.starts_with(kRoot)) return false;
  const std::string_view rest = path.substr(kRoot.size());
  const auto slash = rest.size() < 2 ? std::string_view::npos : rest.find('/', 1);
  const std::string action(slash == std::string_view::npos ? "" : rest.substr(slash + 1));
  const std::string id(rest.empty() ? "" : rest.substr(1, slash == std::string_view::npos ? slash : slash - 1));
  const bool fits = rest.empty() || (rest[0] == '/' && !id.empty() &&
                                     (action == "parts" || action == "complete" || action == "cancel"));
  if (!fits) return false;
  if (!only("POST", *request, *exchange)) return true;
  store::Store* store = store_of(*exchange);
  if (store == nullptr) return true;
  in_background(background, exchange, [store, request, exchange, id, action] {
    const Place place{*store, project_of(*exchange)};
    if (action.empty()) return create(place, *request, *exchange);
    if (action == "parts") return add_part(place, id, *request, *exchange);
    if (action == "complete") return complete(place, id, *request, *exchange);
    cancel(place, id, *exchange);
  });
  return true;
}

}  // namespace qw::api::openai
