#include "governance/audit/audit_log.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/put_off.h"
#include "governance/audit/journal.h"
#include "governance/audit/log_files.h"
#include "governance/internal/growing_file.h"

namespace qw::governance {
namespace {

namespace fs = std::filesystem;

struct Waiting {
  AuditLog::Make make;
  AuditLog::Then then;
};

// Whether a file has these bytes at `at`, or ends there or within them.
bool goes_on_with(const GrowingFile& file, std::uint64_t at, std::string_view bytes) {
  if (file.size() < at) return false;
  const auto there = file.read(at, std::min<std::uint64_t>(bytes.size(), file.size() - at));
  return there && bytes.starts_with(*there);
}
// Appends what it has not of them.
Status complete(GrowingFile& file, std::uint64_t at, std::string_view bytes) {
  const std::uint64_t have = file.size() - at;
  return have < bytes.size() ? file.add(bytes.substr(have)) : Status();
}

}  // namespace

struct AuditLog::State {
  SigningKey key;
  fs::path folder;
  int lock = -1;
  GrowingFile records, leaves, heads;
  Journal journal;
  Frontier tree;
  Hash last_head{};  // SHA-256 of its line; zeros: there is none
  std::uint64_t signed_size = 0;

  mutable std::mutex mutex;
  std::condition_variable wake;
  std::vector<Waiting> waiting;
  std::uint64_t kept = 0;
  bool stopping = false;
  Status broken;  // nothing can be written any more
  std::thread writer;

  ~State() { unlock(); }
  void unlock() {
    if (lock >= 0) ::close(lock);
    lock = -1;
  }
  bool push(Make make, Then then);  // whether it waits alone
  Status take_lock();
  Status recover();
  Status read_heads(Head& last);
  Status read_leaves(const Head& last);
  Status read_records(const Head& last);
  Status redo();
  Head next_head() const;
  void signed_by(const std::string& line);
  Status sign();
  Status settle();
  Status enter(std::string lines, const std::string& leaf_bytes);
  Status enter_at_length(const std::string& lines, const std::string& leaf_bytes);
  std::vector<Status> add(std::vector<Waiting>& batch, std::string& lines, std::string& leaf_bytes);
  void write(std::vector<Waiting>& batch);
  void run();
};

Status AuditLog::State::take_lock() {
  const fs::path path = folder / "lock";
  lock = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0) return tl::unexpected(system_error(path));
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0)
    return fail(ErrorKind::kResource, folder.string() + ": another process writes this audit log");
  return {};
}

// The last whole head; a line that a crash cut off goes.
Status AuditLog::State::read_heads(Head& last) {
  QW_ASSIGN(LineReader reader, LineReader::open(heads.path()));
  std::string line;
  bool whole = false;
  std::uint64_t bytes = 0;
  while (true) {
    QW_ASSIGN(const bool more, reader.next(line, whole));
    if (!more || !whole) break;
    auto head = Head::parse(line);
    if (!head) return in_context(heads.path().string() + ": byte " + std::to_string(bytes), std::move(head).error());
    last = *head;
    last_head = sha256(line);
    bytes += line.size() + 1;
  }
  if (bytes < heads.size()) QW_TRY(heads.cut(bytes));
  if (bytes == 0) return {};
  if (last.key != key.public_key().id())
    return fail(ErrorKind::kRefused,
                folder.string() + ": is signed by the key " + last.key + ", not by " + key.public_key().id());
  if (!key.public_key().verifies(last.signed_text(), last.signature))
    return fail(ErrorKind::kBadInput, heads.path().string() + ": the last head's signature is not the key's");
  signed_size = last.size;
  return {};
}

// The leaves that the last head signs. If they are not all there, which a crash may cause, they are made from records.
Status AuditLog::State::read_leaves(const Head& last) {
  const std::uint64_t n = leaves.size() / sizeof(Hash);
  if (n >= last.size) {
    QW_ASSIGN(const base::MappedFile map, base::MappedFile::open(leaves.path()));
    for (std::uint64_t i = 0; i < last.size; ++i) {
      Hash leaf;
      std::memcpy(leaf.data(), map.bytes().data() + i * sizeof(Hash), sizeof(Hash));
      tree.add(leaf);
    }
    if (last.size == 0 || tree.root() == last.root) return leaves.cut(last.size * sizeof(Hash));
  }
  tree = {};
  return leaves.cut(0);
}

