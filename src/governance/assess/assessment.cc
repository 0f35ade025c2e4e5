#include "governance/assess/assessment.h"

#include <sys/file.h>

#include <algorithm>

#include "base/clock.h"
#include "base/file.h"
#include "base/utf8.h"
#include "governance/audit/log_files.h"
#include "governance/internal/growing_file.h"
#include "governance/internal/members.h"

namespace qw::governance {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostFileBytes = std::uint64_t{4} << 30;

std::string valid(std::string_view text) {
  std::string out;
  base::append_valid_utf8(out, text, true);
  return out;
}

std::string text_of(const json::Value& value, const char* name) {
  const json::Value* found = value.find(name);
  return found != nullptr && found->is_string() ? found->as_string() : std::string();
}

Result<Judgement> parse_judgement(const json::Value& line) {
  Judgement out;
  const auto judge = judge_named(text_of(line, "judge"));
  const std::string measure = text_of(line, "measure");
  const json::Value* says = line.find("says");
  bool known = false;
  for (const Measure one : {Measure::kAcceptable, Measure::kRefused, Measure::kCorrect}) {
    if (measure != name_of(one)) continue;
    out.measure = one;
    known = true;
  }
  if (!judge || !known || says == nullptr || !(says->is_null() || says->is_bool()))
    return fail(ErrorKind::kBadInput, "is no judgement");
  out.judge = *judge;
  if (says->is_bool()) out.says = says->as_bool();
  out.by = text_of(line, "by");
  out.why = text_of(line, "why");
  out.ts = text_of(line, "ts");
  return out;
}

// f(line, number) of each line; the last one may lack its end if `cut` is given, which gets how many bytes are whole.
template <class F>
Status each_line(std::string_view bytes, const std::string& name, std::uint64_t* whole, F f) {
  std::size_t number = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t end = bytes.find('\n', at);
    if (end == std::string_view::npos && whole != nullptr) break;
    const std::string where = name + ":" + std::to_string(++number);
    if (end == std::string_view::npos) return fail(ErrorKind::kBadInput, where + ": is cut off");
    if (const Status status = f(bytes.substr(at, end - at)); !status) return in_context(where, status.error());
    at = end + 1;
    if (whole != nullptr) *whole = at;
  }
  return {};
}

}  // namespace

std::string JournalEntry::line() const {
  json::Object out;
  if (library) {
    out.set("library", *library);
    return canonical(out);
  }
  out.set("item", static_cast<std::int64_t>(*item));
  if (answer) {
    out.set("answer", valid(answer->text));
    out.set("blocked", answer->blocked);
    return canonical(out);
  }
  out.set("judge", name_of(judgement->judge));
  out.set("measure", name_of(judgement->measure));
  out.set("says", judgement->says ? json::Value(*judgement->says) : json::Value());
  out.set("by", valid(judgement->by));
  out.set("why", valid(judgement->why));
  out.set("ts", judgement->ts);
  return canonical(out);
}

Result<JournalEntry> JournalEntry::parse(std::string_view line, std::size_t items) {
  QW_ASSIGN(json::Value read, json::parse(line));
  JournalEntry out;
  if (const json::Value* library = read.find("library"); library != nullptr) {
    if (!library->is_object() || !is_plain(*library)) return fail(ErrorKind::kBadInput, "is no keyword library");
    out.library = library->as_object();
    return out;
  }
  const json::Value* item = read.find("item");
  if (item == nullptr || !item->is_int() || item->as_int() < 0 || static_cast<std::size_t>(item->as_int()) >= items)
    return fail(ErrorKind::kBadInput, "is of no question of the sample");
  out.item = static_cast<std::size_t>(item->as_int());
  if (const json::Value* answer = read.find("answer"); answer != nullptr) {
    const json::Value* blocked = read.find("blocked");
    if (!answer->is_string() || blocked == nullptr || !blocked->is_bool())
      return fail(ErrorKind::kBadInput, "is no answer");
    out.answer = ItemAnswer{answer->as_string(), blocked->as_bool()};
    return out;
  }
  QW_ASSIGN(out.judgement, parse_judgement(read));
  return out;
}

std::string sample_line(const SampledItem& item) {
  const Question& q = item.question;
  json::Object out{{"bank", item.bank}, {"id", valid(q.id)}, {"type", valid(q.type)}, {"prompt", valid(q.prompt)}};
  if (!q.options.empty()) {
    json::Array options;
    for (const std::string& option : q.options) options.emplace_back(valid(option));
    out.set("options", std::move(options));
    out.set("answer", q.answer);
  }
  return canonical(out);
}

