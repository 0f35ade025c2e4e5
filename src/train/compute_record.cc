#include "train/internal/compute_record.h"

#include <cstdio>
#include <random>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/utc.h"
#include "formats/weights_digest.h"

namespace qw::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormat = "qianwen-compute-1";
constexpr std::uint64_t kMostBytes = 16 << 20;
constexpr double kSecondsBetweenWrites = 30;
constexpr double kJoulesAKwh = 3.6e6, kSecondsAnHour = 3600;
constexpr const char* kMethod =
    "counted on the recorded program, pass by pass: 2 operations a multiply-add of products, causal attention, "
    "experts, "
    "short convolutions and delta rules, forward and backward (of frozen weights no gradient); work on single values "
    "and "
    "recomputation left out; answers that were drawn count as one pass forward over prompt and answer";

std::string fresh_run() {
  std::random_device device;
  std::string out;
  for (int i = 0; i < 4; ++i) {
    char part[9];
    std::snprintf(part, sizeof(part), "%08x", device());
    out += part;
  }
  return out;
}

const char* method_of(const TrainConfig& c) {
  if (c.preference) return "preference";
  if (c.kto) return "kto";
  if (c.reward) return "reward";
  if (c.distill) return "distill";
  if (c.grpo) return "grpo";
  if (c.embedding) return "embedding";
  if (c.ranking) return "ranking";
  if (c.classes) return "classes";
  return "texts";
}

double number(const json::Value* object, const char* key) {
  const json::Value* found = object == nullptr ? nullptr : object->find(key);
  return found != nullptr && found->is_number() ? found->as_double() : 0;
}

bool says(const json::Object& record, const char* key, const std::string& text) {
  const json::Value* found = record.find(key);
  return found != nullptr && found->is_string() && found->as_string() == text;
}

// The record beside a model: in its folder, or with its file's name in front.
fs::path record_beside(const fs::path& model) {
  std::error_code code;
  return fs::is_directory(model, code) ? model / kComputeFile : fs::path(model.string() + "." + kComputeFile);
}

// Whether a record is of these weights.
bool names_weights(const json::Value& record, const std::string& sha256) {
  const json::Value* outputs = record.find("outputs");
  if (outputs == nullptr || !outputs->is_array()) return false;
  for (const json::Value& one : outputs->as_array())
    if (const json::Value* of = one.find("weights_sha256");
        of != nullptr && of->is_string() && of->as_string() == sha256)
      return true;
  return false;
}

// What is known of a model that is trained on: its weights, and what its own record says if it is one of them.
Result<json::Object> parent_of(const std::string& path) {
  fs::path name = fs::path(path).lexically_normal();
  if (!name.has_filename()) name = name.parent_path();
  json::Object out{{"name", name.filename().string()}};
  QW_ASSIGN(const auto digest, formats::weights_digest(path));
  out.set("weights_sha256", digest.sha256);
  out.set("record", nullptr);
  const fs::path beside = record_beside(path);
  std::error_code code;
  if (!fs::exists(beside, code)) {
    out.set("no_record", "there is no record beside these weights");
    return out;
  }
  const auto text = base::read_file(beside, kMostBytes);
  auto record = text ? json::parse(*text) : tl::unexpected(text.error());
  if (!record || !record->is_object()) {
    out.set("no_record", "the record beside these weights cannot be read: " +
                             (record ? std::string("not an object") : record.error().message));
  } else if (!names_weights(*record, digest.sha256)) {
    out.set("no_record", "the record beside these weights is of other weights");
  } else {
    out.set("record_sha256", base::sha256_hex(*text));
    out.set("record", std::move(*record));
  }
  return out;
}

// null: unknown.
json::Value cumulative(double own, std::int64_t uncounted, const json::Value* parent) {
  if (uncounted > 0) return nullptr;
  if (parent == nullptr || parent->is_null()) return own;
  const json::Value* record = parent->find("record");
  const json::Value* before = record == nullptr ? nullptr : record->find("cumulative_flops");
  if (before == nullptr || !before->is_number()) return nullptr;
  return own + before->as_double();
}