// Records that have no leaves yet get theirs; those that the last head signs must be what it signs.
Status AuditLog::State::read_records(const Head& last) {
  QW_ASSIGN(LineReader reader, LineReader::open(records.path()));
  std::string line, more_leaves;
  bool whole = false;
  std::uint64_t bytes = 0, n = 0;
  while (true) {
    QW_ASSIGN(const bool more, reader.next(line, whole));
    if (!more || !whole) break;
    bytes += line.size() + 1;
    if (++n <= tree.size()) continue;
    const Hash leaf = leaf_hash(line);
    tree.add(leaf);
    more_leaves.append(reinterpret_cast<const char*>(leaf.data()), leaf.size());
    if (n == last.size && tree.root() != last.root)
      return fail(ErrorKind::kBadInput, records.path().string() + ": the first " + std::to_string(n) +
                                            " records are not those that the last head signs");
  }
  if (n < last.size)
    return fail(ErrorKind::kBadInput, records.path().string() + ": holds " + std::to_string(n) +
                                          " records, the last head signs " + std::to_string(last.size));
  if (bytes < records.size()) QW_TRY(records.cut(bytes));
  return leaves.add(more_leaves);
}

Head AuditLog::State::next_head() const {
  Head head{tree.size(), tree.root(), last_head, timestamp(base::unix_us()), key.public_key().id(), {}};
  head.signature = key.sign(head.signed_text());
  return head;
}

void AuditLog::State::signed_by(const std::string& line) {
  last_head = sha256(line);
  signed_size = tree.size();
}

// Of what is in the files already, without the journal.
Status AuditLog::State::sign() {
  const std::string line = next_head().line();
  // What it signs must be on the disk before it is. Leaves need not: they are made again from records.
  QW_TRY(records.sync());
  QW_TRY(heads.add(line + "\n"));
  QW_TRY(heads.sync());
  signed_by(line);
  return {};
}

// What the journal has and a crash kept from the files. Where they are other than it says, they stay as they are: what
// reads them next says what is wrong.
Status AuditLog::State::redo() {
  QW_ASSIGN(const std::vector<JournalBatch> batches, journal.open(folder / kAuditJournalFile));
  for (const JournalBatch& batch : batches) {
    if (!goes_on_with(records, batch.records_at, batch.records) || !goes_on_with(heads, batch.head_at, batch.head))
      break;
    QW_TRY(complete(records, batch.records_at, batch.records));
    QW_TRY(complete(heads, batch.head_at, batch.head));
  }
  if (!batches.empty()) QW_TRY(settle());
  return {};
}

// The files are on the disk: the journal is not needed for them.
Status AuditLog::State::settle() {
  QW_TRY(records.sync());
  QW_TRY(heads.sync());
  journal.begin_again();
  return {};
}

Status AuditLog::State::recover() {
  QW_TRY(records.open(folder / kRecordsFile));
  QW_TRY(leaves.open(folder / kLeavesFile));
  QW_TRY(heads.open(folder / kHeadsFile));
  QW_TRY(redo());
  QW_TRY(base::sync_folder(folder));
  Head last;
  QW_TRY(read_heads(last));
  QW_TRY(read_leaves(last));
  QW_TRY(read_records(last));
  if (tree.size() > signed_size) QW_TRY(sign());
  QW_TRY(journal.forget());
  kept = tree.size();
  return {};
}

// Into the journal, which is waited for, then into the files, which the system writes when it likes.
Status AuditLog::State::enter(std::string lines, const std::string& leaf_bytes) {
  const std::string line = next_head().line();
  const JournalBatch batch{records.size(), heads.size(), std::move(lines), line + "\n"};
  if (!Journal::can_hold(batch)) return enter_at_length(batch.records, leaf_bytes);
  if (!journal.has_room(batch)) QW_TRY(settle());
  QW_TRY(journal.write(batch));
  Status done = records.add(batch.records);
  if (done) done = leaves.add(leaf_bytes);
  if (done) done = heads.add(batch.head);
  if (!done) {
    if (const Status back = journal.take_back(); !back) broken = back;
    return done;
  }
  signed_by(line);
  return {};
}

Status AuditLog::State::enter_at_length(const std::string& lines, const std::string& leaf_bytes) {
  QW_TRY(records.add(lines));
  QW_TRY(leaves.add(leaf_bytes));
  return sign();
}

