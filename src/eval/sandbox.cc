#include "eval/sandbox.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace qw::eval {
namespace {

constexpr std::size_t kMaxOutput = 8192;
constexpr rlim_t kMaxFileBytes = 16 << 20, kMaxFiles = 64, kMaxProcesses = 32;
constexpr int kNobody = 65534;

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { close(); }
  int get() const { return fd_; }
  void set(int fd) {
    close();
    fd_ = fd;
  }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

// Of linux/mount.h, which goes badly with sys/mount.h.
struct MountAttributes {
  std::uint64_t set, clear, propagation, user_namespace;
};
constexpr std::uint64_t kReadOnly = 1, kNoSetuid = 2, kNoDevices = 4;
constexpr int kRecursive = 0x8000;
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

// What the child needs, made before the fork: behind it nothing may allocate.
struct Plan {
  int program, output, errors;  // descriptors
  std::string uid_map, gid_map;
  ProgramLimits limits;
};

// Tells the parent which step failed; the child ends.
[[noreturn]] void give_up(const Plan& plan, const char* step) {
  char text[200];
  const int n = std::snprintf(text, sizeof text, "%s: %s", step, std::strerror(errno));
  if (n > 0 && ::write(plan.errors, text, static_cast<std::size_t>(std::min<int>(n, sizeof text - 1))) < 0)
    ::_exit(126);
  ::_exit(126);
}

void write_file(const Plan& plan, const char* path, const std::string& text) {
  const int fd = ::open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || ::write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) give_up(plan, path);
  ::close(fd);
}

void limit(const Plan& plan, int what, rlim_t value) {
  const rlimit limits{value, value};
  if (::setrlimit(static_cast<decltype(RLIMIT_AS)>(what), &limits) != 0) give_up(plan, "setrlimit");
}

void hide(const Plan& plan, const char* folder, const char* options) {
  if (::mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, options) != 0 && errno != ENOENT) give_up(plan, folder);
}

void confine(const Plan& plan) {
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID) != 0)
    give_up(plan, "unshare");
  write_file(plan, "/proc/self/setgroups", "deny");
  write_file(plan, "/proc/self/uid_map", plan.uid_map);
  write_file(plan, "/proc/self/gid_map", plan.gid_map);
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) give_up(plan, "mount");
  const MountAttributes attributes{kReadOnly | kNoSetuid | kNoDevices, 0, 0, 0};
  if (::syscall(SYS_mount_setattr, AT_FDCWD, "/", kRecursive, &attributes, sizeof attributes) != 0)
    give_up(plan, "mount_setattr");
  hide(plan, "/tmp", "size=64m,mode=0777");
  hide(plan, "/home", "size=0");
  hide(plan, "/root", "size=0");
  hide(plan, "/proc", "size=0");
}

[[noreturn]] void become_python(const Plan& plan) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::dup2(plan.program, 0) < 0 || ::dup2(plan.output, 1) < 0 || ::dup2(plan.output, 2) < 0) give_up(plan, "dup2");
  // Only the pipe of errors stays, which closes as python3 begins.
  if (plan.errors != 3 && ::dup3(plan.errors, 3, O_CLOEXEC) < 0) give_up(plan, "dup3");
  ::syscall(SYS_close_range, 4u, ~0u, 0u);
  Plan rest = {0, 1, 3, {}, {}, plan.limits};
  limit(rest, RLIMIT_AS, plan.limits.memory_bytes);
  limit(rest, RLIMIT_CPU, static_cast<rlim_t>(plan.limits.time.count() / 1000 + 1));
  limit(rest, RLIMIT_FSIZE, kMaxFileBytes);
  limit(rest, RLIMIT_NOFILE, kMaxFiles);
  limit(rest, RLIMIT_NPROC, kMaxProcesses);
  limit(rest, RLIMIT_CORE, 0);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::chdir("/tmp") != 0) give_up(rest, "prctl");
  ::signal(SIGPIPE, SIG_DFL);
  ::signal(SIGXFSZ, SIG_DFL);
  char name[] = "python3", isolated[] = "-I", no_bytecode[] = "-B", from_input[] = "-";
  char* arguments[] = {name, isolated, no_bytecode, from_input, nullptr};
  char path[] = "PATH=/usr/local/bin:/usr/bin:/bin", language[] = "LANG=C.UTF-8", home[] = "HOME=/tmp";
  char* environment[] = {path, language, home, nullptr};
  for (const char* python : {"/usr/local/bin/python3", "/usr/bin/python3", "/bin/python3"})
    ::execve(python, arguments, environment);
  give_up(rest, "python3");
}

