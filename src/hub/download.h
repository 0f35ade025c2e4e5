// One file of a repository onto disk, over several connections, so that neither a cut line nor kill -9 costs what has come.
//
// Beside the target stand TARGET.part (the bytes, at their places) and TARGET.part.json (which of them are there); the
// latter is brought up to date about once a second, after the bytes are safe. When all are there and the SHA-256 is
// right, TARGET.part becomes TARGET in one step. One process at a time may do this to a target.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>

#include "base/result.h"
#include "hub/hub.h"

namespace qw::hub {

struct DownloadOptions {
  int connections = 4;                                  // what one home line needs to be full, and no server minds
  std::uint64_t segment_bytes = std::uint64_t{32} << 20;  // a request each; many for 4 connections, few for a server
  std::chrono::milliseconds state_interval{1000};
};

struct DownloadJob {
  const Hub& hub;
  const ModelName& name;
  const std::string& revision;
  const RemoteFile& file;
  std::filesystem::path target;
};

// Counts bytes as they come; negative when bytes are given up. Called under a lock, from any thread.
using BytesFn = std::function<void(std::int64_t)>;

// How much of the file a part file holds already.
std::uint64_t bytes_fetched(const DownloadJob& job);

// The file's SHA-256. What comes with a wrong one is fetched once more from the start, then kBadInput. kResource if the
// disk is full. After a failure the part file stays, unless its bytes were wrong.
Result<std::string> download(const DownloadJob& job, const DownloadOptions& options, const BytesFn& bytes,
                             const std::atomic<bool>* cancel);

// kFailed unless the head is that of bytes [begin, end) of `total`.
Status check_range(const net::ResponseHead& head, std::uint64_t begin, std::uint64_t end, std::uint64_t total);

}  // namespace qw::hub
