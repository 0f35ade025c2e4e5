// One batch, from where its records leave off: reads its file, sends each line the way of every other request at idle
// priority, and writes what came back into the files of the batch.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "api/dispatch.h"
#include "store/store.h"

namespace qw::api::openai {

struct BatchOptions {
  std::size_t window = 16;                         // lines of a batch that are computed together
  std::chrono::milliseconds lease{30'000};         // a batch of a service that died waits this long
  std::chrono::milliseconds poll{2'000};           // how often other services' batches are looked for
  std::chrono::milliseconds flush{500};            // results gather this long before they are written
  std::chrono::milliseconds longest_wait{30'000};  // for a line that met a limit, before it is tried again
};

struct BatchContext {
  store::Store& store;
  std::string instance;  // names this service in leases
  Dispatch dispatch;
  BatchOptions options;
  std::function<bool()> stopping;  // the batch is to be given back
};

// Errors: of the store, or kRefused when the batch is another's by now.
Status run_batch(const BatchContext& context, store::Job job);

}  // namespace qw::api::openai
