// POST /v1/moderations: a Moderator's judgement in OpenAI's shape. Without one the route answers 501: that nothing was
// found must never mean that nothing was looked for.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "api/background.h"
#include "api/exchange.h"
#include "api/moderator.h"

namespace qw::api {
class FieldReader;
}

namespace qw::api::openai {

// "input": a text, texts, or parts of type text.
void read_texts(FieldReader& in, std::vector<std::string>& out);

struct ModerationRequest {
  std::string model;
  std::vector<std::string> texts;  // not empty
  std::vector<std::string> ignored;
};
ApiResult<ModerationRequest> read_moderation_request(const json::Object& body);

class ModerationsApi {
 public:
  // Both must outlive this object and what it began. `moderator` may be null.
  ModerationsApi(Background& background, Moderator* moderator) : background_(background), moderator_(moderator) {}
  // True if the path belongs here; the exchange is then answered, now or later.
  bool handle(const net::Request& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  Background& background_;
  Moderator* moderator_;
};

}  // namespace qw::api::openai
