#include "governance/policy/stop_list.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/file.h"

namespace qw::governance {
namespace {

using What = Stop::What;

constexpr std::size_t kMostBytes = 16 << 20;
constexpr std::array<const char*, 4> kNames = {"all", "model", "adapter", "project"};

Result<Stop> stop_of(const json::Value& value) {
  const auto text = [&](const char* name) {
    const json::Value* found = value.find(name);
    return found != nullptr && found->is_string() ? found->as_string() : std::string();
  };
  const auto what = stop_named(text("what"));
  const json::Value* since = value.find("since");
  Stop out{what.value_or(What::kAll), text("name"), text("by"), text("reason"), 0};
  if (!what || out.name.empty() != (*what == What::kAll) || since == nullptr || !since->is_int())
    return fail(ErrorKind::kBadInput, "not a list of what is stopped");
  out.since = since->as_int();
  return out;
}

}  // namespace

const char* name_of(What what) { return kNames[static_cast<std::size_t>(what)]; }

std::optional<What> stop_named(std::string_view name) {
  const auto known = std::find(kNames.begin(), kNames.end(), name);
  if (known == kNames.end()) return std::nullopt;
  return static_cast<What>(known - kNames.begin());
}

json::Object to_json(const Stop& stop) {
  return {{"what", name_of(stop.what)},
          {"name", stop.name},
          {"by", stop.by},
          {"reason", stop.reason},
          {"since", stop.since}};
}

std::string description(const Stop& stop) {
  return stop.what == What::kAll ? "everything" : "the " + std::string(name_of(stop.what)) + " " + stop.name;
}

Result<StopList> StopList::parse(std::string_view file) {
  QW_ASSIGN(const json::Value value, json::parse(file, {.max_bytes = kMostBytes, .max_depth = 4}));
  const json::Value* list = value.find("stopped");
  if (list == nullptr || !list->is_array()) return fail(ErrorKind::kBadInput, "not a list of what is stopped");
  StopList out;
  for (const json::Value& item : list->as_array()) {
    QW_ASSIGN(Stop stop, stop_of(item));
    if (!out.add(std::move(stop))) return fail(ErrorKind::kBadInput, "it has the same twice");
  }
  return out;
}

Result<StopList> StopList::read(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return StopList();
  QW_ASSIGN(const std::string file, base::read_file(path, kMostBytes));
  auto list = parse(file);
  if (!list) return in_context(path.string(), std::move(list).error());
  return std::move(*list);
}

std::string StopList::dump() const {
  json::Array list;
  for (const Stop& stop : stops_) list.push_back(to_json(stop));
  return json::dump(json::Object{{"stopped", std::move(list)}},
                    {.indent = 2, .item_separator = ",", .key_separator = ": "}) +
         "\n";
}

Status StopList::write(const std::filesystem::path& path) const { return base::write_file_atomically(path, dump()); }

bool StopList::add(Stop stop) {
  if (std::any_of(stops_.begin(), stops_.end(), [&](const Stop& other) { return other.same_as(stop); })) return false;
  stops_.push_back(std::move(stop));
  return true;
}

bool StopList::remove(const Stop& stop) {
  return std::erase_if(stops_, [&](const Stop& other) { return other.same_as(stop); }) > 0;
}

const Stop* StopList::hit(std::string_view model, std::string_view base, std::string_view project) const {
  for (const Stop& stop : stops_) {
    const bool here = stop.what == What::kAll ||
                      (stop.what == What::kModel && (stop.name == model || stop.name == base)) ||
                      (stop.what == What::kAdapter && !base.empty() && stop.name == model) ||
                      (stop.what == What::kProject && stop.name == project);
    if (here) return &stop;
  }
  return nullptr;
}

Result<std::optional<StopList>> change_stops(const std::filesystem::path& path, Stop stop, bool stopped) {
  const std::string lock_path = path.string() + ".lock";
  const int lock = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0) return fail(ErrorKind::kFailed, lock_path + ": cannot be opened");
  const auto change = [&]() -> Result<std::optional<StopList>> {
    while (::flock(lock, LOCK_EX) != 0)
      if (errno != EINTR) return fail(ErrorKind::kFailed, lock_path + ": cannot be locked");
    QW_ASSIGN(StopList list, StopList::read(path));
    if (!(stopped ? list.add(std::move(stop)) : list.remove(stop))) return std::optional<StopList>();
    QW_TRY(list.write(path));
    return std::optional(std::move(list));
  };
  auto out = change();
  ::close(lock);  // which unlocks it
  return out;
}

}  // namespace qw::governance
