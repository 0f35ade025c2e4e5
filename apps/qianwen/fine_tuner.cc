#include "fine_tuner.h"

#include <algorithm>
#include <fstream>
#include <future>
#include <optional>

#include "api/field_reader.h"
#include "base/file.h"
#include "base/log.h"
#include "child_process.h"
#include "data/packing.h"
#include "json/value.h"
#include "text_source.h"
#include "tokenizer/tokenizer.h"
#include "train/trainer.h"

namespace qw::app {
namespace {

namespace fs = std::filesystem;
using api::openai::FineTuneAsk;
using api::openai::FineTuneEnd;
using api::openai::FineTuneOrder;
using api::openai::FineTuneStep;
using api::openai::FineTuneWatch;

// What a request leaves open. The learning rate is what full fine-tuning of models of this family is usually done with, and
// ten times that for adapters, which begin at zero; three epochs learn a style without learning the examples by heart.
constexpr double kLearningRate = 2e-5, kAdapterLearningRate = 2e-4;
constexpr std::int64_t kEpochs = 3, kSequenceLength = 1024;
// Of the sequences of an epoch one sixteenth is a step, within these.
constexpr std::int64_t kLeastBatch = 1, kMostBatch = 8, kStepsInEpoch = 16;
// Checkpoints and evaluations in a run: what a kill costs at most, in tenths.
constexpr std::int64_t kParts = 10;
constexpr const char* kServed = "served.json";  // of a job that is done: which model it made

// Writes a file of the store to disk, whole or not at all.
Status write_out(store::Files& files, const std::string& id, const fs::path& to) {
  std::error_code error;
  if (fs::exists(to, error)) return {};
  const fs::path part = to.string() + ".part";
  {
    std::ofstream out(part, std::ios::binary | std::ios::trunc);
    for (std::int64_t at = 0;;) {
      QW_ASSIGN(const std::string piece, files.read(id, at));
      if (piece.empty()) break;
      out << piece;
      at += static_cast<std::int64_t>(piece.size());
    }
    if (!out.flush()) return fail(ErrorKind::kFailed, "the disk for training is full");
  }
  fs::rename(part, to, error);
  if (error) return fail(ErrorKind::kFailed, to.string() + ": " + error.message());
  return {};
}

// TOML's basic strings are JSON's.
std::string quoted(const std::string& text) { return json::dump(json::Value(text)); }

std::string source_toml(const char* name, const fs::path& file, const std::string& id, int heldout) {
  return std::string("\n[[source]]\nname = \"") + name + "\"\npath = " + quoted(file.string()) +
         "\nformat = \"chat\"\nlicence = \"as the uploader has it\"\norigin = " + quoted("file " + id) +
         "\nheldout_tail = " + std::to_string(heldout) + "\n";
}

std::string data_toml(const FineTuneAsk& ask, const fs::path& job, const std::string& tokenizer) {
  std::string text = "output = " + quoted((job / "shards").string()) +
                     "\ndedup = \"none\"\nseed = " + std::to_string(ask.seed) +
                     "\n[tokenizer]\nfolder = " + quoted(tokenizer) + "\n" +
                     source_toml("training", job / "training.jsonl", ask.training_file, 0);
  if (!ask.validation_file.empty()) text += source_toml("validation", job / "validation.jsonl", ask.validation_file, 1);
  return text;
}

std::string train_toml(const FineTuneAsk& ask, const fs::path& job, const std::string& base, std::int64_t batch,
                       std::int64_t steps) {
  const std::int64_t part = std::max<std::int64_t>(1, steps / kParts);
  std::string text;
  const auto line = [&](const std::string& key, const std::string& value) { text += key + " = " + value + "\n"; };
  line("output", quoted((job / "run").string()));
  line("shards", quoted((job / "shards").string()));
  line("init_from", quoted(base));
  line("seed", std::to_string(ask.seed));
  line("steps", std::to_string(steps));
  line("sequence_length", std::to_string(kSequenceLength));
  line("batch_sequences", "1");
  line("accumulation", std::to_string(batch));
  text += "[optimizer]\n";
  line("lr", json::python_float((ask.lora_rank ? kAdapterLearningRate : kLearningRate) *
                                ask.learning_rate_multiplier.value_or(1)));
  line("weight_decay", "0.0");
  if (ask.lora_rank) text += "[lora]\nrank = " + std::to_string(*ask.lora_rank) + "\n";
  text += "[schedule]\nkind = \"linear\"\n";
  line("warmup", std::to_string(std::min<std::int64_t>(steps / kParts, 100)));
  text += "[checkpoint]\nkeep = 1\n";
  line("every", std::to_string(part));
  text += "[eval]\n";
  line("every", std::to_string(part));
  return text;
}

// The folder of the base's tokenizer, which a file is put into first.
Result<std::string> tokenizer_folder(const std::string& base, const fs::path& job) {
  std::error_code error;
  if (fs::is_directory(base, error)) return base;
  const fs::path folder = job / "tokenizer";
  QW_ASSIGN(const auto spec, tokenizer_of(base));
  fs::create_directories(folder, error);
  QW_TRY(tokenizer::save_tokenizer_folder(spec, folder));
  return folder.string();
}

Status write_text(const fs::path& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  if (!(out << text).flush()) return fail(ErrorKind::kFailed, path.string() + " cannot be written");
  return {};
}

// The last line that a child wrote to its log: what went wrong.
std::string last_line(const fs::path& log) {
  const auto text = base::read_file(log);
  if (!text) return "";
  const auto end = text->find_last_not_of('\n');
  if (end == std::string::npos) return "";
  const auto begin = text->rfind('\n', end);
  return text->substr(begin == std::string::npos ? 0 : begin + 1, end - (begin == std::string::npos ? -1 : begin));
}

// Runs one child of a job. Nothing: it was told to end, `order` says why.
Result<std::optional<FineTuneEnd>> child(const std::vector<std::string>& words, const fs::path& job,
                                         FineTuneWatch& watch, const std::function<void(const std::string&)>& on_line) {
  Result<FineTuneOrder> order = FineTuneOrder::kGoOn;
  const fs::path log = job / "log";
  QW_ASSIGN(const ChildRun ended, run_self(words, log, on_line, [&] {
              order = watch.go_on();
              return order.has_value() && *order == FineTuneOrder::kGoOn;
            }));
  if (!order) return tl::unexpected(order.error());
  if (ended.code == 0) return std::optional<FineTuneEnd>();
  if (*order == FineTuneOrder::kCancel) return FineTuneEnd::kCancelled;
  if (*order == FineTuneOrder::kLeave) return FineTuneEnd::kLeft;
  if (ended.code > 128)
    return fail(ErrorKind::kFailed, "training was ended by signal " + std::to_string(ended.code - 128));
  return fail(ErrorKind::kFailed, last_line(log));
}

// A service that was killed leaves a child which is still ending, and writes into the job's folder. Nothing: none lives.
Result<std::optional<FineTuneEnd>> wait_for_earlier(const fs::path& job, FineTuneWatch& watch) {
  Result<FineTuneOrder> order = FineTuneOrder::kGoOn;
  QW_TRY(wait_for_child(job / "log", [&] {
           order = watch.go_on();
           return order.has_value() && *order == FineTuneOrder::kGoOn;
         }).map([](bool) {}));
  if (!order) return tl::unexpected(order.error());
  if (*order == FineTuneOrder::kCancel) return FineTuneEnd::kCancelled;
  if (*order == FineTuneOrder::kLeave) return FineTuneEnd::kLeft;
  return std::optional<FineTuneEnd>();
}

// A line of `train --json`.
void tell(const std::string& line, std::int64_t steps, FineTuneWatch& watch) {
  const auto value = json::parse(line);
  if (!value) return;
  const auto number = [&](const char* key) -> std::optional<double> {
    const json::Value* found = value->find(key);
    return found != nullptr && found->is_number() ? std::optional(found->as_double()) : std::nullopt;
  };
  FineTuneStep step;
  step.step = api::integer_member(*value, "step");
  step.total_steps = steps;
  step.train_loss = number("loss");
  step.trained_tokens = api::integer_member(*value, "tokens");
  const json::Value* sources = value->find("sources");
  const bool evaluated = sources != nullptr && sources->is_array() && !sources->as_array().empty();
  if (evaluated) step.valid_loss = number("eval_loss");
  if (step.train_loss || step.valid_loss) watch.step(step);
}

// What was trained when nobody heard of it any more - a service that is killed loses what it was told last, and its child
// goes on until it has saved - stands in the trainer's own log. Steps that are known are passed over.
void tell_logged(const fs::path& log, std::int64_t steps, FineTuneWatch& watch) {
  std::ifstream in(log);
  for (std::string line; std::getline(in, line);) tell(line, steps, watch);
}

}  // namespace

Status FineTuner::list_finished() {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) return fail(ErrorKind::kFailed, folder_.string() + ": " + error.message());
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    if (!fs::exists(entry.path() / kServed, error)) continue;
    if (const Status served = serve(entry.path()); !served) base::log_warning(served.error().message);
  }
  return {};
}

