#include "api/dashscope/files.h"

#include <openssl/evp.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "api/dashscope/paging.h"
#include "api/openai/uploads.h"
#include "net/multipart.h"

namespace qw::api::dashscope {
namespace {

constexpr std::string_view kRoot = "/api/v1/files";
// Pages are counted from the newest; beyond this many files they are not looked through.
constexpr std::int64_t kMostListed = 10'000, kMostFiles = 100;

// MD5 of what was uploaded, which clients compare: in hexadecimal; "" if it cannot be read.
std::string md5_of(store::Files& files, const std::string& id) {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  std::string out;
  bool fine = context != nullptr && EVP_DigestInit_ex(context, EVP_md5(), nullptr) == 1;
  for (std::int64_t at = 0; fine;) {
    const auto piece = files.read(id, at);
    fine = piece.has_value();
    if (!fine || piece->empty()) break;
    at += static_cast<std::int64_t>(piece->size());
    EVP_DigestUpdate(context, piece->data(), piece->size());
  }
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (fine && EVP_DigestFinal_ex(context, digest, &size) == 1)
    for (unsigned i = 0; i < size; ++i) {
      out += "0123456789abcdef"[digest[i] >> 4];
      out += "0123456789abcdef"[digest[i] & 15];
    }
  EVP_MD_CTX_free(context);
  return out;
}

json::Object file_object(const store::File& file) {
  json::Object out{{"file_id", file.id},
                   {"name", file.name},
                   {"description", ""},
                   {"purpose", file.purpose},
                   {"size", file.bytes},
                   {"gmt_create", time_text(file.created_us)},
                   {"url", "/v1/files/" + file.id + "/content"}};
  if (file.expires_us != 0) out.set("gmt_expire", time_text(file.expires_us));
  return out;
}

json::Object answer(const Exchange& exchange, json::Object data) {
  return {{"request_id", exchange.request_id()}, {"data", std::move(data)}};
}

// Each file by itself: those that fail do not keep the others out.
void upload(store::Files& files, const std::string& project, const net::Request& request, Exchange& exchange) {
  const auto parts = net::parse_form(net::find_header(request.headers, "content-type"), request.body);
  if (!parts) return exchange.send_error(bad_request("files", parts.error().message));
  std::string purpose = "fine-tune";  // as DashScope's library takes it to be
  for (const net::FormPart& part : *parts)
    if (part.name == "purpose") purpose = part.body;
  if (purpose == "file-extract" || purpose == "inference") purpose = "batch";
  if (const auto fine = openai::check_purpose(purpose); !fine) return exchange.send_error(fine.error());
  json::Array uploaded, failed;
  for (const net::FormPart& part : *parts) {
    if (part.name != "files" && part.name != "file") continue;
    const std::string name = part.filename.empty() ? "file" : part.filename;
    const auto kept = files.begin(project, name, purpose).and_then([&](const store::File& file) {
      return files.append(file.id, part.body).and_then([&] { return files.complete(file.id); });
    });
    if (kept)
      uploaded.push_back(json::Object{{"name", name}, {"file_id", kept->id}});
    else
      failed.push_back(json::Object{
          {"name", name}, {"code", "InternalError"}, {"message", openai::store_error(kept.error()).message}});
  }
  if (uploaded.empty() && failed.empty()) return exchange.send_error(bad_request("files", "'files' is required."));
  exchange.send_json(
      200, answer(exchange, {{"uploaded_files", std::move(uploaded)}, {"failed_uploads", std::move(failed)}}));
}

void list(store::Files& files, const std::string& project, const net::Request& request, Exchange& exchange) {
  const auto page = page_number(request, "page_no", 1, kMostListed),
             size = page_number(request, "page_size", 10, kMostFiles);
  if (!page || !size)
    return exchange.send_error(
        bad_request("page_no", "'page_no' and 'page_size' must be 1 or more; a page has at most 100 files."));
  const auto found = files.list(project, net::query_value(request.query, "purpose").value_or(""), "", kMostListed);
  if (!found) return exchange.send_error(openai::store_error(found.error()));
  json::Array shown;
  const auto total = static_cast<std::int64_t>(found->size());
  for (std::int64_t i = (*page - 1) * *size; i < std::min(total, *page * *size); ++i)
    shown.push_back(file_object((*found)[static_cast<std::size_t>(i)]));
  exchange.send_json(
      200, answer(exchange, {{"total", total}, {"page_no", *page}, {"page_size", *size}, {"files", std::move(shown)}}));
}

void one_file(store::Files& files, const std::string& project, const std::string& id, bool remove, Exchange& exchange) {
  const auto file = files.find(project, id);
  if (!file && file.error().kind != ErrorKind::kBadInput) return exchange.send_error(openai::store_error(file.error()));
  if (!file || !file->complete)
    return exchange.send_error({404, "invalid_request_error", "There is no file " + id + ".", "", "not_found"});
  if (!remove) {
    json::Object shown = file_object(*file);
    shown.set("md5", md5_of(files, id));
    return exchange.send_json(200, answer(exchange, std::move(shown)));
  }
  if (const auto removed = files.remove(project, id); !removed)
    return exchange.send_error(openai::store_error(removed.error()));
  exchange.send_json(200, json::Object{{"request_id", exchange.request_id()}});
}

}  // namespace

bool FilesApi::handle(const openai::SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const {
  const std::string_view path = request->path;
  if (!path.starts_with(kRoot)) return false;
  const std::string_view rest = path.substr(kRoot.size());
  if (!rest.empty() && (rest[0] != '/' || rest.size() < 2 || rest.find('/', 1) != std::string_view::npos)) return false;
  const std::string id(rest.empty() ? "" : rest.substr(1));
  if (!only(id.empty() ? "GET, POST" : "GET, DELETE", *request, *exchange)) return true;
  store::Store* store = openai::store_of(*exchange);
  if (store == nullptr) return true;
  openai::in_background(background_, exchange, [store, request, exchange, id] {
    const std::string& project = openai::project_of(*exchange);
    if (!id.empty()) return one_file(store->files(), project, id, request->method == "DELETE", *exchange);
    if (request->method == "POST") return upload(store->files(), project, *request, *exchange);
    list(store->files(), project, *request, *exchange);
  });
  return true;
}

}  // namespace qw::api::dashscope
