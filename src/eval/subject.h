// What is asked of a model that is evaluated, and who answers: the three kinds of request that lm-evaluation-harness
// knows, in texts. EngineSubject (engine_subject.h) answers with a model of this machine.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "json/value.h"

namespace qw::eval {

// What the model reads: a text as it is, or a conversation that its chat template renders.
struct Prompt {
  std::string text;
  json::Array messages;  // not empty: the conversation the model is to answer; `text` is unused
};

// How likely is `continuation` after `context`?
struct Pair {
  Prompt context;
  std::string continuation;
};

// What is left of a context's text: white space at its end belongs to the continuation (lm-evaluation-harness cuts so).
std::string_view context_proper(std::string_view context);

struct Likelihood {
  double sum = 0;           // nats
  bool greedy = true;       // every token was the most likely one
  std::int64_t tokens = 0;  // of the continuation
};

struct Question {
  Prompt prompt;
  std::vector<std::string> stop;  // the answer ends before the first of them
  std::int64_t max_tokens = 256;
  float temperature = 0;   // 0: the most likely token each time
  std::uint64_t seed = 0;  // of the draws, else; below 2^63
};

class Subject {
 public:
  // Told from time to time, by one thread at a time.
  using Progress = std::function<void(std::size_t done, std::size_t total)>;
  virtual ~Subject() = default;

  // Answers come in the order of what was asked. kInterrupted when the user ends it.
  virtual Result<std::vector<Likelihood>> likelihoods(std::span<const Pair> pairs, const Progress& progress) = 0;
  // Of whole texts, with nothing before them: a text longer than the context is read in windows which meet (each token
  // is counted once, and has as much before it as fits).
  virtual Result<std::vector<Likelihood>> texts(std::span<const std::string> texts, const Progress& progress) = 0;
  virtual Result<std::vector<std::string>> answers(std::span<const Question> questions, const Progress& progress) = 0;
  // The text the model reads.
  virtual Result<std::string> shown(const Prompt& prompt) = 0;
};

}  // namespace qw::eval
