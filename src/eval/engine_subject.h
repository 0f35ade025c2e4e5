// A model of this machine as the subject of an evaluation: many requests at once through its engine. Choices that begin
// alike share what is computed of their beginning, and those of one token share the whole pass.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "chat/template.h"
#include "engine/engine.h"
#include "eval/subject.h"
#include "tokenizer/tokenizer.h"

namespace qw::eval {

struct EngineSubjectOptions {
  std::int64_t context = 0;  // tokens read at once, at most the engine's; longer prompts lose their beginning
  std::vector<tokenizer::TokenId> stop_ids;  // which end an answer
  std::int32_t adapter = -1;
  const chat::Template* chat_template = nullptr;  // null: conversations are refused
  json::Object template_variables;                // e.g. enable_thinking
  const std::atomic<bool>* interrupted = nullptr;
};

// The engine is not started: the subject steps it on the calling thread. Engine and tokenizer must outlive it.
class EngineSubject final : public Subject {
 public:
  EngineSubject(engine::Engine& engine, const tokenizer::Tokenizer& tokenizer, EngineSubjectOptions options)
      : engine_(engine), tokenizer_(tokenizer), options_(std::move(options)) {}
  Result<std::vector<Likelihood>> likelihoods(std::span<const Pair> pairs, const Progress& progress) override;
  Result<std::vector<Likelihood>> texts(std::span<const std::string> texts, const Progress& progress) override;
  Result<std::vector<std::string>> answers(std::span<const Question> questions, const Progress& progress) override;
  Result<std::string> shown(const Prompt& prompt) override;

  // Prompts that were too long and lost their beginning, so far.
  std::int64_t shortened() const { return shortened_; }

 private:
  struct Part {
    std::string text;
    bool plain = false;  // control tokens in it are ordinary text
  };
  struct Split {
    std::vector<tokenizer::TokenId> ids;
    std::size_t context = 0;  // so many of them
  };
  struct Job;
  Result<std::vector<Part>> parts_of(const Prompt& prompt) const;
  std::vector<tokenizer::TokenId> encode(const std::vector<Part>& parts) const;
  Result<tokenizer::TokenId> prefix() const;
  Result<Split> split(const Pair& pair) const;
  Status run(std::vector<Job>& jobs, std::span<Likelihood> results, const Progress& progress);

  engine::Engine& engine_;
  const tokenizer::Tokenizer& tokenizer_;
  EngineSubjectOptions options_;
  std::int64_t shortened_ = 0;
};

}  // namespace qw::eval