Status FineTuner::serve(const fs::path& job) {
  QW_ASSIGN(const std::string text, base::read_file(job / kServed));
  const auto value = json::parse(text);
  if (!value) return fail(ErrorKind::kBadInput, (job / kServed).string() + ": " + value.error().message);
  std::promise<Status> done;
  const auto then = [&done](const Status& status) { done.set_value(status); };
  const std::string name = api::text_member(*value, "name"), project = api::text_member(*value, "project"),
                    base = api::text_member(*value, "adapter_of");
  if (base.empty()) models_.add_trained(name, (job / "run/model").string(), project, then);
  else models_.add_trained_adapter(name, (job / "run/adapter").string(), base, project, then);
  return done.get_future().get();
}

Status FineTuner::check(const FineTuneAsk& ask) const {
  return base_of(ask).map([](auto&&) {});
}

Result<std::string> FineTuner::base_of(const FineTuneAsk& ask) const {
  return ask.lora_rank ? models_.model_path(ask.base) : models_.trainable_folder(ask.base);
}

Result<FineTuneEnd> FineTuner::run(const FineTuneAsk& ask, store::Files& files, FineTuneWatch& watch) {
  QW_ASSIGN(const std::string base, base_of(ask));
  const fs::path job = folder_ / ask.job_id;
  std::error_code error;
  if (fs::exists(job / kServed, error)) return FineTuneEnd::kDone;  // only its end was not written
  fs::create_directories(job, error);
  if (error) return fail(ErrorKind::kFailed, job.string() + ": " + error.message());
  const auto given_up = [&](FineTuneEnd end) {
    if (end == FineTuneEnd::kCancelled) fs::remove_all(job, error);
    return end;
  };
  QW_ASSIGN(const auto left, wait_for_earlier(job, watch));
  if (left) return given_up(*left);
  QW_TRY(write_out(files, ask.training_file, job / "training.jsonl"));
  if (!ask.validation_file.empty()) QW_TRY(write_out(files, ask.validation_file, job / "validation.jsonl"));
  if (!fs::exists(job / "shards/ledger.json", error)) {
    QW_ASSIGN(const std::string tokenizer, tokenizer_folder(base, job));
    QW_TRY(write_text(job / "data.toml", data_toml(ask, job, tokenizer)));
    QW_ASSIGN(const auto ended, child({"data", "build", (job / "data.toml").string(), "--corpus", job.string()}, job,
                                      watch, [](const std::string&) {}));
    if (ended) return given_up(*ended);
  }
  QW_ASSIGN(const auto dataset, data::open_dataset(job / "shards"));
  const std::int64_t sequences =
      data::Epoch(dataset.train, kSequenceLength, static_cast<std::uint64_t>(ask.seed), 0).sequences();
  if (sequences == 0) return fail(ErrorKind::kBadInput, "there is nothing to learn in the training file");
  const std::int64_t batch =
      std::min(sequences, ask.batch_size.value_or(std::clamp(sequences / kStepsInEpoch, kLeastBatch, kMostBatch)));
  const std::int64_t steps = std::max<std::int64_t>(1, ask.epochs.value_or(kEpochs) * sequences / batch);
  watch.say(std::to_string(sequences) + " sequences of at most " + std::to_string(kSequenceLength) +
            " tokens, batches of " + std::to_string(batch) + ", " + std::to_string(steps) + " steps");
  QW_TRY(write_text(job / "train.toml", train_toml(ask, job, base, batch, steps)));
  QW_ASSIGN(const FineTuneOrder order, watch.plan(steps * batch * kSequenceLength));
  if (order == FineTuneOrder::kCancel) return given_up(FineTuneEnd::kCancelled);
  if (order == FineTuneOrder::kLeave) return FineTuneEnd::kLeft;
  std::vector<std::string> words{"train", (job / "train.toml").string(), "--json", "--threads",
                                 std::to_string(threads_)};
  // Whole ones: the folder may also hold one that was being written.
  if (!train::list_checkpoints(job / "run").empty()) {
    words.emplace_back("--resume");
    tell_logged(job / "run/log.jsonl", steps, watch);
  }
  QW_ASSIGN(const auto ended, child(words, job, watch, [&](const std::string& line) { tell(line, steps, watch); }));
  if (ended) return given_up(*ended);
  fs::remove_all(job / "run/checkpoints", error);  // several times the model's size, and of no more use
  fs::remove_all(job / "shards", error);
  json::Object served{{"name", ask.name}, {"project", ask.project_id}};
  if (ask.lora_rank) served.set("adapter_of", ask.base);
  QW_TRY(write_text(job / "served.part", json::dump(served)));
  fs::rename(job / "served.part", job / kServed, error);
  if (error) return fail(ErrorKind::kFailed, job.string() + ": " + error.message());
  QW_TRY(serve(job));
  return FineTuneEnd::kDone;
}

}  // namespace qw::app
