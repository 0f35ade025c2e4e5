// POST and GET /v1/fine_tuning/jobs, GET /v1/fine_tuning/jobs/{id} and its /events, /checkpoints and /validation, POST
// its /cancel, /pause and /resume; POST /v1/fine_tuning/estimate, which says what a job would take and begins none; and
// the thread that has the jobs done, where somebody trains. A service without a store or a runner refuses (501).
#pragma once

#include <atomic>
#include <memory>

#include "api/job_loop.h"
#include "api/openai/files.h"
#include "api/openai/fine_tuning/run.h"
#include "api/served_model.h"

namespace qw::api::openai {

class FineTuningApi {
 public:
  // Both must outlive this object and what it began.
  FineTuningApi(const ModelList& models, Background& background, FineTuneOptions options)
      : models_(models), background_(background), options_(options) {}
  // Takes up the jobs of the store, if there is a runner.
  void start(Accounts& accounts);
  // The job that runs is given back, to be gone on with by whoever claims it next.
  void stop();
  // True if the path belongs here; the exchange is then answered, now or later.
  bool handle(const SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  // What is asked, judged as far as it can be without reading files; nothing after answering why not.
  std::optional<FineTuneAsk> read(store::Store& store, const net::Request& request, Exchange& exchange,
                                  std::string& spec) const;
  void create(store::Store& store, const net::Request& request, Exchange& exchange) const;
  void estimate(store::Store& store, const net::Request& request, Exchange& exchange) const;
  void check_waiting(store::Store& store, const store::Job& job) const;
  void one_job(store::Store& store, const std::string& id, const std::string& action, const net::Request& request,
               Exchange& exchange) const;
  const ModelList& models_;
  Background& background_;
  const FineTuneOptions options_;
  std::unique_ptr<FineTuneContext> context_;
  std::atomic<bool> stopping_{false};
  mutable Background slow_{1, 64};  // what reads whole files or trains a few steps, so that it keeps nobody waiting
  std::unique_ptr<JobLoop> loop_;
};

}  // namespace qw::api::openai
