// What people complain of, and what becomes of it; and what a service holds of them.
//
//   POST   /v1/complaints                 {"text", "about", "contact"}: its id, its deadline, and a receipt
//   GET    /v1/complaints                 those of the key's user (or, of a key that is nobody's, of its project)
//   GET    /v1/complaints/{id}?receipt=R  its status and answer; without a receipt: of the key's own
//   POST   /v1/complaints/{id}/appeal     {"text", "receipt"}, once, against what was answered
//   GET    /v1/my/data                    what is held of whoever has the key (store/personal_data.h)
//   DELETE /v1/my/data                    erases it
//
// Complaints are open to those without a key where everybody's profile says so; who asks is then limited by address.
// The audit log has each complaint by its id and a keyed hash of its words; erasing changes nothing in it.
#pragma once

#include <memory>
#include <string>

#include "api/background.h"
#include "api/exchange.h"
#include "store/complaints.h"

namespace qw::api {

struct ComplaintRequest {
  std::string text, about, contact, receipt;
  std::vector<std::string> ignored;
};
ApiResult<ComplaintRequest> read_complaint_request(const json::Object& body);
ApiResult<ComplaintRequest> read_appeal_request(const json::Object& body);

class ComplaintsApi {
 public:
  // Both must outlive this object and what it began. `policies` may be null.
  ComplaintsApi(Background& background, const governance::PolicySet* policies)
      : background_(background), policies_(policies) {}
  // Whether somebody without a key may ask for this path.
  bool open_to_all(std::string_view path) const;
  // True if the path belongs here; the exchange is then answered, now or later. `accounts`: null without a store; whose
  // the request is, the exchange knows, or nobody.
  bool handle(const std::shared_ptr<const net::Request>& request, const std::shared_ptr<Exchange>& exchange,
              Accounts* accounts) const;

 private:
  Background& background_;
  const governance::PolicySet* policies_;
};

}  // namespace qw::api
