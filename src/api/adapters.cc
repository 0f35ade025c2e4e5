#include "api/adapters.h"

#include "api/error.h"
#include "api/field_reader.h"
#include "json/value.h"

namespace qw::api {
namespace {

constexpr std::string_view kPath = "/admin/adapters";

json::Value entry_of(const ServedModel& model) {
  return json::Object{{"name", model.id}, {"model", model.base}, {"created", model.created}};
}

// A name that can stand in "model", in a path and in a log line.
bool plain(std::string_view name) {
  constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:";
  return !name.empty() && name.size() <= 128 && name.find_first_not_of(kAllowed) == std::string_view::npos;
}

void load(AdapterDesk& desk, const ModelList& models, const net::Request& request,
          const std::shared_ptr<Exchange>& exchange) {
  const auto body = parse_body(request);
  if (!body) return exchange->send_error(body.error());
  const auto wanted = read_adapter_request(*body);
  if (!wanted) return exchange->send_error(wanted.error());
  desk.load(wanted->name, wanted->path, wanted->model, [exchange, &models, name = wanted->name](const Status& done) {
    if (!done) return exchange->send_error(from_internal(done.error()));
    const ModelEntry entry = models.find(name);
    if (entry == nullptr) return exchange->send_error(model_not_found(name));  // taken out again meanwhile
    exchange->send_json(200, entry_of(*entry));
  });
}

void list(const ModelList& models, const std::shared_ptr<Exchange>& exchange) {
  json::Array out;
  for (const ModelEntry& entry : models.all())
    if (!entry->base.empty()) out.push_back(entry_of(*entry));
  exchange->send_json(200, json::Object{{"adapters", std::move(out)}});
}

void unload(AdapterDesk& desk, const ModelList& models, const std::string& name,
            const std::shared_ptr<Exchange>& exchange) {
  const ModelEntry entry = models.find(name);
  if (name.empty() || entry == nullptr || entry->base.empty()) return exchange->send_error(model_not_found(name));
  desk.unload(name, [exchange, name](const Status& done) {
    if (!done) return exchange->send_error(model_not_found(name));
    exchange->send_json(200, json::Object{{"name", name}, {"unloaded", true}});
  });
}

}  // namespace

ApiResult<AdapterRequest> read_adapter_request(const json::Object& body) {
  FieldReader in(body);
  const auto name = in.text("name"), path = in.text("path"), model = in.text("model");
  if (!name || !plain(*name)) in.reject("name", "'name' must be 1 to 128 letters, digits and -_.: characters.");
  if (!path || path->empty()) in.reject("path", "'path' is missing.");
  if (in.error()) return tl::unexpected(*in.error());
  return AdapterRequest{*name, *path, model.value_or("")};
}

bool handle_adapters(AdapterDesk& desk, const ModelList& models, const net::Request& request,
                     const std::shared_ptr<Exchange>& exchange) {
  const std::string_view path = request.path;
  const bool one = path.starts_with(kPath) && path.size() > kPath.size() && path[kPath.size()] == '/';
  if (path != kPath && !one) return false;
  if (!only(one ? "DELETE" : "GET, POST", request, *exchange)) return true;
  if (one) {
    unload(desk, models, std::string(path.substr(kPath.size() + 1)), exchange);
  } else if (request.method == "POST") {
    load(desk, models, request, exchange);
  } else {
    list(models, exchange);
  }
  return true;
}

}  // namespace qw::api
