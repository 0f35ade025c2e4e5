#include "hosted_models.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <future>
#include <map>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "base/sha256.h"
#include "text_source.h"

namespace qw::app {
namespace {

namespace fs = std::filesystem;

std::string totals(const engine::EngineStats& stats) {
  std::int64_t requests = 0;
  for (const std::int64_t n : stats.finished) requests += n;
  return std::to_string(requests) + " requests, " + std::to_string(stats.output_tokens) + " tokens answered, " +
         std::to_string(stats.computed_tokens) + " computed in " + std::to_string(stats.steps) + " steps, " +
         std::to_string(stats.cached_tokens) + " taken from the prefix cache, " + std::to_string(stats.preemptions) +
         " preemptions; " + std::to_string(stats.free_blocks) + " of " + std::to_string(stats.total_blocks) +
         " blocks free";
}

// `path` inside of the folder of `what`, whatever links and dots it has. `option`: what names the folder.
Result<std::string> path_within(const std::string& folder, const std::string& path, const std::string& what,
                                const std::string& option) {
  if (folder.empty())
    return fail(ErrorKind::kRefused, "this service loads no " + what + " (it was started without " + option + ")");
  std::error_code error;
  const fs::path root = fs::canonical(folder, error);
  if (error) return fail(ErrorKind::kFailed, "the folder of " + what + " cannot be read");
  const fs::path wanted = fs::weakly_canonical(root / path, error);
  const auto [in_root, in_wanted] = std::mismatch(root.begin(), root.end(), wanted.begin(), wanted.end());
  if (error || in_root != root.end() || in_wanted == wanted.end())
    return fail(ErrorKind::kRefused, path + ": " + what + " are loaded from inside of their folder only");
  if (!fs::exists(wanted, error))
    return fail(ErrorKind::kBadInput, path + ": there is nothing of that name in the folder of " + what);
  return wanted.string();
}

}  // namespace

struct HostedModels::Hosted {
  std::string name, project;
  std::int64_t created = 0;
  mutable std::mutex mutex;  // of what follows
  std::string path, stamp;   // the second: of its files when it was loaded last
  std::vector<NamedAdapter> adapters;

  std::string path_now() const {
    const std::lock_guard lock(mutex);
    return path;
  }

  std::vector<NamedAdapter> adapters_now() const {
    const std::lock_guard lock(mutex);
    return adapters;
  }
  std::vector<std::string> adapter_paths() const {
    std::vector<std::string> out;
    for (const NamedAdapter& a : adapters_now()) out.push_back(a.path);
    return out;
  }
};

// A loaded model, which answers under its own name and those of its adapters.
class HostedModels::Resident final : public engine::ModelHost::Resident {
 public:
  // `hashes`: of the model and of each adapter, where records name them; none: nobody keeps records.
  Resident(ReadyModel ready, const std::vector<NamedAdapter>& adapters, std::int64_t created, bool breaks_loops,
           const std::vector<std::string>& hashes)
      : ready_(std::move(ready)), bytes_(memory_of(ready_)), created_(created), breaks_loops_(breaks_loops) {
    for (std::size_t i = 0; i < adapters.size(); ++i) ids_[adapters[i].name] = static_cast<std::int32_t>(i);
    if (!hashes.empty()) {
      own_.model = hashes[0];
      own_.chat_template = ready_.template_sha256;
      own_.compute = std::string(tensor::name(ready_.loaded->cache_dtype())) + " cache, " +
                     std::string(base::isa_name(ready_.loaded->isa()));
      identities_[ready_.name] = std::make_shared<const api::ModelIdentity>(own_);
      for (std::size_t i = 0; i < adapters.size(); ++i) identify(adapters[i].name, hashes[i + 1]);
    }
    counted_ = adapter_bytes();
    engine().start();
  }
  ~Resident() override {
    stop();
    base::log_info("unloaded " + ready_.name);
  }
  void stop() {
    if (std::exchange(stopped_, true)) return;
    engine().stop();
    base::log_info(ready_.name + ": " + totals(engine().stats()));
  }
  std::int64_t bytes() const override { return bytes_; }
  engine::Engine& engine() { return ready_.loaded->engine(); }

