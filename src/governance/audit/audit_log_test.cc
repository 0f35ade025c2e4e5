// Logs that are kept, cut off, gone on with, and tampered with.
#include "governance/audit/audit_log.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <future>
#include <random>
#include <thread>

#include "base/file.h"
#include "governance/audit/journal.h"
#include "governance/audit/log_files.h"
#include "governance/audit/verify.h"

namespace qw::governance {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

json::Object event(int i) { return {{"type", "note"}, {"number", i}, {"text", "文" + std::to_string(i)}}; }

struct AuditLogTest : ::testing::Test {
  fs::path folder = fs::temp_directory_path() / ("qw_audit_" + std::to_string(::getpid()));
  fs::path log = folder / "log";
  SigningKey key;
  AuditLogTest() {
    fs::remove_all(folder);
    fs::create_directories(folder);
    key = *SigningKey::create(folder / "key");
  }
  ~AuditLogTest() override { fs::remove_all(folder); }
  std::unique_ptr<AuditLog> open() {
    auto made = AuditLog::open(log, key);
    if (!made) throw std::runtime_error(made.error().message);
    return std::move(*made);
  }
  void fill(int records) {
    const auto a = open();
    for (int i = 0; i < records; ++i) ASSERT_TRUE(a->append_and_wait(event(i)));
  }
  AuditReport report(const std::optional<Head>& anchor = {}) const {
    return *verify_log(log, key.public_key(), anchor);
  }
  std::string read(const char* name) const { return *base::read_file(log / name); }
  void write(const char* name, const std::string& text) const {
    std::ofstream(log / name, std::ios::binary | std::ios::trunc) << text;
  }
};

TEST_F(AuditLogTest, KeepsRecordsInOrderUnderSignedHeads) {
  fill(5);
  const AuditReport r = report();
  EXPECT_THAT(r.findings, IsEmpty());
  EXPECT_EQ(r.records, 5u);
  EXPECT_EQ(r.heads, 5u);
  const std::string first = read(kRecordsFile).substr(0, read(kRecordsFile).find('\n'));
  EXPECT_THAT(first, HasSubstr(R"({"number":0,"seq":0,"text":"文0","ts":"2)"));
}

TEST_F(AuditLogTest, GoesOnWhereItEnded) {
  fill(3);
  fill(4);
  EXPECT_THAT(report().findings, IsEmpty());
  EXPECT_EQ(open()->size(), 7u);
}

// Whichever library makes them: RFC 8032, 7.1, test 2.
TEST_F(AuditLogTest, SignaturesAreThePublishedOnes) {
  const fs::path file = folder / "published";
  ASSERT_TRUE(base::write_file_atomically(file, R"({"kind": "ed25519",
    "secret": "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    "public": "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "content_secret": "0000000000000000000000000000000000000000000000000000000000000000"})"));
  fs::permissions(file, fs::perms::owner_read | fs::perms::owner_write);
  const auto published = SigningKey::read(file);
  ASSERT_TRUE(published) << published.error().message;
  const Signature signature = published->sign("\x72");
  EXPECT_EQ(to_hex(signature),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
  EXPECT_TRUE(published->public_key().verifies("\x72", signature));
}

TEST_F(AuditLogTest, ManyThreadsShareBatches) {
  constexpr int kThreads = 8, kEach = 200;
  std::atomic<int> kept = 0;
  {
    const auto a = open();
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < kEach; ++i) a->append(event(i), [&](const Status& s) { kept += s.has_value(); });
      });
    for (auto& t : threads) t.join();
  }
  EXPECT_EQ(kept, kThreads * kEach);
  const AuditReport r = report();
  EXPECT_THAT(r.findings, IsEmpty());
  EXPECT_EQ(r.records, std::uint64_t{kThreads * kEach});
  EXPECT_LT(r.heads, r.records);
}

