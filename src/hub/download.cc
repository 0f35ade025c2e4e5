#include "hub/download.h"

#include <charconv>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/sha256.h"
#include "hub/internal/part_file.h"

namespace qw::hub {
namespace {

using internal::PartFile;
using internal::Segment;
using Clock = std::chrono::steady_clock;

// The connections of one file. Everything but the writing of bytes happens under one lock.
class Transfer {
 public:
  Transfer(const DownloadJob& job, PartFile& part, const DownloadOptions& options, const BytesFn& bytes, bool ranges)
      : job_(job), part_(part), options_(options), bytes_(bytes), ranges_(ranges) {}

  Status run(const std::atomic<bool>* cancel) {
    const std::size_t count = std::min<std::size_t>(static_cast<std::size_t>(std::max(1, options_.connections)), part_.segments.size());
    std::vector<std::thread> threads;
    running_ = count;
    for (std::size_t i = 0; i < count; ++i) threads.emplace_back([this] { work(); });
    Status saved;
    {
      std::unique_lock lock(mutex_);
      while (running_ > 0) {
        // Short enough that ^C feels like one.
        changed_.wait_for(lock, std::chrono::milliseconds(100));
        if (cancel != nullptr && cancel->load()) give_up(Error{ErrorKind::kInterrupted, "interrupted"});
        if (saved && Clock::now() - saved_at_ >= options_.state_interval) saved = save(lock);
        if (!saved) give_up(saved.error());
      }
    }
    for (std::thread& t : threads) t.join();
    std::unique_lock lock(mutex_);
    if (!complete() && !ranges_refused_ && saved) saved = save(lock);
    if (ranges_refused_ || !failed_) return {};
    return tl::unexpected(*failed_);
  }
  // The server sent the whole file where a part was asked for.
  bool ranges_refused() const { return ranges_refused_; }

 private:
  void give_up(Error error) {
    if (!failed_) failed_ = std::move(error);
    stop_ = true;
  }

  bool complete() const {
    return std::all_of(part_.segments.begin(), part_.segments.end(), [](const Segment& s) { return s.complete(); });
  }

  Status save(std::unique_lock<std::mutex>& lock) {
    const std::vector<Segment> now = part_.segments;
    saved_at_ = Clock::now();
    if (!ranges_ || job_.file.sha256.empty()) return {};   // such a file cannot be gone on with
    lock.unlock();
    const Status status = part_.save_state(now);
    lock.lock();
    return status;
  }

  void work() {
    while (Segment* segment = take()) {
      const Status status = with_retries(job_.hub.options(), job_.file.path, &stop_,
                                         [&](Attempt& attempt) { return fetch(*segment, attempt); });
      const std::lock_guard lock(mutex_);
      if (!status) give_up(status.error());
    }
    const std::lock_guard lock(mutex_);
    --running_;
    changed_.notify_all();
  }

  Segment* take() {
    const std::lock_guard lock(mutex_);
    if (stop_) return nullptr;
    for (Segment& s : part_.segments) {
      if (s.taken || s.complete()) continue;
      s.taken = true;
      return &s;
    }
    return nullptr;
  }

  // What is missing of a segment, by one request.
  Status fetch(Segment& segment, Attempt& attempt) {
    if (!ranges_ && segment.done > 0) {
      const std::lock_guard lock(mutex_);
      bytes_(-static_cast<std::int64_t>(std::exchange(segment.done, 0)));
    }
    const std::uint64_t begin = segment.begin + segment.done;
    const bool whole = begin == 0 && segment.end == job_.file.bytes;
    net::ClientRequest request = job_.hub.file_request(job_.name, job_.revision, job_.file.path);
    if (!whole) request.headers.emplace_back("Range", "bytes=" + std::to_string(begin) + "-" + std::to_string(segment.end - 1));
    const auto head = [&](const net::ResponseHead& h) { return check_head(h, begin, segment.end, whole, attempt); };
    const auto sink = [&](std::string_view piece) -> Status {
      if (piece.size() > segment.end - segment.begin - segment.done)
        return fail(ErrorKind::kBadInput, job_.file.path + ": the server sends more than the " + std::to_string(segment.end - begin) + " bytes asked for");
      QW_TRY(part_.write(segment.begin + segment.done, piece));
      // A damaged byte within a segment shows in the hash of the file, not here.
      const std::lock_guard lock(mutex_);
      segment.done += piece.size();
      bytes_(static_cast<std::int64_t>(piece.size()));
      attempt.progress = ranges_;
      return {};
    };
    const auto done = job_.hub.client().fetch(request, head, sink, &stop_);
    if (!done) return tl::unexpected(done.error());
    if (segment.complete()) return {};
    return fail(ErrorKind::kFailed, job_.file.path + ": the server sent less than asked for");
  }

