// Whether drafts pay, and how many: from measured acceptance and the measured time of steps. Numbers only, no model.
//
// A step of r rows takes t(r). Without drafts it gives one token to each of n sequences; with k drafts for one of them
// whose tokens are right with chance a, it gives a + a^2 + ... + a^k more. Drafts are worth it if tokens per time rise.
// Measurements can deceive, so a ledger keeps what drafts really won and lost; while the loss exceeds a small share of
// the time that passed, there are none. A kind of guess that does not pay is tried again now and then, more and more
// rarely.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "engine/request.h"

namespace qw::engine {

// Milliseconds of a step by its rows, learned as steps go by.
class StepTimes {
 public:
  void add(std::int64_t rows, double ms);
  // Interpolated between the neighbours that are known. Beyond them: a guess in favour of trying. 0: nothing is known.
  double of(std::int64_t rows) const;
  bool known(std::int64_t rows) const { return rows_[place(rows)].count >= kEnough; }

 private:
  static constexpr int kEnough = 3;
  static constexpr std::int64_t kExact =
      64;  // one place for each number of rows up to here, then one for each doubling
  static constexpr std::size_t kPlaces = kExact + 16;
  struct Place {
    double ms = 0, rows = 0;  // running means
    int count = 0;
  };
  static std::size_t place(std::int64_t rows);
  std::array<Place, kPlaces> rows_{};
};

// How often tokens of one kind of guess are right.
struct Acceptance {
  double right = 0, tried = 0;
  void record(std::int64_t drafted, std::int64_t accepted, double memory);
};

class DraftPolicy {
 public:
  // Kinds of guesses of all drafters, with what to expect of each at first.
  explicit DraftPolicy(std::vector<double> expected);

  // A step begins: `rows` rows without drafts, one token for each of `sequences`. False: no drafts in this step.
  bool begin_step(std::int64_t rows, std::int64_t sequences);
  // How many of `most` tokens to draft for a request by guesses of a kind which take `ms_per_token` to make. What was
  // chosen counts as part of the step.
  std::int64_t choose(RequestId request, std::size_t kind, std::int64_t most, double ms_per_token);
  // Of the tokens drafted for a request so many were right.
  void record(RequestId request, std::size_t kind, std::int64_t drafted, std::int64_t accepted);
  // The step had `rows` rows, took `ms` of which `drafting_ms` were spent on guesses, and `drafted` of its rows were
  // drafts.
  void end_step(std::int64_t rows, std::int64_t drafted, double ms, double drafting_ms);
  void forget(RequestId request) { requests_.erase(request); }

  double acceptance(RequestId request, std::size_t kind) const;
  double ledger_ms() const { return ledger_; }

 private:
  double prior(std::size_t kind) const;
  std::int64_t probe(std::size_t kind, std::int64_t most);
  std::vector<double> expected_;
  std::vector<Acceptance> all_;  // by kind
  std::unordered_map<RequestId, std::vector<Acceptance>> requests_;
  StepTimes times_;
  struct Probe {
    std::int64_t refused = 0, wait = 0;  // offers since the last that was taken; how many until one is taken anyway
  };
  std::vector<Probe> probes_;        // by kind
  double elapsed_ = 0, ledger_ = 0;  // both fade
  std::int64_t since_plain_ = 0;     // steps with drafts since one without
  // Of the step that began.
  std::int64_t base_rows_ = 0, sequences_ = 0, rows_ = 0, accepted_ = 0;
  double tokens_ = 0, extra_ms_ = 0;
};

}  // namespace qw::engine
