#include "api/model_swap.h"

#include <algorithm>

#include "api/error.h"
#include "api/field_reader.h"
#include "json/value.h"

namespace qw::api {
namespace {

constexpr std::string_view kPath = "/admin/models";

json::Value entry_of(const ModelDesk::Info& info) {
  return json::Object{{"name", info.name},
                      {"loaded", info.loaded},
                      {"bytes", info.bytes},
                      {"requests", info.requests},
                      {"replaced_in_use", info.replaced}};
}

void list(const ModelDesk& desk, const std::shared_ptr<Exchange>& exchange) {
  json::Array out;
  for (const ModelDesk::Info& info : desk.models()) out.push_back(entry_of(info));
  exchange->send_json(200, json::Object{{"models", std::move(out)}});
}

void replace(ModelDesk& desk, const std::string& name, const net::Request& request,
             const std::shared_ptr<Exchange>& exchange) {
  const auto all = desk.models();
  if (std::none_of(all.begin(), all.end(), [&](const ModelDesk::Info& info) { return info.name == name; }))
    return exchange->send_error(model_not_found(name));
  json::Object body;
  if (!request.body.empty()) {
    auto read = parse_body(request);
    if (!read) return exchange->send_error(read.error());
    body = std::move(*read);
  }
  const auto wanted = read_swap_request(body);
  if (!wanted) return exchange->send_error(wanted.error());
  desk.replace(name, wanted->path, wanted->unload_first, [exchange, &desk, name](const Status& done) {
    if (!done) return exchange->send_error(from_internal(done.error()));
    for (const ModelDesk::Info& info : desk.models())
      if (info.name == name) return exchange->send_json(200, entry_of(info));
    exchange->send_error(model_not_found(name));
  });
}

}  // namespace

ApiResult<SwapRequest> read_swap_request(const json::Object& body) {
  FieldReader in(body);
  SwapRequest out;
  out.path = in.text("path").value_or("");
  out.unload_first = in.boolean("unload_first").value_or(false);
  if (in.error()) return tl::unexpected(*in.error());
  return out;
}

bool handle_model_swap(ModelDesk& desk, const net::Request& request, const std::shared_ptr<Exchange>& exchange) {
  const std::string_view path = request.path;
  const bool one = path.starts_with(kPath) && path.size() > kPath.size() && path[kPath.size()] == '/';
  if (path != kPath && !one) return false;
  if (!only(one ? "PUT" : "GET", request, *exchange)) return true;
  if (one) {
    replace(desk, std::string(path.substr(kPath.size() + 1)), request, exchange);
  } else {
    list(desk, exchange);
  }
  return true;
}

}  // namespace qw::api
