// For tests: an empty store on each engine. PostgreSQL is started once a program and stopped at its end; where it
// cannot be, the test is skipped with the reason.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "store/internal/database.h"
#include "store/store.h"

namespace qw::store::test {

class PostgresServer {
 public:
  // "postgres:..." or "" with `why`.
  static PostgresServer& instance() {
    static PostgresServer server;
    return server;
  }
  const std::string& url() const { return url_; }
  const std::string& why() const { return why_; }
  ~PostgresServer() {
    if (!folder_.empty())
      (void)std::system((std::string(QW_SOURCE_DIR) + "/tests/temporary_postgres stop " + folder_).c_str());
  }

 private:
  PostgresServer() {
    char pattern[] = "/tmp/qw-postgres-XXXXXX";  // short: a socket's path has 107 bytes
    if (::mkdtemp(pattern) == nullptr) {
      why_ = "no temporary folder";
      return;
    }
    folder_ = pattern;
    const std::string command = std::string(QW_SOURCE_DIR) + "/tests/temporary_postgres start " + folder_;
    FILE* pipe = ::popen(command.c_str(), "r");
    std::string line;
    for (int c; pipe != nullptr && (c = std::fgetc(pipe)) != EOF;)
      if (c != '\n') line += static_cast<char>(c);
    const int code = pipe == nullptr ? 1 : ::pclose(pipe);
    (code == 0 ? url_ : why_) = line;
  }
  std::string folder_, url_, why_;
};

enum class Engine { kSqlite, kPostgres };

// A test over one engine: empty before each test, in a temporary folder of its own.
class OnEngine : public testing::TestWithParam<Engine> {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("qw-store-" + std::to_string(::getpid()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    url_ = (folder_ / "state.db").string();
    if (GetParam() == Engine::kSqlite) return;
    const auto& server = PostgresServer::instance();
    if (server.url().empty()) GTEST_SKIP() << server.why();
    url_ = server.url();
    auto database = postgres_database(url_.substr(9));
    if (!database) GTEST_SKIP() << database.error().message;
    auto connection = (*database)->connect();
    ASSERT_TRUE(connection.has_value()) << connection.error().message;
    ASSERT_TRUE((*connection)->script("DROP SCHEMA public CASCADE; CREATE SCHEMA public").has_value());
  }
  void TearDown() override {
    store_.reset();
    std::filesystem::remove_all(folder_);
  }
  // The store under a clock that stands still until it is moved.
  Store& open() {
    auto made = Store::open(url_, {[this] { return now_us_; }});
    EXPECT_TRUE(made.has_value()) << made.error().message;
    store_ = std::move(*made);
    return *store_;
  }
  std::unique_ptr<Database> database() {
    return GetParam() == Engine::kSqlite ? sqlite_database(url_) : std::move(*postgres_database(url_.substr(9)));
  }

  std::filesystem::path folder_;
  std::string url_;
  std::int64_t now_us_ = 1'790'000'000'000'000;  // 2026-09-21T13:33:20Z
  std::unique_ptr<Store> store_;
};

inline std::string engine_name(const testing::TestParamInfo<Engine>& info) {
  return info.param == Engine::kSqlite ? "Sqlite" : "Postgres";
}

}  // namespace qw::store::test
