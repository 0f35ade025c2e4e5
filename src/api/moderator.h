// Who judges texts for POST /v1/moderations: a list of words (keyword_moderator.h), or whatever the composition root
// puts behind this interface.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace qw::api {

struct ModerationCategory {
  std::string name;  // as OpenAI names it where it is one of theirs: "hate", "self-harm/intent", ...
  bool flagged = false;
  double score = 0;  // 0 to 1
};

class Moderator {
 public:
  // Of one text: every category that was looked for, in the same order each time.
  using Judgement = std::vector<ModerationCategory>;
  using Then = std::function<void(Result<std::vector<Judgement>> judgements)>;

  virtual ~Moderator() = default;
  // What answers name as the model.
  virtual const std::string& name() const = 0;
  // Judges each text by itself and calls back once, now or later, from any thread. May block: called in the background.
  virtual void judge(std::vector<std::string> texts, Then then) = 0;
};

}  // namespace qw::api
