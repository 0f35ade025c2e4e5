// Long work that outlives the service which began it: batches, fine-tuning. A service claims a job for a lease and
// renews it; when the service dies, another claims the job and goes on from the state and the records that were
// written.
//
// `spec` and `state` are text of whoever runs the jobs. Records are numbered from 0 in each stream of a job ("events",
// "output", ...) and written together with the state, so that none is lost and none written twice.
// Errors: kBadInput for what makes no sense or does not exist; kRefused if the job is no longer yours; kResource if its
// project has as many unfinished ones as it may have. Threads: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace qw::store {

class Work;

struct Job {
  std::string id, project_id, kind;
  std::string status;         // "queued", "running", "paused", then whatever finish() says
  std::int64_t priority = 0;  // higher goes first
  std::int64_t attempts = 0;  // how often it was claimed
  std::int64_t created_us = 0, changed_us = 0;
  bool cancel_wanted = false;  // whoever runs it should end it
  bool pause_wanted = false;   // or lay it aside
  std::string spec, state;
};
struct JobRecord {
  std::string stream;
  std::int64_t number = 0, created_us = 0;
  std::string body;
};

// What is wanted of whoever runs a job.
enum class JobWish : std::uint8_t { kNone, kPause, kCancel };

class Jobs {
 public:
  explicit Jobs(Work& work) : work_(work) {}

  // Unfinished jobs of a project that has no limit of its own: so that nobody fills the disk with what waits.
  static constexpr std::int64_t kUsualMostOpen = 1000;

  // `id_prefix`: such as "batch_".
  Result<Job> add(const std::string& id_prefix, const std::string& project_id, const std::string& kind,
                  const std::string& spec, std::int64_t priority = 0);
  Result<Job> find(const std::string& project_id, const std::string& kind, const std::string& id);
  // Newest first, after the job `after` ("": from the start).
  Result<std::vector<Job>> list(const std::string& project_id, const std::string& kind, const std::string& after,
                                std::int64_t most);

  // The best job of `kind` that waits or whose lease ran out; nothing if there is none.
  Result<std::optional<Job>> claim(const std::string& kind, const std::string& instance, std::int64_t lease_us);
  // Writes state and records, renews the lease, and tells what is wanted of the job. kRefused: another has it.
  Result<JobWish> advance(const std::string& id, const std::string& instance, std::int64_t lease_us,
                          const std::string& state, const std::vector<JobRecord>& records);
  Status finish(const std::string& id, const std::string& instance, const std::string& status, const std::string& state,
                const std::vector<JobRecord>& records = {});
  // Lays it aside as "paused", where nobody claims it until resume(); if that came meanwhile, or it is to be cancelled,
  // it is given back instead.
  Status hold(const std::string& id, const std::string& instance, const std::string& state,
              const std::vector<JobRecord>& records = {});
  // The first state of a job that waits and that nobody has begun, with records; `ended` not "": it ends as that.
  // False: somebody was first.
  Result<bool> prepare(const std::string& id, const std::string& state, const std::vector<JobRecord>& records,
                       const std::string& ended = "");
  // Gives it back, to be claimed at once (a service that stops).
  Status release(const std::string& id, const std::string& instance);
  // Gives back what every other service had, for the only one there is (Store::serve_alone). Returns how many.
  Result<std::int64_t> release_of_others(const std::string& instance);
  // A waiting or paused job ends as "cancelled"; a running one is asked to.
  Result<Job> cancel(const std::string& project_id, const std::string& kind, const std::string& id);
  // A waiting job is paused; a running one is asked to be. What has ended stays as it is.
  Result<Job> pause(const std::string& project_id, const std::string& kind, const std::string& id);
  // A paused job waits again, behind nobody it was before; one that is asked to pause goes on.
  Result<Job> resume(const std::string& project_id, const std::string& kind, const std::string& id);
  // Drops what was asked and what was recorded of a job that has ended; that there was one stays.
  Status forget(const std::string& project_id, const std::string& kind, const std::string& id);
  Result<std::vector<JobRecord>> records(const std::string& id, const std::string& stream, std::int64_t from,
                                         std::int64_t most);

 private:
  Work& work_;
};

}  // namespace qw::store
