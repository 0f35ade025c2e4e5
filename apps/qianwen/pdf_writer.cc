#include "pdf_writer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/file.h"

extern char** environ;

namespace qw::app {
namespace {

namespace fs = std::filesystem;

constexpr int kLookMs = 50, kMostLooks = 2400;  // two minutes

std::string in_path(const char* name) {
  const char* all = std::getenv("PATH");
  std::string_view rest = all == nullptr ? "" : all;
  while (!rest.empty()) {
    const auto colon = rest.find(':');
    const fs::path candidate = fs::path(rest.substr(0, colon)) / name;
    std::error_code code;
    if (candidate.is_absolute() && fs::is_regular_file(candidate, code) && ::access(candidate.c_str(), X_OK) == 0)
      return candidate.string();
    if (colon == std::string_view::npos) break;
    rest.remove_prefix(colon + 1);
  }
  return "";
}

std::string last_line(const fs::path& log) {
  auto text = base::read_file(log, 1 << 20);
  if (!text) return "";
  while (!text->empty() && text->back() == '\n') text->pop_back();
  return text->substr(text->find_last_of('\n') + 1).substr(0, 300);
}

// Waits for a process of its own group; 0: it ended well.
Status wait_for(pid_t child, const std::string& name, const fs::path& log) {
  int status = 0;
  for (int i = 0; i < kMostLooks; ++i) {
    const pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended == child) {
      if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
      return fail(ErrorKind::kFailed, name + " failed: " + last_line(log));
    }
    if (ended < 0 && errno != EINTR) return fail(ErrorKind::kFailed, name + ": " + std::strerror(errno));
    ::poll(nullptr, 0, kLookMs);
  }
  ::kill(-child, SIGKILL);
  ::waitpid(child, &status, 0);
  return fail(ErrorKind::kFailed, name + ": took more than two minutes");
}

// A folder that is gone at the end: what the tool writes for itself goes there.
struct Scratch {
  fs::path path;
  ~Scratch() {
    std::error_code code;
    if (!path.empty()) fs::remove_all(path, code);
  }
};

}  // namespace

const char* const kPdfTools = "weasyprint, chromium, chromium-browser or google-chrome";

std::optional<PdfTool> find_pdf_tool() {
  if (std::string path = in_path("weasyprint"); !path.empty()) return PdfTool{std::move(path), true};
  for (const char* name : {"chromium", "chromium-browser", "google-chrome"})
    if (std::string path = in_path(name); !path.empty()) return PdfTool{std::move(path), false};
  return std::nullopt;
}

Status write_pdf(const PdfTool& tool, const fs::path& html, const fs::path& pdf) {
  std::string made = (fs::temp_directory_path() / "qianwen-pdf-XXXXXX").string();
  if (::mkdtemp(made.data()) == nullptr) return fail(ErrorKind::kFailed, made + ": " + std::strerror(errno));
  const Scratch scratch{made};
  const fs::path log = scratch.path / "log", part = scratch.path / "out.pdf";
  std::vector<std::string> words{tool.path};
  if (tool.weasyprint) {
    words.insert(words.end(), {fs::absolute(html).string(), part.string()});
  } else {
    words.insert(words.end(),
                 {"--headless", "--disable-gpu", "--disable-extensions", "--no-first-run", "--no-pdf-header-footer",
                  "--user-data-dir=" + (scratch.path / "profile").string(), "--print-to-pdf=" + part.string()});
    // Its sandbox refuses to work for root; the page is this program's own and loads nothing.
    if (::geteuid() == 0) words.emplace_back("--no-sandbox");
    words.push_back("file://" + fs::absolute(html).string());
  }
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  ::posix_spawn_file_actions_adddup2(&files, 1, 2);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  pid_t child = 0;
  const int error = ::posix_spawn(&child, tool.path.c_str(), &files, &attributes, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) return fail(ErrorKind::kFailed, tool.path + ": " + std::strerror(error));
  QW_TRY(wait_for(child, tool.path, log));
  QW_ASSIGN(const std::string bytes, base::read_file(part));
  if (!bytes.starts_with("%PDF-")) return fail(ErrorKind::kFailed, tool.path + ": wrote no PDF");
  return base::write_file_atomically(pdf, bytes);
}

}  // namespace qw::app