  // What clients use as `name`; it holds the lease. Null: the adapter was taken out meanwhile.
  static api::ModelLease serve(engine::ModelHost::Lease lease, const std::string& name) {
    struct Held {
      engine::ModelHost::Lease lease;
      api::ServedModel model;
    };
    auto& self = static_cast<Resident&>(*lease);
    auto held = std::make_shared<Held>(Held{std::move(lease), {}});
    if (!self.describe(name, held->model)) return nullptr;
    return {held, &held->model};
  }

  // `hash`: "" where nobody keeps records.
  Status load_adapter(const std::string& name, const ops::LowRankAdapter& adapter, const std::string& hash) {
    QW_ASSIGN(const std::int32_t id, ready_.loaded->load_adapter(adapter));
    const std::lock_guard lock(mutex_);
    if (!hash.empty()) identify(name, hash);
    ids_[name] = id;
    return {};
  }
  Status unload_adapter(const std::string& name) {
    std::int32_t id = -1;
    {
      const std::lock_guard lock(mutex_);
      const auto at = ids_.find(name);
      if (at == ids_.end()) return fail(ErrorKind::kUsage, "there is no adapter " + name);
      id = at->second;
      ids_.erase(at);
    }
    return engine().remove_adapter(id);
  }
  // How many bytes adapters take more than they did when this was asked last.
  std::int64_t adapters_grew() {
    const std::int64_t now = adapter_bytes();
    return now - std::exchange(counted_, now);
  }

 private:
  void identify(const std::string& adapter, const std::string& hash) {
    api::ModelIdentity one = own_;
    one.adapter = hash;
    identities_[adapter] = std::make_shared<const api::ModelIdentity>(std::move(one));
  }
  std::int64_t adapter_bytes() {
    std::int64_t bytes = 0;
    for (const auto& adapter : engine().adapters()) bytes += adapter.bytes;
    return bytes;
  }
  bool describe(const std::string& name, api::ServedModel& model) {
    const std::lock_guard lock(mutex_);
    if (name != ready_.name) {
      const auto at = ids_.find(name);
      if (at == ids_.end()) return false;
      model.adapter = at->second;
      model.base = ready_.name;
    }
    model.id = name;
    model.created = created_;
    model.engine = &engine();
    model.tokenizer = ready_.tokenizer.get();
    model.chat_template = ready_.chat_template ? &*ready_.chat_template : nullptr;
    model.constraints = ready_.constraints.get();
    model.tool_dialect = ready_.tool_dialect;
    model.thinks = ready_.thinks;
    model.breaks_loops = breaks_loops_;
    model.embedding = ready_.embedding;
    model.ranking = ready_.ranking;
    model.defaults = ready_.defaults;
    model.facts = ready_.facts;
    if (!model.base.empty()) model.facts.fingerprint += "-" + base::sha256_hex(name).substr(0, 8);
    if (const auto known = identities_.find(name); known != identities_.end()) model.identity = known->second;
    return true;
  }

