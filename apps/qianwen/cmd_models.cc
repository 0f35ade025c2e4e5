// qianwen models pull | list | show | verify | rm | estimate: the store of models known by name.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "base/cpu.h"
#include "commands.h"
#include "describe.h"
#include "hub/pull.h"
#include "remote_model.h"
#include "text_source.h"

namespace qw::app {
namespace {

struct ModelsOptions {
  std::string name, revision, endpoint;
  int connections = hub::DownloadOptions{}.connections;
  std::vector<std::int64_t> contexts;
  bool json = false;
};

double gigabytes(std::uint64_t bytes) { return static_cast<double>(bytes) / 1e9; }

void print_json(json::Value value) { std::puts(json::dump(value).c_str()); }

// One line that is written over on a terminal, a plain line now and then elsewhere.
class ProgressLine {
 public:
  void show(const hub::PullProgress& p) {
    const auto now = Clock::now();
    if (begun_ == Clock::time_point{}) {
      begun_ = last_ = now;
      first_ = p.done_bytes;
    }
    if (now - last_ < (terminal_ ? std::chrono::milliseconds(200) : std::chrono::milliseconds(5000)) && p.done_bytes < p.total_bytes) return;
    last_ = now;
    const double seconds = std::chrono::duration<double>(now - begun_).count();
    const double speed = seconds > 0 && p.done_bytes > first_ ? static_cast<double>(p.done_bytes - first_) / seconds : 0;
    const double part = p.total_bytes > 0 ? static_cast<double>(p.done_bytes) / static_cast<double>(p.total_bytes) : 1;
    char text[160];
    std::snprintf(text, sizeof(text), "%3.0f %% %.3f of %.3f GB, %.1f MB/s", 100 * part, gigabytes(p.done_bytes), gigabytes(p.total_bytes), speed / 1e6);
    if (!terminal_) {
      std::fprintf(stderr, "%s %s\n", text, p.file.c_str());
      return;
    }
    constexpr int kWidth = 24;   // with the figures a line of 80 columns
    const int filled = static_cast<int>(part * kWidth);
    std::fprintf(stderr, "\r\033[K[%s%s] %s", std::string(static_cast<std::size_t>(filled), '#').c_str(),
                 std::string(static_cast<std::size_t>(kWidth - filled), '.').c_str(), text);
    open_ = true;
  }
  void end() {
    if (open_) std::fputc('\n', stderr);
    open_ = false;
  }

