#include "governance/audit/journal.h"

#include <openssl/rand.h>

#include "governance/audit/merkle.h"

namespace qw::governance {
namespace {

constexpr std::string_view kMagic = "qwjournl";
constexpr std::size_t kFields = 40, kHeader = kFields + sizeof(Hash);  // the fields, then their hash and the bytes'

void put(std::string& out, std::uint64_t number, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(number >> 8 * i & 255);
}

std::uint64_t number_at(std::string_view bytes, std::size_t at, int count) {
  std::uint64_t out = 0;
  for (int i = 0; i < count; ++i)
    out |= std::uint64_t{static_cast<unsigned char>(bytes[at + static_cast<std::size_t>(i)])} << 8 * i;
  return out;
}

std::uint64_t in_pages(std::uint64_t bytes) { return (bytes + Journal::kPage - 1) / Journal::kPage * Journal::kPage; }

std::uint64_t size_of(const JournalBatch& batch) {
  return in_pages(kHeader + batch.records.size() + batch.head.size());
}

std::string text_of(const JournalBatch& batch, std::uint64_t generation) {
  std::string out;
  out.reserve(size_of(batch));
  out += kMagic;
  put(out, generation, 8);
  put(out, batch.records_at, 8);
  put(out, batch.head_at, 8);
  put(out, batch.records.size(), 4);
  put(out, batch.head.size(), 4);
  const Hash hash = sha256(out, batch.records, batch.head);
  out.append(reinterpret_cast<const char*>(hash.data()), hash.size());
  out += batch.records;
  out += batch.head;
  out.resize(size_of(batch));
  return out;
}

std::uint64_t new_generation() {
  std::uint64_t out = 0;
  QW_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(&out), sizeof(out)) == 1);
  return out;
}

}  // namespace

std::vector<JournalBatch> read_journal(std::string_view bytes) {
  std::vector<JournalBatch> out;
  std::uint64_t generation = 0;
  while (bytes.size() >= kHeader && bytes.starts_with(kMagic)) {
    const std::uint64_t records = number_at(bytes, 32, 4), head = number_at(bytes, 36, 4);
    if (records + head > bytes.size() - kHeader) break;
    if (!out.empty() && number_at(bytes, 8, 8) != generation) break;
    generation = number_at(bytes, 8, 8);
    const std::string_view body = bytes.substr(kHeader, records + head);
    const Hash hash = sha256(bytes.substr(0, kFields), body, {});
    if (bytes.substr(kFields, hash.size()) != std::string_view(reinterpret_cast<const char*>(hash.data()), hash.size()))
      break;
    out.push_back({number_at(bytes, 16, 8), number_at(bytes, 24, 8), std::string(body.substr(0, records)),
                   std::string(body.substr(records))});
    bytes.remove_prefix(std::min<std::uint64_t>(bytes.size(), size_of(out.back())));
  }
  return out;
}

Result<std::vector<JournalBatch>> Journal::open(const std::filesystem::path& path) {
  QW_TRY(file_.open(path));
  generation_ = new_generation();
  if (file_.size() == kBytes) {
    QW_ASSIGN(const std::string bytes, file_.read(0, kBytes));
    file_.leave_memory();
    return read_journal(bytes);
  }
  // Written in whole before its first batch, or else a batch would make it grow.
  QW_TRY(file_.cut(0));
  QW_TRY(file_.add(std::string(kBytes, '\0')));
  QW_TRY(file_.sync());
  file_.leave_memory();
  return std::vector<JournalBatch>();
}

bool Journal::can_hold(const JournalBatch& batch) { return size_of(batch) <= kBytes; }
bool Journal::has_room(const JournalBatch& batch) const { return at_ + size_of(batch) <= kBytes; }

Status Journal::write(const JournalBatch& batch) {
  QW_CHECK(has_room(batch));
  last_ = at_;
  Status done = file_.put(last_, text_of(batch, generation_));
  if (done) done = file_.sync();
  if (done) {
    at_ += size_of(batch);
    return {};
  }
  QW_TRY(take_back());
  return done;
}

Status Journal::take_back() {
  at_ = last_;
  QW_TRY(file_.put(last_, std::string(kPage, '\0')));
  return file_.sync();
}

void Journal::begin_again() {
  at_ = last_ = 0;
  generation_ = new_generation();
}

Status Journal::forget() {
  begin_again();
  return take_back();
}

}  // namespace qw::governance
