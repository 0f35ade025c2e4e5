// qianwen serve: opens models to clients over HTTP.
#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <thread>

#include <unistd.h>

#include "admin.h"
#include "assessment_gate.h"
#include "audit.h"
#include "watermark.h"
#include "api/keyword_moderator.h"
#include "api/routes.h"
#include "api/server.h"
#include "base/file.h"
#include "base/log.h"
#include "builtin_page.h"
#include "commands.h"
#include "data/config_table.h"
#include "fine_tuner.h"
#include "guard_model.h"
#include "licences.h"
#include "model_gate.h"
#include "governance/audit/content_keys.h"
#include "governance/label/aigc_label.h"
#include "hosted_models.h"
#include "login_options.h"
#include "open_model.h"
#include "policy.h"
#include "reload.h"
#include "text_source.h"

namespace qw::app {
namespace {

constexpr const char* kLoginNeedsStore = "serve: --oidc-issuer needs --store, where users are kept";
constexpr const char* kKeepNeedsStore = "serve: --keep-answers needs --store, where they are kept";
constexpr const char* kFineTuneNeedsStore = "serve: --fine-tune-folder needs --store, where its jobs are kept";

struct ServeOptions {
  std::vector<std::string> models, adapters, mcp_servers, mcp_patterns;
  std::string host = "127.0.0.1", log_level = "info", config, store, cache_type = "auto", adapter_folder, model_folder,
              moderation_words, guard_model, fine_tune_folder, tls_cert, tls_key, audit_log, audit_key, content_keys, watermark_keys, label_producer, loop_breaker = "on", stop_file;
  std::string admin_host = "127.0.0.1";
  int port = 8080, admin_port = -1, threads = 0, guard_threads = 1, grace_seconds = 30, drain_delay = 0, keep_answers = 0;
  std::int64_t context = 0, cache_tokens = 0, max_sequences = 16;
  std::uint64_t memory = 0;
  std::int64_t unload_after = 0;
  std::int32_t state_snapshots = -1;
  double target_gap_ms = 50, gather_ms = 30000;
  bool log_json = false, no_prefix_cache = false, check = false, openapi = false, models_from_config = false;
  DraftChoice drafts{"auto"};
  LoginOptions login;
  PolicyOptions policies;
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

Result<api::McpOptions> mcp_options(const ServeOptions& o) {
  api::McpOptions out;
  for (const std::string& text : o.mcp_servers) {
    QW_ASSIGN(api::McpServerName server, api::parse_mcp_server(text));
    const auto same = [&](const api::McpServerName& other) { return other.label == server.label; };
    if (std::any_of(out.servers.begin(), out.servers.end(), same))
      return fail(ErrorKind::kUsage, "serve: --mcp-server " + server.label + ": the label is given twice");
    out.servers.push_back(std::move(server));
  }
  for (const std::string& pattern : o.mcp_patterns) QW_TRY(api::check_mcp_pattern(pattern));
  out.patterns = o.mcp_patterns;
  return out;
}

void print_banner(const std::string& host, int port, const std::string& model, bool tls) {
  const std::string address = (tls ? "https://" : "http://") + (host == "0.0.0.0" ? std::string("127.0.0.1") : host) + ":" + std::to_string(port);
  std::fprintf(stderr,
               "\n  Chat page   %s/\n"
               "  API         curl %s/v1/chat/completions -H 'Content-Type: application/json' \\\n"
               "                -d '{\"model\": \"%s\", \"messages\": [{\"role\": \"user\", \"content\": \"写一首关于春江的七言绝句\"}]}'\n"
               "  Stop        Ctrl-C\n\n",
               address.c_str(), address.c_str(), model.c_str());
}

// A new store gets an administrator, whose key is shown this once: by a service that starts, not by one that is refused.
Status show_first_key(store::Store& store) {
  QW_ASSIGN(const auto first, store.tenants().bootstrap());
  if (first) std::fprintf(stderr, "\n  Key of the administrator, shown this once:\n  %s\n", first->secret.c_str());
  return {};
}

base::LogLevel level_of(const std::string& name) {
  if (name == "debug") return base::LogLevel::kDebug;
  if (name == "warning") return base::LogLevel::kWarning;
  if (name == "error") return base::LogLevel::kError;
  return base::LogLevel::kInfo;
}

// Options of `cmd` that the command line does not give, from QW_SERVE_PORT and the like.
Status read_environment(CLI::App& cmd) {
  for (CLI::Option* option : cmd.get_options()) {
    if (option->get_lnames().empty() || option->count() > 0 || option->check_lname("help")) continue;
    std::string name = "QW_SERVE_" + option->get_lnames().front();
    for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    const char* value = std::getenv(name.c_str());
    if (value == nullptr || *value == '\0') continue;
    option->add_result(value);
    try {
      option->run_callback();
    } catch (const CLI::Error& error) {
      return fail(ErrorKind::kUsage, name + ": " + error.what());
    }
  }
  return {};
}

// Options of `cmd` from a TOML file: keys are the options' long names with _ for -, and are checked as they are on the
// command line and in the environment, which win.
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

// A list of words is short; what is longer is another file, given by mistake.
constexpr std::size_t kMostWordsBytes = 64u << 20;

Result<std::unique_ptr<api::KeywordModerator>> load_moderator(const std::string& path) {
  QW_ASSIGN(const std::string text, base::read_file(path, kMostWordsBytes));
  auto made = api::KeywordModerator::parse(text);
  if (!made) return in_context(path, std::move(made).error());
  return std::move(*made);
}

// Of each model's cache, in memory before it is needed: some thousand tokens of a small model.
constexpr std::int64_t kCacheBytesAhead = std::int64_t{1} << 30;

Status check_producer(const std::string& producer) {
  if (producer.empty()) return {};
  governance::AigcLabel label;
  label.producer = producer;
  label.produce_id = "1";
  if (const std::string fault = governance::fault_of(label); !fault.empty())
    return fail(ErrorKind::kUsage, "--label-producer: " + fault);
  return {};
}

governance::ServiceAbilities abilities(const ServeOptions& o, const GuardModel* guard) {
  return {.audit_log = !o.audit_log.empty(), .labels = !o.label_producer.empty(), .accounts = !store_url(o.store).empty(),
          .content_keys = !o.content_keys.empty(),
          .watermark = "", .guard_model = guard};
}

Result<std::unique_ptr<GuardModel>> load_guard(const ServeOptions& o) {
  if (o.guard_model.empty()) return nullptr;
  return GuardModel::load(o.guard_model, o.guard_threads);
}

HostingOptions hosting_options(const ServeOptions& o) {
  HostingOptions out;
  out.load.threads = o.threads;
  out.load.context = o.context;
  out.load.cache_dtype = cache_dtype(o.cache_type);
  out.load.engine.max_sequences = o.max_sequences;
  out.load.cache_tokens = o.cache_tokens;
  out.load.cache_bytes_ahead = kCacheBytesAhead;
  out.load.prefix_cache = !o.no_prefix_cache;
  out.load.state_snapshots = o.state_snapshots;
  out.load.engine.target_gap_ms = o.target_gap_ms;
  out.load.engine.gather_ms = o.gather_ms;
  out.drafts = o.drafts;
  out.limits.bytes = static_cast<std::int64_t>(o.memory);
  out.limits.unload_after = std::chrono::seconds(o.unload_after);
  out.adapter_folder = o.adapter_folder;
  out.model_folder = o.model_folder;
  out.breaks_loops = o.loop_breaker == "on";
  return out;
}

// The certificate and key to speak TLS with; null without the options.
Result<std::shared_ptr<net::ServerIdentity>> load_identity(const ServeOptions& o) {
  if (o.tls_cert.empty() != o.tls_key.empty())
    return fail(ErrorKind::kUsage, "serve: --tls-cert and --tls-key need each other");
  if (o.tls_cert.empty()) return nullptr;
  return net::ServerIdentity::load(o.tls_cert, o.tls_key);
}

// What may have changed while the service runs. `asked`: somebody wants it read again, changed or not.
void look_for_changes(net::ServerIdentity& identity, bool asked) {
  const Result<bool> took = asked ? identity.reload().map([] { return true; }) : identity.reload_if_changed();
  if (!took) {
    base::log_error("the certificate in use stays: " + took.error().message);
  } else if (*took) {
    base::log_info("certificate for new connections: " + identity.describe());
  }
}

// The models that a file names now; nothing if it names none, or they were named elsewhere.
std::vector<std::string> models_of(const std::string& config) {
  const auto table = data::load_toml(config);
  if (!table) {
    base::log_error("nothing of the configuration was taken up: " + table.error().message);
    return {};
  }
  std::vector<std::string> out;
  for (const auto& [key, value] : *table) {
    if (key != "model") continue;
    for (const json::Value& item : value.is_array() ? value.as_array() : json::Array{value})
      if (item.is_string()) out.push_back(item.as_string());
  }
  return out;
}

// Until the program is to stop.
void watch(const ServeOptions& o, HostedModels& models, net::ServerIdentity* identity,
           governance::MarkKeyHolder* marks, api::StopSwitch* stops) {
  constexpr auto kTick = std::chrono::milliseconds(50);
  constexpr int kTicksPerLook = 20;  // at files: whoever replaces them has not finished sooner
  const bool at_terminal = ::isatty(STDIN_FILENO) == 1;
  reload_asked().store(false);
  for (int tick = 1; !interrupted().load(); ++tick) {
    std::this_thread::sleep_for(kTick);
    if (stops != nullptr)
      if (const auto looked = stops->look(); !looked) base::log_error("what is stopped: " + looked.error().message);
    const bool asked = reload_asked().exchange(false);
    if (asked && at_terminal && ::isatty(STDIN_FILENO) != 1) break;  // the terminal was closed
    if (asked) models.replace_changed(o.models_from_config ? models_of(o.config) : o.models);
    if (asked && marks != nullptr) reload_marks(o.watermark_keys, *marks);
    if (identity != nullptr && (asked || tick % kTicksPerLook == 0)) look_for_changes(*identity, asked);
  }
}

// What a start would read, as far as that goes without loading models or changing anything. All that is wrong is told;
// the first of it is the result.
std::vector<std::string> paths_of(const std::vector<NamedAdapter>& adapters) {
  std::vector<std::string> out;
  for (const NamedAdapter& adapter : adapters) out.push_back(adapter.path);
  return out;
}

Status check_serve(const ServeOptions& o) {
  Status first;
  std::string found;  // told if all is well
  const auto note = [&](const Status& status) {
    if (status) return;
    if (first) {
      first = status;  // reported by the caller
    } else {
      report(status.error());
    }
  };
  const auto adapters = named_adapters(o);
  note(adapters.map([](auto&&) {}));
  const std::vector<std::string> paths = adapters ? paths_of(*adapters) : std::vector<std::string>();
  for (const std::string& name : o.models) {
    const auto bytes = memory_need(name, hosting_options(o).load, paths, o.drafts);
    note(bytes.map([](auto&&) {}));
    if (!bytes) continue;
    found += "model " + name + ": " + std::to_string((*bytes + 999'999) / 1'000'000) + " MB of memory\n";
    if (o.memory > 0 && *bytes > static_cast<std::int64_t>(o.memory))
      note(fail(ErrorKind::kResource, "the model " + name + " does not fit into --memory"));
  }
  note(net::HttpServer::can_listen(o.host));
  if (o.admin_port >= 0 && o.admin_host != o.host) note(net::HttpServer::can_listen(o.admin_host));
  note(mcp_options(o).map([](auto&&) {}));
  if (!o.moderation_words.empty()) note(load_moderator(o.moderation_words).map([](auto&&) {}));
  note(check_audit(o.audit_log, o.audit_key));
  if (!o.content_keys.empty()) note(governance::ContentKeys::read(o.content_keys).map([](auto&&) {}));
  note(check_producer(o.label_producer));
  const auto marks = load_marks(o.watermark_keys);
  note(marks.map([](auto&&) {}));
  const auto guard = load_guard(o);
  note(guard.map([](auto&&) {}));
  if (marks && guard) {
    const auto policies = load_policies(o.policies, abilities(o, guard->get()), marks->get());
    note(policies.map([](auto&&) {}));
    if (policies && *policies != nullptr) {
      note(check_approvals(o.policies, **policies, o.host, o.audit_log, o.audit_key));
      for (const std::string& name : o.models) note(admit_licences(policies->get(), name, paths));
      const auto gate = AssessmentGate::make(o.policies, **policies, o.host, o.audit_key);
      note(gate.map([](auto&&) {}));
      if (gate && *gate != nullptr)
        for (const std::string& name : o.models) note((*gate)->admit(name, paths));
    }
  }
  if (!o.stop_file.empty()) note(governance::StopList::read(o.stop_file).map([](auto&&) {}));
  std::error_code ignored;
  if (!o.adapter_folder.empty() && !std::filesystem::is_directory(o.adapter_folder, ignored))
    note(fail(ErrorKind::kBadInput, o.adapter_folder + ": no folder of adapters"));
  if (!o.model_folder.empty() && !std::filesystem::is_directory(o.model_folder, ignored))
    note(fail(ErrorKind::kBadInput, o.model_folder + ": no folder of models"));
  const auto identity = load_identity(o);
  note(identity.map([](auto&&) {}));
  if (identity && *identity != nullptr) found += "certificate " + (*identity)->describe() + "\n";
  const std::string url = store_url(o.store);
  note(o.login.make().map([](auto&&) {}));
  if (!o.login.provider.issuer.empty() && url.empty()) note(fail(ErrorKind::kUsage, kLoginNeedsStore));
  if (!o.fine_tune_folder.empty() && url.empty()) note(fail(ErrorKind::kUsage, kFineTuneNeedsStore));
  if (o.keep_answers > 0 && url.empty()) note(fail(ErrorKind::kUsage, kKeepNeedsStore));
  if (!url.empty()) {
    const auto state = store::Store::look(url);
    note(state.map([](auto&&) {}));
    if (state) {
      found += "store " + state->name + ": version " + std::to_string(state->version);
      if (state->version < state->version_of_program)
        found += ", which a start brings to " + std::to_string(state->version_of_program);
      found += "\n";
    }
  }
  if (first) std::fprintf(stderr, "%sthe service can start as configured\n", found.c_str());
  return first;
}

Status serve(const ServeOptions& o) {
  base::configure_log(level_of(o.log_level), o.log_json);
  QW_ASSIGN(const auto adapters, named_adapters(o));
  QW_ASSIGN(const auto identity, load_identity(o));
  std::unique_ptr<store::Store> store;
  std::unique_ptr<api::Accounts> accounts;
  if (const std::string url = store_url(o.store); !url.empty()) {
    QW_ASSIGN(store, store::Store::open(url));
    base::log_info("store: " + store->name());
    QW_ASSIGN(accounts, api::Accounts::start(*store));
  }
  QW_ASSIGN(const auto marks, load_marks(o.watermark_keys));
  QW_TRY(check_producer(o.label_producer));
  QW_ASSIGN(const auto guard, load_guard(o));
  QW_ASSIGN(const auto policies, load_policies(o.policies, abilities(o, guard.get()), marks.get()));
  std::unique_ptr<AssessmentGate> assessed;
  if (policies != nullptr) {
    QW_TRY(check_approvals(o.policies, *policies, o.host, o.audit_log, o.audit_key));
    QW_ASSIGN(assessed, AssessmentGate::make(o.policies, *policies, o.host, o.audit_key));
  }
  QW_ASSIGN(const auto audit, open_audit(o.audit_log, o.audit_key));
  IdentityBook identities;
  std::optional<StartRecord> start;  // hashes the models' files while they are loaded
  if (audit != nullptr) start.emplace(identities, o.models);
  std::optional<governance::ContentKeys> content_keys;
  if (!o.content_keys.empty()) {
    QW_ASSIGN(content_keys, governance::ContentKeys::read(o.content_keys));
  }
  HostingOptions hosting = hosting_options(o);
  if (audit != nullptr) hosting.identities = &identities;
  if (policies != nullptr) {
    hosting.admit = [&](const std::string& model, const std::vector<std::string>& paths) -> Status {
      QW_TRY(admit_licences(policies.get(), model, paths));
      return assessed == nullptr ? Status() : assessed->admit(model, paths);
    };
    if (o.memory > 0)  // not all are loaded at once; all must be fit to be
      for (const std::string& name : o.models) QW_TRY(hosting.admit(name, paths_of(adapters)));
  }
  HostedModels models(std::move(hosting));
  for (const std::string& name : o.models) QW_TRY(models.add(name, adapters));
  QW_TRY(models.load_first());
  std::unique_ptr<api::KeywordModerator> moderator;
  if (!o.moderation_words.empty()) {
    QW_ASSIGN(moderator, load_moderator(o.moderation_words));
  }
  api::ServiceOptions options;
  options.moderator = moderator.get();
  if (guard != nullptr) options.moderator = guard.get();
  const auto combined = guard != nullptr && moderator != nullptr ? both(*moderator, *guard) : nullptr;
  if (combined != nullptr) options.moderator = combined.get();
  if (audit != nullptr) {
    json::Object record = start->take(policies.get());
    if (assessed != nullptr) record.set("assessments", assessed->admitted());
    QW_TRY(audit->append_and_wait(std::move(record)));
  }
  options.audit = audit.get();
  options.content_keys = content_keys ? &*content_keys : nullptr;
  std::unique_ptr<api::StopSwitch> stops;
  if (!o.stop_file.empty()) {
    QW_ASSIGN(stops, api::StopSwitch::open(o.stop_file, audit.get()));
  }
  options.stops = stops.get();
  options.policies = policies.get();
  options.marks = marks.get();
  options.label_producer = o.label_producer;
  FineTuner tuner(models, o.fine_tune_folder, o.threads);
  ModelGate gate(models, o.fine_tune_folder, o.threads);
  if (!o.fine_tune_folder.empty()) {
    if (store == nullptr) return fail(ErrorKind::kUsage, kFineTuneNeedsStore);
    QW_TRY(tuner.list_finished());
    options.fine_tuning.runner = &tuner;
    options.gates = &gate;
  }
  QW_ASSIGN(options.mcp, mcp_options(o));
  options.accounts = accounts.get();
  options.keep_answer_days = o.keep_answers;
  if (o.keep_answers > 0 && store == nullptr) return fail(ErrorKind::kUsage, kKeepNeedsStore);
  QW_ASSIGN(const auto login_provider, o.login.make());
  if (login_provider != nullptr && store == nullptr) return fail(ErrorKind::kUsage, kLoginNeedsStore);
  options.login_provider = login_provider.get();
  options.sessions.secure = o.login.secure_cookies || !o.tls_cert.empty();
  if (!o.adapter_folder.empty()) options.adapters = &models;
  if (!o.model_folder.empty()) options.models = &models;
  options.http.host = o.host;
  options.http.port = static_cast<std::uint16_t>(o.port);
  options.http.identity = identity;
  options.http.threads = 2;   // parsing and templates of one request must not hold up the streams of the others
  if (o.admin_port >= 0) {
    options.admin_http = options.http;
    options.admin_http->host = o.admin_host;
    options.admin_http->port = static_cast<std::uint16_t>(o.admin_port);
    options.admin_http->threads = 1;
  }
  options.log_requests = base::logs(base::LogLevel::kInfo);
  options.page = [](std::string_view name) { return web::file(name); };
  if (store != nullptr) QW_TRY(show_first_key(*store));
  QW_ASSIGN(auto service, api::Service::start(models.list(), std::move(options)));
  base::log_info("listening on " + o.host + ":" + std::to_string(service->port()));
  if (o.admin_port >= 0) base::log_info("administration at " + o.admin_host + ":" + std::to_string(service->admin_port()));
  if (!o.log_json) print_banner(o.host, service->port(), models.list().find("")->id, identity != nullptr);

  watch(o, models, identity.get(), marks.get(), stops.get());
  service->announce_end();
  for (int tick = 0; tick < 20 * o.drain_delay; ++tick) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  base::log_info("stopping: running answers may finish within " + std::to_string(o.grace_seconds) + " s");
  const bool all = service->drain(std::chrono::seconds(o.grace_seconds));
  if (!all) base::log_warning("some answers were cut off");
  models.stop();  // nothing calls the service from their threads any more
  service.reset();
  if (audit != nullptr) QW_TRY(audit->append_and_wait({{"type", "stop"}}));
  return {};
}

}  // namespace

void add_serve(CLI::App& app, Outcome& outcome) {
  auto o = std::make_shared<ServeOptions>();
  CLI::App* cmd = app.add_subcommand("serve", "Serve models over HTTP (OpenAI protocol and a chat page)");
  cmd->add_option("-m,--model,MODEL", o->models, "MODEL, may be given more than once (default: mini)");
  cmd->add_option("--config", o->config, "TOML file of these options, e.g. port = 8080; the command line wins, then the environment (QW_SERVE_PORT and so on)");
  cmd->add_flag("--check", o->check, "say what is wrong with the configuration, files, models and store, start nothing");
  cmd->add_flag("--openapi", o->openapi, "print the OpenAPI document of all routes (GET /openapi.json), start nothing");
  cmd->add_option("--adapter,--lora", o->adapters, "NAME=PATH: serve the model with this LoRA adapter as model NAME; may be given more than once");
  add_models_option(*cmd);
  cmd->add_option("--store", o->store, "users, keys, limits, budgets and use: a file or postgres://... (default: QW_STORE, else none, and everybody may do everything)");
  cmd->add_option("--host", o->host, "address to listen on");
  cmd->add_option("--port", o->port, "port (0: any free one)")->check(CLI::Range(0, 65535));
  cmd->add_option("--admin-port", o->admin_port, "/admin and /metrics listen here, apart from the rest (0: any free port; without: with the rest)")->check(CLI::Range(0, 65535));
  cmd->add_option("--admin-host", o->admin_host, "address for --admin-port");
  cmd->add_option("--tls-cert", o->tls_cert, "certificate chain (PEM) to speak TLS with; read again when it changes, and on SIGHUP");
  cmd->add_option("--tls-key", o->tls_key, "its private key (PEM, without a passphrase)");
  cmd->add_option("--context", o->context, "longest sequence in tokens")->check(CLI::NonNegativeNumber);
  cmd->add_option("--cache-tokens", o->cache_tokens, "tokens of cache shared by all requests")->check(CLI::NonNegativeNumber);
  cmd->add_option("--max-sequences", o->max_sequences, "requests computed together")->check(CLI::PositiveNumber);
  cmd->add_option("--memory", o->memory,
                  "bytes that all models together may take, e.g. 8G: they are loaded when asked for, and those unused longest make room "
                  "(default: all are loaded at the start)")->transform(CLI::AsSizeValue(true));
  cmd->add_option("--unload-after", o->unload_after, "seconds after which a model that nobody uses is unloaded, until it is asked for again (0: never)")
      ->check(CLI::NonNegativeNumber);
  cmd->add_option("--adapter-folder", o->adapter_folder, "administrators may have LoRA adapters of this folder loaded and unloaded while the service runs (POST /admin/adapters)");
  cmd->add_option("--model-folder", o->model_folder, "administrators may have served models replaced by those of this folder while the service runs (PUT /admin/models/NAME)");
  cmd->add_option("--guard-model", o->guard_model, "MODEL that tells what kind of text a text is, for /v1/moderations and for profiles that name it (guard.model): mini-guard, which ships, or any guard model");
  cmd->add_option("--guard-threads", o->guard_threads, "threads of the guard model (default: 1)")->check(CLI::Range(1, 1024));
  cmd->add_option("--moderation-words", o->moderation_words, "lists of words for /v1/moderations: lines, after a line [category] each (without these and a guard model that route answers 501)");
  cmd->add_option("--fine-tune-folder", o->fine_tune_folder, "models are trained here for /v1/fine_tuning/jobs, at idle priority, and served from here (without: that route answers 501)");
  cmd->add_option("--keep-answers", o->keep_answers, "days that answers of chats are kept in the store, for /v1/feedback (0: not at all)")
      ->check(CLI::Range(0, 3650));
  o->login.add_to(*cmd);
  cmd->add_option("--loop-breaker", o->loop_breaker, "ends thinking and answers that repeat themselves, unless a request says otherwise (on, off)")
      ->check(CLI::IsMember({"on", "off"}));
  cmd->add_option("--mcp-server", o->mcp_servers, "LABEL=URL: clients may have models call the tools of this MCP server; may be given more than once");
  cmd->add_option("--mcp-allow", o->mcp_patterns, "addresses of MCP servers that clients may name, of the public internet: https://*.example.org/ or the like; may be given more than once");
  cmd->add_option("--audit-log", o->audit_log, "folder of an audit log: every answer is on record there, under signed heads, before its end is told (docs/operations/audit.md)");
  cmd->add_option("--audit-key", o->audit_key, "file of the key that signs the audit log (qianwen govern audit key FILE)");
  cmd->add_option("--content-keys", o->content_keys, "file of the keys (or env:NAME, a variable that holds it) that contents are encrypted with where a policy keeps them (retention.content), and that replays read them by (qianwen govern content key FILE)");
  cmd->add_option("--watermark-keys", o->watermark_keys, "file of the keys that answers are marked with (qianwen govern watermark add); read again on SIGHUP (docs/operations/watermark.md)");
  o->policies.add_to(*cmd);
  cmd->add_option("--label-producer", o->label_producer, "the provider's name or code of 27 characters: answers carry the label of GB 45438-2025 (docs/operations/labels.md)");
  cmd->add_option("--stop-file", o->stop_file, "file of what is stopped: administrators stop all, a model, an adapter or a project at once (POST /admin/stops, qianwen govern stop), and after each start it still is");
  add_cache_type_option(*cmd, o->cache_type);
  add_draft_options(*cmd, o->drafts);
  cmd->add_flag("--no-prefix-cache", o->no_prefix_cache, "compute every prompt from its beginning");
  cmd->add_option("--state-snapshots", o->state_snapshots, "texts whose state is kept for the prefix cache, of models with recurrent layers (default: as many as --max-sequences, at most 8)")
      ->check(CLI::Range(-1, 4096));
  cmd->add_option("--target-gap", o->target_gap_ms, "milliseconds between the tokens of an answer that prompts of others may take up (0: no limit)")
      ->check(CLI::NonNegativeNumber);
  cmd->add_option("--gather", o->gather_ms, "milliseconds that first tokens of a crowd, half of --max-sequences or more requests at once while nobody answers, may wait until all prompts are read, if that is thought to take no longer (0: each begins by itself)")
      ->check(CLI::NonNegativeNumber);
  add_threads_option(*cmd, o->threads, "threads of each model");
  cmd->add_option("--grace", o->grace_seconds, "seconds for running answers when stopping")->check(CLI::NonNegativeNumber);
  cmd->add_option("--drain-delay", o->drain_delay, "seconds of usual service before that, in which /health/ready already says no, for load balancers to look elsewhere")->check(CLI::Range(0, 3600));
  cmd->add_option("--log-level", o->log_level, "debug, info, warning, error")->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  cmd->add_flag("--log-json", o->log_json, "log as JSON lines");
  cmd->callback([o, cmd, &outcome] {
    if (o->openapi) {
      std::printf("%s\n", json::dump(api::openapi_document()).c_str());
      return;
    }
    if (auto status = read_environment(*cmd); !status) {
      outcome.code = report(status.error());
      return;
    }
    if (!o->config.empty()) {
      const bool named = !o->models.empty();
      if (auto status = read_config(*cmd, o->config); !status) {
        outcome.code = report(status.error());
        return;
      }
      o->models_from_config = !named && !o->models.empty();  // and are read again from there
    }
    if (o->models.empty()) o->models.push_back("mini");
    if (auto status = o->check ? check_serve(*o) : serve(*o); !status) outcome.code = report(status.error());
  });
}

}  // namespace qw::app
