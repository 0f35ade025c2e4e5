// For tests: .case files, which say what goes over the wire (tests/cases/README.md).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qw::api::test {

using Variables = std::map<std::string, std::string>;

// A request and the answer that is expected to it.
struct Transcript {
  std::vector<std::string> comments;  // lines before it
  std::string method, path;
  std::vector<std::pair<std::string, std::string>> directives;  // "keep", "until": what is done with the answer
  std::vector<std::string> headers;                             // "Name: value"
  std::string body;
  int status = 0;
  std::vector<std::string> answer_headers;
  std::string answer;
};

// The transcripts of a file's text; what does not follow the form is a test failure.
std::vector<Transcript> parse_cases(std::string_view text, const std::string& where);
std::string write_cases(const std::vector<Transcript>& cases);

// "{{name}}" replaced by its value.
std::string with_variables(std::string text, const Variables& variables);

// "" if `got` is what `expected` says, line by line and JSON by value, with its placeholders; else what differs.
std::string difference(const std::string& expected, const std::string& got, const Variables& variables);
// The same for one line of text.
bool text_fits(std::string_view expected, std::string_view got);
std::string text_placeholders(std::string text, const Variables& variables);
// `got` with placeholders for what is different each time.
std::string with_placeholders(const std::string& got, const Variables& variables);

}  // namespace qw::api::test
