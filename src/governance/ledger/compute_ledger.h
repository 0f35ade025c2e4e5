// What the training of a model cost in all, from the records beside its weights (docs/formats/compute_record.md): its
// own runs, and the models it was trained from. And where that stands beside the amounts at which laws change what is
// asked.
//
// Values; reads nothing but what it is given. What a record does not say is unknown, and stays so in every sum.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "json/value.h"

namespace qw::governance {

// A model of a lineage.
struct Generation {
  enum class Kind { kTrained, kStated, kDerived, kUnknown } kind = Kind::kUnknown;
  std::string name;             // as its child names it; "" of the first
  std::string weights_sha256;   // formats/weights_digest.h; "" while it is not known
  std::optional<double> own;    // operations of its own training that led to its weights
  std::optional<double> total;  // with all it comes from
  std::string by, source;       // kStated: who says so, and from where it is known
  std::string why_unknown;      // kUnknown
};

struct Lineage {
  std::vector<Generation> generations;  // the model, what it was trained from, and so on
  std::optional<double>
      own;  // of what was done here: all generations in front of the first that was stated or is unknown
  std::optional<double> before;  // of that one and what it comes from; 0 if training began with fresh weights
  std::optional<double> total;
  double planned_share = 1;  // of the steps that the newest run is to have, that it has
};

// Of the contents of a compute.json. kBadInput: it is no record, or its numbers are none.
Result<Lineage> lineage_of(const json::Value& record);
Result<Lineage> lineage_of(std::string_view file);
// The weights that a record is of; empty while a run has not ended.
std::vector<std::string> weights_of(const json::Value& record);

// A model that was trained elsewhere, by the words of whoever answers for them.
struct ComputeStatement {
  double flops = 0;
  std::string by, source, stated_at;
  std::string weights_sha256;
};
json::Object to_json(const ComputeStatement& statement);

struct Threshold {
  const char* id;  // "1e23", "third", "1e25", "1e26"
  double flops;    // 0: a third of what was before
  const char* where;
  const char* meaning;
};
const std::vector<Threshold>& thresholds();

enum class Level { kUnknown, kBelow, kHalf, kNear, kOver };  // kHalf: 50 %, kNear: 90 % of it
const char* level_name(Level level);

struct ThresholdReading {
  const Threshold* threshold = nullptr;
  std::optional<double> reached, at;                        // operations
  Level level = Level::kUnknown, at_end = Level::kUnknown;  // now, and if the newest run goes on to its planned end
  std::string note;                                         // what was assumed
};
// Where the compute of what came before is unknown, a third is of 1e23, as the Commission's guidelines have it.
std::vector<ThresholdReading> read_thresholds(const Lineage& lineage);

}  // namespace qw::governance