json::Object data_of(const data::Dataset& dataset) {
  json::Object out{{"ledger_sha256", dataset.ledger_sha256}, {"tokenizer_sha256", dataset.tokenizer_hash}};
  const auto ledger = json::parse(dataset.ledger);
  const json::Value* stated = ledger ? ledger->find("dataset") : nullptr;
  for (const char* key : {"id", "version", "name"})
    if (const json::Value* found = stated == nullptr ? nullptr : stated->find(key); found != nullptr)
      out.set(key, *found);
  return out;
}

}  // namespace

Result<std::unique_ptr<ComputeRecord>> ComputeRecord::begin(const TrainConfig& config, const data::Dataset& dataset,
                                                            json::Object model, Machine machine, std::int64_t step) {
  std::unique_ptr<ComputeRecord> out(new ComputeRecord(config, dataset, std::move(machine)));
  const std::string recipe = base::sha256_hex(json::dump(json::Value(config.source)));
  const fs::path path = config.output / kComputeFile;
  std::error_code code;
  if (fs::exists(path, code)) {
    QW_ASSIGN(const std::string text, base::read_file(path, kMostBytes));
    auto known = json::parse(text);
    if (!known) return in_context(path.string(), std::move(known).error());
    if (!known->is_object() || !says(known->as_object(), "format", kFormat))
      return fail(ErrorKind::kBadInput, path.string() + ": not a record of what a run cost; move it away");
    const json::Value* data = known->find("data");
    // Who changes --set steps= and resumes goes on with the same run.
    const bool goes_on = step > 0 || says(known->as_object(), "recipe_sha256", recipe);
    if (goes_on && data != nullptr && data->is_object() &&
        says(data->as_object(), "ledger_sha256", dataset.ledger_sha256))
      out->record_ = std::move(known->as_object());
  }
  json::Object& r = out->record_;
  if (const json::Value* sessions = r.find("sessions"); sessions != nullptr && sessions->is_array())
    out->earlier_ = sessions->as_array();
  r.set("format", kFormat);
  if (r.find("run") == nullptr) r.set("run", fresh_run());
  r.set("method", method_of(config));
  r.set("model", std::move(model));
  r.set("recipe_sha256", recipe);
  r.set("data", data_of(dataset));
  out->begin_session(step);
  out->look_at_parent();
  return out;
}

void ComputeRecord::begin_session(std::int64_t step) {
  begun_ = written_ = Clock::now();
  session_ = {{"begun", base::utc_text(base::unix_seconds())},
              {"from_step", step},
              {"cpu", base::cpu_name()},
              {"isa", machine_.isa},
              {"processes", machine_.processes},
              {"hosts", (machine_.processes + machine_.on_host - 1) / machine_.on_host},
              {"threads", machine_.threads},
              {"peak_flops", machine_.peak_flops}};
}

void ComputeRecord::look_at_parent() {
  if (config_.init_from.empty()) {
    record_.set("parent", nullptr);
    return;
  }
  const json::Value* known = record_.find("parent");
  if (known != nullptr && known->find("weights_sha256") != nullptr) return;
  parent_ = std::async(std::launch::async, [path = config_.init_from] { return parent_of(path); });
}

