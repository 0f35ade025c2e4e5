// The one home of what a service must not lose: tenants, money, files, jobs, stored answers. SQLite (a file, embedded)
// or PostgreSQL (shared by many services); everything behaves the same on both.
//
// Values only: this room knows no JSON, no network, no model. Threads: any; calls block for as long as the database
// takes.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "store/complaints.h"
#include "store/conduct.h"
#include "store/contents.h"
#include "store/documents.h"
#include "store/feedback.h"
#include "store/files.h"
#include "store/jobs.h"
#include "store/ledger.h"
#include "store/personal_data.h"
#include "store/rollouts.h"
#include "store/tenants.h"

namespace qw::store {

struct StoreOptions {
  // Microseconds since 1970. Empty: the database's own clock, which all services share.
  std::function<std::int64_t()> now;
};

class Store {
 public:
  // postgres://user@host:port/name (or libpq's key=value form after "postgres:"), or a file, with or without "sqlite:"
  // in front; the file is made if it is absent (its folder must be there). Tables are made and brought up to date.
  // kUsage: an address that is not understood; kBadInput: not such a file, or newer than this program.
  static Result<std::unique_ptr<Store>> open(const std::string& url, StoreOptions options = {});
  ~Store();

  // What stands at an address, without changing it. Errors as open's; kFailed: the folder of the file is not there.
  struct State {
    std::string name;            // for people; without a password
    int version = 0;             // of its tables; 0: there are none yet
    int version_of_program = 0;  // what open brings them to
  };
  static Result<State> look(const std::string& url);

  Tenants& tenants() { return *tenants_; }
  Ledger& ledger() { return *ledger_; }
  Files& files() { return *files_; }
  Jobs& jobs() { return *jobs_; }
  Documents& documents() { return *documents_; }
  Rollouts& rollouts() { return *rollouts_; }
  FeedbackBook& feedback() { return *feedback_; }
  Complaints& complaints() { return *complaints_; }
  ConductBook& conduct() { return *conduct_; }
  Contents& contents() { return *contents_; }
  PersonalData& personal_data() { return *personal_data_; }

  // Takes the right to be the only service over this store, until the store is closed; false: several may be, as they
  // may over PostgreSQL. kRefused: another process serves from the same file.
  Result<bool> serve_alone();

  // Everything in one file, as of one moment, while services go on. The form is the same for both engines, so a backup
  // of one may be restored into the other (docs/operations/store.md).
  Status backup(const std::filesystem::path& file);
  // Fills a store that holds nothing yet (kRefused otherwise). kBadInput: the file is damaged or newer.
  Status restore(const std::filesystem::path& file);

  const std::string& name() const;  // for people; without a password

 private:
  Store(std::unique_ptr<Work> work, std::string lock_path);
  std::unique_ptr<Work> work_;
  std::string lock_path_;
  int lock_ = -1;
  std::unique_ptr<Tenants> tenants_;
  std::unique_ptr<Ledger> ledger_;
  std::unique_ptr<Files> files_;
  std::unique_ptr<Jobs> jobs_;
  std::unique_ptr<Documents> documents_;
  std::unique_ptr<Rollouts> rollouts_;
  std::unique_ptr<FeedbackBook> feedback_;
  std::unique_ptr<Complaints> complaints_;
  std::unique_ptr<ConductBook> conduct_;
  std::unique_ptr<Contents> contents_;
  std::unique_ptr<PersonalData> personal_data_;
};

}  // namespace qw::store
