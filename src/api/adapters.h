// LoRA adapters that come and go while the service runs, each a model of its own to clients:
//   POST   /admin/adapters          {"name": N, "path": P, "model": M}   M may be left out if there is one model
//   GET    /admin/adapters          those served now
//   DELETE /admin/adapters/NAME
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "api/exchange.h"
#include "api/served_model.h"
#include "base/result.h"
#include "net/http.h"

namespace qw::api {

// Who loads them: the composition root. Both call back once, from any thread, and list or unlist the adapter before.
class AdapterDesk {
 public:
  using Then = std::function<void(Status)>;
  virtual ~AdapterDesk() = default;
  // `path`: as the desk understands it. kUsage: the name is taken, there is no such model, the adapter does not fit;
  // kBadInput: the file; kRefused: adapters are not loaded from there; kResource: no memory.
  virtual void load(std::string name, std::string path, std::string model, Then then) = 0;
  // Running requests keep it. kUsage: there is none of that name.
  virtual void unload(std::string name, Then then) = 0;
};

struct AdapterRequest {
  std::string name, path, model;  // model "": the only one there is
};
ApiResult<AdapterRequest> read_adapter_request(const json::Object& body);

// True if the path is one of these routes; the exchange is then answered, now or later.
bool handle_adapters(AdapterDesk& desk, const ModelList& models, const net::Request& request,
                     const std::shared_ptr<Exchange>& exchange);

}  // namespace qw::api
