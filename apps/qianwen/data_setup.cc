#include "data_setup.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "data/config_table.h"
#include "governance/pii/pii_finder.h"

namespace qw::app {

std::filesystem::path corpus_folder(const std::string& option) {
  if (!option.empty()) return option;
  const char* variable = std::getenv("QW_CORPUS");
  return variable == nullptr ? "" : variable;
}

namespace {

// Each thing that is found gives way to the name of its kind in brackets: "[email]".
Result<data::Scrubber> personal_data_scrubber(const std::string& kinds) {
  QW_ASSIGN(const auto wanted, governance::PiiSet::parse(kinds));
  return [wanted](std::string& text) -> std::uint64_t {
    governance::PiiFinder finder(wanted);
    std::vector<governance::PiiHit> found;
    finder.push(text, found);
    finder.finish(found);
    if (found.empty()) return 0;
    std::string out;
    std::uint64_t at = 0;
    for (const governance::PiiHit& hit : found) {
      out.append(text, at, hit.begin - at);
      out += std::string("[") + governance::name_of(hit.kind) + "]";
      at = hit.end;
    }
    out.append(text, at);
    text = std::move(out);
    return found.size();
  };
}

}  // namespace

Result<data::DataConfig> load_data_config(const std::string& path, const std::vector<std::string>& overrides,
                                          const std::string& corpus_option) {
  QW_ASSIGN(auto object, data::load_toml(path));
  for (const auto& assignment : overrides) QW_TRY(data::apply_override(object, assignment));
  auto config = data::data_config(object, corpus_folder(corpus_option));
  if (!config) return in_context(path, std::move(config).error());
  config->scrubber = personal_data_scrubber;
  return config;
}

data::ProgressFn person_progress() {
  using Clock = std::chrono::steady_clock;
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const auto pause = terminal ? std::chrono::milliseconds(200) : std::chrono::milliseconds(5000);
  return [terminal, pause, last = Clock::time_point{}](const data::BuildProgress& p) mutable {
    const auto now = Clock::now();
    if (now - last < pause) return;
    last = now;
    std::string line = std::string(p.stage) + " " + std::string(p.source) + " " + std::to_string(p.done);
    if (p.total > 0) line += " of " + std::to_string(p.total);
    std::fprintf(stderr, terminal ? "\r\033[K%s" : "%s\n", line.c_str());
  };
}

}  // namespace qw::app
