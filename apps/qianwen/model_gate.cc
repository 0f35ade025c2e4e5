#include "model_gate.h"

#include <fstream>
#include <vector>

#include "api/field_reader.h"
#include "base/file.h"
#include "child_process.h"
#include "fine_tuner.h"
#include "json/value.h"

namespace qw::app {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTask = "task.toml";

Status write_file(store::Files& files, const std::string& id, const fs::path& to) {
  std::ofstream out(to, std::ios::binary | std::ios::trunc);
  for (std::int64_t at = 0;;) {
    QW_ASSIGN(const std::string piece, files.read(id, at));
    if (piece.empty()) break;
    out << piece;
    at += static_cast<std::int64_t>(piece.size());
  }
  if (!out.flush()) return fail(ErrorKind::kFailed, "the disk for evaluations is full");
  return {};
}

// The name under which a task finds a file: as it was left, if that is a plain one.
Result<std::string> plain_name(store::Files& files, const std::string& project, const std::string& id) {
  QW_ASSIGN(const store::File file, files.find(project, id));
  if (file.name.empty() || file.name[0] == '.' || fs::path(file.name).filename() != file.name || file.name == kTask)
    return fail(ErrorKind::kBadInput, "the file " + id + " is called " + file.name + ", which is no plain name");
  return file.name;
}

std::string last_line(const fs::path& log) {
  std::ifstream in(log);
  std::string last;
  for (std::string line; std::getline(in, line);)
    if (!line.empty()) last = line;
  return last.empty() ? "the evaluation failed" : last;
}

// The line of the metric that was asked for, or the first.
Result<api::GateResult> result_of(const std::vector<std::string>& lines, const std::string& metric) {
  std::string told;
  for (const std::string& line : lines) {
    const auto value = json::parse(line);
    if (!value || value->find("metric") == nullptr || value->find("value") == nullptr ||
        !value->find("value")->is_number())
      continue;
    const std::string name = api::text_member(*value, "metric");
    told += (told.empty() ? "" : ", ") + name;
    if (!metric.empty() && name != metric) continue;
    return api::GateResult{api::text_member(*value, "task"), name, value->find("value")->as_double(),
                           api::integer_member(*value, "n"), ""};
  }
  return fail(ErrorKind::kBadInput,
              "the task does not measure " + metric + (told.empty() ? "" : "; it measures " + told));
}

}  // namespace

Status ModelGate::check(const api::GateAsk& ask) const {
  return models_.place_of(ask.model).map([](auto&&) {});
}

Result<std::string> ModelGate::digest(const std::string& model) const {
  QW_ASSIGN(const HostedModels::Place place, models_.place_of(model));
  return digest_of(place.adapter.empty() ? place.base : place.adapter);
}

Result<api::GateResult> ModelGate::run(const api::GateAsk& ask, store::Files& files,
                                       const std::function<bool()>& go_on) {
  QW_ASSIGN(const HostedModels::Place place, models_.place_of(ask.model));
  const fs::path folder = folder_ / ("estimating-" + ask.job_id);  // a service that starts takes such away
  std::error_code error;
  fs::remove_all(folder, error);
  fs::create_directories(folder, error);
  if (error) return fail(ErrorKind::kFailed, folder.string() + ": " + error.message());
  const auto judged = [&]() -> Result<api::GateResult> {
    QW_TRY(write_file(files, ask.task_file, folder / kTask));
    for (const std::string& id : ask.data_files) {
      QW_ASSIGN(const std::string name, plain_name(files, ask.project_id, id));
      QW_TRY(write_file(files, id, folder / name));
    }
    QW_ASSIGN(const std::string sha, digest_of(place.adapter.empty() ? place.base : place.adapter));
    std::vector<std::string> words{"eval",   "--model",      place.base, "--task", (folder / kTask).string(),
                                   "--data", folder.string()};
    const auto add = [&words](std::initializer_list<std::string> more) { words.insert(words.end(), more); };
    if (!place.adapter.empty()) add({"--adapter", place.adapter});
    if (ask.limit > 0) add({"--limit", std::to_string(ask.limit)});
    if (ask.chat) add({"--chat"});
    if (threads_ > 0) add({"--threads", std::to_string(threads_)});
    std::vector<std::string> lines;
    QW_ASSIGN(const ChildRun ended,
              run_self(
                  words, folder / "log", [&](const std::string& line) { lines.push_back(line); }, go_on));
    if (ended.told) return fail(ErrorKind::kInterrupted, "the evaluation was given up");
    if (ended.code != 0) return fail(ErrorKind::kFailed, last_line(folder / "log"));
    QW_ASSIGN(api::GateResult out, result_of(lines, ask.metric));
    out.model_sha256 = sha;
    return out;
  }();
  fs::remove_all(folder, error);
  return judged;
}

}  // namespace qw::app
