// A model behind an OpenAI-compatible address as the subject of an evaluation, asked several things at once. It writes
// answers; and it says how likely a text is, where the service takes token ids in /v1/completions with `echo`,
// `logprobs` and no tokens to write, and tells tokens at /tokenize (as qianwen serve and vLLM do). What takes more than
// that is refused: texts with nothing before them, whole texts (whose windows depend on the model's context), and
// conversations.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "eval/subject.h"
#include "json/value.h"
#include "net/http_client.h"

namespace qw::app {

struct ServedSubjectOptions {
  std::string address;  // http(s)://host[:port][/v1]
  std::string model;    // ""; the first the service lists
  std::string key;      // a bearer token; "": none
  int calls = 8;        // at once
  json::Object template_variables;
  // What stands in front of an answer that the service's policy blocked (400 or a finish_reason content_filter); "":
  // a refused request is an error, and nothing is said of an answer.
  std::string blocked;
  const std::atomic<bool>* interrupted = nullptr;
};

class ServedSubject final : public eval::Subject {
 public:
  // Asks the service for its models. Errors as of HttpClient; kBadInput: it names none, or not the one given.
  static Result<std::unique_ptr<ServedSubject>> open(ServedSubjectOptions options);
  Result<std::vector<eval::Likelihood>> likelihoods(std::span<const eval::Pair> pairs,
                                                    const Progress& progress) override;
  Result<std::vector<eval::Likelihood>> texts(std::span<const std::string> texts, const Progress& progress) override;
  // An answer that the service refuses is an error; where it is busy (429, 503) or gone it is asked again for a minute.
  Result<std::vector<std::string>> answers(std::span<const eval::Question> questions,
                                           const Progress& progress) override;
  Result<std::string> shown(const eval::Prompt& prompt) override;
  const std::string& model() const { return options_.model; }

 private:
  ServedSubject(ServedSubjectOptions options, net::HttpClient client)
      : options_(std::move(options)), client_(std::move(client)) {}
  net::ClientRequest request(const char* method, const std::string& path, std::string body) const;
  // `filtered`: a request that a policy refuses is no error, and it is so.
  Result<json::Value> call(const net::ClientRequest& request, bool* filtered = nullptr) const;
  Result<std::string> answer(const eval::Question& question) const;
  Result<json::Array> tokens_of(const std::string& text) const;
  Result<eval::Likelihood> likelihood(const eval::Pair& pair) const;
  // `one(i)` of each i, by as many threads as there may be calls; the first error ends it.
  Status each(std::size_t count, const Progress& progress, const std::function<Status(std::size_t i)>& one) const;

  ServedSubjectOptions options_;
  net::HttpClient client_;
};

}  // namespace qw::app
