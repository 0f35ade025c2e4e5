#include "governance/policy/approvals.h"

#include <map>

#include "governance/audit/log_files.h"
#include "governance/internal/signature_text.h"

namespace qw::governance {
namespace {

// In front of what is signed, so that nothing else that such a key signs can be taken for an approval.
constexpr const char* kSignedAs = "qianwen approval\n";
constexpr const char* kType = "approval";

std::string signed_text(const Approval& a) {
  return kSignedAs +
         canonical(json::Object{
             {"approval", a.name}, {"policy", a.policy}, {"by", a.by}, {"note", a.note}, {"withdrawn", a.withdrawn}});
}

// The approval of a record, if one of the keys signed it.
std::optional<Approval> approval_in(const json::Value& record, const std::vector<PublicKey>& keys) {
  const auto text = [&](const char* name) {
    const json::Value* found = record.find(name);
    return found != nullptr && found->is_string() ? found->as_string() : std::string();
  };
  if (text("type") != kType) return std::nullopt;
  const json::Value* withdrawn = record.find("withdrawn");
  if (withdrawn == nullptr || !withdrawn->is_bool()) return std::nullopt;
  Approval out{text("approval"), text("policy"), text("by"), text("note"), withdrawn->as_bool()};
  const auto signature = signature_from_hex(text("sig"));
  if (!signature) return std::nullopt;
  const std::string by_key = text("key");
  for (const PublicKey& key : keys)
    if (key.id() == by_key && key.verifies(signed_text(out), *signature)) return out;
  return std::nullopt;
}

}  // namespace

json::Object signed_approval(const Approval& a, const SigningKey& key) {
  return {{"type", kType},
          {"approval", a.name},
          {"policy", a.policy},
          {"by", a.by},
          {"note", a.note},
          {"withdrawn", a.withdrawn},
          {"key", key.public_key().id()},
          {"sig", to_hex(key.sign(signed_text(a)))}};
}

Result<std::vector<std::string>> missing_approvals(const std::filesystem::path& log, const Policy& policy,
                                                   const std::vector<PublicKey>& keys) {
  std::map<std::string, bool> given;
  std::error_code ignored;
  if (std::filesystem::exists(log / kRecordsFile, ignored)) {
    QW_ASSIGN(LineReader reader, LineReader::open(log / kRecordsFile));
    std::string line;
    bool whole = false;
    while (true) {
      QW_ASSIGN(const bool more, reader.next(line, whole));
      if (!more || !whole) break;
      if (line.find(R"("type":"approval")") == std::string::npos) continue;  // nearly all
      const auto record = json::parse(line);
      const auto approval = record ? approval_in(*record, keys) : std::nullopt;
      if (approval && approval->policy == policy.hash()) given[approval->name] = !approval->withdrawn;
    }
  }
  std::vector<std::string> out;
  for (const std::string& name : policy.profile().required_approvals)
    if (!given[name]) out.push_back(name);
  return out;
}

}  // namespace qw::governance
