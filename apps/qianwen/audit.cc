#include "audit.h"

#include <utility>

#include "open_model.h"
#include "policy.h"

namespace qw::app {
namespace {

Status both(const std::string& folder, const std::string& key_file) {
  if (folder.empty() == key_file.empty()) return {};
  return fail(ErrorKind::kUsage,
              "serve: --audit-log and --audit-key go together (qianwen govern audit key FILE makes one)");
}

}  // namespace

Result<std::unique_ptr<governance::AuditLog>> open_audit(const std::string& folder, const std::string& key_file) {
  QW_TRY(both(folder, key_file));
  if (folder.empty()) return std::unique_ptr<governance::AuditLog>();
  QW_ASSIGN(governance::SigningKey key, governance::SigningKey::read(key_file));
  return governance::AuditLog::open(folder, std::move(key));
}

Status check_audit(const std::string& folder, const std::string& key_file) {
  QW_TRY(both(folder, key_file));
  if (folder.empty()) return {};
  return governance::SigningKey::read(key_file).map([](auto&&) {});
}

StartRecord::StartRecord(IdentityBook& book, std::vector<std::string> models)
    : book_(book), record_(std::async(std::launch::async, [&book, models = std::move(models)] {
        json::Array all;
        for (const std::string& name : models) {
          const auto identity = book.of(name);
          json::Object one{{"model", served_name(name)}};
          if (identity) {
            one.set("files", *identity->find("files"));
            one.set("sha256", *identity->find("sha256"));
          } else {
            one.set("error", identity.error().message);
          }
          all.emplace_back(std::move(one));
        }
        return json::Object{{"type", "start"}, {"version", QW_VERSION}, {"models", std::move(all)}};
      })) {}

StartRecord::~StartRecord() {
  if (record_.valid()) book_.stop();
}

json::Object StartRecord::take(const governance::PolicySet* policies) {
  json::Object out = record_.get();
  if (policies != nullptr) out.set("policies", describe(*policies));
  return out;
}

}  // namespace qw::app
