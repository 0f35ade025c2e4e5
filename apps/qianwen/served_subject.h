// A model behind an OpenAI-compatible address as the subject of an evaluation: it writes answers, several at once. Such
// services do not say how likely a given text is, so tasks that ask for that are refused.
#pragma once

#include <atomic>
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
  const std::atomic<bool>* interrupted = nullptr;
};

class ServedSubject final : public eval::Subject {
 public:
  // Asks the service for its models. Errors as of HttpClient; kBadInput: it names none, or not the one given.
  static Result<std::unique_ptr<ServedSubject>> open(ServedSubjectOptions options);
  Result<std::vector<eval::Likelihood>> likelihoods(std::span<const eval::Pair> pairs,
                                                    const Progress& progress) override;
  Result<std::vector<eval::Likelihood>> texts(std::span<const std::string> texts, const Progress& progress) override;
  // One that the service refuses is an error; where it is busy (429, 503) or gone it is asked again for a minute.
  Result<std::vector<std::string>> answers(std::span<const eval::Question> questions,
                                           const Progress& progress) override;
  Result<std::string> shown(const eval::Prompt& prompt) override;
  const std::string& model() const { return options_.model; }

 private:
  ServedSubject(ServedSubjectOptions options, net::HttpClient client)
      : options_(std::move(options)), client_(std::move(client)) {}
  net::ClientRequest request(const char* method, const std::string& path, std::string body) const;
  Result<json::Value> call(const net::ClientRequest& request) const;
  Result<std::string> answer(const eval::Question& question) const;

  ServedSubjectOptions options_;
  net::HttpClient client_;
};

}  // namespace qw::app
