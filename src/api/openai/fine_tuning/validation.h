// What is wrong with a file of training examples, line by line, and what is in it: counted before anything is trained.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "api/openai/fine_tuning/runner.h"
#include "json/value.h"
#include "store/files.h"

namespace qw::api::openai {

struct LineProblem {
  std::int64_t line = 0;             // from 1; 0: the file
  std::string code, where, message;  // where: a path inside the line ("messages[1].content"), or ""
};

struct FileReport {
  std::string file, sha256;
  std::int64_t lines = 0, examples = 0;  // that are not blank; of these, those that can be learnt from
  std::int64_t wrong = 0;                // lines with a problem; the first kMostProblems are named
  std::int64_t duplicates = 0;           // examples that stood before in the same file
  std::int64_t also_in_training = 0;     // of a validation file: examples that are trained on, too
  bool counted = false;                  // tokens are known: whoever trains could count them
  std::int64_t tokens = 0, learnt_tokens = 0, longest = 0, longest_line = 0;
  std::int64_t cut = 0;  // examples longer than a sequence, which are cut into several
  std::vector<LineProblem> problems;

  bool fine() const { return wrong == 0 && examples > 0; }
  static constexpr std::size_t kMostProblems = 100;
};

// The digest of what an example says, whatever the order of its members' white space; of 16 bytes.
using ExampleDigests = std::set<std::string>;

struct ValidationInput {
  store::Files& files;
  std::string project, file;
  bool pairs = false;                        // lines are pairs (FineTuneAsk)
  ExampleMeasure* measure = nullptr;         // null: tokens are not counted
  const ExampleDigests* training = nullptr;  // of a validation file: what is trained on
  std::function<Status()> alive = {};        // called now and then; an error ends it
};
// Errors: of the store, and of `alive`. What is wrong with the file stands in the report. `seen` gets its examples.
Result<FileReport> validate_file(const ValidationInput& input, ExampleDigests& seen);

json::Object to_json(const FileReport& report);
// "line 2 is not JSON; line 3 ..." of the first problems; "" of a file that is fine.
std::string problems_text(const FileReport& report);

}  // namespace qw::api::openai
