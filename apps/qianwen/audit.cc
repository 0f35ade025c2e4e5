#include "audit.h"

#include <utility>

#include "model_identity.h"
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

StartRecord::StartRecord(std::vector<std::string> models)
    : record_(std::async(std::launch::async, [this, models = std::move(models)] {
        json::Array all;
        for (const std::string& name : models)
          all.push_back(json::Object{{"model", served_name(name)}, {"files", hashed_files(name, stop_)}});
        return json::Object{{"type", "start"}, {"version", QW_VERSION}, {"models", std::move(all)}};
      })) {}

json::Object StartRecord::take(const governance::PolicySet* policies) {
  json::Object out = record_.get();
  if (policies != nullptr) out.set("policies", describe(*policies));
  return out;
}

StartRecord::~StartRecord() { stop_.store(true, std::memory_order_relaxed); }

}  // namespace qw::app