void ComputeRecord::take_parent(bool wait) {
  if (!parent_.valid()) return;
  if (!wait && parent_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return;
  auto parent = parent_.get();
  if (parent)
    record_.set("parent", std::move(*parent));
  else
    record_.set("parent", json::Object{{"name", fs::path(config_.init_from).filename().string()},
                                       {"record", nullptr},
                                       {"no_record", "its weights could not be hashed: " + parent.error().message}});
}

// Of this session.
json::Object ComputeRecord::energy_of(double seconds) {
  const EnergyConfig& e = config_.energy;
  const bool one_host = machine_.processes == machine_.on_host;
  const std::optional<double> joules = one_host ? meter_.joules() : std::nullopt;
  const double processors = joules ? *joules : seconds * machine_.threads * machine_.processes * e.watts_a_thread;
  json::Object out{{"measured", joules.has_value()},
                   {"processor_joules", processors},
                   {"kwh", processors * e.host * e.pue / kJoulesAKwh},
                   {"host", e.host},
                   {"pue", e.pue}};
  if (joules) {
    json::Array domains;
    for (std::string& name : meter_.domains()) domains.emplace_back(std::move(name));
    out.set("counters", std::move(domains));
    out.set("method", "RAPL counters of the whole machine, times host, times pue");
  } else {
    out.set("watts_a_thread", e.watts_a_thread);
    out.set("why_not_measured", one_host ? meter_.why_not() : "the counters of other hosts are not read");
    out.set("method", "estimate: seconds times processes times threads times watts_a_thread, times host, times pue");
  }
  return out;
}

void ComputeRecord::update(const ComputeProgress& p, const char* state) {
  const double seconds = std::chrono::duration<double>(Clock::now() - begun_).count();
  const std::string now = base::utc_text(base::unix_seconds());
  session_.set("ended", now);
  session_.set("to_step", p.step);
  session_.set("seconds", seconds);
  session_.set("flops", p.spent);
  if (machine_.peak_flops > 0 && seconds > 0) session_.set("utilisation", p.spent / seconds / machine_.peak_flops / machine_.processes);
  session_.set("energy", energy_of(seconds));
  json::Array sessions = earlier_;
  sessions.emplace_back(session_);
  double spent = 0, hours = 0, thread_hours = 0, kwh = 0;
  std::size_t measured = 0;
  for (const json::Value& one : sessions) {
    spent += number(&one, "flops");
    hours += number(&one, "seconds") * number(&one, "hosts") / kSecondsAnHour;
    thread_hours += number(&one, "seconds") * number(&one, "processes") * number(&one, "threads") / kSecondsAnHour;
    const json::Value* energy = one.find("energy");
    kwh += number(energy, "kwh");
    const json::Value* counted = energy == nullptr ? nullptr : energy->find("measured");
    if (counted != nullptr && counted->is_bool() && counted->as_bool()) ++measured;
  }
  record_.set("updated", now);
  record_.set("state", state);
  record_.set("steps", p.step);
  record_.set("planned_steps", config_.steps);
  record_.set("tokens", p.tokens);
  json::Object flops{{"learning", p.learning}, {"evaluation", p.evaluation}, {"spent", spent}, {"method", kMethod}};
  if (p.uncounted_steps > 0) flops.set("uncounted_steps", p.uncounted_steps);
  record_.set("flops", std::move(flops));
  record_.set("device_hours", hours);
  record_.set("thread_hours", thread_hours);
  record_.set("energy", json::Object{{"kwh", kwh},
                                     {"basis", measured == 0                 ? "estimated"
                                               : measured == sessions.size() ? "measured"
                                                                             : "partly measured"}});
  record_.set("sessions", std::move(sessions));
  record_.set("cumulative_flops", cumulative(p.learning, p.uncounted_steps, record_.find("parent")));
}

Status ComputeRecord::save(const fs::path& folder) const {
  std::error_code code;
  fs::create_directories(folder, code);
  json::WriteStyle style;
  style.indent = 2;
  return base::write_file_atomically(folder / kComputeFile, json::dump(json::Value(record_), style) + "\n");
}

Status ComputeRecord::tell(const ComputeProgress& progress) {
  if (std::chrono::duration<double>(Clock::now() - written_).count() < kSecondsBetweenWrites) return {};
  return write(progress, "running");
}

Status ComputeRecord::write(const ComputeProgress& progress, const char* state) {
  written_ = Clock::now();
  take_parent(false);
  update(progress, state);
  return save(config_.output);
}

Status ComputeRecord::finish(const ComputeProgress& progress, const fs::path& folder) {
  take_parent(true);
  update(progress, "finished");
  QW_ASSIGN(const auto digest, formats::weights_digest(folder));
  json::Array files;
  for (const auto& file : digest.files)
    files.push_back(json::Object{{"name", file.name}, {"sha256", file.sha256}, {"bytes", file.bytes}});
  record_.set("outputs", json::Array{json::Object{{"folder", folder.filename().string()},
                                                  {"weights_sha256", digest.sha256},
                                                  {"files", std::move(files)}}});
  QW_TRY(base::write_file_atomically(folder / kDataLedgerFile, dataset_.ledger));
  QW_TRY(save(folder));
  return save(config_.output);
}

}  // namespace qw::train
