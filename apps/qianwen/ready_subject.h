// A MODEL or the address of a service, ready to be asked.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "eval/engine_subject.h"
#include "open_model.h"

namespace qw::app {

struct SubjectOptions {
  std::string adapter, served_model, cache_type = "auto";
  std::vector<std::string> set;  // variables of the chat template, key=value
  std::int64_t context = 0;      // longest prompt in tokens; 0: the model's, at most 4096
  int threads = 0, calls = 8;
  std::string blocked;  // ServedSubjectOptions::blocked
};

// A model and what asks it: here, or behind an address.
struct ReadySubject {
  ReadyModel model;
  std::unique_ptr<eval::Subject> subject;
  const eval::EngineSubject* local = nullptr;  // the subject, if it is here
  std::string served;                          // what a service calls it; "": it is here
  std::int64_t context = 0;                    // 0: the service's

  std::int64_t shortened() const { return local == nullptr ? 0 : local->shortened(); }
};

bool is_address(const std::string& model);
// kUsage: an option that does not fit the kind of model.
Result<std::unique_ptr<ReadySubject>> load_subject(const SubjectOptions& o, const std::string& name);

}  // namespace qw::app