// The lines and leaves of a batch, which the tree then has; and what is wrong with each of its records.
std::vector<Status> AuditLog::State::add(std::vector<Waiting>& batch, std::string& lines, std::string& leaf_bytes) {
  std::vector<Status> each(batch.size());
  for (std::size_t i = 0; i < batch.size(); ++i) {
    json::Object record = batch[i].make();
    QW_CHECK(record.find("type") != nullptr && record.find("seq") == nullptr && record.find("ts") == nullptr);
    record.set("seq", static_cast<std::int64_t>(tree.size()));
    record.set("ts", timestamp(base::unix_us()));
    const std::string line = canonical(record);
    if (line.size() > kMaxLineBytes / 2) {
      each[i] = fail(ErrorKind::kUsage, "an audit record of " + std::to_string(line.size()) + " bytes");
      continue;
    }
    const Hash leaf = leaf_hash(line);
    tree.add(leaf);
    lines += line;
    lines += '\n';
    leaf_bytes.append(reinterpret_cast<const char*>(leaf.data()), leaf.size());
  }
  return each;
}

// Everything of a batch is kept, or nothing of it is.
void AuditLog::State::write(std::vector<Waiting>& batch) {
  const std::uint64_t records_before = records.size(), leaves_before = leaves.size(), heads_before = heads.size();
  const Frontier tree_before = tree;
  std::string lines, leaf_bytes;
  const std::vector<Status> each = add(batch, lines, leaf_bytes);
  Status done = broken;
  if (done && !lines.empty()) {
    done = enter(std::move(lines), leaf_bytes);
    if (!done) {
      for (auto [file, size] : {std::pair(&heads, heads_before), {&leaves, leaves_before}, {&records, records_before}})
        if (const Status cut = file->cut(size); !cut) broken = cut;
    }
  }
  if (!done) tree = tree_before;
  {
    const std::lock_guard guard(mutex);
    kept = tree.size();
  }
  const base::PuttingOff once;  // whoever is woken for these is woken once
  for (std::size_t i = 0; i < batch.size(); ++i)
    if (batch[i].then) batch[i].then(each[i] ? done : each[i]);
}

void AuditLog::State::run() {
  std::unique_lock guard(mutex);
  while (true) {
    wake.wait(guard, [&] { return stopping || !waiting.empty(); });
    if (waiting.empty()) break;
    std::vector<Waiting> batch;
    std::swap(batch, waiting);
    guard.unlock();
    write(batch);
    batch.clear();  // what the callbacks hold goes before the log waits
    guard.lock();
  }
  // Without it a start has nothing to complete.
  if (broken && settle()) (void)journal.forget();
}

AuditLog::AuditLog(std::shared_ptr<State> state) : state_(std::move(state)) {
  state_->writer = std::thread([s = state_.get()] { s->run(); });
}

AuditLog::~AuditLog() {
  {
    const std::lock_guard guard(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_one();
  state_->writer.join();
  state_->unlock();
}

Result<std::unique_ptr<AuditLog>> AuditLog::open(const fs::path& folder, SigningKey key) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(ErrorKind::kFailed, folder.string() + ": " + error.message());
  auto state = std::make_shared<State>();
  state->key = std::move(key);
  state->folder = folder;
  QW_TRY(state->take_lock());
  QW_TRY(state->recover());
  return std::unique_ptr<AuditLog>(new AuditLog(std::move(state)));
}

void AuditLog::append(json::Object event, Then then) {
  append_made([event = std::move(event)]() mutable { return std::move(event); }, std::move(then));
}

bool AuditLog::State::push(Make make, Then then) {
  const std::lock_guard guard(mutex);
  waiting.push_back({std::move(make), std::move(then)});
  return waiting.size() == 1;
}

void AuditLog::append_made(Make make, Then then) {
  if (!state_->push(std::move(make), std::move(then))) return;  // who came first wakes it
  // Answers that end in one step of the engine are one batch: the log is woken when the step is over.
  const auto wake = [state = state_] { state->wake.notify_one(); };
  if (!base::put_off(wake)) wake();
}

// At once, as this thread may be the one that puts work off.
Status AuditLog::append_and_wait(json::Object event) {
  std::promise<Status> done;
  (void)state_->push([event = std::move(event)]() mutable { return std::move(event); },
                     [&](Status s) { done.set_value(std::move(s)); });
  state_->wake.notify_one();
  return done.get_future().get();
}

std::uint64_t AuditLog::size() const {
  const std::lock_guard guard(state_->mutex);
  return state_->kept;
}

const std::filesystem::path& AuditLog::folder() const { return state_->folder; }
const SigningKey& AuditLog::key() const { return state_->key; }

}  // namespace qw::governance
