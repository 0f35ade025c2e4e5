// A model of a public service into the store: list, choose, check the space, download, check, write the manifest.
//
//   QW_ASSIGN(const auto name, hub::parse_name("Qwen/Qwen3-0.6B"));
//   QW_ASSIGN(const auto hub, hub::Hub::create(name.service, options));
//   QW_ASSIGN(const auto pulled, hub::pull(hub, name, {.store = store}, progress, &interrupted));
//
// What stops in the middle (a cut line, ^C, kill -9, a full disk) goes on where it was at the next call.
#pragma once

#include <functional>

#include "base/result.h"
#include "hub/download.h"
#include "hub/model_store.h"
#include "hub/select.h"

namespace qw::hub {

struct PullOptions {
  std::filesystem::path store;
  std::string revision;          // empty: the service's default branch
  DownloadOptions download;
  // Left free on the disk: a full file system hurts more than a refused download.
  std::uint64_t spare_bytes = std::uint64_t{64} << 20;
};

struct PullProgress {
  std::string file;              // the one being fetched
  std::uint64_t done_bytes = 0, total_bytes = 0;   // of all files, with what was there before
};
using ProgressFn = std::function<void(const PullProgress&)>;

struct Pulled {
  StoredModel model;
  std::uint64_t fetched_bytes = 0;   // by this call
};

// Errors as of Hub, select_files and download; kResource if the disk has not enough space; kFailed if another process
// pulls the same repository.
Result<Pulled> pull(const Hub& hub, const ModelName& name, const PullOptions& options, const ProgressFn& progress,
                    const std::atomic<bool>* cancel);

}  // namespace qw::hub
