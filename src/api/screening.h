// What the policy of whoever asks would do with texts, all of its stages: keywords, personal data, the guard model, and
// words of people in danger. The same rules, by the same code, as those that requests and answers go through.
//
//   POST /v1/screen   {"input": a text or texts, "side": "input" | "output" | "retrieval", "minor": false}
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "api/background.h"
#include "api/exchange.h"

namespace qw::api {

// As requests are looked at, as answers, or as what tools and searches bring.
enum class ScreenSide : std::uint8_t { kInput, kOutput, kRetrieval };

struct ScreenRequest {
  std::vector<std::string> texts, ignored;
  ScreenSide side = ScreenSide::kInput;
  bool minor = false;  // with the policy's part for minors
};
ApiResult<ScreenRequest> read_screen_request(const json::Object& body);

// {"action", "text", "findings", ...} of one text. "action": "pass", "flag", "mask", "block", or "help" where the
// policy answers with what it says to those in danger. Waits for the guard model.
json::Object screened(const governance::Policy& policy, const std::string& text, ScreenSide side, bool minor);

class ScreeningApi {
 public:
  explicit ScreeningApi(Background& background) : background_(background) {}
  // True if the path is that route; the exchange is then answered, now or later.
  bool handle(const net::Request& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  Background& background_;
};

}  // namespace qw::api
