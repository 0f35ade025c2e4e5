// For tests: the service of test_service.h with accounts.
#pragma once

#include <filesystem>

#include "api/accounts.h"
#include "api/internal/test_service.h"

namespace qw::api::test {

// A service over a store of its own, with the project "p" of the organisation "o" and a key that may do everything.
class AccountsServiceTest : public ServiceTest {
 protected:
  using ServiceTest::ServiceTest;
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("qw-accounts-" + std::to_string(::getpid()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    auto opened = store::Store::open((folder_ / "state.db").string());
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    store_ = std::move(*opened);
    ASSERT_TRUE(store_->tenants().add_organisation("o").has_value());
    project_ = store_->tenants().add_project("o", "p")->id;
    key_ = *store_->tenants().add_key({"p", "", "", {"*"}, {}, {}, 0});
    restart();
  }
  // Ends the service, as a new start of the program would.
  void restart() {
    service_.reset();
    // What was cancelled is settled on the engine's thread, which here outlives the service: its accounts must, too.
    if (accounts_ != nullptr) retired_.push_back(std::move(accounts_));
    auto made = Accounts::start(*store_);
    ASSERT_TRUE(made.has_value()) << made.error().message;
    accounts_ = std::move(*made);
    openai::BatchOptions quick;
    quick.poll = std::chrono::milliseconds(20);
    quick.flush = std::chrono::milliseconds(5);
    start_service(accounts_.get(), quick, moderator_, fine_tuning_);
  }
  ~AccountsServiceTest() override {
    engine_->stop();
    service_.reset();
    accounts_.reset();
    retired_.clear();
    store_.reset();
    std::filesystem::remove_all(folder_);
  }
  static std::string bearer(const store::NewKey& key) { return "Authorization: Bearer " + key.secret + "\r\n"; }
  store::NewKey key(std::vector<std::string> scopes, std::vector<std::string> models = {},
                    std::vector<std::string> networks = {}) {
    return *store_->tenants().add_key({"p", "", "", std::move(scopes), std::move(models), std::move(networks), 0});
  }
  std::filesystem::path folder_;
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<Accounts> accounts_;
  std::vector<std::unique_ptr<Accounts>> retired_;
  std::string project_;
  openai::FineTuneOptions fine_tuning_;  // of the next start
  Moderator* moderator_ = nullptr;       // too
  store::NewKey key_;
};

}  // namespace qw::api::test
