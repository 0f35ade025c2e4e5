// What is stored of a batch, and the wire's object of it.
#pragma once

#include <cstdint>
#include <string>

#include "json/value.h"
#include "store/jobs.h"

namespace qw::api::openai {

inline constexpr const char* kBatchJob = "batch";  // the kind of job

// The wire's object of a batch.
json::Value batch_object(const store::Job& job);

// What a batch's job says, as JSON in `spec`.
struct BatchSpec {
  std::string endpoint, input_file_id, completion_window, key_id;
  std::int64_t window_s = 0;
  json::Value metadata;
  std::string text() const;
  static BatchSpec parse(const std::string& text);
};

}  // namespace qw::api::openai
