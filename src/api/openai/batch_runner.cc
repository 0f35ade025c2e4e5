#include "api/openai/batch_runner.h"

#include <utility>

#include "api/openai/batch_object.h"

namespace qw::api::openai {

BatchRunner::BatchRunner(store::Store& store, std::string instance, Dispatch dispatch, BatchOptions options)
    : context_{store, instance, std::move(dispatch), options, [this] { return loop_.stopping(); }},
      loop_(store, std::move(instance), {kBatchJob, options.lease, options.poll},
            [this](store::Job job) { return run_batch(context_, std::move(job)); }) {}

}  // namespace qw::api::openai
