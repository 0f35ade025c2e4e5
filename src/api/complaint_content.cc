#include "api/complaint_content.h"

#include <utility>

#include "api/accounts.h"
#include "api/admin/objects.h"
#include "api/audit_entry.h"
#include "api/field_reader.h"
#include "api/kept_content.h"
#include "api/openai/files.h"
#include "governance/audit/audit_log.h"
#include "governance/audit/find_answer.h"
#include "store/complaints.h"

namespace qw::api {
namespace {

constexpr std::string_view kContents = "/admin/v1/contents/";
constexpr std::string_view kRequestStart = "req_";

// Opens what one complaint is about.
class Opening {
 public:
  Opening(std::shared_ptr<Exchange> exchange, std::string id) : exchange_(std::move(exchange)), id_(std::move(id)) {}

  void run() {
    auto complaint = store().complaints().find(id_);
    if (!complaint) return not_there(complaint.error());
    const std::string filed_by = complaint->project_id;
    std::string about = complaint->about;
    if (about.empty() && !complaint->appeal_of.empty()) {
      const auto first = store().complaints().find(complaint->appeal_of);
      if (!first) return not_there(first.error());
      about = first->about;
    }
    const auto record = record_of(about);
    if (!record) return exchange_->send_error(record.error());
    json::Object body{{"object", "complaint.content"},
                      {"complaint", admin::to_json(*complaint)},
                      {"about", about},
                      // Anybody may name any answer: whether it was asked for where the complaint comes from.
                      {"same_project", !filed_by.empty() && text_member(*record, "project") == filed_by},
                      {"record", *record}};
    const auto content = open_content(*record, &store(), exchange_->content_keys());
    if (content) {
      for (const char* name : {"asked", "prompt_texts", "answers"})
        if (const json::Value* found = content->find(name); found != nullptr) body.set(name, *found);
    } else {
      body.set("reason", content.error().reason);
      body.set("message", content.error().message);
    }
    tell(std::move(body), *record, content ? "shown" : content.error().reason);
  }

 private:
  store::Store& store() { return exchange_->accounts()->store(); }
  void not_there(const Error& error) {
    if (error.kind != ErrorKind::kBadInput) return exchange_->send_error(from_store(error));
    exchange_->send_error(
        {404, "invalid_request_error", "There is no complaint " + id_ + ".", "complaint_id", "not_found"});
  }
  ApiResult<json::Value> record_of(const std::string& about) {
    const auto nothing = [&](const std::string& why) {
      return tl::unexpected(ApiError{409, "invalid_request_error", why, "complaint_id", "about_nothing_known"});
    };
    const bool request = about.starts_with(kRequestStart);
    if (!request && !governance::moment_of(about))
      return nothing("The complaint is about no answer's number and no request's id.");
    auto found = governance::find_record(exchange_->audit()->folder(), request ? "request" : "produce_id", about);
    if (!found) return tl::unexpected(from_internal(found.error()));
    if (!*found) return nothing("The audit log has no record of " + about + ".");
    return std::move(**found);
  }
  void tell(json::Object body, const json::Value& record, const std::string& outcome) {
    json::Object entry{
        {"type", "administration"},           {"operation", "contents.open"},       {"complaint", id_},
        {"by_key", exchange_->who()->key.id}, {"request", exchange_->request_id()}, {"outcome", outcome}};
    if (const json::Value* seq = record.find("seq"); seq != nullptr) entry.set("opened", *seq);
    keep(*exchange_, std::move(entry), [exchange = exchange_, body = std::move(body)](const Status& kept) {
      kept ? exchange->send_json(200, body) : exchange->send_error(not_kept());
    });
  }

  const std::shared_ptr<Exchange> exchange_;
  const std::string id_;
};

}  // namespace

bool handle_complaint_content(Background& background, const std::shared_ptr<const net::Request>& request,
                              const std::shared_ptr<Exchange>& exchange) {
  const std::string_view path = request->path;
  if (!path.starts_with(kContents) || path.size() == kContents.size() ||
      path.find('/', kContents.size()) != std::string_view::npos)
    return false;
  if (!only("GET", *request, *exchange)) return true;
  if (exchange->accounts() == nullptr || exchange->audit() == nullptr) {
    exchange->send_error({501, "invalid_request_error",
                          "This service keeps no complaints or no record of its answers (serve --store, --audit-log).",
                          "", "no_audit_log"});
    return true;
  }
  openai::in_background(background, exchange,
                        [exchange, id = std::string(path.substr(kContents.size()))] { Opening(exchange, id).run(); });
  return true;
}

}  // namespace qw::api