Result<SampledItem> parse_sample_line(std::string_view line) {
  QW_ASSIGN(const json::Value read, json::parse(line));
  SampledItem out;
  out.bank = text_of(read, "bank");
  Question& q = out.question;
  q.id = text_of(read, "id");
  q.type = text_of(read, "type");
  q.prompt = text_of(read, "prompt");
  if (out.bank.empty() || q.id.empty() || q.prompt.empty())
    return fail(ErrorKind::kBadInput, "is no question that was drawn");
  if (const json::Value* options = read.find("options"); options != nullptr) {
    const json::Value* answer = read.find("answer");
    if (!options->is_array() || answer == nullptr || !answer->is_int() || answer->as_int() < 0 ||
        answer->as_int() >= static_cast<std::int64_t>(options->as_array().size()))
      return fail(ErrorKind::kBadInput, "has options, and no right one");
    q.answer = answer->as_int();
    for (const json::Value& option : options->as_array()) {
      if (!option.is_string()) return fail(ErrorKind::kBadInput, "has an option that is no text");
      q.options.push_back(option.as_string());
    }
  }
  return out;
}

std::int64_t wanted_of(const TestRule& test, std::int64_t questions, std::int64_t limit) {
  std::int64_t wanted = std::max(test.sample, (test.share * questions + 99) / 100);
  if (limit > 0) wanted = std::min(wanted, limit);
  return std::min(wanted, questions);
}

// ---- the folder -----------------------------------------------------------------------------------------------------

struct Assessment::State {
  fs::path folder;
  int lock = -1;
  json::Object setup;
  Plan plan;
  std::vector<SampledItem> items;
  std::vector<std::optional<ItemAnswer>> answers;
  std::vector<std::vector<Judgement>> judgements;
  std::optional<json::Object> library;
  GrowingFile journal;

  ~State() {
    if (lock >= 0) ::close(lock);
  }
  Status take_lock();
  Status read();
  Status read_sample();
  Status read_journal();
  void take(JournalEntry entry);
};

Status Assessment::State::take_lock() {
  const fs::path path = folder / "lock";
  lock = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0) return tl::unexpected(system_error(path));
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0)
    return fail(ErrorKind::kResource, folder.string() + ": another process works on this assessment");
  return {};
}

Status Assessment::State::read() {
  const fs::path path = folder / kSetupFile;
  QW_ASSIGN(const std::string text, base::read_file(path));
  auto read = json::parse(text);
  if (!read) return in_context(path.string(), std::move(read).error());
  const json::Value* document = read->find("plan");
  if (document == nullptr || !is_plain(*read)) return fail(ErrorKind::kBadInput, path.string() + ": is no assessment");
  auto made = Plan::of(*document);
  if (!made) return in_context(path.string(), std::move(made).error());
  plan = std::move(*made);
  if (text_of(*read, "plan_sha256") != to_hex(plan.hash))
    return fail(ErrorKind::kBadInput, path.string() + ": the plan is not the one that it was begun with");
  setup = std::move(read->as_object());
  QW_TRY(read_sample());
  return read_journal();
}

Status Assessment::State::read_sample() {
  const fs::path path = folder / kSampleFile;
  QW_ASSIGN(const std::string text, base::read_file(path, kMostFileBytes));
  if (to_hex(sha256(text)) != text_of(setup, "sample_sha256"))
    return fail(ErrorKind::kBadInput, path.string() + ": is not the sample that was drawn");
  return each_line(text, path.string(), nullptr, [&](std::string_view line) -> Status {
    QW_ASSIGN(items.emplace_back(), parse_sample_line(line));
    return {};
  });
}

Status Assessment::State::read_journal() {
  answers.resize(items.size());
  judgements.resize(items.size());
  QW_TRY(journal.open(folder / kJournalFile));
  QW_ASSIGN(const std::string text, base::read_file(journal.path(), kMostFileBytes));
  std::uint64_t whole = 0;
  QW_TRY(each_line(text, journal.path().string(), &whole, [&](std::string_view line) -> Status {
    QW_ASSIGN(JournalEntry entry, JournalEntry::parse(line, items.size()));
    take(std::move(entry));
    return {};
  }));
  return whole < journal.size() ? journal.cut(whole) : Status();  // a line that a crash cut off
}

