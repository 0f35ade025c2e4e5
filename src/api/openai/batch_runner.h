// Executes batches: those of the store, one after the other (batch_run.h), on a thread of its own.
//
// What is done is written line by line into the job's records, together with its state; a batch whose service died goes
// on elsewhere with the lines that have no record. A line that was being computed then is computed again: its answer is
// recorded once, but what the dead service had computed of it was computed.
#pragma once

#include <string>

#include "api/job_loop.h"
#include "api/openai/batch_run.h"

namespace qw::api::openai {

class BatchRunner {
 public:
  // `store` must outlive this object. `instance`: names this service in leases.
  BatchRunner(store::Store& store, std::string instance, Dispatch dispatch, BatchOptions options = {});

  // A batch was added: need not wait for the next look.
  void wake() { loop_.wake(); }
  // The batch that runs is given back, to be continued by whoever claims it next.
  void stop() { loop_.stop(); }

 private:
  const BatchContext context_;
  JobLoop loop_;  // last: its thread uses the rest
};

}  // namespace qw::api::openai
