// For tests: examples whose words are their tokens.
#pragma once

#include <algorithm>

#include "api/field_reader.h"
#include "api/openai/fine_tuning/runner.h"

namespace qw::api::test {

// Of the assistant's words each is learnt. Sequences have 8.
class WordMeasure final : public openai::ExampleMeasure {
 public:
  Result<openai::ExampleSize> add(const json::Object& line) override {
    openai::ExampleSize out;
    const auto add_words = [&out](const json::Value* messages) -> Status {
      if (messages == nullptr) return {};
      for (const json::Value& message : messages->as_array()) {
        const std::string text = text_member(message, "content");
        if (text == "unwritable") return fail(ErrorKind::kBadInput, "no words");
        const auto words = static_cast<std::int64_t>(std::count(text.begin(), text.end(), ' ')) + 1;
        out.tokens += words;
        if (text_member(message, "role") == "assistant") out.learnt += words;
      }
      return {};
    };
    if (const json::Value* input = line.find("input")) QW_TRY(add_words(input->find("messages")));
    for (const char* name : {"messages", "preferred_output", "non_preferred_output"}) QW_TRY(add_words(line.find(name)));
    return out;
  }
  std::int64_t sequence_length() const override { return 8; }
};

// Of ten steps of half a second.
inline openai::FineTuneEstimate ten_steps() {
  openai::FineTuneEstimate out;
  out.epochs = 2;
  out.batch_size = out.sequences = 1;
  out.steps = 10;
  out.trained_tokens = 70;
  out.most_trained_tokens = 1'000'000;
  out.memory_bytes = 1 << 20;
  out.available_bytes = 1 << 30;
  out.seconds_a_step = 0.5;
  out.seconds = 5;
  out.calibrated_steps = 2;
  return out;
}

}  // namespace qw::api::test