  Status check_head(const net::ResponseHead& head, std::uint64_t begin, std::uint64_t end, bool whole, Attempt& attempt) {
    QW_TRY(check_status(head, job_.file.path, attempt));
    if (!whole && head.status == 200) {
      const std::lock_guard lock(mutex_);
      ranges_refused_ = true;
      stop_ = true;
      return fail(ErrorKind::kInterrupted, job_.file.path + ": the server knows no ranges");
    }
    if (!whole) {
      const Status right = check_range(head, begin, end, job_.file.bytes);
      return right ? right : in_context(job_.file.path, right.error());
    }
    const std::string_view length = net::find_header(head.headers, "Content-Length");
    if (length.empty() || length == std::to_string(job_.file.bytes)) return {};
    return fail(ErrorKind::kBadInput, job_.file.path + ": has " + std::string(length.substr(0, 20)) + " bytes where the list of files says " +
                                          std::to_string(job_.file.bytes));
  }

  const DownloadJob& job_;
  PartFile& part_;
  const DownloadOptions& options_;
  const BytesFn& bytes_;
  const bool ranges_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t running_ = 0;
  std::atomic<bool> stop_{false};
  std::optional<Error> failed_;
  bool ranges_refused_ = false;
  Clock::time_point saved_at_ = Clock::now();
};

Status transfer(const DownloadJob& job, PartFile& part, const DownloadOptions& options, const BytesFn& bytes,
                const std::atomic<bool>* cancel) {
  Transfer by_ranges(job, part, options, bytes, true);
  QW_TRY(by_ranges.run(cancel));
  if (!by_ranges.ranges_refused()) return {};
  bytes(-static_cast<std::int64_t>(part.done()));
  QW_TRY(part.restart());
  return Transfer(job, part, options, bytes, false).run(cancel);
}

}  // namespace

Status check_range(const net::ResponseHead& head, std::uint64_t begin, std::uint64_t end, std::uint64_t total) {
  const std::string expected = "bytes " + std::to_string(begin) + "-" + std::to_string(end - 1) + "/" + std::to_string(total);
  const std::string_view range = net::find_header(head.headers, "Content-Range");
  if (head.status == 206 && range == expected) return {};
  return fail(ErrorKind::kFailed, "the server sent \"" + std::string(range.substr(0, 80)) + "\" where \"" + expected + "\" was asked for");
}

std::uint64_t bytes_fetched(const DownloadJob& job) {
  std::uint64_t sum = 0;
  if (const auto state = internal::read_state(internal::part_path(job.target), job.file)) {
    for (const Segment& s : *state) sum += s.done;
  }
  return sum;
}

Result<std::string> download(const DownloadJob& job, const DownloadOptions& options, const BytesFn& bytes,
                             const std::atomic<bool>* cancel) {
  // Twice: a wrong hash may be one flipped bit on the way, or a part file from before a power cut.
  for (const bool last : {false, true}) {
    QW_ASSIGN(PartFile part, PartFile::open(internal::part_path(job.target), job.file, options.segment_bytes));
    bytes(static_cast<std::int64_t>(part.done()));
    QW_TRY(transfer(job, part, options, bytes, cancel));
    QW_ASSIGN(const std::string hash, base::sha256_file_hex(part.path()));
    if (job.file.sha256.empty() || hash == job.file.sha256) {
      QW_TRY(part.finish(job.target));
      return hash;
    }
    bytes(-static_cast<std::int64_t>(job.file.bytes));
    QW_TRY(part.discard());
    const std::string what = job.file.path + ": arrived damaged (SHA-256 " + hash + ", should be " + job.file.sha256 + ")";
    if (last) return fail(ErrorKind::kBadInput, what + ", twice");
    if (job.hub.options().notice) job.hub.options().notice(what + "; fetching it once more");
  }
  return fail(ErrorKind::kFailed, job.file.path + ": not fetched");
}

}  // namespace qw::hub
