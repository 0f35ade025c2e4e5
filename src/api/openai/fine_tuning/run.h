// One fine-tuning job, from where its state leaves off: its files are read and judged, then the runner trains; what it
// tells becomes events, and the job's end is written with them. What it learns from is paid for by the token: reserved
// before training, settled when a service is done with it. What earlier services have settled is in the ledger under
// the job's id, so that nothing is paid twice.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "api/accounts.h"
#include "api/openai/fine_tuning/runner.h"
#include "store/store.h"

namespace qw::api::openai {

struct FineTuneOptions {
  FineTuneRunner* runner = nullptr;         // null: nothing is trained here. Must outlive the service
  std::chrono::milliseconds lease{30'000};  // a job of a service that died waits this long
  std::chrono::milliseconds poll{2'000};    // how often other services' jobs are looked for
  std::chrono::milliseconds flush{500};     // events gather this long before they are written
};

struct FineTuneContext {
  Accounts& accounts;
  FineTuneOptions options;
  std::function<bool()> stopping;  // the job is to be given back
};

// Errors: of the store, or kRefused when the job is another's by now.
Status run_fine_tune(const FineTuneContext& context, store::Job job);

}  // namespace qw::api::openai
