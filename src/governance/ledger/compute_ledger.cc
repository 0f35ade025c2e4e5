#include "governance/ledger/compute_ledger.h"

#include <cmath>

namespace qw::governance {
namespace {

constexpr double kGeneralPurpose = 1e23, kSystemic = 1e25, kFrontier = 1e26;
constexpr std::size_t kMostGenerations = 20;  // JSON's depth ends earlier
constexpr double kHalf = 0.5, kNear = 0.9;

using Kind = Generation::Kind;

// A number of operations that can be one.
Result<std::optional<double>> operations(const json::Value* value, const char* what) {
  if (value == nullptr || value->is_null()) return std::optional<double>();
  if (!value->is_number() || !std::isfinite(value->as_double()) || value->as_double() < 0)
    return fail(ErrorKind::kBadInput, std::string("the record of compute: ") + what + " is not a number of operations");
  return std::optional(value->as_double());
}

std::string text(const json::Value& object, const char* key) {
  const json::Value* found = object.find(key);
  return found != nullptr && found->is_string() ? found->as_string() : "";
}

std::optional<double> sum(std::optional<double> a, std::optional<double> b) {
  if (!a || !b) return std::nullopt;
  return *a + *b;
}

Result<Kind> kind_of(const json::Value& record) {
  const std::string format = text(record, "format");
  if (format == "qianwen-compute-1") return Kind::kTrained;
  if (format == "qianwen-compute-statement-1") return Kind::kStated;
  if (format == "qianwen-compute-derived-1") return Kind::kDerived;
  return fail(ErrorKind::kBadInput, "not a record of what training cost (its format is \"" + format + "\")");
}

Result<std::optional<double>> own_of(const json::Value& record, Kind kind) {
  if (kind == Kind::kDerived) return std::optional(0.0);
  if (kind == Kind::kStated) return operations(record.find("cumulative_flops"), "cumulative_flops");
  const json::Value* flops = record.find("flops");
  if (flops == nullptr || !flops->is_object())
    return fail(ErrorKind::kBadInput, "the record of compute: flops is missing");
  if (const json::Value* missing = flops->find("uncounted_steps");
      missing != nullptr && missing->is_int() && missing->as_int() > 0)
    return std::optional<double>();
  QW_ASSIGN(const auto own, operations(flops->find("learning"), "flops.learning"));
  if (!own) return fail(ErrorKind::kBadInput, "the record of compute: flops.learning is missing");
  return own;
}

// The generations from `record` on.
Status walk(const json::Value& record, const std::string& name, std::vector<Generation>& out) {
  if (out.size() >= kMostGenerations) return fail(ErrorKind::kBadInput, "the record of compute: too many generations");
  QW_ASSIGN(const Kind kind, kind_of(record));
  Generation& made = out.emplace_back();
  made.kind = kind;
  made.name = name;
  if (const auto weights = weights_of(record); !weights.empty()) made.weights_sha256 = weights.front();
  made.by = text(record, "stated_by");
  made.source = text(record, "source");
  QW_ASSIGN(made.own, own_of(record, kind));
  const json::Value* parent = record.find("parent");
  if (parent == nullptr || parent->is_null() || kind == Kind::kStated) return {};
  if (!parent->is_object()) return fail(ErrorKind::kBadInput, "the record of compute: parent is not an object");
  const json::Value* older = parent->find("record");
  if (older != nullptr && older->is_object()) return walk(*older, text(*parent, "name"), out);
  Generation& unknown = out.emplace_back();
  unknown.name = text(*parent, "name");
  unknown.weights_sha256 = text(*parent, "weights_sha256");
  unknown.why_unknown = text(*parent, "no_record");
  return {};
}

// A parent's record must be of the weights that its child was trained from.
Status check_links(const json::Value& record) {
  const json::Value* at = &record;
  for (;;) {
    const json::Value* parent = at->find("parent");
    const json::Value* older = parent == nullptr ? nullptr : parent->find("record");
    if (older == nullptr || !older->is_object()) return {};
    const std::string weights = text(*parent, "weights_sha256");
    bool named = false;
    for (const std::string& one : weights_of(*older)) named = named || one == weights;
    if (!named)
      return fail(ErrorKind::kBadInput, "the record of compute: the record of its parent " + text(*parent, "name") +
                                            " is of other weights than it was trained from");
    at = older;
  }
}

Level level_of(std::optional<double> reached, double at) {
  if (!reached) return Level::kUnknown;
  if (*reached > at) return Level::kOver;
  if (*reached >= kNear * at) return Level::kNear;
  return *reached >= kHalf * at ? Level::kHalf : Level::kBelow;
}

double share_of(const json::Value& record) {
  const json::Value *steps = record.find("steps"), *planned = record.find("planned_steps");
  if (text(record, "state") == "finished" || steps == nullptr || planned == nullptr || !steps->is_int() ||
      !planned->is_int() || steps->as_int() < 1 || planned->as_int() <= steps->as_int())
    return 1;
  return static_cast<double>(steps->as_int()) / static_cast<double>(planned->as_int());
}

}  // namespace

std::vector<std::string> weights_of(const json::Value& record) {
  std::vector<std::string> out;
  const json::Value* outputs = record.find("outputs");
  if (outputs == nullptr || !outputs->is_array()) return out;
  for (const json::Value& one : outputs->as_array())
    if (const json::Value* sha = one.find("weights_sha256"); sha != nullptr && sha->is_string())
      out.push_back(sha->as_string());
  return out;
}

Result<Lineage> lineage_of(const json::Value& record) {
  if (!record.is_object()) return fail(ErrorKind::kBadInput, "the record of compute: not an object");
  Lineage out;
  QW_TRY(walk(record, "", out.generations));
  QW_TRY(check_links(record));
  std::optional<double> total = 0.0;
  for (std::size_t i = out.generations.size(); i-- > 0;) {
    Generation& one = out.generations[i];
    total = sum(one.own, total);
    one.total = total;
  }
  out.total = out.generations.front().total;
  out.own = 0.0;
  out.before = 0.0;
  for (const Generation& one : out.generations) {
    if (one.kind == Kind::kStated || one.kind == Kind::kUnknown) {
      out.before = one.total;
      break;
    }
    out.own = sum(out.own, one.own);
  }
  out.planned_share = share_of(record);
  return out;
}

Result<Lineage> lineage_of(std::string_view file) {
  QW_ASSIGN(const json::Value record, json::parse(file));
  return lineage_of(record);
}

json::Object to_json(const ComputeStatement& s) {
  return {{"format", "qianwen-compute-statement-1"},
          {"cumulative_flops", s.flops},
          {"stated_by", s.by},
          {"stated_at", s.stated_at},
          {"source", s.source},
          {"parent", nullptr},
          {"outputs", json::Array{json::Object{{"weights_sha256", s.weights_sha256}}}}};
}

const std::vector<Threshold>& thresholds() {
  static const std::vector<Threshold> all = {
      {"1e23", kGeneralPurpose, "European Union, AI Act, Articles 51 to 53 and the Commission's guidelines",
       "a model that generates language and took more is indicated to be a general-purpose AI model: technical "
       "documentation (Annex XI), documentation for those who build on it (Annex XII), a copyright policy and a public "
       "summary of training content are asked of its provider"},
      {"third", 0, "European Union, the Commission's guidelines on general-purpose AI models",
       "who changes a model with more than a third of the compute of the original becomes the provider of a model, for "
       "the change; below it, the duties stay with the original's provider"},
      {"1e25", kSystemic, "European Union, AI Act, Articles 51 and 52",
       "a model that took more in all is presumed to have systemic risk: notice to the AI Office within two weeks, "
       "evaluations, adversarial tests, reports of incidents, protection of weights"},
      {"1e26", kFrontier, "California SB 53; New York RAISE from 2027",
       "a model that took more in all, fine-tuning included, is a frontier model: a public framework, a transparency "
       "report for each release, reports of critical incidents"},
  };
  return all;
}

const char* level_name(Level level) {
  static constexpr const char* kNames[] = {"unknown", "below", "over half", "over nine tenths", "over"};
  return kNames[static_cast<std::size_t>(level)];
}

std::vector<ThresholdReading> read_thresholds(const Lineage& lineage) {
  std::vector<ThresholdReading> out;
  for (const Threshold& one : thresholds()) {
    ThresholdReading r;
    r.threshold = &one;
    r.reached = lineage.total;
    r.at = one.flops;
    if (one.flops == 0) {
      r.reached = lineage.own;
      const bool fresh = lineage.before && *lineage.before == 0;
      if (fresh) {
        r.at.reset();
        r.note = "training began with fresh weights: there is no original";
      } else if (lineage.before) {
        r.at = *lineage.before / 3;
      } else {
        r.at = kGeneralPurpose / 3;
        r.note =
            "the original's compute is unknown: a third of 1e23 is taken (of 1e25, if it is a model of systemic risk)";
      }
      if (fresh) {
        r.level = r.at_end = Level::kBelow;
        out.push_back(std::move(r));
        continue;
      }
    } else if (!lineage.total) {
      r.reached = lineage.own;  // at least that
      if (r.reached && *r.reached <= *r.at) {
        r.note = "what it was trained from is unknown; its own part alone is below";
        r.reached.reset();
      }
    }
    r.level = level_of(r.reached, *r.at);
    // Of the newest run alone more is to come.
    std::optional<double> more;
    if (r.reached && lineage.generations.front().own)
      more = *r.reached + *lineage.generations.front().own * (1 / lineage.planned_share - 1);
    r.at_end = level_of(more, *r.at);
    out.push_back(std::move(r));
  }
  return out;
}

}  // namespace qw::governance
