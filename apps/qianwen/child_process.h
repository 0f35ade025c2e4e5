// Another run of this program, at idle priority, whose lines of output are read as they come.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace qw::app {

struct ChildRun {
  int code = 0;       // exit code; 128 + signal if one ended it
  bool told = false;  // it was asked to end
};

// Runs this program with `words` until it ends. `on_line`: each line of its standard output. `go_on` is asked a few
// times a second; false, once: the child gets SIGTERM, and is waited for. What it writes to standard error goes into
// `log`, which it keeps locked as long as it lives. It is also told to end when the calling thread dies, and it has none
// of this process's open files.
Result<ChildRun> run_self(const std::vector<std::string>& words, const std::filesystem::path& log,
                          const std::function<void(const std::string&)>& on_line, const std::function<bool()>& go_on);

// Waits until no child that writes to `log` lives: a process that was killed leaves one that is still ending. `go_on` as
// above; false: it said no.
Result<bool> wait_for_child(const std::filesystem::path& log, const std::function<bool()>& go_on);

}  // namespace qw::app
