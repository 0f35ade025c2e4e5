#include "base/put_off.h"

#include <utility>

namespace qw::base {
namespace {

PutOff& of_thread() {
  thread_local PutOff how;
  return how;
}

}  // namespace

void put_off_by(PutOff how) { of_thread() = std::move(how); }

PuttingOff::PuttingOff()
    : before_(std::exchange(of_thread(), [this](std::function<void()> work) { work_.push_back(std::move(work)); })) {}

PuttingOff::~PuttingOff() {
  of_thread() = std::move(before_);
  for (const auto& work : work_) work();
}

bool put_off(std::function<void()> work) {
  const PutOff& how = of_thread();
  if (!how) return false;
  how(std::move(work));
  return true;
}

}  // namespace qw::base
