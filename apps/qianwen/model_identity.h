// Which model it is: the SHA-256 of its files.
#pragma once

#include <atomic>
#include <string>

#include "base/result.h"
#include "json/value.h"

namespace qw::app {

// [{"name","bytes","sha256"}] of a MODEL's files by name (of a folder those in it, not in folders below). Of a file
// that cannot be read "sha256" says why. Ends early where `stop` says so. A gigabyte takes half a second.
json::Array hashed_files(const std::string& model, const std::atomic<bool>& stop);

// {"files","sha256"}: one hash of all files, with their names where there are several (a file that is renamed is the
// same model). kBadInput: there is no such model, or a file cannot be read; kInterrupted.
Result<json::Object> model_identity(const std::string& model, const std::atomic<bool>& stop);

}  // namespace qw::app
