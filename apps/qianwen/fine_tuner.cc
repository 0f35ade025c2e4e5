#include "fine_tuner.h"

#include <algorithm>
#include <fstream>
#include <future>
#include <optional>

#include "api/field_reader.h"
#include "base/file.h"
#include "base/log.h"
#include "base/sha256.h"
#include "chat/messages.h"
#include "child_process.h"
#include "data/chat_tokens.h"
#include "data/conversation.h"
#include "data/examples.h"
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
using api::openai::FineTuneEstimate;
using api::openai::FineTuneOrder;
using api::openai::FineTuneStep;
using api::openai::FineTuneWatch;

// What a request leaves open. The learning rate is what full fine-tuning of models of this family is usually done with, and
// ten times that for adapters, which begin at zero; three epochs learn a style without learning the examples by heart.
constexpr double kLearningRate = 2e-5, kAdapterLearningRate = 2e-4;
constexpr std::int64_t kEpochs = 3, kSequenceLength = 1024;
// Of pairs: both answers stand in one sequence; a twentieth of the rate, as DPO is usually done, and one epoch.
constexpr double kPairRate = 0.05, kBeta = 0.1;
constexpr std::int64_t kPairEpochs = 1, kPairLength = 2048;
// Of the sequences of an epoch one sixteenth is a step, within these.
constexpr std::int64_t kLeastBatch = 1, kMostBatch = 8, kStepsInEpoch = 16;
// Checkpoints and evaluations in a run: what a kill costs at most, in tenths.
constexpr std::int64_t kParts = 10;
constexpr const char* kEstimatePrefix = "estimating-";  // of folders that nobody needs after an estimate
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

std::int64_t sequence_length_of(const FineTuneAsk& ask) { return ask.pairs ? kPairLength : kSequenceLength; }

// What is learnt from at once: sequences as they are packed, or pairs.
Result<std::int64_t> sequences_of(const FineTuneAsk& ask, const data::Dataset& dataset) {
  const auto seed = static_cast<std::uint64_t>(ask.seed);
  if (!ask.pairs) return data::Epoch(dataset.train, kSequenceLength, seed, 0).sequences();
  QW_ASSIGN(const auto pairs, data::ExampleStream::create(dataset.train, data::Holds::kPairs, data::Reading::kAnswers,
                                                          kPairLength, seed, {}));
  return pairs.examples();
}

// TOML's basic strings are JSON's.
std::string quoted(const std::string& text) { return json::dump(json::Value(text)); }

std::string source_toml(const char* name, const fs::path& file, const std::string& id, bool pairs, int heldout) {
  return std::string("\n[[source]]\nname = \"") + name + "\"\npath = " + quoted(file.string()) +
         "\nformat = \"" + (pairs ? "preference" : "chat") + "\"\nlicence = \"as the uploader has it\"\norigin = " + quoted("file " + id) +
         "\nheldout_tail = " + std::to_string(heldout) + "\n";
}

std::string data_toml(const FineTuneAsk& ask, const fs::path& job, const std::string& tokenizer) {
  std::string text = "output = " + quoted((job / "shards").string()) +
                     "\ndedup = \"none\"\nseed = " + std::to_string(ask.seed) +
                     "\n[tokenizer]\nfolder = " + quoted(tokenizer) + "\n" +
                     source_toml("training", job / "training.jsonl", ask.training_file, ask.pairs, 0);
  if (!ask.validation_file.empty()) text += source_toml("validation", job / "validation.jsonl", ask.validation_file, ask.pairs, 1);
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
  line("sequence_length", std::to_string(sequence_length_of(ask)));
  line("batch_sequences", "1");
  line("accumulation", std::to_string(batch));
  text += "[optimizer]\n";
  line("lr", json::python_float((ask.lora_rank ? kAdapterLearningRate : kLearningRate) * (ask.pairs ? kPairRate : 1) *
                                ask.learning_rate_multiplier.value_or(1)));
  line("weight_decay", "0.0");
  if (ask.lora_rank) text += "[lora]\nrank = " + std::to_string(*ask.lora_rank) + "\n";
  if (ask.pairs) text += "[preference]\nmethod = \"dpo\"\nbeta = " + json::python_float(ask.beta.value_or(kBeta)) + "\n";
  text += "[schedule]\nkind = \"linear\"\n";
  line("warmup", std::to_string(std::min<std::int64_t>(steps / kParts, 100)));
  text += "[checkpoint]\nkeep = 1\n";
  line("every", std::to_string(part));
  text += "[eval]\n";
  line("every", std::to_string(part));
  return text;
}

