// qianwen serve: opens models to clients over HTTP.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>

#include "admin.h"
#include "api/server.h"
#include "base/log.h"
#include "builtin_page.h"
#include "commands.h"
#include "data/config_table.h"
#include "open_model.h"
#include "text_source.h"

namespace qw::app {
namespace {

struct ServeOptions {
  std::vector<std::string> models, adapters;
  std::string host = "127.0.0.1", log_level = "info", config, store, cache_type = "auto";
  int port = 8080, threads = 0, grace_seconds = 30;
  std::int64_t context = 0, cache_tokens = 0, max_sequences = 16;
  std::int32_t state_snapshots = -1;
  double target_gap_ms = 50;
  bool log_json = false, no_prefix_cache = false;
  DraftChoice drafts{"auto"};
};

api::ServedModel served(ReadyModel& ready) {
  api::ServedModel model;
  model.id = ready.name;
  model.created = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  model.engine = &ready.loaded->engine();
  model.tokenizer = ready.tokenizer.get();
  model.chat_template = ready.chat_template ? &*ready.chat_template : nullptr;
  model.constraints = ready.constraints.get();
  model.tool_dialect = ready.tool_dialect;
  model.thinks = ready.thinks;
  model.embedding = ready.embedding;
  model.ranking = ready.ranking;
  model.defaults = ready.defaults;
  return model;
}

// NAME=PATH of --adapter.
struct NamedAdapter {
  std::string name, path;
};
Result<std::vector<NamedAdapter>> named_adapters(const ServeOptions& o) {
  std::vector<NamedAdapter> out;
  for (const std::string& text : o.adapters) {
    const auto at = text.find('=');
    if (at == std::string::npos || at == 0 || at + 1 == text.size())
      return fail(ErrorKind::kUsage, "serve: --adapter " + text + ": expected NAME=PATH");
    out.push_back({text.substr(0, at), text.substr(at + 1)});
    const auto same = [&](const NamedAdapter& a) { return a.name == out.back().name; };
    if (std::count_if(out.begin(), out.end(), same) > 1)
      return fail(ErrorKind::kUsage, "serve: --adapter " + out.back().name + ": the name is given twice");
  }
  if (!out.empty() && o.models.size() != 1)
    return fail(ErrorKind::kUsage, "serve: --adapter needs exactly one model, which the adapters were made for");
  return out;
}

void print_banner(const std::string& host, int port, const std::string& model) {
  const std::string address = "http://" + (host == "0.0.0.0" ? std::string("127.0.0.1") : host) + ":" + std::to_string(port);
  std::fprintf(stderr,
               "\n  Chat page   %s/\n"
               "  API         curl %s/v1/chat/completions -H 'Content-Type: application/json' \\\n"
               "                -d '{\"model\": \"%s\", \"messages\": [{\"role\": \"user\", \"content\": \"写一首关于春江的七言绝句\"}]}'\n"
               "  Stop        Ctrl-C\n\n",
               address.c_str(), address.c_str(), model.c_str());
}

// Opens the store; a new one gets an administrator, whose key is shown this once.
Result<std::unique_ptr<store::Store>> open_store(const std::string& url) {
  QW_ASSIGN(auto opened, store::Store::open(url));
  QW_ASSIGN(const auto first, opened->tenants().bootstrap());
  base::log_info("store: " + opened->name());
  if (first) std::fprintf(stderr, "\n  Key of the administrator, shown this once:\n  %s\n", first->secret.c_str());
  return opened;
}

base::LogLevel level_of(const std::string& name) {
  if (name == "debug") return base::LogLevel::kDebug;
  if (name == "warning") return base::LogLevel::kWarning;
  if (name == "error") return base::LogLevel::kError;
  return base::LogLevel::kInfo;
}

// Options of `cmd` from a TOML file: keys are the options' long names with _ for -, and are checked as they are on the
// command line, which wins.
Status read_config(CLI::App& cmd, const std::string& path) {
  QW_ASSIGN(const json::Object config, data::load_toml(path));
  for (const auto& [key, value] : config) {
    std::string name = "--" + key;
    std::replace(name.begin(), name.end(), '_', '-');
    CLI::Option* option = key == "config" || key == "help" ? nullptr : cmd.get_option_no_throw(name);
    if (option == nullptr) return fail(ErrorKind::kBadInput, path + ": unknown key " + key);
    if (option->count() > 0) continue;
    for (const json::Value& item : value.is_array() ? value.as_array() : json::Array{value}) {
      option->add_result(item.is_string() ? item.as_string() : json::dump(item));
    }
    try {
      option->run_callback();
    } catch (const CLI::Error& error) {
      return fail(ErrorKind::kBadInput, path + ": " + key + ": " + error.what());
    }
  }
  return {};
}

void log_totals(const std::string& model, const engine::EngineStats& stats) {
  std::int64_t requests = 0;
  for (const std::int64_t n : stats.finished) requests += n;
  base::log_info(model + ": " + std::to_string(requests) + " requests, " + std::to_string(stats.output_tokens) + " tokens answered, " +
                 std::to_string(stats.computed_tokens) + " computed in " + std::to_string(stats.steps) + " steps, " +
                 std::to_string(stats.cached_tokens) + " taken from the prefix cache, " + std::to_string(stats.preemptions) +
                 " preemptions; " + std::to_string(stats.free_blocks) + " of " + std::to_string(stats.total_blocks) + " blocks free");
}

Status serve(const ServeOptions& o) {
  base::configure_log(level_of(o.log_level), o.log_json);
  QW_ASSIGN(const auto adapters, named_adapters(o));
  std::unique_ptr<store::Store> store;
  std::unique_ptr<api::Accounts> accounts;
  if (const std::string url = store_url(o.store); !url.empty()) {
    QW_ASSIGN(store, open_store(url));
    QW_ASSIGN(accounts, api::Accounts::start(*store));
  }
  std::vector<std::string> adapter_paths;
  for (const NamedAdapter& a : adapters) adapter_paths.push_back(a.path);
  std::vector<ReadyModel> ready;
  for (const std::string& name : o.models) {
    engine::LoadOptions load;
    load.threads = o.threads;
    load.context = o.context;
    load.cache_dtype = cache_dtype(o.cache_type);
    load.engine.max_sequences = o.max_sequences;
    load.cache_tokens = o.cache_tokens;
    load.prefix_cache = !o.no_prefix_cache;
    load.state_snapshots = o.state_snapshots;
    load.engine.target_gap_ms = o.target_gap_ms;
    QW_ASSIGN(ReadyModel model, load_model(name, load, adapter_paths, o.drafts));
    base::log_info("loaded " + model.name + " in " + std::to_string(static_cast<int>(model.load_ms)) + " ms");
    ready.push_back(std::move(model));
  }
  api::ModelList models;
  for (ReadyModel& model : ready) {
    models.push_back(served(model));
    for (std::size_t i = 0; i < adapters.size(); ++i) {  // an adapter is a model of its own to clients
      models.push_back(served(model));
      models.back().id = adapters[i].name;
      models.back().adapter = static_cast<std::int32_t>(i);
    }
    model.loaded->engine().start();
  }
  api::ServiceOptions options;
  options.accounts = accounts.get();
  options.http.host = o.host;
  options.http.port = static_cast<std::uint16_t>(o.port);
  options.http.threads = 2;   // parsing and templates of one request must not hold up the streams of the others
  options.page = [](std::string_view name) { return web::file(name); };
  QW_ASSIGN(auto service, api::Service::start(models, std::move(options)));
  base::log_info("listening on " + o.host + ":" + std::to_string(service->port()));
  if (!o.log_json) print_banner(o.host, service->port(), models.front().id);

  while (!interrupted().load()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  base::log_info("stopping: running answers may finish within " + std::to_string(o.grace_seconds) + " s");
  const bool all = service->drain(std::chrono::seconds(o.grace_seconds));
  if (!all) base::log_warning("some answers were cut off");
  for (ReadyModel& model : ready) {
    model.loaded->engine().stop();
    log_totals(model.name, model.loaded->engine().stats());
  }
  service.reset();
  return {};
}

}  // namespace

void add_serve(CLI::App& app, Outcome& outcome) {
  auto o = std::make_shared<ServeOptions>();
  CLI::App* cmd = app.add_subcommand("serve", "Serve models over HTTP (OpenAI protocol and a chat page)");
  cmd->add_option("-m,--model", o->models, "MODEL, may be given more than once (default: mini)");
  cmd->add_option("--config", o->config, "TOML file of these options, e.g. port = 8080; the command line wins");
  cmd->add_option("--adapter,--lora", o->adapters, "NAME=PATH: serve the model with this LoRA adapter as model NAME; may be given more than once");
  add_models_option(*cmd);
  cmd->add_option("--store", o->store, "users, keys, limits, budgets and use: a file or postgres://... (default: QW_STORE, else none, and everybody may do everything)");
  cmd->add_option("--host", o->host, "address to listen on");
  cmd->add_option("--port", o->port, "port (0: any free one)")->check(CLI::Range(0, 65535));
  cmd->add_option("--context", o->context, "longest sequence in tokens")->check(CLI::NonNegativeNumber);
  cmd->add_option("--cache-tokens", o->cache_tokens, "tokens of cache shared by all requests")->check(CLI::NonNegativeNumber);
  cmd->add_option("--max-sequences", o->max_sequences, "requests computed together")->check(CLI::PositiveNumber);
  add_cache_type_option(*cmd, o->cache_type);
  add_draft_options(*cmd, o->drafts);
  cmd->add_flag("--no-prefix-cache", o->no_prefix_cache, "compute every prompt from its beginning");
  cmd->add_option("--state-snapshots", o->state_snapshots, "texts whose state is kept for the prefix cache, of models with recurrent layers (default: as many as --max-sequences, at most 8)")
      ->check(CLI::Range(-1, 4096));
  cmd->add_option("--target-gap", o->target_gap_ms, "milliseconds between the tokens of an answer that prompts of others may take up (0: no limit)")
      ->check(CLI::NonNegativeNumber);
  cmd->add_option("-t,--threads", o->threads, "threads of each model (default: one per processor)");
  cmd->add_option("--grace", o->grace_seconds, "seconds for running answers when stopping")->check(CLI::NonNegativeNumber);
  cmd->add_option("--log-level", o->log_level, "debug, info, warning, error")->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  cmd->add_flag("--log-json", o->log_json, "log as JSON lines");
  cmd->callback([o, cmd, &outcome] {
    if (!o->config.empty()) {
      if (auto status = read_config(*cmd, o->config); !status) {
        outcome.code = report(status.error());
        return;
      }
    }
    if (o->models.empty()) o->models.push_back("mini");
    if (auto status = serve(*o); !status) outcome.code = report(status.error());
  });
}

}  // namespace qw::app
