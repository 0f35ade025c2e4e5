#include "api/feedback/chain.h"

#include "api/field_reader.h"
#include "api/openai/fine_tuning/job.h"
#include "api/rollouts/api.h"
#include "api/rollouts/evaluations.h"
#include "base/clock.h"
#include "base/sha256.h"

namespace qw::api {
namespace {

constexpr std::int64_t kJobsAtOnce = 100;

json::Value or_null(const std::string& text) { return text.empty() ? json::Value() : json::Value(text); }

// The answer as it should have been; "": nobody said.
std::string wanted_answer(const store::Feedback& f) {
  return !f.correction.empty() ? f.correction : f.rating == "up" ? f.answer : "";
}

json::Array messages_of(const store::Feedback& f) {
  const auto value = json::parse(f.prompt);
  return value && value->is_array() ? value->as_array() : json::Array{};
}

json::Object said(const std::string& text) { return {{"role", "assistant"}, {"content", text}}; }

Result<std::string> digest_of_file(store::Files& files, const std::string& id) {
  base::Sha256 sha;
  for (std::int64_t at = 0;;) {
    QW_ASSIGN(const std::string piece, files.read(id, at));
    if (piece.empty()) return sha.hex();
    sha.update(piece);
    at += static_cast<std::int64_t>(piece.size());
  }
}

// The job that made a model.
Result<store::Job> job_of(store::Store& store, const std::string& project, const std::string& model) {
  for (std::string after;;) {
    QW_ASSIGN(const auto jobs, store.jobs().list(project, openai::kFineTuneJob, after, kJobsAtOnce));
    if (jobs.empty()) return fail(ErrorKind::kBadInput, "no job of this project made a model " + model);
    for (const store::Job& job : jobs)
      if (text_member(json::Value(openai::fine_tune_state(job)), "fine_tuned_model") == model) return job;
    after = jobs.back().id;
  }
}

class Chain {
 public:
  Chain(store::Store& store, const std::string& project, const std::string& model)
      : store_(store), project_(project), model_(model) {}

  Result<json::Object> walk() {
    QW_ASSIGN(const store::Job job, job_of(store_, project_, model_));
    const json::Value state(openai::fine_tune_state(job));
    const auto spec = json::parse(job.spec);
    const std::string file = spec ? text_member(*spec, "training_file") : "";
    const json::Value* validation = state.find("validation");
    const json::Value* training = validation == nullptr ? nullptr : validation->find("training_file");
    const std::string trained = training == nullptr ? "" : text_member(*training, "sha256");
    model_sha_ = text_member(state, "model_sha256");
    json::Object out{{"object", "lineage"}, {"model", model_}, {"model_sha256", or_null(model_sha_)}};
    out.set("base", spec ? or_null(text_member(*spec, "model")) : json::Value());
    out.set("job", json::Object{{"id", job.id},
                                {"finished_at", job.changed_us / base::kSecondUs},
                                {"training_file", file},
                                {"training_sha256", or_null(trained)},
                                {"spec_sha256", base::sha256_hex(job.spec)}});
    if (model_sha_.empty()) breaks("the job does not say what it made");
    QW_ASSIGN(json::Value dataset, dataset_of(file, trained));
    out.set("dataset", std::move(dataset));
    QW_ASSIGN(json::Array evaluations, evaluations_of());
    out.set("evaluations", std::move(evaluations));
    QW_ASSIGN(const auto events, store_.rollouts().of_model(project_, model_));
    json::Array rollouts;
    for (const auto& event : events) rollouts.emplace_back(rollout_event_object(event));
    out.set("rollouts", std::move(rollouts));
    out.set("holds", breaks_.empty());
    out.set("breaks", std::move(breaks_));
    return out;
  }

 private:
  void breaks(const std::string& why) { breaks_.emplace_back(why); }

