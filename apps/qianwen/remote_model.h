// A model that is not here yet, opened as if it were: its configuration and the heads of its weight files are fetched
// (some megabytes at most), the weights themselves are holes.
#pragma once

#include <atomic>
#include <filesystem>

#include "base/result.h"
#include "hub/hub.h"
#include "open_model.h"

namespace qw::app {

// Removes its folder at the end of its life.
class RemoteModel {
 public:
  // Errors as of Hub and open_model.
  static Result<RemoteModel> open(const hub::Hub& hub, const hub::ModelName& name, const std::string& revision,
                                  const std::atomic<bool>* cancel);
  RemoteModel(RemoteModel&&) noexcept;
  RemoteModel& operator=(RemoteModel&&) = delete;
  ~RemoteModel();
  const OpenedModel& opened() const { return *opened_; }
  std::uint64_t download_bytes() const { return download_bytes_; }   // of all files a pull would fetch

 private:
  RemoteModel() = default;
  std::filesystem::path folder_;
  std::optional<OpenedModel> opened_;
  std::uint64_t download_bytes_ = 0;
};

}  // namespace qw::app