void Assessment::State::take(JournalEntry entry) {
  if (entry.library) library = std::move(*entry.library);
  if (entry.answer) answers[*entry.item] = std::move(*entry.answer);
  if (!entry.judgement) return;
  std::vector<Judgement>& all = judgements[*entry.item];
  Judgement& made = *entry.judgement;
  const auto same = std::find_if(all.begin(), all.end(), [&](const Judgement& j) {
    return j.judge == made.judge && j.measure == made.measure && (j.judge != Judge::kPeople || j.by == made.by);
  });
  if (same == all.end())
    all.push_back(std::move(made));
  else
    *same = std::move(made);
}

namespace {

// What begin() compares: all but when it was begun.
Status same_setup(const json::Object& there, const json::Object& wanted, const std::string& folder) {
  std::string others;
  for (const auto& [name, value] : wanted) {
    if (name == "begun") continue;
    const json::Value* other = there.find(name);
    if (other == nullptr || !(*other == value)) others += (others.empty() ? "" : ", ") + name;
  }
  if (others.empty()) return {};
  return fail(ErrorKind::kRefused, folder + ": holds an assessment of another " + others);
}

}  // namespace

Result<std::unique_ptr<Assessment>> Assessment::begin(const fs::path& folder, json::Object setup,
                                                      const std::vector<SampledItem>& sample) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(ErrorKind::kFailed, folder.string() + ": " + error.message());
  std::string lines;
  for (const SampledItem& item : sample) lines += sample_line(item) + "\n";
  setup.set("sample_sha256", to_hex(sha256(lines)));
  setup.set("begun", timestamp(base::unix_us()));
  auto state = std::make_unique<State>();
  state->folder = folder;
  QW_TRY(state->take_lock());
  if (!fs::exists(folder / kSetupFile, error)) {
    if (fs::exists(folder / kJournalFile, error))
      return fail(ErrorKind::kBadInput, folder.string() + ": has a journal and no " + kSetupFile);
    QW_TRY(base::write_file_atomically(folder / kSampleFile, lines));
    QW_TRY(base::write_file_atomically(folder / kSetupFile, canonical(setup) + "\n"));
  }
  QW_TRY(state->read());
  QW_TRY(same_setup(state->setup, setup, folder.string()));
  return std::unique_ptr<Assessment>(new Assessment(std::move(state)));
}

Result<std::unique_ptr<Assessment>> Assessment::open(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder / kSetupFile, error))
    return fail(ErrorKind::kBadInput, folder.string() + ": holds no assessment");
  auto state = std::make_unique<State>();
  state->folder = folder;
  QW_TRY(state->take_lock());
  QW_TRY(state->read());
  return std::unique_ptr<Assessment>(new Assessment(std::move(state)));
}

Assessment::Assessment(std::unique_ptr<State> state) : state_(std::move(state)) {}
Assessment::~Assessment() = default;

const fs::path& Assessment::folder() const { return state_->folder; }
const Plan& Assessment::plan() const { return state_->plan; }
const json::Object& Assessment::setup() const { return state_->setup; }
const std::vector<SampledItem>& Assessment::items() const { return state_->items; }
const ItemAnswer* Assessment::answer(std::size_t item) const {
  const auto& answer = state_->answers[item];
  return answer ? &*answer : nullptr;
}
const std::vector<Judgement>& Assessment::judgements(std::size_t item) const { return state_->judgements[item]; }
const json::Object* Assessment::library() const { return state_->library ? &*state_->library : nullptr; }

std::vector<std::size_t> Assessment::items_of(const TestRule& test) const {
  std::int64_t questions = 0;
  const json::Value* banks = state_->setup.find("banks");
  const json::Value* limit = state_->setup.find("limit");
  if (banks != nullptr && banks->is_array())
    for (const json::Value& bank : banks->as_array())
      if (const json::Value* n = bank.find("questions");
          text_of(bank, "name") == test.bank && n != nullptr && n->is_int())
        questions = n->as_int();
  const std::int64_t wanted = wanted_of(test, questions, limit != nullptr && limit->is_int() ? limit->as_int() : 0);
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < state_->items.size() && static_cast<std::int64_t>(out.size()) < wanted; ++i)
    if (state_->items[i].bank == test.bank) out.push_back(i);
  return out;
}

Status Assessment::add(std::vector<JournalEntry> entries) {
  std::string lines;
  for (const JournalEntry& entry : entries) lines += entry.line() + "\n";
  const std::uint64_t before = state_->journal.size();
  Status written = state_->journal.add(lines);
  if (written) written = state_->journal.sync();
  if (!written) {
    if (const Status cut = state_->journal.cut(before); !cut) return cut;
    return written;
  }
  for (JournalEntry& entry : entries) state_->take(std::move(entry));
  return {};
}

}  // namespace qw::governance