// Between the parent and the program: outside the program's process namespace, which ends with it.
[[noreturn]] void guard(const Plan& plan) {
  ::setsid();
  // Root's processes are not counted (RLIMIT_NPROC), nobody's are.
  if (::getuid() == 0 && (::setgroups(0, nullptr) != 0 || ::setresgid(kNobody, kNobody, kNobody) != 0 ||
                          ::setresuid(kNobody, kNobody, kNobody) != 0))
    give_up(plan, "setresuid");
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_DUMPABLE, 1);  // or /proc/self would be root's
  confine(plan);
  const pid_t inner = ::fork();
  if (inner < 0) give_up(plan, "fork");
  if (inner == 0) become_python(plan);
  ::close(plan.errors);
  ::close(plan.output);
  int status = 0;
  while (::waitpid(inner, &status, 0) < 0 && errno == EINTR) {
  }
  ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128);
}

using Clock = std::chrono::steady_clock;

// Reads until the other side is closed, or the time is over. False: it is.
bool drain(int fd, Clock::time_point until, std::string& out) {
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left <= 0) return false;
    pollfd wait{fd, POLLIN, 0};
    const int ready = ::poll(&wait, 1, static_cast<int>(left));
    if (ready < 0 && errno != EINTR) return true;
    if (ready <= 0) continue;
    char buffer[4096];
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got <= 0) return true;
    out.append(buffer, std::min(static_cast<std::size_t>(got), kMaxOutput - std::min(kMaxOutput, out.size())));
  }
}

}  // namespace

Result<ProgramOutcome> run_python(std::string_view program, const ProgramLimits& limits) {
  const auto broken = [](const char* what) {
    return fail(ErrorKind::kFailed, std::string(what) + ": " + std::strerror(errno));
  };
  Fd source(::memfd_create("program", MFD_CLOEXEC));
  if (source.get() < 0) return broken("memfd_create");
  for (std::size_t done = 0; done < program.size();) {
    const ssize_t n = ::write(source.get(), program.data() + done, program.size() - done);
    if (n < 0) return broken("memfd");
    done += static_cast<std::size_t>(n);
  }
  if (::lseek(source.get(), 0, SEEK_SET) != 0) return broken("memfd");
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return broken("pipe");
  Fd output(ends[0]), output_in(ends[1]);
  if (::pipe2(ends, O_CLOEXEC) != 0) return broken("pipe");
  Fd errors(ends[0]), errors_in(ends[1]);
  const bool root = ::getuid() == 0;
  const auto outer = [root](unsigned id) { return root ? static_cast<unsigned>(kNobody) : id; };
  const std::string as = std::to_string(kNobody) + " ";
  const Plan plan{source.get(),
                  output_in.get(),
                  errors_in.get(),
                  as + std::to_string(outer(::getuid())) + " 1",
                  as + std::to_string(outer(::getgid())) + " 1",
                  limits};
  const pid_t child = ::fork();
  if (child < 0) return broken("fork");
  if (child == 0) guard(plan);
  output_in.close();
  errors_in.close();
  ProgramOutcome out;
  const auto until = Clock::now() + limits.time;
  std::string trouble;
  const bool begun = drain(errors.get(), until, trouble);
  out.timed_out = !begun || !drain(output.get(), until, out.output);
  // Who closed both streams may still run: the guard ends with the program.
  int status = 0;
  pid_t ended = 0;
  while (!out.timed_out && (ended = ::waitpid(child, &status, WNOHANG)) == 0) {
    if (Clock::now() >= until) out.timed_out = true;
    const timespec pause{0, 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
  if (ended != child) {
    ::kill(child, SIGKILL);
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
  }
  if (!trouble.empty())
    return fail(ErrorKind::kFailed,
                "programs cannot be confined here: " + trouble + " (it takes Linux 5.12, user namespaces and python3)");
  out.passed = !out.timed_out && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  return out;
}

}  // namespace qw::eval
