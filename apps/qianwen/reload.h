// SIGHUP of a running service.
#pragma once

#include <atomic>

namespace qw::app {

// From the first call on SIGHUP does not end the program but sets this: `serve` reads again what may have changed.
std::atomic<bool>& reload_asked();

}  // namespace qw::app