 private:
  using Clock = std::chrono::steady_clock;
  const bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  bool open_ = false;
  Clock::time_point begun_, last_;
  std::uint64_t first_ = 0;
};

Result<hub::Hub> hub_for(const ModelsOptions& o, const hub::ModelName& name) {
  hub::HubOptions options;
  options.endpoint = o.endpoint;
  options.notice = [](const std::string& line) { std::fprintf(stderr, ::isatty(STDERR_FILENO) == 1 ? "\r\033[K%s\n" : "%s\n", line.c_str()); };
  return hub::Hub::create(name.service, std::move(options));
}

Status pull(const ModelsOptions& o) {
  QW_ASSIGN(const hub::ModelName name, hub::parse_name(o.name));
  QW_ASSIGN(const hub::Hub hub, hub_for(o, name));
  hub::PullOptions options;
  options.store = model_store();
  options.revision = o.revision;
  options.download.connections = o.connections;
  ProgressLine line;
  const auto pulled = hub::pull(hub, name, options, [&](const hub::PullProgress& p) { line.show(p); }, &interrupted());
  line.end();
  if (!pulled) return tl::unexpected(pulled.error());
  if (o.json) {
    print_json(json::Object{{"name", pulled->model.name}, {"path", pulled->model.path.string()}, {"bytes", pulled->model.bytes}, {"fetched_bytes", pulled->fetched_bytes}});
  } else {
    std::printf("%s is in %s\n", pulled->model.name.c_str(), pulled->model.path.c_str());
  }
  return {};
}

Result<hub::StoredModel> stored_model(const std::string& name) {
  QW_ASSIGN(auto found, hub::find_model(model_store(), name));
  if (!found) return fail(ErrorKind::kBadInput, name + ": no model of that name in " + model_store());
  return std::move(*found);
}

// What the list says of a model; one that cannot be read keeps its line, with the reason.
json::Object summary(const hub::StoredModel& stored) {
  json::Object out{{"name", stored.name}, {"path", stored.path.string()}, {"bytes", stored.bytes}, {"complete", stored.complete}};
  if (!stored.complete) return out;
  const auto opened = open_model(stored.path.string());
  if (!opened) {
    out.set("error", opened.error().message);
    return out;
  }
  const auto quantisation = opened->source.hf_folder() != nullptr && opened->source.hf_folder()->quantised() != nullptr
                                ? opened->source.hf_folder()->quantised()->config().describe()
                                : std::string(tensor::name(weight_dtype(*opened)));
  out.set("architecture", opened->model->traits().architecture);
  out.set("type", quantisation);
  return out;
}

std::string text_of(const json::Object& object, const char* key) {
  const json::Value* v = object.find(key);
  return v != nullptr && v->is_string() ? v->as_string() : "";
}

Status list(const ModelsOptions& o) {
  QW_ASSIGN(const auto models, hub::list_models(model_store()));
  json::Array rows;
  for (const hub::StoredModel& m : models) rows.push_back(summary(m));
  if (o.json) {
    print_json(json::Object{{"store", model_store()}, {"models", std::move(rows)}});
    return {};
  }
  if (rows.empty()) std::fprintf(stderr, "no models in %s; qianwen models pull NAME fetches one\n", model_store().c_str());
  else std::printf("%-56s %-12s %-14s %10s\n", "name", "architecture", "type", "GB");
  for (const json::Value& row : rows) {
    const json::Object& r = row.as_object();
    const std::string error = !r.find("complete")->as_bool() ? "not completely fetched" : text_of(r, "error");
    std::printf("%-56s %-12s %-14s %10.3f%s%s\n", text_of(r, "name").c_str(), text_of(r, "architecture").c_str(), text_of(r, "type").c_str(),
                gigabytes(static_cast<std::uint64_t>(r.find("bytes")->as_int())), error.empty() ? "" : "  ", error.c_str());
  }
  return {};
}

Status show(const ModelsOptions& o) {
  QW_ASSIGN(const hub::StoredModel stored, stored_model(o.name));
  QW_ASSIGN(const OpenedModel opened, open_model(stored.path.string()));
  QW_ASSIGN(json::Object description, describe_model(opened, o.contexts));
  description.set("name", stored.name);
  QW_ASSIGN(const auto manifest, hub::read_manifest(stored.folder));
  description.set("source", manifest ? manifest->service + " " + manifest->id + " " + manifest->revision : "");
  print_description(description, o.json);
  return {};
}

Status verify(const ModelsOptions& o) {
  QW_ASSIGN(const hub::StoredModel stored, stored_model(o.name));
  QW_ASSIGN(const auto damage, hub::verify_model(stored));
  json::Array rows;
  for (const hub::Damage& d : damage) rows.push_back(json::Object{{"path", d.path}, {"what", d.what}});
  if (o.json) print_json(json::Object{{"name", stored.name}, {"whole", damage.empty()}, {"damaged", std::move(rows)}});
  if (damage.empty()) {
    if (!o.json) std::printf("%s is whole\n", stored.name.c_str());
    return {};
  }
  std::string all;
  for (const hub::Damage& d : damage) all += (all.empty() ? "" : "; ") + d.path + " " + d.what;
  return fail(ErrorKind::kBadInput, stored.name + ": " + all + "; mend it with: qianwen models pull " + stored.name);
}

Status remove(const ModelsOptions& o) {
  QW_ASSIGN(const auto models, hub::list_models(model_store()));
  // By the whole name also what is not completely there.
  const auto exact = std::find_if(models.begin(), models.end(), [&](const hub::StoredModel& m) { return m.name == o.name; });
  hub::StoredModel stored;
  if (exact != models.end()) {
    stored = *exact;
  } else {
    QW_ASSIGN(stored, stored_model(o.name));
  }
  QW_TRY(hub::remove_model(model_store(), stored));
  if (o.json) print_json(json::Object{{"removed", stored.name}, {"bytes", stored.bytes}});
  else std::printf("removed %s (%.3f GB)\n", stored.name.c_str(), gigabytes(stored.bytes));
  return {};
}

void print_estimate(json::Object description, std::uint64_t download_bytes, const ModelsOptions& o) {
  json::Object out{{"name", o.name}, {"download_bytes", download_bytes}};
  for (const char* key : {"format", "architecture", "parameters", "bytes", "quantisation", "bytes_by_type", "context", "memory", "memory_available_bytes"})
    out.set(key, *description.find(key));
  const std::int64_t available = out.find("memory_available_bytes")->as_int();
  for (json::Value& row : out.find("memory")->as_array()) row.as_object().set("fits", row.find("total_bytes")->as_int() <= available);
  if (o.json) return print_json(std::move(out));
  std::printf("%s: %s, %lld parameters, %.3f GB of weights", o.name.c_str(), text_of(out, "architecture").c_str(),
              static_cast<long long>(out.find("parameters")->as_int()), gigabytes(static_cast<std::uint64_t>(out.find("bytes")->as_int())));
  std::printf(download_bytes > 0 ? ", %.3f GB to fetch\n" : ", here\n", gigabytes(download_bytes));
  for (const json::Value& row : out.find("memory")->as_array())
    std::printf("memory at context %-6lld %.3f GB%s\n", static_cast<long long>(row.find("context")->as_int()),
                gigabytes(static_cast<std::uint64_t>(row.find("total_bytes")->as_int())), row.find("fits")->as_bool() ? "" : "  (more than is available)");
  std::printf("available now            %.3f GB\n", gigabytes(static_cast<std::uint64_t>(available)));
}

Status estimate(const ModelsOptions& o) {
  const auto here = resolve_model(o.name);
  if (here) {
    QW_ASSIGN(const OpenedModel opened, open_model(*here));
    QW_ASSIGN(json::Object description, describe_model(opened, o.contexts));
    print_estimate(std::move(description), 0, o);
    return {};
  }
  QW_ASSIGN(const hub::ModelName name, hub::parse_name(o.name));
  QW_ASSIGN(const hub::Hub hub, hub_for(o, name));
  QW_ASSIGN(const RemoteModel remote, RemoteModel::open(hub, name, o.revision, &interrupted()));
  QW_ASSIGN(json::Object description, describe_model(remote.opened(), o.contexts));
  print_estimate(std::move(description), remote.download_bytes(), o);
  return {};
}

constexpr const char* kNames =
    "OWNER/NAME on Hugging Face (also hf:OWNER/NAME), ms:OWNER/NAME on ModelScope, or a short name of the Qwen family\n"
    "in any case (Qwen3-0.6B); of a repository of GGUF files NAME:PART, where PART is in the file's name (q4_k_m) or a glob";

CLI::App* subcommand(CLI::App* models, const std::shared_ptr<ModelsOptions>& o, Outcome& outcome, const char* name, const char* what, Status (*run)(const ModelsOptions&)) {
  CLI::App* cmd = models->add_subcommand(name, what);
  add_models_option(*cmd);
  cmd->add_flag("--json", o->json, "print one JSON object");
  cmd->callback([o, run, &outcome] {
    if (auto status = run(*o); !status) outcome.code = report(status.error());
  });
  return cmd;
}

void add_remote_options(CLI::App* cmd, const std::shared_ptr<ModelsOptions>& o) {
  cmd->add_option("--revision", o->revision, "branch, tag or commit (default: main, on ModelScope master)");
  cmd->add_option("--endpoint", o->endpoint, "address of a mirror (also: HF_ENDPOINT, MODELSCOPE_DOMAIN)");
  cmd->footer("HF_TOKEN or MODELSCOPE_API_TOKEN opens what is not public; https_proxy, http_proxy and no_proxy are heeded.");
}

}  // namespace

void add_models(CLI::App& app, Outcome& outcome) {
  CLI::App* models = app.add_subcommand("models", "Fetch, list, check and remove models known by name");
  models->require_subcommand(1);
  auto o = std::make_shared<ModelsOptions>();
  auto* pull_command = subcommand(models, o, outcome, "pull", "Fetch a model, or go on with one that was interrupted", pull);
  pull_command->add_option("name", o->name, kNames)->required();
  pull_command->add_option("--connections", o->connections, "at a time")->check(CLI::Range(1, 32));
  add_remote_options(pull_command, o);
  subcommand(models, o, outcome, "list", "Models of the store", list);
  auto* show_command = subcommand(models, o, outcome, "show", "Describe a model of the store", show);
  auto* verify_command = subcommand(models, o, outcome, "verify", "Compare a pulled model's files with their checksums", verify);
  auto* remove_command = subcommand(models, o, outcome, "rm", "Remove a model from the store", remove);
  auto* estimate_command = subcommand(models, o, outcome, "estimate", "Memory a model needs, before it is fetched", estimate);
  for (CLI::App* cmd : {show_command, verify_command, remove_command}) cmd->add_option("name", o->name, "a name that `models list` gives, or its last part")->required();
  estimate_command->add_option("name", o->name, std::string("MODEL, or ") + kNames)->required();
  for (CLI::App* cmd : {show_command, estimate_command})
    cmd->add_option("--context", o->contexts, "contexts to give memory needs for")->delimiter(',')->check(CLI::PositiveNumber);
  add_remote_options(estimate_command, o);
}

}  // namespace qw::app