  // The data set that the job's file is of; null: it is a file that somebody left.
  Result<json::Value> dataset_of(const std::string& file, const std::string& trained) {
    std::string after;
    std::optional<store::DatasetVersion> found;
    while (!found) {  // by what the file held: of an erased one the id is gone
      QW_ASSIGN(const auto some, store_.feedback().datasets(project_, after, kJobsAtOnce));
      if (some.empty()) return json::Value();
      for (const store::DatasetVersion& d : some)
        if (d.examples_file == file || (!trained.empty() && d.examples_sha256 == trained)) found = d;
      after = some.back().id;
    }
    if (found->examples_sha256 != trained) breaks("the file that was trained on is not the data set's");
    if (!found->examples_file.empty()) {
      QW_ASSIGN(const std::string now, digest_of_file(store_.files(), found->examples_file));
      if (now != found->examples_sha256) breaks("the data set's file was changed");
    }
    QW_ASSIGN(const auto items, store_.feedback().items(found->id));
    if (dataset_digest(items) != found->sha256) breaks("the data set's items are not those it was made of");
    json::Array list;
    for (const store::DatasetItem& item : items) {
      QW_ASSIGN(const store::Feedback f, store_.feedback().find(project_, item.feedback_id));
      if (f.status != "erased" && feedback_digest(f) != item.digest)
        breaks("feedback " + f.id + " is not what was accepted");
      list.push_back(json::Object{{"feedback", f.id},
                                  {"sha256", item.digest},
                                  {"rating", f.rating},
                                  {"answer_id", f.answer_id},
                                  {"model", f.model},
                                  {"status", f.status},
                                  {"by", f.by_user.empty() ? f.by_key : f.by_user},
                                  {"reviewer", f.reviewer}});
    }
    return json::Value(json::Object{{"id", found->id},
                                    {"name", found->name},
                                    {"number", found->number},
                                    {"sha256", found->sha256},
                                    {"examples_sha256", found->examples_sha256},
                                    {"erased", found->erased},
                                    {"items", std::move(list)}});
  }

  Result<json::Array> evaluations_of() {
    json::Array out;
    for (std::string after;;) {
      QW_ASSIGN(const auto jobs, store_.jobs().list(project_, kEvaluationJob, after, kJobsAtOnce));
      if (jobs.empty()) return out;
      for (const store::Job& job : jobs) {
        const json::Value one(evaluation_object(job));
        if (text_member(one, "model") != model_) continue;
        if (const std::string sha = text_member(one, "model_sha256"); !sha.empty() && sha != model_sha_)
          breaks("evaluation " + job.id + " judged other bytes than the job made");
        json::Object told;
        for (const char* member : {"id", "task", "metric", "value", "items", "passed", "at_least", "at_most",
                                   "task_sha256", "data_sha256", "model_sha256", "sha256"})
          if (const json::Value* value = one.find(member)) told.set(member, *value);
        out.emplace_back(std::move(told));
      }
      after = jobs.back().id;
    }
  }

  store::Store& store_;
  const std::string project_, model_;
  std::string model_sha_;
  json::Array breaks_;
};

}  // namespace

std::string feedback_digest(const store::Feedback& f) {
  return base::sha256_hex(json::dump(json::Object{{"answer_id", f.answer_id},
                                                  {"model", f.model},
                                                  {"prompt", messages_of(f)},
                                                  {"answer", f.answer},
                                                  {"rating", f.rating},
                                                  {"correction", f.correction}},
                                     json::WriteStyle::compact()));
}

std::string dataset_digest(const std::vector<store::DatasetItem>& items) {
  base::Sha256 sha;
  for (const store::DatasetItem& item : items) sha.update(item.digest + "\n");
  return sha.hex();
}

std::string example_line(const store::Feedback& f) {
  const std::string wanted = wanted_answer(f);
  json::Array messages = messages_of(f);
  if (wanted.empty() || messages.empty()) return "";
  messages.emplace_back(said(wanted));
  return json::dump(json::Object{{"messages", std::move(messages)}}, json::WriteStyle::compact()) + "\n";
}

std::string pair_line(const store::Feedback& f) {
  json::Array messages = messages_of(f);
  if (f.correction.empty() || f.correction == f.answer || messages.empty()) return "";
  return json::dump(json::Object{{"input", json::Object{{"messages", std::move(messages)}}},
                                 {"preferred_output", json::Array{said(f.correction)}},
                                 {"non_preferred_output", json::Array{said(f.answer)}}},
                    json::WriteStyle::compact()) +
         "\n";
}

Result<json::Object> lineage(store::Store& store, const std::string& project, const std::string& model) {
  return Chain(store, project, model).walk();
}

}  // namespace qw::api