// Wherever a crash cuts the files off in the order in which they are written, what was told to be kept is.
TEST_F(AuditLogTest, ACrashCostsNothingThatWasTold) {
  fill(3);
  const std::string records = read(kRecordsFile), leaves = read(kLeavesFile), heads = read(kHeadsFile);
  fill(2);
  const std::string more_records = read(kRecordsFile), more_leaves = read(kLeavesFile), more_heads = read(kHeadsFile);
  std::vector<std::array<std::string, 3>> states;
  for (std::size_t n = records.size(); n <= more_records.size(); n += 7)
    states.push_back({more_records.substr(0, n), leaves, heads});
  for (std::size_t n = leaves.size(); n <= more_leaves.size(); n += 5)
    states.push_back({more_records, more_leaves.substr(0, n), heads});
  for (std::size_t n = heads.size(); n <= more_heads.size(); n += 11)
    states.push_back({more_records, more_leaves, more_heads.substr(0, n)});
  for (const auto& s : states) {
    write(kRecordsFile, s[0]);
    write(kLeavesFile, s[1]);
    write(kHeadsFile, s[2]);
    {
      const auto a = open();
      EXPECT_GE(a->size(), 3u);
      ASSERT_TRUE(a->append_and_wait(event(9)));
    }
    ASSERT_THAT(report().findings, IsEmpty()) << s[0].size() << " " << s[1].size() << " " << s[2].size();
    ASSERT_EQ(read(kRecordsFile).substr(0, records.size()), records);
  }
}

// After a failure of power the files may end anywhere behind what was waited for, each by itself: the journal has it.
TEST_F(AuditLogTest, WhatTheDiskHadOnlyInTheJournalIsThereAgain) {
  const fs::path down = folder / "down";
  {
    const auto a = open();
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(a->append_and_wait(event(i)));
    fs::copy(log, down);
  }
  const std::string records = read(kRecordsFile), leaves = read(kLeavesFile), heads = read(kHeadsFile);
  const std::string journal = *base::read_file(down / kAuditJournalFile);
  fs::remove_all(log);
  fs::create_directories(log);
  std::mt19937 random(11);
  const auto cut = [&](const std::string& text) { return text.substr(0, random() % (text.size() + 1)); };
  for (int i = 0; i < 40; ++i) {
    write(kRecordsFile, cut(records));
    write(kLeavesFile, cut(leaves));
    write(kHeadsFile, cut(heads));
    write(kAuditJournalFile, journal);
    EXPECT_EQ(open()->size(), 5u);
    ASSERT_EQ(read(kRecordsFile), records);
    ASSERT_EQ(read(kLeavesFile), leaves);
    ASSERT_EQ(read(kHeadsFile), heads);
  }
  // A batch that was cut off as it was written to the journal was told to nobody; one before it is not lost by that.
  std::string torn = journal;
  const std::size_t last_batch = 4 * Journal::kPage;
  torn[last_batch + 100] ^= 1;
  const std::size_t four = records.rfind('\n', records.size() - 2) + 1, three = records.rfind('\n', four - 2) + 1;
  const std::size_t head_of_four = heads.rfind('\n', heads.size() - 2) + 1;
  write(kRecordsFile, records.substr(0, three + 5));
  write(kHeadsFile, heads.substr(0, head_of_four));
  write(kLeavesFile, leaves);
  write(kAuditJournalFile, torn);
  EXPECT_EQ(open()->size(), 4u);
  EXPECT_THAT(report().findings, IsEmpty());
  // What was changed is no work of a crash: it is found, and stays as it is.
  std::string other = records;
  other[other.find("文2")] ^= 1;
  for (const std::string& text : {other, records.substr(0, three)}) {
    write(kRecordsFile, text);
    write(kHeadsFile, heads);
    write(kAuditJournalFile, text == other ? journal : torn);
    EXPECT_EQ(AuditLog::open(log, key).error().kind, ErrorKind::kBadInput);
    EXPECT_TRUE(read(kRecordsFile).starts_with(text));
  }
}

