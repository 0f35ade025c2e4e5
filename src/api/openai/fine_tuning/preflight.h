// What is known of a job before anything is trained: whether its files can be learnt from, and what it would take.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "api/openai/fine_tuning/validation.h"
#include "store/store.h"

namespace qw::api::openai {

// Of the files of one job.
struct FileCheck {
  FileReport training;
  std::optional<FileReport> validation;
  std::unique_ptr<ExampleMeasure> measure;  // over the training file; null: nobody could count
  bool fine() const { return training.fine() && (!validation || validation->fine()); }
  // What the job's owner is told, and of which parameter; both "" of files that are fine.
  std::string problem() const {
    return problems_text(training.fine() ? validation ? *validation : training : training);
  }
  const char* param() const { return training.fine() ? "validation_file" : "training_file"; }
};

// Errors: of the store, of `alive`; kUsage: the runner cannot count for this model. `runner` null: tokens are not
// counted.
Result<FileCheck> check_files(store::Store& store, const FineTuneRunner* runner, const FineTuneAsk& ask,
                              const std::function<Status()>& alive);
json::Object to_json(const FileCheck& check);
// The few numbers of it that stand in the job itself; null of a job that was not checked yet. `check`: as above.
json::Value check_summary(const json::Value* check);

// With what the model's price makes of its tokens. Errors: of the store.
Result<json::Object> estimate_object(store::Store& store, const FineTuneAsk& ask, const FineTuneEstimate& estimate);

}  // namespace qw::api::openai
