// What a model must reach before it is rolled out: a task of the eval room, and a bound. The composition root fills the
// interface; /v1/evaluations has the jobs done.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "store/files.h"

namespace qw::api {

struct GateAsk {
  std::string job_id, project_id, model;
  std::string task_file;                // of the store, purpose "evals": a task (docs/evaluation.md)
  std::vector<std::string> data_files;  // of the store; the task finds them by the names they were left under
  std::string metric;                   // ""; the task's first
  std::int64_t limit = 0;               // items of each file; 0: all
  bool chat = false;                    // asked through the chat template
};

struct GateResult {
  std::string task, metric;
  double value = 0;
  std::int64_t items = 0;
  std::string model_sha256;  // of what was judged (GateRunner::digest)
};

class GateRunner {
 public:
  virtual ~GateRunner() = default;
  // Quick. kUsage: this model cannot be judged here, with the reason.
  virtual Status check(const GateAsk& ask) const = 0;
  // SHA-256 over the files of a served model as they are now: of its adapter, if it has one.
  virtual Result<std::string> digest(const std::string& model) const = 0;
  // `go_on` is asked a few times a second; false ends it (kInterrupted). Errors are the job's, in one line.
  virtual Result<GateResult> run(const GateAsk& ask, store::Files& files, const std::function<bool()>& go_on) = 0;
};

}  // namespace qw::api