TEST_F(AuditLogTest, AJournalThatIsFullBeginsAgain) {
  const fs::path down = folder / "down";
  constexpr int kBatches = Journal::kBytes / Journal::kPage + 20;
  {
    const auto a = open();
    for (int i = 0; i < kBatches; ++i) ASSERT_TRUE(a->append_and_wait(event(i)));
    fs::copy(log, down);
  }
  EXPECT_EQ(read_journal(*base::read_file(down / kAuditJournalFile)).size(), 20u);
  EXPECT_TRUE(read_journal(read(kAuditJournalFile)).empty()) << "it ended as asked";
  for (const char* name : {kRecordsFile, kHeadsFile}) {
    const std::string text = read(name);
    fs::resize_file(down / name, text.size() - text.size() / kBatches * 15);
  }
  EXPECT_EQ((*AuditLog::open(down, key))->size(), std::uint64_t{kBatches});
  EXPECT_THAT(verify_log(down, key.public_key())->findings, IsEmpty());
}

// More at once than the journal takes goes into the files at once.
TEST_F(AuditLogTest, ABatchMayBeLongerThanTheJournal) {
  std::promise<void> others;
  int kept = 0;
  {
    const auto a = open();
    a->append(event(0), [&](const Status&) { others.get_future().wait(); });
    for (int i = 0; i < 4; ++i)
      a->append({{"type", "note"}, {"text", std::string(400'000, 'x')}},
                [&](const Status& s) { kept += s.has_value(); });
    others.set_value();
    ASSERT_TRUE(a->append_and_wait(event(5)));
  }
  EXPECT_EQ(kept, 4);
  EXPECT_THAT(report().findings, IsEmpty());
  EXPECT_EQ(report().records, 6u);
}

TEST_F(AuditLogTest, WhatIsTakenAwayIsNotGoneOnWith) {
  fill(4);
  const std::string records = read(kRecordsFile), leaves = read(kLeavesFile), heads = read(kHeadsFile);
  const auto error = [&] { return AuditLog::open(log, key).error(); };
  write(kRecordsFile, records.substr(0, records.size() / 2));
  EXPECT_EQ(error().kind, ErrorKind::kBadInput);
  EXPECT_THAT(error().message, HasSubstr("records, the last head signs 4"));
  std::string other = records;
  other[other.find("文2")] ^= 1;
  write(kRecordsFile, other);
  write(kLeavesFile, "");
  EXPECT_THAT(error().message, HasSubstr("the first 4 records are not those that the last head signs"));
  write(kRecordsFile, records);
  other = heads;
  other[other.size() - 10] ^= 1;
  write(kHeadsFile, other);
  EXPECT_EQ(error().kind, ErrorKind::kBadInput);
  // Leaves are made again from records.
  write(kHeadsFile, heads);
  for (std::string lost : {leaves.substr(0, 70), std::string(leaves.size(), '\0'), leaves + leaves}) {
    write(kLeavesFile, lost);
    EXPECT_EQ(open()->size(), 4u);
    EXPECT_EQ(read(kLeavesFile), leaves);
  }
}

TEST_F(AuditLogTest, OneWriterAndOneKey) {
  const auto a = open();
  EXPECT_EQ(AuditLog::open(log, key).error().kind, ErrorKind::kResource);
  ASSERT_TRUE(a->append_and_wait(event(1)));
  const SigningKey other = *SigningKey::create(folder / "other");
  EXPECT_NE(other.public_key().id(), key.public_key().id());
  EXPECT_THAT(verify_log(log, other.public_key())->findings[0], HasSubstr("is signed by the key"));
}

TEST_F(AuditLogTest, AnotherKeyIsRefused) {
  fill(1);
  const auto made = AuditLog::open(log, *SigningKey::create(folder / "other"));
  EXPECT_EQ(made.error().kind, ErrorKind::kRefused);
}

// As with a full disk: nothing of the batch stays, and the log goes on when there is room again.
TEST_F(AuditLogTest, ARecordThatCannotBeWrittenIsNotKept) {
  const auto a = open();
  ASSERT_TRUE(a->append_and_wait(event(1)));
  EXPECT_EQ(a->append_and_wait({{"type", "note"}, {"text", std::string(kMaxLineBytes, 'x')}}).error().kind,
            ErrorKind::kUsage);
  ASSERT_TRUE(a->append_and_wait(event(2)));
  EXPECT_EQ(a->size(), 2u);
}

TEST_F(AuditLogTest, ProofsHoldForEachRecordAlone) {
  fill(6);
  for (std::uint64_t i = 0; i < 6; ++i) {
    const auto proof = prove_record(log, i);
    ASSERT_TRUE(proof) << proof.error().message;
    const auto record = check_proof(*proof, key.public_key());
    ASSERT_TRUE(record) << record.error().message;
    EXPECT_EQ(record->find("number")->as_int(), static_cast<std::int64_t>(i));
    json::Object changed = *proof;
    std::string line = changed.find("record")->as_string();
    line[line.find("文") + 3] = '9';
    changed.set("record", line);
    EXPECT_THAT(check_proof(changed, key.public_key()).error().message, HasSubstr("not under the head"));
  }
  EXPECT_EQ(prove_record(log, 6).error().kind, ErrorKind::kUsage);
}

// Somebody with the key who rewrites everything is found by a head that was put by.
TEST_F(AuditLogTest, AHeadThatWasPutByFindsARewrittenLog) {
  fill(5);
  const std::string heads = read(kHeadsFile);
  const std::size_t begin = heads.rfind('\n', heads.size() - 2) + 1;
  const auto anchor = Head::parse(std::string_view(heads).substr(begin, heads.size() - 1 - begin));
  ASSERT_TRUE(anchor);
  EXPECT_THAT(report(*anchor).findings, IsEmpty());
  fill(2);
  EXPECT_THAT(report(*anchor).findings, IsEmpty());
  fs::remove_all(log);
  fill(5);  // at another time
  EXPECT_THAT(report(*anchor).findings[0], HasSubstr("head put by"));
  fs::remove_all(log);
  fill(4);
  EXPECT_THAT(report(*anchor).findings[0], HasSubstr("signs 5 records; there are 4"));
}

// Bytes changed, added and taken away, lines swapped, doubled and dropped, in any file: QW_SLOW=1 makes 10,000 of them.
TEST_F(AuditLogTest, NoTamperingIsMissed) {
  fill(12);
  const char* const names[] = {kRecordsFile, kLeavesFile, kHeadsFile};
  std::array<std::string, 3> whole;
  for (std::size_t f = 0; f < 3; ++f) whole[f] = read(names[f]);
  std::mt19937 random(7);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  const int rounds = std::getenv("QW_SLOW") != nullptr ? 10000 : 500;
  for (int i = 0; i < rounds; ++i) {
    const std::size_t f = below(3);
    std::string text = whole[f];
    const std::size_t at = below(text.size());
    const auto line = [&](std::size_t from) { return text.substr(from, text.find('\n', from) + 1 - from); };
    const std::size_t begin = at == 0 ? 0 : text.rfind('\n', at - 1) + 1;  // npos + 1 is 0
    switch (below(6)) {
      case 0:
        text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 1:
        text.insert(at, 1, static_cast<char>(below(256)));
        break;
      case 2:
        text.erase(at, 1 + below(40));
        break;
      case 3:
        text.resize(at);
        break;
      case 4:
        text.erase(begin, line(begin).size());
        break;
      default:
        text.insert(begin, line(begin));
        break;
    }
    if (text == whole[f]) continue;  // a byte that is inserted beside its like may make no difference
    write(names[f], text);
    const auto r = verify_log(log, key.public_key());
    ASSERT_TRUE(!r || !r->findings.empty()) << names[f] << " round " << i;
    write(names[f], whole[f]);
  }
  EXPECT_THAT(report().findings, IsEmpty());
}

TEST_F(AuditLogTest, SecretKeysAreForTheirOwner) {
  const auto again = SigningKey::read(folder / "key");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->public_key().bytes, key.public_key().bytes);
  EXPECT_EQ(again->conceal("x"), key.conceal("x"));
  EXPECT_NE(again->conceal("x"), key.conceal("y"));
  EXPECT_EQ(PublicKey::read(folder / "key.pub")->bytes, key.public_key().bytes);
  EXPECT_FALSE(SigningKey::create(folder / "key"));  // there is one
  ASSERT_EQ(::chmod((folder / "key").c_str(), 0644), 0);
  EXPECT_EQ(SigningKey::read(folder / "key").error().kind, ErrorKind::kRefused);
  EXPECT_EQ(PublicKey::read(folder / "none").error().kind, base::read_file(folder / "none").error().kind);
}

}  // namespace
}  // namespace qw::governance