  ReadyModel ready_;
  const std::int64_t bytes_, created_;
  const bool breaks_loops_;
  std::int64_t counted_ = 0;  // the host's thread's own
  bool stopped_ = false;
  std::mutex mutex_;
  std::map<std::string, std::int32_t> ids_;  // of adapters, as the engine names them
  api::ModelIdentity own_;                   // of the model itself
  std::map<std::string, std::shared_ptr<const api::ModelIdentity>> identities_;  // by the names clients use
};

HostedModels::HostedModels(HostingOptions options) : options_(std::move(options)), host_(options_.limits) {}
HostedModels::~HostedModels() { stop(); }

HostedModels::Hosted* HostedModels::hosted(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  if (name.empty() && models_.size() == 1) return models_.front().get();
  const auto at = std::find_if(models_.begin(), models_.end(), [&](const auto& m) { return m->name == name; });
  return at == models_.end() ? nullptr : at->get();
}

Status HostedModels::add(const std::string& model, const std::vector<NamedAdapter>& adapters) {
  return add_as(served_name(model), model, "", adapters);
}

void HostedModels::add_trained(std::string name, std::string path, std::string project, Then then) {
  host_.post([this, name = std::move(name), path = std::move(path), project = std::move(project),
              then = std::move(then)] { then(add_as(name, path, project, {})); });
}

void HostedModels::add_trained_adapter(std::string name, std::string path, std::string base, std::string project,
                                       Then then) {
  host_.post([this, name = std::move(name), path = std::move(path), base = std::move(base),
              project = std::move(project), then = std::move(then)] { then(load_now(name, path, base, &project)); });
}

Result<std::string> HostedModels::model_path(const std::string& name) const {
  const Hosted* model = hosted(name);
  if (model == nullptr)
    return fail(ErrorKind::kUsage, "training starts from models, and " + name + " is an adapter of one");
  return resolve_model(model->path_now());
}

Result<HostedModels::Place> HostedModels::place_of(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  for (const auto& model : models_) {
    std::optional<std::string> adapter;  // "": the model itself
    if (model->name == name) adapter = "";
    for (const NamedAdapter& one : model->adapters_now())
      if (one.name == name) adapter = one.path;
    if (!adapter) continue;
    QW_ASSIGN(const std::string path, resolve_model(model->path_now()));
    return Place{path, *adapter, !model->project.empty() || !adapter->empty()};
  }
  return fail(ErrorKind::kUsage, "there is no model " + name);
}

Result<std::string> HostedModels::trainable_folder(const std::string& name) const {
  QW_ASSIGN(std::string path, model_path(name));
  std::error_code error;
  if (!fs::exists(fs::path(path) / "config.json", error))
    return fail(ErrorKind::kUsage, "training starts from a folder of weights, and " + name +
                                       " is served from a file (qianwen convert makes a folder of it; adapters, lora_rank, are trained on a file too)");
  return path;
}

Status HostedModels::add_as(std::string name, const std::string& path, std::string project,
                            const std::vector<NamedAdapter>& adapters) {
  auto made = std::make_unique<Hosted>();
  Hosted* hosted = made.get();
  hosted->name = std::move(name);
  hosted->path = path;
  hosted->project = std::move(project);
  hosted->created = base::unix_seconds();
  hosted->adapters = adapters;
  QW_TRY(host_.add(source_of(hosted, path)));
  {
    const std::lock_guard lock(mutex_);
    models_.push_back(std::move(made));
  }
  QW_TRY(list_adapter(*hosted, hosted->name, hosted->project));
  for (const NamedAdapter& adapter : adapters) QW_TRY(list_adapter(*hosted, adapter.name, hosted->project));
  return {};
}

engine::ModelHost::Source HostedModels::source_of(Hosted* hosted, const std::string& path) {
  return {hosted->name,
          [this, hosted, path] { return memory_need(path, options_.load, hosted->adapter_paths(), options_.drafts); },
          [this, hosted, path]() -> Result<std::unique_ptr<engine::ModelHost::Resident>> {
            std::string stamp = stamp_of(path);  // before reading: what is written meanwhile is a change
            if (options_.admit) QW_TRY(options_.admit(path, hosted->adapter_paths()));
            const auto adapters = hosted->adapters_now();
            // Read beside the loading.
            auto hashes = std::async(std::launch::async, [this, &path, &adapters] { return hashes_of(path, adapters); });
            QW_ASSIGN(ReadyModel ready, load_model(path, options_.load, hosted->adapter_paths(), options_.drafts));
            QW_ASSIGN(const std::vector<std::string> known, hashes.get());
            ready.name = hosted->name;
            base::log_info("loaded " + ready.name + " in " + std::to_string(static_cast<int>(ready.load_ms)) + " ms");
            {
              const std::lock_guard lock(hosted->mutex);
              hosted->stamp = std::move(stamp);
            }
            return std::make_unique<Resident>(std::move(ready), adapters, hosted->created, options_.breaks_loops, known);
          }};
}

Result<std::vector<std::string>> HostedModels::hashes_of(const std::string& path,
                                                         const std::vector<NamedAdapter>& adapters) const {
  std::vector<std::string> out;
  if (options_.identities == nullptr) return out;
  std::vector<std::string> all = {path};
  for (const NamedAdapter& adapter : adapters) all.push_back(adapter.path);
  for (const std::string& one : all) {
    QW_ASSIGN(const json::Object identity, options_.identities->of(one));
    out.push_back(identity.find("sha256")->as_string());
  }
  return out;
}

// Lists the model itself under its own name, an adapter of it under any other.
Status HostedModels::list_adapter(const Hosted& hosted, const std::string& name, const std::string& project) {
  api::ServedModel listed;
  listed.id = name;
  if (name != hosted.name) listed.base = hosted.name;
  listed.created = base::unix_seconds();
  listed.project = project;
  listed.acquire = [this, base = hosted.name, name](std::function<void(Result<api::ModelLease>)> then) {
    host_.acquire(base, [name, then = std::move(then)](Result<engine::ModelHost::Lease> lease) {
      if (!lease) return then(tl::unexpected(std::move(lease).error()));
      auto served = Resident::serve(std::move(*lease), name);
      if (served == nullptr) return then(fail(ErrorKind::kUsage, "the adapter " + name + " was unloaded"));
      then(std::move(served));
    });
  };
  listed.peek = [this, base = hosted.name, name]() -> api::ModelLease {
    auto lease = host_.peek(base);
    return lease == nullptr ? nullptr : Resident::serve(std::move(lease), name);
  };
  return list_.add(std::move(listed));
}

Status HostedModels::load_first() {
  for (const auto& model : models_) {
    QW_TRY(host_.acquire(model->name));
    if (options_.limits.bytes > 0) break;
  }
  return {};
}

void HostedModels::load(std::string name, std::string path, std::string model, Then then) {
  host_.post([this, name = std::move(name), path = std::move(path), model = std::move(model), then = std::move(then)] {
    then(load_now(name, path, model, nullptr));
  });
}

void HostedModels::unload(std::string name, Then then) {
  host_.post([this, name = std::move(name), then = std::move(then)] { then(unload_now(name)); });
}

void HostedModels::replace(std::string name, std::string path, bool unload_first, Then then) {
  host_.post([this, name = std::move(name), path = std::move(path), unload_first, then = std::move(then)] {
    Hosted* model = hosted(name);
    if (model == nullptr) return then(fail(ErrorKind::kUsage, "there is no model " + name));
    if (path.empty()) return then(replace_now(*model, model->path_now(), unload_first));
    const auto file = path_within(options_.model_folder, path, "models", "--model-folder");
    then(file ? replace_now(*model, *file, unload_first) : Status(tl::unexpected(file.error())));
  });
}

Status HostedModels::replace_now(Hosted& model, const std::string& path, bool unload_first) {
  QW_TRY(host_.replace(source_of(&model, path), unload_first));
  {
    const std::lock_guard lock(model.mutex);
    model.path = path;
  }
  base::log_info("replaced " + model.name + " by " + path);
  return {};
}

void HostedModels::replace_changed(std::vector<std::string> paths) {
  host_.post([this, paths = std::move(paths)] {
    for (const std::string& path : paths) {
      Hosted* model = hosted(served_name(path));
      if (model == nullptr) {
        base::log_warning(path + ": models are added by a restart only; those served now can be replaced");
        continue;
      }
      {
        const std::lock_guard lock(model->mutex);
        if (model->path == path && (model->stamp.empty() || model->stamp == stamp_of(path))) continue;
      }
      if (const Status done = replace_now(*model, path, /*unload_first=*/false); !done)
        base::log_error("the model " + model->name + " stays what it was: " + done.error().message);
    }
  });
}

std::vector<api::ModelDesk::Info> HostedModels::models() const {
  std::vector<api::ModelDesk::Info> out;
  for (const engine::ModelHost::Info& info : host_.list())
    out.push_back({info.name, info.loaded, info.bytes, info.leases, info.replaced});
  return out;
}

// On the host's thread, beside the steps of all engines. An adapter of a model that is not loaded is only looked at. One
// that was trained here comes with its project; others (null) lie in the folder of adapters, and belong to whom their
// model does.
Status HostedModels::load_now(const std::string& name, const std::string& path, const std::string& model,
                              const std::string* project) {
  Hosted* base = hosted(model);
  if (base == nullptr)
    return fail(ErrorKind::kUsage,
                model.empty() ? "name the model which the adapter is for" : "there is no model " + model);
  if (list_.find(name) != nullptr) return fail(ErrorKind::kUsage, "there is a model of the name " + name);
  std::string file = path;
  if (project == nullptr) {
    QW_ASSIGN(file, path_within(options_.adapter_folder, path, "adapters", "--adapter-folder"));
  }
  if (options_.admit) QW_TRY(options_.admit(base->path_now(), {file}));
  auto ready = read_adapter(base->path_now(), file, options_.load.threads);
  if (!ready) return in_context("the adapter " + name, ready.error());
  if (const auto lease = host_.peek(base->name); lease != nullptr) {
    auto& resident = static_cast<Resident&>(*lease);
    QW_TRY(host_.grow(base->name, ready->bytes));
    std::string hash;
    if (options_.identities != nullptr) {
      QW_ASSIGN(const json::Object identity, options_.identities->of(file));
      hash = identity.find("sha256")->as_string();
    }
    const Status added = resident.load_adapter(name, ready->adapter, hash);
    (void)host_.grow(base->name, -ready->bytes);  // what it really takes is counted instead
    count_adapters(*base, resident);
    if (!added) return added;
  }
  {
    const std::lock_guard lock(base->mutex);
    base->adapters.push_back({name, file});
  }
  base::log_info("loaded the adapter " + name + " of " + base->name);
  return list_adapter(*base, name, project != nullptr ? *project : base->project);
}

Status HostedModels::unload_now(const std::string& name) {
  for (const auto& model : models_) {
    {
      const std::lock_guard lock(model->mutex);
      if (std::erase_if(model->adapters, [&](const NamedAdapter& a) { return a.name == name; }) == 0) continue;
    }
    list_.remove(name);
    if (const auto lease = host_.peek(model->name); lease != nullptr) {
      auto& resident = static_cast<Resident&>(*lease);
      QW_TRY(resident.unload_adapter(name));
      count_adapters(*model, resident);
    }
    base::log_info("unloaded the adapter " + name + " of " + model->name);
    return {};
  }
  return fail(ErrorKind::kUsage, "there is no adapter " + name);
}

// One that was taken out while requests use it is counted until somebody comes by here after them.
void HostedModels::count_adapters(const Hosted& hosted, Resident& resident) {
  const std::int64_t grew = resident.adapters_grew();
  if (const Status counted = host_.grow(hosted.name, grew); !counted)
    base::log_warning("adapters of " + hosted.name +
                      " take more memory than the limit leaves: " + counted.error().message);
}

void HostedModels::stop() {
  host_.stop();
  host_.each([](engine::ModelHost::Resident& r) { static_cast<Resident&>(r).stop(); });
}

}  // namespace qw::app
