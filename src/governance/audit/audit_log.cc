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
#include "governance/audit/log_files.h"
#include "governance/internal/growing_file.h"

namespace qw::governance {
namespace {

namespace fs = std::filesystem;

struct Waiting {
  json::Object event;
  AuditLog::Then then;
};

}  // namespace

struct AuditLog::State {
  SigningKey key;
  fs::path folder;
  int lock = -1;
  GrowingFile records, leaves, heads;
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

  ~State() {
    if (lock >= 0) ::close(lock);
  }
  Status take_lock();
  Status recover();
  Status read_heads(Head& last);
  Status read_leaves(const Head& last);
  Status read_records(const Head& last);
  Status sign();
  void run();
  void write(std::vector<Waiting>& batch);
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

Status AuditLog::State::sign() {
  Head head{tree.size(), tree.root(), last_head, timestamp(base::unix_us()), key.public_key().id(), {}};
  head.signature = key.sign(head.signed_text());
  const std::string line = head.line();
  // What it signs must be on the disk before it is. Leaves need not: they are made again from records.
  QW_TRY(records.sync());
  QW_TRY(heads.add(line + "\n"));
  QW_TRY(heads.sync());
  last_head = sha256(line);
  signed_size = tree.size();
  return {};
}

Status AuditLog::State::recover() {
  QW_TRY(records.open(folder / kRecordsFile));
  QW_TRY(leaves.open(folder / kLeavesFile));
  QW_TRY(heads.open(folder / kHeadsFile));
  QW_TRY(base::sync_folder(folder));
  Head last;
  QW_TRY(read_heads(last));
  QW_TRY(read_leaves(last));
  QW_TRY(read_records(last));
  if (tree.size() > signed_size) QW_TRY(sign());
  kept = tree.size();
  return {};
}

// Everything of a batch is kept, or nothing of it is.
void AuditLog::State::write(std::vector<Waiting>& batch) {
  const std::uint64_t records_before = records.size(), leaves_before = leaves.size(), heads_before = heads.size();
  const Frontier tree_before = tree;
  const Hash head_before = last_head;
  std::string lines, leaf_bytes;
  std::vector<Status> each(batch.size());
  for (std::size_t i = 0; i < batch.size(); ++i) {
    json::Object record = std::move(batch[i].event);
    record.set("seq", static_cast<std::int64_t>(tree.size()));
    record.set("ts", timestamp(base::unix_us()));
    const std::string line = canonical(record);
    if (line.size() > kMaxLineBytes / 2) {
      each[i] = fail(ErrorKind::kUsage, "an audit record of " + std::to_string(line.size()) + " bytes");
      continue;
    }
    const Hash leaf = leaf_hash(line);
    tree.add(leaf);
    lines += line + "\n";
    leaf_bytes.append(reinterpret_cast<const char*>(leaf.data()), leaf.size());
  }
  Status done = broken;
  if (done && !lines.empty()) {
    done = records.add(lines);
    if (done) done = leaves.add(leaf_bytes);
    if (done) done = sign();
    if (!done) {
      tree = tree_before;
      last_head = head_before;
      for (auto [file, size] : {std::pair(&heads, heads_before), {&leaves, leaves_before}, {&records, records_before}})
        if (const Status cut = file->cut(size); !cut) broken = cut;
    }
  }
  {
    const std::lock_guard guard(mutex);
    kept = tree.size();
  }
  for (std::size_t i = 0; i < batch.size(); ++i)
    if (batch[i].then) batch[i].then(each[i] ? done : each[i]);
}

void AuditLog::State::run() {
  std::unique_lock guard(mutex);
  while (true) {
    wake.wait(guard, [&] { return stopping || !waiting.empty(); });
    if (waiting.empty()) return;
    std::vector<Waiting> batch;
    std::swap(batch, waiting);
    guard.unlock();
    write(batch);
    batch.clear();  // what the callbacks hold goes before the log waits
    guard.lock();
  }
}

AuditLog::AuditLog(std::unique_ptr<State> state) : state_(std::move(state)) {
  state_->writer = std::thread([s = state_.get()] { s->run(); });
}

AuditLog::~AuditLog() {
  {
    const std::lock_guard guard(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_one();
  state_->writer.join();
}

Result<std::unique_ptr<AuditLog>> AuditLog::open(const fs::path& folder, SigningKey key) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(ErrorKind::kFailed, folder.string() + ": " + error.message());
  auto state = std::make_unique<State>();
  state->key = std::move(key);
  state->folder = folder;
  QW_TRY(state->take_lock());
  QW_TRY(state->recover());
  return std::unique_ptr<AuditLog>(new AuditLog(std::move(state)));
}

void AuditLog::append(json::Object event, Then then) {
  QW_CHECK(event.find("type") != nullptr && event.find("seq") == nullptr && event.find("ts") == nullptr);
  {
    const std::lock_guard guard(state_->mutex);
    state_->waiting.push_back({std::move(event), std::move(then)});
  }
  state_->wake.notify_one();
}

Status AuditLog::append_and_wait(json::Object event) {
  std::promise<Status> done;
  append(std::move(event), [&](Status s) { done.set_value(std::move(s)); });
  return done.get_future().get();
}

std::uint64_t AuditLog::size() const {
  const std::lock_guard guard(state_->mutex);
  return state_->kept;
}

const std::filesystem::path& AuditLog::folder() const { return state_->folder; }
const SigningKey& AuditLog::key() const { return state_->key; }

}  // namespace qw::governance
