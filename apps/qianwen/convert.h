// Writing a model in another format or number type: what `convert` and `quantize` do.
#pragma once

#include <string>

#include "base/result.h"

namespace qw::app {

// `in`: MODEL; `out`: a .gguf file or a folder; `type` as `quantize --type` takes it. Prints nothing.
Status convert_model(const std::string& in, const std::string& out, const std::string& type, int threads);

}  // namespace qw::app
