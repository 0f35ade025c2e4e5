#include "child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/file.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace qw::app {
namespace {

constexpr int kAskMs = 200;  // how often go_on is asked

// Between fork and exec: only calls that are safe there.
[[noreturn]] void become(char* const* words, int out, int log) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  ::setpriority(PRIO_PROCESS, 0, 19);
  const sched_param idle{};
  ::sched_setscheduler(0, SCHED_IDLE, &idle);
  ::signal(SIGINT, SIG_IGN);  // of a terminal: the service decides
  ::dup2(out, 1);
  ::dup2(log, 2);
  ::close_range(3, ~0U, 0);  // a listening socket must not outlive the service
  ::execv("/proc/self/exe", words);
  ::_exit(127);
}

int open_log(const std::filesystem::path& log) {
  return ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

void take_lines(std::string& pending, const std::function<void(const std::string&)>& on_line) {
  std::size_t at = 0;
  for (std::size_t end; (end = pending.find('\n', at)) != std::string::npos; at = end + 1)
    on_line(pending.substr(at, end - at));
  pending.erase(0, at);
}

}  // namespace

Result<bool> wait_for_child(const std::filesystem::path& log, const std::function<bool()>& go_on) {
  const int file = open_log(log);
  if (file < 0) return fail(ErrorKind::kFailed, log.string() + ": " + std::strerror(errno));
  bool wanted = true;
  while (::flock(file, LOCK_EX | LOCK_NB) != 0 && (wanted = go_on())) ::poll(nullptr, 0, kAskMs);
  ::close(file);
  return wanted;
}

Result<ChildRun> run_self(const std::vector<std::string>& words, const std::filesystem::path& log,
                          const std::function<void(const std::string&)>& on_line, const std::function<bool()>& go_on) {
  std::vector<char*> arguments;
  std::string name = "qianwen";
  arguments.push_back(name.data());
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return fail(ErrorKind::kResource, "no pipe for a child process");
  const int log_file = open_log(log);
  if (log_file >= 0) ::flock(log_file, LOCK_EX | LOCK_NB);  // the child's, too, which shares the open file
  const pid_t child = log_file < 0 ? -1 : ::fork();
  if (child == 0) become(arguments.data(), pipe[1], log_file);
  const std::string why = std::strerror(errno);
  ::close(pipe[1]);
  if (log_file >= 0) ::close(log_file);
  if (child < 0) {
    ::close(pipe[0]);
    return fail(ErrorKind::kResource, "no child process: " + why);
  }
  ChildRun out;
  std::string pending;
  std::array<char, 4096> piece{};
  for (bool open = true; open;) {
    pollfd waiting{pipe[0], POLLIN, 0};
    if (::poll(&waiting, 1, kAskMs) > 0) {
      const ssize_t n = ::read(pipe[0], piece.data(), piece.size());
      open = n > 0 || (n < 0 && errno == EINTR);
      if (n > 0) pending.append(piece.data(), static_cast<std::size_t>(n));
      take_lines(pending, on_line);
    }
    if (!out.told && !go_on()) {
      out.told = true;
      ::kill(child, SIGTERM);
    }
  }
  ::close(pipe[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  out.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return out;
}

}  // namespace qw::app
