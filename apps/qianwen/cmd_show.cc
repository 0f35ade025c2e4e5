// qianwen show: what a model is, and what it needs, without loading it. qianwen doctor: what this machine can do.
#include <cstdio>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "commands.h"
#include "describe.h"
#include "json/value.h"
#include "kernels/kernels.h"
#include "models/load.h"
#include "open_model.h"
#include "text_source.h"

namespace qw::app {
namespace {

struct ShowOptions {
  std::string model;
  std::vector<std::int64_t> contexts;
  bool json = false;
};

Status show(const ShowOptions& o) {
  QW_ASSIGN(const OpenedModel opened, open_model(o.model));
  QW_ASSIGN(const json::Object description, describe_model(opened, o.contexts));
  print_description(description, o.json);
  return {};
}

Status doctor(bool json_output) {
  QW_ASSIGN(const base::Isa isa, base::chosen_isa());
  const auto shipped = resolve_model("mini");
  const json::Object found{{"version", QW_VERSION},
                           {"cpu", base::cpu_name()},
                           {"threads", base::hardware_threads()},
                           {"best_isa", std::string(base::isa_name(base::best_isa()))},
                           {"isa", kernels::kernels_for(isa).name},
                           {"memory_available_bytes", static_cast<std::int64_t>(base::available_memory_bytes())},
                           {"shipped_model", shipped ? json::Value(*shipped) : json::Value()},
                           {"model_store", model_store()}};
  if (json_output) {
    std::puts(json::dump(found).c_str());
  } else {
    for (const auto& [key, value] : found) {
      std::printf("%-24s %s\n", key.c_str(), value.is_string() ? value.as_string().c_str() : json::dump(value).c_str());
    }
  }
  // The model that everything defaults to must be there and whole.
  if (!shipped) return tl::unexpected(shipped.error());
  QW_ASSIGN(const OpenedModel opened, open_model(*shipped));
  QW_TRY(models::load_weights(*opened.model, opened.source));
  if (!json_output) std::puts("everything needed to run is here");
  return {};
}

}  // namespace

void add_show(CLI::App& app, Outcome& outcome) {
  auto o = std::make_shared<ShowOptions>();
  CLI::App* cmd = app.add_subcommand("show", "Describe a model without loading it");
  cmd->add_option("model", o->model, "MODEL")->required();
  add_models_option(*cmd);
  cmd->add_option("--context", o->contexts, "contexts to give memory needs for")->delimiter(',')->check(CLI::PositiveNumber);
  cmd->add_flag("--json", o->json, "print one JSON object");
  cmd->callback([o, &outcome] {
    if (auto status = show(*o); !status) outcome.code = report(status.error());
  });
}

void add_doctor(CLI::App& app, Outcome& outcome) {
  auto json_output = std::make_shared<bool>(false);
  CLI::App* cmd = app.add_subcommand("doctor", "What this machine offers, and whether the installation is whole");
  cmd->add_flag("--json", *json_output, "print one JSON object");
  cmd->callback([json_output, &outcome] {
    if (auto status = doctor(*json_output); !status) outcome.code = report(status.error());
  });
}

}  // namespace qw::app
