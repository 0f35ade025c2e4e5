// What `data build` and `train` share: reading a data configuration, and showing how far a build is.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "data/build.h"

namespace qw::app {

// The corpus folder: --corpus, else the environment variable QW_CORPUS, else "" (the configuration decides).
std::filesystem::path corpus_folder(const std::string& option);
Result<data::DataConfig> load_data_config(const std::string& path, const std::vector<std::string>& overrides,
                                          const std::string& corpus_option);
// Prints progress for a person to standard error: one changing line on a terminal, now and then a line otherwise.
data::ProgressFn person_progress();

}  // namespace qw::app