// Set as long as it lives.
class Flag {
 public:
  explicit Flag(std::atomic<bool>& flag) : flag_(flag) { flag_ = true; }
  ~Flag() { flag_ = false; }
  Flag(const Flag&) = delete;
  Flag& operator=(const Flag&) = delete;

 private:
  std::atomic<bool>& flag_;
};

struct Batches {
  std::int64_t size = 0, steps = 0;
};

std::int64_t epochs_of(const FineTuneAsk& ask) { return ask.epochs.value_or(ask.pairs ? kPairEpochs : kEpochs); }

Batches batches_of(const FineTuneAsk& ask, std::int64_t sequences) {
  Batches out;
  out.size = std::min(sequences, ask.batch_size.value_or(std::clamp(sequences / kStepsInEpoch, kLeastBatch, kMostBatch)));
  out.steps = std::max<std::int64_t>(1, epochs_of(ask) * sequences / out.size);
  return out;
}

// Examples as `data build` makes tokens of them.
class Measure final : public api::openai::ExampleMeasure {
 public:
  Measure(tokenizer::Tokenizer tokenizer, chat::Template form, bool pairs)
      : tokenizer_(std::move(tokenizer)), form_(std::move(form)), pairs_(pairs) {}
  Result<api::openai::ExampleSize> add(const json::Object& line) override {
    if (pairs_) return add_pair(line);
    const json::Value* messages = line.find("messages");
    if (messages == nullptr || !messages->is_array()) return fail(ErrorKind::kBadInput, "there are no messages");
    QW_ASSIGN(json::Array read, chat::template_messages(messages->as_array()));
    json::Object variables{{"messages", std::move(read)}};
    if (const json::Value* tools = line.find("tools")) variables.set("tools", *tools);
    QW_ASSIGN(const data::ChatTokens tokens, data::tokenize_chat(form_, variables, tokenizer_));
    const auto n = static_cast<std::int64_t>(tokens.ids.size());
    for (std::int64_t rows = n - 1; rows > 0; rows -= kSequenceLength) {
      data::Piece& piece = pieces_.emplace_back();
      piece.length = static_cast<std::uint32_t>(std::min(rows, kSequenceLength));
      rows_ += piece.length;
    }
    return api::openai::ExampleSize{n, std::count(tokens.kept.begin(), tokens.kept.end(), std::uint8_t{1})};
  }
  std::int64_t sequence_length() const override { return pairs_ ? kPairLength : kSequenceLength; }
  std::int64_t rows() const { return rows_; }
  // As training packs them, but for the order in which it meets them; each pair is one.
  std::int64_t sequences() const {
    return pairs_ ? pair_count_ : static_cast<std::int64_t>(data::best_fit(pieces_, kSequenceLength).size());
  }

 private:
  // Both answers, of which what is said behind the input counts.
  Result<api::openai::ExampleSize> add_pair(const json::Object& line) {
    QW_ASSIGN(const data::Conversation pair, data::conversation_of(json::Value(line), data::ConversationForm::kPreference));
    api::openai::ExampleSize out;
    for (const json::Object* variables : {&pair.chat, &pair.rejected}) {
      QW_ASSIGN(const data::ChatTokens tokens, data::tokenize_chat(form_, *variables, tokenizer_, pair.context));
      const std::int64_t learnt = std::count(tokens.kept.begin(), tokens.kept.end(), std::uint8_t{1});
      if (learnt == 0) return api::openai::ExampleSize{};
      out.tokens += static_cast<std::int64_t>(tokens.ids.size());
      out.learnt += learnt;
    }
    ++pair_count_;
    rows_ += out.tokens - 2;
    return out;
  }

