// A model that says what kind of text a text is, for guards. Behind this interface, because models run elsewhere.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace qw::governance {

struct TextClass {
  std::string name;  // "hate", "self-harm", ...
  double score = 0;  // how likely, 0 to 1
};

class TextClassifier {
 public:
  virtual ~TextClassifier() = default;
  // What profiles and people call it.
  virtual const std::string& name() const = 0;
  // Every kind of text it can tell that is not harmless, in the same order each time. Any thread; it waits for the
  // model. An error means that nothing is known, never that the text is harmless.
  virtual Result<std::vector<TextClass>> classify(std::string_view text) const = 0;
};

}  // namespace qw::governance
