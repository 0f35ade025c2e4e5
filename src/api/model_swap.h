// Models that are replaced while the service runs; clients see the same name and lose no request:
//   GET /admin/models               those served, loaded or not
//   PUT /admin/models/NAME          {"path": P, "unload_first": false}   without a path: its own file, read again
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "api/error.h"
#include "api/exchange.h"
#include "base/result.h"
#include "json/value.h"
#include "net/http.h"

namespace qw::api {

// Who loads them: the composition root.
class ModelDesk {
 public:
  using Then = std::function<void(Status)>;
  struct Info {
    std::string name;
    bool loaded = false;
    std::int64_t bytes = 0;     // of memory; 0 unless loaded
    std::int64_t requests = 0;  // that use it now
    std::int64_t replaced = 0;  // models that were in its place and still answer requests
  };
  virtual ~ModelDesk() = default;
  // Calls back once, from any thread, when requests that come now get the new model. Those that run keep the old one,
  // which goes when the last of them ends. `unload_first`: where there is no room for both, the old one goes before.
  // kUsage: there is no such model; kBadInput: the file; kRefused: models are not loaded from there; kResource: no
  // memory.
  virtual void replace(std::string name, std::string path, bool unload_first, Then then) = 0;
  virtual std::vector<Info> models() const = 0;
};

struct SwapRequest {
  std::string path;  // "": the model's own
  bool unload_first = false;
};
ApiResult<SwapRequest> read_swap_request(const json::Object& body);

// True if the path is one of these routes; the exchange is then answered, now or later.
bool handle_model_swap(ModelDesk& desk, const net::Request& request, const std::shared_ptr<Exchange>& exchange);

}  // namespace qw::api