  tokenizer::Tokenizer tokenizer_;
  chat::Template form_;
  bool pairs_;
  std::vector<data::Piece> pieces_;
  std::int64_t rows_ = 0, pair_count_ = 0;
};

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

// The first lines of a file of the store: enough for a few steps.
Status write_head(store::Files& files, const std::string& id, const fs::path& to) {
  constexpr std::size_t kEnough = 256 << 10;
  std::string text;
  for (std::int64_t at = 0; text.size() < kEnough || text.find('\n') == std::string::npos;) {
    QW_ASSIGN(const std::string piece, files.read(id, at));
    if (piece.empty()) break;
    text += piece;
    at += static_cast<std::int64_t>(piece.size());
  }
  if (text.size() > kEnough) {
    const auto end = text.rfind('\n', kEnough);
    text.resize(end == std::string::npos ? text.find('\n') + 1 : end + 1);
  }
  return write_text(to, text);
}

// What `train --estimate --json` printed.
Status take_estimate(const std::string& line, api::openai::FineTuneEstimate& out) {
  const auto value = json::parse(line);
  if (!value || !value->is_object()) return fail(ErrorKind::kFailed, "the estimate cannot be read: " + line.substr(0, 200));
  out.memory_bytes = api::integer_member(*value, "memory_bytes");
  out.available_bytes = api::integer_member(*value, "available_bytes");
  out.checkpoint_bytes = api::integer_member(*value, "checkpoint_bytes");
  out.calibrated_steps = api::integer_member(*value, "calibrated_steps");
  out.measured_peak_bytes = api::integer_member(*value, "measured_peak_bytes");
  if (const json::Value* memory = value->find("memory"); memory != nullptr && memory->is_object()) out.memory = memory->as_object();
  const auto number = [&](const char* key) -> std::optional<double> {
    const json::Value* found = value->find(key);
    return found != nullptr && found->is_number() ? std::optional(found->as_double()) : std::nullopt;
  };
  out.seconds_a_step = number("seconds_a_step");
  out.seconds = number("seconds");
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
  if (*order == FineTuneOrder::kPause) return FineTuneEnd::kPaused;
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
  if (*order == FineTuneOrder::kPause) return FineTuneEnd::kPaused;
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
  step.learning_rate = number("lr");
  step.gradient_norm = number("grad_norm");
  step.tokens_per_second = number("tps");
  step.seconds_left = number("seconds_left");
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
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(folder_, error)) folders.push_back(entry.path());
  for (const fs::path& path : folders) {
    if (path.filename().string().starts_with(kEstimatePrefix)) fs::remove_all(path, error);  // of a service that was killed
    if (!fs::exists(path / kServed, error)) continue;
    if (const Status served = serve(path); !served) base::log_warning(served.error().message);
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

Result<std::unique_ptr<api::openai::ExampleMeasure>> FineTuner::measure(const FineTuneAsk& ask) const {
  QW_ASSIGN(const std::string base, base_of(ask));
  QW_ASSIGN(auto spec, tokenizer_of(base));
  QW_ASSIGN(auto tokenizer, tokenizer::Tokenizer::create(std::move(spec)));
  QW_ASSIGN(auto form, chat::Template::parse(std::string(data::kChatMlTrainingTemplate)));
  return std::unique_ptr<api::openai::ExampleMeasure>(std::make_unique<Measure>(std::move(tokenizer), std::move(form), ask.pairs));
}

// The first of its examples, a few steps on them, and the numbers of all of them.
Result<FineTuneEstimate> FineTuner::estimate(const FineTuneAsk& ask, const api::openai::ExampleMeasure& measure,
                                             store::Files& files, const std::function<bool()>& go_on) {
  const auto& counted = static_cast<const Measure&>(measure);
  FineTuneEstimate out;
  out.sequences = counted.sequences();
  if (out.sequences == 0) return fail(ErrorKind::kBadInput, "there is nothing to learn in the training file");
  const Batches batches = batches_of(ask, out.sequences);
  out.batch_size = batches.size;
  out.steps = batches.steps;
  out.epochs = epochs_of(ask);
  out.trained_tokens = counted.rows() * out.steps * out.batch_size / out.sequences;
  out.most_trained_tokens = out.steps * out.batch_size * counted.sequence_length();
  out.busy = training_.load();
  QW_ASSIGN(const std::string base, base_of(ask));
  const fs::path job = folder_ / (kEstimatePrefix + ask.job_id);
  std::error_code error;
  fs::remove_all(job, error);
  fs::create_directories(job, error);
  if (error) return fail(ErrorKind::kFailed, job.string() + ": " + error.message());
  const auto made = [&]() -> Status {
    QW_TRY(write_head(files, ask.training_file, job / "training.jsonl"));
    FineTuneAsk small = ask;
    small.validation_file.clear();
    QW_ASSIGN(const std::string tokenizer, tokenizer_folder(base, job));
    QW_TRY(write_text(job / "data.toml", data_toml(small, job, tokenizer)));
    QW_TRY(write_text(job / "train.toml", train_toml(small, job, base, out.batch_size, out.steps)));
    std::string told;
    for (const auto& words : {std::vector<std::string>{"data", "build", (job / "data.toml").string(), "--corpus", job.string()},
                              std::vector<std::string>{"train", "--estimate", (job / "train.toml").string(), "--json",
                                                       "--calibrate", "1.5", "--threads", std::to_string(threads_)}}) {
      QW_ASSIGN(const ChildRun ended, run_self(words, job / "log", [&](const std::string& line) { told = line; }, go_on));
      if (ended.told) return fail(ErrorKind::kInterrupted, "the estimate was given up");
      if (ended.code != 0) return fail(ErrorKind::kFailed, last_line(job / "log"));
    }
    return take_estimate(told, out);
  }();
  fs::remove_all(job, error);
  if (!made) return tl::unexpected(made.error());
  return out;
}

void FineTuner::forget(const std::string& job_id) {
  std::error_code error;
  const fs::path job = folder_ / job_id;
  if (fs::exists(job, error) && !fs::exists(job / kServed, error)) fs::remove_all(job, error);
}

Result<std::string> FineTuner::digest(const FineTuneAsk& ask) const {
  return digest_of(folder_ / ask.job_id / (ask.lora_rank ? "run/adapter" : "run/model"));
}

Result<std::string> digest_of(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return base::sha256_file_hex(path);
  std::vector<fs::path> names;
  for (const auto& entry : fs::directory_iterator(path, error)) names.push_back(entry.path());
  if (error) return fail(ErrorKind::kFailed, path.string() + ": " + error.message());
  std::sort(names.begin(), names.end());
  base::Sha256 sha;
  for (const fs::path& file : names) {
    if (!fs::is_regular_file(file, error)) continue;
    QW_ASSIGN(const std::string one, base::sha256_file_hex(file));
    sha.update(one + "  " + file.filename().string() + "\n");  // as sha256sum lists them
  }
  return sha.hex();
}

Result<FineTuneEnd> FineTuner::run(const FineTuneAsk& ask, store::Files& files, FineTuneWatch& watch) {
  QW_ASSIGN(const std::string base, base_of(ask));
  const fs::path job = folder_ / ask.job_id;
  const Flag trains(training_);
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
  QW_ASSIGN(const std::int64_t sequences, sequences_of(ask, dataset));
  if (sequences == 0) return fail(ErrorKind::kBadInput, "there is nothing to learn in the training file");
  const auto [batch, steps] = batches_of(ask, sequences);
  watch.say(std::to_string(sequences) + (ask.pairs ? " pairs" : " sequences") + " of at most " +
            std::to_string(sequence_length_of(ask)) + " tokens, batches of " + std::to_string(batch) + ", " + std::to_string(steps) + " steps");
  QW_TRY(write_text(job / "train.toml", train_toml(ask, job, base, batch, steps)));
  QW_ASSIGN(const FineTuneOrder order, watch.plan(steps * batch * sequence_length_of(ask)));
  if (order == FineTuneOrder::kCancel) return given_up(FineTuneEnd::kCancelled);
  if (order == FineTuneOrder::kLeave) return FineTuneEnd::kLeft;
  if (order == FineTuneOrder::kPause) return FineTuneEnd::kPaused;
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
