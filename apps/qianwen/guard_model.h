// A model that tells what kind of text a text is, beside the models that a service answers with: for guards of policies,
// for POST /v1/moderations and for scans. Models of classes with a class "safe" (what `[classes]` of a training recipe
// makes), such as the shipped `mini-guard`; generative guard models (Qwen3Guard-Gen); and Qwen3Guard-Stream, of which the
// heads for queries are asked.
#pragma once

#include <memory>
#include <string>

#include "api/moderator.h"
#include "governance/guard/text_classifier.h"
#include "open_model.h"

namespace qw::app {

class GuardModel final : public governance::TextClassifier, public api::Moderator {
 public:
  // It runs on `threads` of its own. kBadInput: the model is none of these.
  static Result<std::unique_ptr<GuardModel>> load(const std::string& model, int threads);
  const std::string& name() const override { return name_; }
  // Long texts are asked about piece by piece; a class has its highest score. kFailed: a verdict that cannot be read.
  Result<std::vector<governance::TextClass>> classify(std::string_view text) const override;
  void judge(std::vector<std::string> texts, Then then) override;

 private:
  GuardModel(std::string name, ReadyModel model) : name_(std::move(name)), model_(std::move(model)) {}
  using Scores = std::vector<governance::TextClass>;
  Result<std::vector<engine::TokenId>> prompt_of(std::string_view piece, bool answer_follows) const;
  Result<Scores> by_row(const std::vector<std::string>& pieces) const;
  Result<Scores> by_verdict(const std::vector<std::string>& pieces) const;
  Scores scores_of(std::span<const float> row) const;

  const std::string name_;
  ReadyModel model_;
};

// Asks both and tells of the categories of both: a list of words, and a model. Both must outlive it.
std::unique_ptr<api::Moderator> both(api::Moderator& words, api::Moderator& model);

}  // namespace qw::app
