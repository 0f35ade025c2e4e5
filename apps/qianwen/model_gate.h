// Judges served models by tasks, for the gates of roll-outs: `qianwen eval` as a child at idle priority.
#pragma once

#include <filesystem>

#include "api/rollouts/gate.h"
#include "hosted_models.h"

namespace qw::app {

class ModelGate final : public api::GateRunner {
 public:
  // `models` must outlive it. Files of a task lie below `folder` while it runs.
  ModelGate(HostedModels& models, std::filesystem::path folder, int threads)
      : models_(models), folder_(std::move(folder)), threads_(threads) {}
  Status check(const api::GateAsk& ask) const override;
  Result<std::string> digest(const std::string& model) const override;
  Result<api::GateResult> run(const api::GateAsk& ask, store::Files& files,
                              const std::function<bool()>& go_on) override;

 private:
  HostedModels& models_;
  const std::filesystem::path folder_;
  const int threads_;
};

}  // namespace qw::app
