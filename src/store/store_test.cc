// Opening, migrations, backup; files, jobs, documents: over both engines.
#include "store/store.h"

#include <thread>

#include "base/file.h"
#include "store/internal/backup.h"
#include "store/internal/migrations.h"
#include "store/internal/test_stores.h"

namespace qw::store {
namespace {

class StoreTest : public test::OnEngine {
 protected:
  std::string project() {
    if (store_->tenants().organisations()->empty()) {
      EXPECT_TRUE(store_->tenants().add_organisation("o").has_value());
      EXPECT_TRUE(store_->tenants().add_project("o", "p").has_value());
    }
    return store_->tenants().project("p")->id;
  }
};
INSTANTIATE_TEST_SUITE_P(Both, StoreTest, testing::Values(test::Engine::kSqlite, test::Engine::kPostgres),
                         test::engine_name);

TEST_P(StoreTest, MigratesFromEveryVersionAndKeepsWhatIsThere) {
  for (int version = 0; version <= latest_version(); ++version) {
    if (GetParam() == test::Engine::kSqlite) {
      for (const char* tail : {"", "-wal", "-shm"}) std::filesystem::remove(url_ + tail);
    }
    {
      auto connection = database()->connect();
      ASSERT_TRUE(connection.has_value()) << connection.error().message;
      if (GetParam() == test::Engine::kPostgres) {
        ASSERT_TRUE((*connection)->script("DROP SCHEMA public CASCADE; CREATE SCHEMA public").has_value());
      }
      EXPECT_EQ(*version_of(**connection), 0);
      const auto migrated = migrate(**connection, version);
      ASSERT_TRUE(migrated.has_value()) << migrated.error().message;
      EXPECT_EQ(*version_of(**connection), version);
      if (version >= 1) {
        ASSERT_TRUE((*connection)->script("INSERT INTO organisations VALUES ('org_1', 'kept', 3, 5, 0)").has_value());
      }
      if (version >= 2) {
        ASSERT_TRUE((*connection)->script("INSERT INTO prices (model, currency, prompt, cached, reasoning, output) "
                                             "VALUES ('mini', 'CNY', 3, 2, 5, 4)").has_value());
      }
    }
    Store& store = open();
    EXPECT_EQ(store.tenants().organisations()->size(), version >= 1 ? 1u : 0u) << version;
    EXPECT_EQ(store.ledger().prices()->size(), version >= 2 ? 1u : 0u) << version;
    auto connection = database()->connect();
    EXPECT_EQ(*version_of(**connection), latest_version());
    store_.reset();
  }
}

TEST_P(StoreTest, EveryTableOfTheListIsThereWithItsColumnsAndNoOther) {
  open();
  auto connection = database()->connect();
  const char* sql = GetParam() == test::Engine::kSqlite ? "SELECT name FROM sqlite_master WHERE type = 'table' AND "
                                                          "name NOT LIKE 'sqlite_%' AND name <> 'schema_version'"
                                                        : "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE "
                                                          "schemaname = 'public' AND tablename <> 'schema_version'";
  EXPECT_EQ((*connection)->run(sql, {})->size(), tables().size());
  for (const TableInfo& table : tables()) {
    const std::string columns = GetParam() == test::Engine::kSqlite
                                    ? "SELECT name FROM pragma_table_info('" + std::string(table.name) + "')"
                                    : "SELECT CAST(column_name AS TEXT) FROM information_schema.columns WHERE "
                                      "table_schema = 'public' AND table_name = '" +
                                          std::string(table.name) + "' ORDER BY ordinal_position";
    const auto rows = (*connection)->run(columns, {});
    ASSERT_TRUE(rows.has_value()) << rows.error().message;
    std::vector<std::string> found;
    for (const Row& r : *rows) found.push_back(r.text(0));
    EXPECT_EQ(found, std::vector<std::string>(table.columns.begin(), table.columns.end())) << table.name;
  }
}

TEST_P(StoreTest, ANewerDatabaseIsRefused) {
  open();
  store_.reset();
  {
    auto connection = database()->connect();
    ASSERT_TRUE((*connection)->script("INSERT INTO schema_version VALUES (999, 0)").has_value());
  }
  const auto refused = Store::open(url_);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kBadInput);
  EXPECT_NE(refused.error().message.find("999"), std::string::npos);
}

TEST_P(StoreTest, SeveralOpenAnEmptyDatabaseAtOnce) {
  std::vector<std::thread> threads;
  std::atomic<int> keys{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const auto store = Store::open(url_);
      ASSERT_TRUE(store.has_value()) << store.error().message;
      const auto made = (*store)->tenants().bootstrap();
      ASSERT_TRUE(made.has_value()) << made.error().message;
      keys += made->has_value() ? 1 : 0;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(keys, 1);
}

TEST_P(StoreTest, OnlyOneServesFromAFile) {
  Store& store = open();
  const auto alone = store.serve_alone();
  ASSERT_TRUE(alone.has_value()) << alone.error().message;
  EXPECT_EQ(*alone, GetParam() == test::Engine::kSqlite);
  const auto second = Store::open(url_);
  const auto refused = (*second)->serve_alone();
  EXPECT_EQ(refused.has_value(), GetParam() == test::Engine::kPostgres);
  store_.reset();
  EXPECT_TRUE((*second)->serve_alone().has_value());
}

TEST_P(StoreTest, FilesComeBackByteForByte) {
  Store& store = open();
  const std::string p = project();
  std::string content(2 * Files::kPartBytes + 12345, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 31 + i / 256);
  const auto file = store.files().begin(p, "训练.jsonl", "fine-tune");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  const std::string_view view = content;
  for (const auto& [at, n] :
       {std::pair<std::size_t, std::size_t>{0, 10}, {10, 1'500'000}, {1'500'010, 0}, {1'500'010, std::string::npos}})
    ASSERT_TRUE(store.files().append(file->id, view.substr(at, n)).has_value());
  const auto complete = store.files().complete(file->id);
  EXPECT_EQ(complete->bytes, static_cast<std::int64_t>(content.size()));
  EXPECT_FALSE(store.files().append(file->id, "x").has_value());
  std::string back;
  for (std::string piece = "x"; !piece.empty(); back += piece)
    piece = *store.files().read(file->id, static_cast<std::int64_t>(back.size()));
  EXPECT_TRUE(back == content);
  EXPECT_EQ(store.files().read(file->id, Files::kPartBytes + 5)->substr(0, 100),
            content.substr(Files::kPartBytes + 5, 100));
  EXPECT_EQ(store.files().find(p, file->id)->name, "训练.jsonl");
  EXPECT_FALSE(store.files().find("another", file->id).has_value());
  EXPECT_FALSE(store.files().remove("another", file->id).has_value());

  now_us_ += 1;
  const auto second = store.files().begin(p, "b", "batch", now_us_ + 10);
  ASSERT_TRUE(store.files().complete(second->id).has_value());
  EXPECT_EQ(store.files().list(p, "", "", 10)->size(), 2u);
  EXPECT_EQ(store.files().list(p, "", "", 1)->at(0).id, second->id);
  EXPECT_EQ(store.files().list(p, "", second->id, 10)->at(0).id, file->id);
  EXPECT_EQ(store.files().list(p, "", "", 10, true)->at(0).id, file->id);
  EXPECT_EQ(store.files().list(p, "", file->id, 10, true)->at(0).id, second->id);
  ASSERT_TRUE(store.files().begin(p, "unfinished", "").has_value());
  EXPECT_EQ(store.files().list(p, "", "", 10)->size(), 2u);
  EXPECT_EQ(store.files().list(p, "batch", "", 10)->size(), 1u);
  now_us_ += 10;
  EXPECT_EQ(*store.files().sweep(), 1);
  ASSERT_TRUE(store.files().remove(p, file->id).has_value());
  EXPECT_TRUE(store.files().read(file->id, 0)->empty());
}

TEST_P(StoreTest, TheOnlyServiceTakesWhatTheDeadHadAtOnce) {
  Store& store = open();
  Jobs& jobs = store.jobs();
  const std::string p = store.tenants().bootstrap()->value().key.project_id;
  const auto job = jobs.add("batch_", p, "batch", "");
  ASSERT_TRUE(jobs.claim("batch", "dead", 1'000'000)->has_value());
  EXPECT_FALSE(jobs.claim("batch", "alive", 1'000'000)->has_value());
  EXPECT_EQ(*jobs.release_of_others("dead"), 0);
  EXPECT_EQ(*jobs.release_of_others("alive"), 1);
  EXPECT_EQ(jobs.claim("batch", "alive", 1'000'000)->value().id, job->id);
}

TEST_P(StoreTest, AJobOfADeadServiceGoesOnElsewhere) {
  Store& store = open();
  Jobs& jobs = store.jobs();
  const std::string p = project();
  const auto low = jobs.add("batch_", p, "batch", "{}", 0);
  ASSERT_TRUE(low.has_value()) << low.error().message;
  now_us_ += 1;
  const auto high = jobs.add("batch_", p, "batch", "spec", 5);
  const auto mine = jobs.claim("batch", "one", 1000);
  EXPECT_EQ((*mine)->id, high->id);
  EXPECT_EQ(jobs.claim("batch", "two", 1000)->value().id, low->id);
  EXPECT_FALSE(jobs.claim("batch", "two", 1000)->has_value());
  EXPECT_FALSE(jobs.claim("fine_tuning", "two", 1000)->has_value());
  EXPECT_EQ(*jobs.advance(high->id, "one", 1000, "line 2",
                          {{"output", 0, 0, "a"}, {"output", 0, 0, "b"}, {"events", 0, 0, "e"}}),
            JobWish::kNone);
  now_us_ += 1001;
  const auto taken = jobs.claim("batch", "three", 1000);
  EXPECT_EQ((*taken)->id, high->id);
  EXPECT_EQ((*taken)->state, "line 2");
  EXPECT_EQ((*taken)->attempts, 2);
  // The one that was thought dead comes back: nothing it says counts.
  EXPECT_EQ(jobs.advance(high->id, "one", 1000, "line 9", {{"output", 0, 0, "x"}}).error().kind, ErrorKind::kRefused);
  ASSERT_TRUE(jobs.cancel(p, "batch", high->id)->cancel_wanted);
  EXPECT_EQ(*jobs.advance(high->id, "three", 1000, "line 3", {{"output", 0, 0, "c"}}), JobWish::kCancel);
  ASSERT_TRUE(jobs.finish(high->id, "three", "cancelled", "end").has_value());
  const auto output = jobs.records(high->id, "output", 0, 10);
  ASSERT_EQ(output->size(), 3u);
  EXPECT_EQ((*output)[2].body, "c");
  EXPECT_EQ((*output)[2].number, 2);
  EXPECT_EQ(jobs.find(p, "batch", high->id)->status, "cancelled");
  EXPECT_EQ(jobs.list(p, "batch", "", 10)->at(0).id, high->id);
  EXPECT_EQ(jobs.list(p, "batch", high->id, 10)->at(0).id, low->id);
  ASSERT_TRUE(jobs.claim("batch", "two", 1000)->has_value());  // the lease of `low` ran out as well
  ASSERT_TRUE(jobs.release(low->id, "two").has_value());
  EXPECT_EQ(jobs.cancel(p, "batch", low->id)->status, "cancelled");
  EXPECT_FALSE(jobs.find("another", "batch", low->id).has_value());
}

TEST_P(StoreTest, AJobIsLaidAsideAndGoesOn) {
  Store& store = open();
  Jobs& jobs = store.jobs();
  const std::string p = project();
  const std::string id = jobs.add("j-", p, "k", "spec")->id;
  EXPECT_EQ(jobs.pause(p, "k", id)->status, "paused");
  EXPECT_FALSE(jobs.claim("k", "one", 1000)->has_value()) << "nobody claims it";
  EXPECT_EQ(*jobs.release_of_others("another"), 0);
  EXPECT_EQ(jobs.resume(p, "k", id)->status, "queued");
  ASSERT_TRUE(jobs.claim("k", "one", 1000)->has_value());
  EXPECT_EQ(jobs.pause(p, "k", id)->status, "running");
  EXPECT_EQ(*jobs.advance(id, "one", 1000, "half", {}), JobWish::kPause);
  EXPECT_FALSE(jobs.finish(id, "one", "paused", "").has_value());
  ASSERT_TRUE(jobs.hold(id, "one", "half", {{"events", 0, 0, "held"}}).has_value());
  const auto held = jobs.find(p, "k", id);
  EXPECT_EQ(held->status, "paused");
  EXPECT_EQ(held->state, "half");
  EXPECT_EQ(jobs.records(id, "events", 0, 9)->size(), 1u);
  now_us_ += 10'000;
  EXPECT_FALSE(jobs.claim("k", "two", 1000)->has_value()) << "whatever becomes of its lease";
  EXPECT_FALSE(jobs.forget(p, "k", id).has_value()) << "it has not ended";
  ASSERT_TRUE(jobs.resume(p, "k", id).has_value());
  ASSERT_TRUE(jobs.claim("k", "two", 1000)->has_value());
  ASSERT_TRUE(jobs.pause(p, "k", id).has_value());
  ASSERT_TRUE(jobs.resume(p, "k", id).has_value());  // before whoever runs it could heed the first
  ASSERT_TRUE(jobs.hold(id, "two", "more").has_value());
  EXPECT_EQ(jobs.find(p, "k", id)->status, "queued");
  ASSERT_TRUE(jobs.pause(p, "k", id).has_value());
  EXPECT_EQ(jobs.cancel(p, "k", id)->status, "cancelled");
  EXPECT_EQ(jobs.resume(p, "k", id)->status, "cancelled") << "what has ended stays as it is";
  EXPECT_EQ(jobs.pause(p, "k", id)->status, "cancelled");
  EXPECT_FALSE(jobs.pause("another", "k", id).has_value());
}

TEST_P(StoreTest, AWaitingJobIsPreparedOnceAndNotWhileItRuns) {
  Store& store = open();
  Jobs& jobs = store.jobs();
  const std::string p = project();
  const std::string first = jobs.add("j-", p, "k", "")->id;
  EXPECT_TRUE(*jobs.prepare(first, "seen", {{"events", 0, 0, "a"}}));
  EXPECT_FALSE(*jobs.prepare(first, "again", {{"events", 0, 0, "b"}}));
  EXPECT_EQ(jobs.find(p, "k", first)->state, "seen");
  EXPECT_EQ(jobs.records(first, "events", 0, 9)->size(), 1u);
  ASSERT_TRUE(jobs.claim("k", "one", 1000)->has_value());
  const std::string second = jobs.add("j-", p, "k", "")->id;
  EXPECT_TRUE(*jobs.prepare(second, "bad", {}, "failed"));
  EXPECT_EQ(jobs.find(p, "k", second)->status, "failed");
  const std::string third = jobs.add("j-", p, "k", "")->id;
  ASSERT_TRUE(jobs.claim("k", "one", 1000)->has_value());
  EXPECT_FALSE(*jobs.prepare(third, "late", {}));
}

TEST_P(StoreTest, DocumentsHaveChildrenAndExpire) {
  Store& store = open();
  Documents& documents = store.documents();
  const std::string p = project();
  ASSERT_TRUE(documents.add({"conv_1", p, "conversation", "", 0, 0, "{}"}).has_value());
  EXPECT_FALSE(documents.add({"conv_1", p, "conversation", "", 0, 0, "{}"}).has_value());
  for (const char* id : {"item_1", "item_2", "item_3"}) {
    now_us_ += 1;
    ASSERT_TRUE(documents.add({id, p, "item", "conv_1", 0, 0, id}).has_value());
  }
  EXPECT_EQ(documents.children(p, "conv_1", "", 10)->size(), 3u);
  EXPECT_EQ(documents.children(p, "conv_1", "item_1", 1)->at(0).id, "item_2");
  ASSERT_TRUE(documents.change(p, "item_2", "new").has_value());
  EXPECT_EQ(documents.find(p, "item", "item_2")->body, "new");
  EXPECT_FALSE(documents.find("another", "item", "item_2").has_value());
  EXPECT_FALSE(documents.find(p, "response", "item_2").has_value());
  ASSERT_TRUE(documents.remove(p, "conv_1").has_value());
  EXPECT_FALSE(documents.find(p, "item", "item_3").has_value());
  ASSERT_TRUE(documents.add({"resp_1", p, "response", "", 0, now_us_ + 5, "x"}).has_value());
  EXPECT_TRUE(documents.find(p, "response", "resp_1").has_value());
  now_us_ += 5;
  EXPECT_FALSE(documents.find(p, "response", "resp_1").has_value());
  EXPECT_EQ(*documents.sweep(), 1);
}

// A backup of either engine fills either engine.
TEST_P(StoreTest, ABackupRestoresEverything) {
  const auto backup = folder_ / "backup";
  Store& store = open();
  const auto key = store.tenants().bootstrap();
  const std::string p = (*key)->key.project_id;
  ASSERT_TRUE(store.tenants().set_role({"r", {"a"}, {"b"}}).has_value());
  ASSERT_TRUE(store.ledger().set_price({"mini", "CNY", 3, 2, 5, 4}).has_value());
  ASSERT_TRUE(store.ledger().set_budget("project:" + p, "CNY", "total", 1000).has_value());
  const Asked asked{"req", "me", (*key)->key.id, "", p, "o", "mini", 10, 20, 20};
  const auto admitted = store.ledger().admit({&asked, 1});
  const Settlement settlement{(*admitted)[0].reservation, "stop", {10, 0, 0, 5}};
  ASSERT_TRUE(store.ledger().settle({&settlement, 1}).has_value());
  const auto file = store.files().begin(p, "f", "batch");
  ASSERT_TRUE(store.files().append(file->id, std::string("a\0\n\xff;b", 6)).has_value());
  for (int i = 0; i < 450; ++i) {  // more than a page
    ASSERT_TRUE(store.documents().add({"item_" + std::to_string(i), p, "item", "", 0, 0, "x"}).has_value());
  }
  ASSERT_TRUE(store.backup(backup).has_value());
  EXPECT_EQ(store.restore(backup).error().kind, ErrorKind::kRefused);  // it is not empty
  store_.reset();

  const auto target = Store::open((folder_ / "restored.db").string(), {[this] { return now_us_; }});
  const auto restored = (*target)->restore(backup);
  ASSERT_TRUE(restored.has_value()) << restored.error().message;
  EXPECT_EQ((*target)->ledger().budgets()->at(0).spent, 50);
  EXPECT_EQ((*target)->ledger().usage({}, 0, 10)->at(0).cost, 50);
  EXPECT_EQ(*(*target)->files().read(file->id, 0), std::string("a\0\n\xff;b", 6));
  EXPECT_EQ((*target)->tenants().roles()->size(), 6u);
  const auto again = folder_ / "again";
  ASSERT_TRUE((*target)->backup(again).has_value());
  EXPECT_TRUE(*base::read_file(again) == *base::read_file(backup));
  EXPECT_TRUE((*target)->tenants().principal_of_key((*key)->secret)->has_value());
  // And back into the engine of this test, where counting goes on.
  if (GetParam() == test::Engine::kPostgres) {
    auto connection = database()->connect();
    ASSERT_TRUE((*connection)->script("DROP SCHEMA public CASCADE; CREATE SCHEMA public").has_value());
    Store& empty = open();
    const auto back = empty.restore(again);
    ASSERT_TRUE(back.has_value()) << back.error().message;
    const auto next = empty.ledger().admit({&asked, 1});
    const Settlement second{(*next)[0].reservation, "stop", {1, 0, 0, 1}};
    EXPECT_EQ(*empty.ledger().settle({&second, 1}), 1);
    EXPECT_EQ(empty.ledger().usage({}, 0, 10)->at(1).number, 2);
  }
}

TEST(Store, AddressesThatAreNoneAreRefused) {
  EXPECT_EQ(Store::open("mysql://x").error().kind, ErrorKind::kUsage);
  EXPECT_EQ(Store::open("").error().kind, ErrorKind::kUsage);
  EXPECT_EQ(Store::open("/").error().kind, ErrorKind::kBadInput);
  EXPECT_FALSE(Store::open("/nowhere/at/all.db").has_value());
  EXPECT_FALSE(Store::open("postgres://x@/y?host=/nowhere").has_value());
  const auto path = std::filesystem::temp_directory_path() / ("qw-no-db-" + std::to_string(::getpid()));
  ASSERT_TRUE(base::write_file_atomically(path, std::string(5000, 'x')).has_value());
  EXPECT_EQ(Store::open(path.string()).error().kind, ErrorKind::kBadInput);
  std::filesystem::remove(path);
}

TEST_P(StoreTest, AProjectHasSoManyUnfinishedJobsAtMost) {
  Store& store = open();
  const std::string p = project();
  Limits limits;
  limits.subject = "project:" + p;
  limits.jobs = 2;
  ASSERT_TRUE(store.ledger().set_limits(limits).has_value());
  EXPECT_EQ(store.ledger().limits()->at(0).jobs, 2);
  const auto first = store.jobs().add("a_", p, "one", "");
  ASSERT_TRUE(store.jobs().add("b_", p, "another", "").has_value()) << "jobs of all kinds count";
  const auto third = store.jobs().add("c_", p, "one", "");
  ASSERT_FALSE(third.has_value());
  EXPECT_EQ(third.error().kind, ErrorKind::kResource);
  const std::string other = store.tenants().add_project("o", "q")->id;
  EXPECT_TRUE(store.jobs().add("d_", other, "one", "").has_value()) << "another project's own";
  ASSERT_TRUE(store.jobs().claim("one", "i", 1000)->has_value());
  EXPECT_FALSE(store.jobs().add("c_", p, "one", "").has_value()) << "running ones count";
  ASSERT_TRUE(store.jobs().finish(first->id, "i", "done", "").has_value());
  EXPECT_TRUE(store.jobs().add("c_", p, "one", "").has_value());
  limits.jobs = 0;
  ASSERT_TRUE(store.ledger().set_limits(limits).has_value());
  EXPECT_TRUE(store.jobs().add("e_", p, "one", "").has_value()) << "no limit of its own: the usual one";
  limits.subject = "org:o";
  limits.jobs = 1;
  EXPECT_FALSE(store.ledger().set_limits(limits).has_value());
}

TEST(Backup, DamageIsSeenBeforeAnythingIsBelieved) {
  const auto folder = std::filesystem::temp_directory_path() / ("qw-backup-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  auto store = Store::open((folder / "a.db").string());
  ASSERT_TRUE((*store)->tenants().bootstrap()->has_value());
  ASSERT_TRUE((*store)->backup(folder / "b").has_value());
  const std::string whole = *base::read_file(folder / "b");
  int rows = 0;
  BackupReader reader;
  reader.begin = [](int) -> Status { return {}; };
  reader.table = [](const std::string&, const std::vector<std::string>&) -> Status { return {}; };
  reader.row = [&](const std::vector<Value>&) -> Status {
    ++rows;
    return {};
  };
  ASSERT_TRUE(parse_backup(whole, reader).has_value());
  EXPECT_EQ(rows, 1 + 1 + 5 + 1 + 1 + 1);  // organisation, project, roles, user, its role, key
  rows = 0;
  for (std::size_t cut = 0; cut < whole.size(); cut += 7)
    EXPECT_FALSE(parse_backup(whole.substr(0, cut), reader).has_value());
  for (std::size_t i = 0; i < whole.size(); i += 11) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    EXPECT_FALSE(parse_backup(damaged, reader).has_value()) << i;
  }
  EXPECT_EQ(rows, 0);
  std::filesystem::remove_all(folder);
}

TEST_P(StoreTest, LookingChangesNothing) {
  const auto before = Store::look(url_);
  ASSERT_TRUE(before.has_value()) << before.error().message;
  EXPECT_EQ(before->version, 0);
  EXPECT_EQ(Store::look(url_)->version, 0);
  open();
  const auto there = Store::look(url_);
  ASSERT_TRUE(there.has_value()) << there.error().message;
  EXPECT_EQ(there->version, there->version_of_program);
  if (GetParam() != test::Engine::kSqlite) return;
  const auto absent = Store::look((folder_ / "absent.db").string());
  ASSERT_TRUE(absent.has_value());
  EXPECT_EQ(absent->version, 0);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "absent.db"));
  EXPECT_EQ(Store::look((folder_ / "no/absent.db").string()).error().kind, ErrorKind::kFailed);
  EXPECT_EQ(Store::look("mysql://x").error().kind, ErrorKind::kUsage);
}

}  // namespace
}  // namespace qw::store
