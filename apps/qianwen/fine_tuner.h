// Fine-tuning jobs done by this program itself: `qianwen train` as a child at idle priority, one folder a job. The
// model, or the adapter beside its base, is served when it is done, and again at every start.
#pragma once

#include <atomic>
#include <filesystem>
#include <string>

#include "api/openai/fine_tuning/runner.h"
#include "hosted_models.h"

namespace qw::app {

// SHA-256 over the files of a folder, each by its own and its name, as `sha256sum *` lists them; of a file its own.
Result<std::string> digest_of(const std::filesystem::path& path);

class FineTuner final : public api::openai::FineTuneRunner {
 public:
  // `folder` holds the jobs' files and the models that came of them; it is made if it is absent. `models` must outlive
  // this object. `threads`: of training; 0: one per CPU.
  FineTuner(HostedModels& models, std::filesystem::path folder, int threads)
      : models_(models), folder_(std::move(folder)), threads_(threads) {}

  // Lists the models that earlier jobs have made. Before the service starts.
  Status list_finished();

  Status check(const api::openai::FineTuneAsk& ask) const override;
  Result<std::unique_ptr<api::openai::ExampleMeasure>> measure(const api::openai::FineTuneAsk& ask) const override;
  Result<api::openai::FineTuneEstimate> estimate(const api::openai::FineTuneAsk& ask,
                                                 const api::openai::ExampleMeasure& measure, store::Files& files,
                                                 const std::function<bool()>& go_on) override;
  void forget(const std::string& job_id) override;
  Result<std::string> digest(const api::openai::FineTuneAsk& ask) const override;
  Result<api::openai::FineTuneEnd> run(const api::openai::FineTuneAsk& ask, store::Files& files,
                                       api::openai::FineTuneWatch& watch) override;

 private:
  Status serve(const std::filesystem::path& job);
  // Where the weights are that a job starts from. kUsage: it cannot.
  Result<std::string> base_of(const api::openai::FineTuneAsk& ask) const;
  HostedModels& models_;
  const std::filesystem::path folder_;
  const int threads_;
  std::atomic<bool> training_{false};
};

}  // namespace qw::app
