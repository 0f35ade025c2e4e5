// The SHA-256s of models and adapters that a service keeps records of: each file is read once, until it changes.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/result.h"
#include "json/value.h"

namespace qw::app {

// Changes when a model's file, or the files of its folder, are written or replaced.
std::string stamp_of(const std::string& model);

class IdentityBook {
 public:
  // Nothing is read to its end any more.
  void stop() { stop_.store(true, std::memory_order_relaxed); }
  // As model_identity (model_identity.h) gives it; one who asks while another reads the same waits for that. Any
  // thread.
  Result<json::Object> of(const std::string& model);

 private:
  struct Entry {
    std::mutex mutex;
    std::string stamp;
    json::Object identity;
  };
  std::atomic<bool> stop_{false};
  std::mutex mutex_;  // of the map
  std::map<std::string, std::shared_ptr<Entry>> entries_;
};

}  // namespace qw::app
