// Runs a program that a model wrote, in a process of its own: no network, no files of this machine to write (and of
// /tmp, /home, /root and /proc none to read), limited time, memory, processes and output; the user's own rights, no
// more. It keeps mistakes in; who must fear attacks on the kernel runs the evaluation in a virtual machine.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace qw::eval {

struct ProgramLimits {
  std::chrono::milliseconds time{3000};  // as lm-evaluation-harness gives HumanEval's programs
  std::uint64_t memory_bytes = std::uint64_t{1} << 30;
};

struct ProgramOutcome {
  bool passed = false;  // it ended by itself, with exit code 0
  bool timed_out = false;
  std::string output;  // the first kilobytes of both streams
};

// Python 3. kFailed: this machine offers no such confinement (user namespaces are off), or has no python3: nothing was
// run.
Result<ProgramOutcome> run_python(std::string_view program, const ProgramLimits& limits = {});

}  // namespace qw::eval
