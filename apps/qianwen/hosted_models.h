// The models that `serve` offers: which there are, loaded when they are asked for within one memory limit, each with
// the adapters that came with it or came later.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "api/adapters.h"
#include "api/model_swap.h"
#include "api/served_model.h"
#include "engine/loaded_model.h"
#include "engine/model_host.h"
#include "identity_book.h"
#include "open_model.h"

namespace qw::app {

// NAME=PATH of --adapter.
struct NamedAdapter {
  std::string name, path;
};

struct HostingOptions {
  engine::LoadOptions load;  // of each model
  DraftChoice drafts;
  engine::HostLimits limits;
  bool breaks_loops = true;    // of what repeats itself, where a request does not say
  std::string adapter_folder;  // clients may have adapters loaded from here; "": from nowhere
  std::string model_folder;    // and served models replaced by those of here
  // Asked before a model is loaded, with the adapters that come with it, and before one adapter is; empty: all may.
  std::function<Status(const std::string& model, const std::vector<std::string>& adapters)> admit;
  IdentityBook* identities = nullptr;  // records name models by their hashes; null: nobody keeps any. Must outlive them
};

class HostedModels final : public api::AdapterDesk, public api::ModelDesk {
 public:
  using Then = std::function<void(Status)>;  // of both desks
  explicit HostedModels(HostingOptions options);
  ~HostedModels() override;

  // Lists a model and its adapters; loads nothing. kUsage: a name is taken.
  Status add(const std::string& model, const std::vector<NamedAdapter>& adapters);
  // Lists a model of one project's own under this name; `path`: a folder. Calls back once it is listed, on the host's
  // thread; at any time.
  void add_trained(std::string name, std::string path, std::string project, Then then);
  // The same for an adapter of the model `base`; it comes and goes as others do.
  void add_trained_adapter(std::string name, std::string path, std::string base, std::string project, Then then);
  // The folder of the model of that name, if all its weights can be trained further. kUsage: they cannot, with the reason.
  // Any thread.
  Result<std::string> trainable_folder(const std::string& name) const;
  // Its folder or file, on which adapters can be trained. kUsage: it is an adapter itself. Any thread.
  Result<std::string> model_path(const std::string& name) const;
  // Where a served model lies: its folder or file, and of an adapter its own beside its base's. kUsage: there is none of
  // that name. Any thread.
  struct Place {
    std::string base, adapter;
    bool trained = false;  // of one project's own
  };
  Result<Place> place_of(const std::string& name) const;
  // Loads all that are listed where there is no limit, else the first, which shows that it can be.
  Status load_first();
  const api::ModelList& list() const { return list_; }

  void load(std::string name, std::string path, std::string model, Then then) override;
  void unload(std::string name, Then then) override;

  void replace(std::string name, std::string path, bool unload_first, Then then) override;
  std::vector<api::ModelDesk::Info> models() const override;
  // Replaces, as above, each model whose path among `paths` is another than it was, or whose files are. Calls nobody
  // back: what became of it is logged. Any thread.
  void replace_changed(std::vector<std::string> paths);

  // Nothing is loaded any more, and engines stop; call it before the service goes.
  void stop();

 private:
  class Resident;
  struct Hosted;  // a model as it is configured, loaded or not
  // Of the model and each adapter; none where nobody keeps records.
  Result<std::vector<std::string>> hashes_of(const std::string& path, const std::vector<NamedAdapter>& adapters) const;
  engine::ModelHost::Source source_of(Hosted* hosted, const std::string& path);
  Status replace_now(Hosted& model, const std::string& path, bool unload_first);
  Status add_as(std::string name, const std::string& path, std::string project,
                const std::vector<NamedAdapter>& adapters);
  Hosted* hosted(const std::string& name) const;
  Status list_adapter(const Hosted& hosted, const std::string& name, const std::string& project);
  Status load_now(const std::string& name, const std::string& path, const std::string& model, const std::string* project);
  Status unload_now(const std::string& name);
  void count_adapters(const Hosted& hosted, Resident& resident);

  const HostingOptions options_;
  api::ModelList list_;
  mutable std::mutex mutex_;  // of the list below; what it holds stays
  std::vector<std::unique_ptr<Hosted>> models_;
  engine::ModelHost host_;  // its thread uses the above
};

}  // namespace qw::app
