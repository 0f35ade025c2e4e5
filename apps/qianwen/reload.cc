#include "reload.h"

#include <csignal>

namespace qw::app {
namespace {

std::atomic<bool> asked{false};  // a signal handler can reach nothing but a static

void on_hangup(int) { asked.store(true); }

}  // namespace

std::atomic<bool>& reload_asked() {
  static const bool installed = std::signal(SIGHUP, on_hangup) != SIG_ERR;
  (void)installed;
  return asked;
}

}  // namespace qw::app
