// Fine-tuning jobs on the wire, with a runner that is told what to do.
#include <atomic>
#include <thread>


#include "api/internal/test_accounts.h"
#include "api/internal/test_measure.h"

namespace qw::api {
namespace {

using openai::FineTuneAsk;
using openai::FineTuneEnd;
using openai::FineTuneOrder;
using openai::FineTuneWatch;

class Runner final : public openai::FineTuneRunner {
 public:
  Result<std::unique_ptr<openai::ExampleMeasure>> measure(const FineTuneAsk&) const override {
    return std::unique_ptr<openai::ExampleMeasure>(std::make_unique<test::WordMeasure>());
  }
  Result<openai::FineTuneEstimate> estimate(const FineTuneAsk&, const openai::ExampleMeasure&, store::Files&,
                                            const std::function<bool()>&) override {
    ++estimates;
    openai::FineTuneEstimate out = test::ten_steps();
    out.memory_bytes = needs;
    return out;
  }
  void forget(const std::string& id) override { forgotten = id; }
  Result<std::string> digest(const FineTuneAsk&) const override { return std::string("abc"); }

  Status check(const FineTuneAsk& ask) const override {
    if (ask.base == "vectors") return fail(ErrorKind::kUsage, "vectors are not trained here");
    return {};
  }
  // Ten steps; from the fifth on only when `open` is set, as long training does.
  Result<FineTuneEnd> run(const FineTuneAsk& ask, store::Files& files, FineTuneWatch& watch) override {
    ++runs;
    asked = ask;
    if (!failure.empty()) return fail(ErrorKind::kFailed, failure);
    text = *files.read(ask.training_file, 0);
    QW_TRY(watch.plan(70));
    for (int step = 1; step <= 10; ++step) {
      while (step > 4 && !open.load()) {
        QW_ASSIGN(const auto order, watch.go_on());
        if (order == FineTuneOrder::kCancel) return FineTuneEnd::kCancelled;
        if (order == FineTuneOrder::kLeave) return FineTuneEnd::kLeft;
        if (order == FineTuneOrder::kPause) return FineTuneEnd::kPaused;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
      watch.step({step, 10, 1.0 / step, std::nullopt, step * 7, 1e-4, 2.0, 50.0, 10.0 - step});
      QW_TRY(watch.go_on());
    }
    if (!late_failure.empty()) return fail(ErrorKind::kFailed, late_failure);
    watch.step({10, 10, std::nullopt, 0.25, 0, {}, {}, {}, {}});
    return FineTuneEnd::kDone;
  }
  std::atomic<bool> open{true};
  std::atomic<int> runs{0}, estimates{0};
  std::int64_t needs = 1 << 20;
  std::string forgotten;
  std::string failure, late_failure, text;
  FineTuneAsk asked;
};

class FineTuningTest : public test::AccountsServiceTest {
 protected:
  void SetUp() override {
    fine_tuning_.runner = &runner_;
    fine_tuning_.poll = fine_tuning_.flush = std::chrono::milliseconds(5);
    AccountsServiceTest::SetUp();
  }
  ~FineTuningTest() override { service_.reset(); }  // before the runner
  std::string file(const std::string& content, const char* purpose = "fine-tune") {
    const auto made = store_->files().begin(project_, "in.jsonl", purpose);
    EXPECT_TRUE(store_->files().append(made->id, content).has_value());
    return store_->files().complete(made->id)->id;
  }
  json::Value create(const std::string& file_id, int status = 200, const std::string& more = "") {
    return ask_json(kJobs, R"({"model":"alphabet","training_file":")" + file_id + "\"" + more + "}", status,
                    bearer(key_));
  }
  json::Value get(const std::string& path) {
    const auto answer = ask("GET", kJobs + path, "", bearer(key_));
    EXPECT_EQ(answer.status, 200) << answer.body;
    return *json::parse(answer.body);
  }
  json::Value wait(const std::string& id, const std::string& status) {
    json::Value job;
    for (int i = 0; i < 1000; ++i) {
      job = get("/" + id);
      if (at(job, "status").as_string() == status) return job;
      ::usleep(5'000);
    }
    ADD_FAILURE() << "not " << status << ": " << json::dump(job);
    return job;
  }
  template <class Holds>
  void wait_until(Holds holds) {
    for (int i = 0; i < 1000; ++i) {
      if (holds()) return;
      ::usleep(5'000);
    }
    ADD_FAILURE() << "did not come about";
  }
  static constexpr const char* kLine =
      R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]})"
      "\n";
  const std::string kJobs = "/v1/fine_tuning/jobs";
  Runner runner_;
};

TEST_F(FineTuningTest, AJobTrainsAndTellsWhatItDid) {
  const auto made =
      create(file(kLine), 200,
             R"(,"suffix":"mine","seed":7,"hyperparameters":{"n_epochs":2,"batch_size":"auto","lora_rank":8},"metadata":{"a":"b"})");
  const std::string id = at(made, "id").as_string();
  EXPECT_TRUE(id.starts_with("ftjob-"));
  EXPECT_EQ(at(made, "status").as_string(), "validating_files");
  EXPECT_EQ(dump(made.find("fine_tuned_model")), "null");
  const auto job = wait(id, "succeeded");
  const std::string name = at(job, "fine_tuned_model").as_string();
  EXPECT_TRUE(name.starts_with("ft:alphabet:mine:")) << name;
  EXPECT_EQ(runner_.asked.name, name);
  EXPECT_EQ(runner_.asked.epochs, 2);
  EXPECT_FALSE(runner_.asked.batch_size);
  EXPECT_EQ(runner_.asked.lora_rank, 8);
  EXPECT_EQ(runner_.asked.seed, 7);
  EXPECT_EQ(runner_.text, kLine);
  EXPECT_EQ(dump(job.find("trained_tokens")), "70");
  EXPECT_EQ(dump(job.find("hyperparameters")),
            R"({"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": "auto", "lora_rank": 8})");
  EXPECT_FALSE(at(job, "finished_at").is_null());
  const std::string csv = *store_->files().read(at(job, "result_files").as_array().at(0).as_string(), 0);
  EXPECT_TRUE(csv.starts_with("step,train_loss,valid_loss\n1,1.0,\n2,0.5,\n")) << csv;
  EXPECT_TRUE(csv.ends_with("\n10,,0.25\n")) << csv;
  const auto newest = get("/" + id + "/events?limit=2");
  EXPECT_EQ(at(at(newest, "data").as_array()[0], "message").as_string(), "The job has successfully completed.");
  EXPECT_EQ(dump(newest.find("has_more")), "true");
  const auto next = get("/" + id + "/events?limit=100&after=" + at(newest, "last_id").as_string());
  const auto& older = at(next, "data").as_array();
  EXPECT_EQ(at(older[0], "type").as_string(), "metrics");
  EXPECT_EQ(dump(at(older[0], "data").find("valid_loss")), "0.25");
  EXPECT_EQ(at(older.back(), "message").as_string(), "Created fine-tuning job: " + id);
  EXPECT_EQ(older.size(), 4u + 11u);
  const auto checkpoints = get("/" + id + "/checkpoints");
  ASSERT_EQ(at(checkpoints, "data").as_array().size(), 1u);
  EXPECT_EQ(at(at(checkpoints, "data").as_array()[0], "fine_tuned_model_checkpoint").as_string(), name);
  EXPECT_EQ(dump(at(at(checkpoints, "data").as_array()[0], "metrics").find("valid_loss")), "0.25");
  EXPECT_EQ(at(get(""), "data").as_array().size(), 1u);
}

TEST_F(FineTuningTest, FilesThatAreWrongFailTheJobAndSayWhere) {
  const auto job = wait(at(create(file(std::string(kLine) + "{no\n" +
                                       R"({"messages":[{"role":"user","content":"x"}]})"
                                       "\n"
                                       R"({"messages":[]})")),
                           "id")
                            .as_string(),
                        "failed");
  const json::Value& error = at(job, "error");
  EXPECT_EQ(at(error, "code").as_string(), "invalid_file_format");
  EXPECT_EQ(at(error, "param").as_string(), "training_file");
  const std::string message = at(error, "message").as_string();
  EXPECT_NE(message.find("line 2 is not JSON"), std::string::npos) << message;
  EXPECT_NE(message.find("line 3 has no message of the assistant"), std::string::npos) << message;
  EXPECT_NE(message.find("line 4 has no 'messages'"), std::string::npos) << message;
  const auto other =
      wait(at(create(file(kLine), 200, R"(,"validation_file":")" + file("\n") + "\""), "id").as_string(), "failed");
  EXPECT_EQ(at(at(other, "error"), "param").as_string(), "validation_file");
  EXPECT_EQ(runner_.runs, 0);
}

TEST_F(FineTuningTest, WhatIsInAFileIsCountedAndToldLineByLine) {
  const auto line = [](const std::string& question, const std::string& answer) {
    return R"({"messages":[{"role":"user","content":")" + question + R"("},{"role":"assistant","content":")" + answer + "\"}]}\n";
  };
  const std::string good = line("a b", "c d e") + line("a b", "c d e") + line("a b c d e", "f g h i j");
  const std::string id = at(create(file(good), 200, R"(,"validation_file":")" + file(line("a b", "c d e") + line("x", "y")) + "\""), "id").as_string();
  const auto job = wait(id, "succeeded");
  EXPECT_EQ(dump(job.find("validation")),
            R"({"valid": true, "examples": 3, "wrong_lines": 0, "duplicates": 1, "tokens": 20})");
  const auto report = get("/" + id + "/validation");
  const json::Value& training = at(report, "training_file");
  EXPECT_EQ(dump(training.find("tokens")),
            R"({"total": 20, "learnt": 11, "longest": 10, "longest_line": 3, "cut_examples": 1})");
  EXPECT_EQ(at(training, "sha256").as_string().size(), 64u);
  EXPECT_EQ(dump(at(report, "validation_file").find("also_in_training")), "1");
  EXPECT_EQ(dump(at(job, "estimate").find("steps")), "10");
  EXPECT_EQ(dump(at(job, "estimate").find("cost")), "null");

  const auto failed = wait(at(create(file(good + "[]\n" + R"({"messages":[{"role":"user","content":7}]})" "\n" + line("unwritable", "b"))), "id").as_string(), "failed");
  const auto wrong = at(get("/" + at(failed, "id").as_string() + "/validation"), "training_file");
  std::string told;
  for (const json::Value& problem : at(wrong, "problems").as_array())
    told += dump(problem.find("line")) + " " + at(problem, "code").as_string() + " " + dump(problem.find("where")) + "\n";
  EXPECT_EQ(told, "4 not_json null\n5 bad_message \"messages[0].content\"\n6 template \"messages\"\n");
  EXPECT_EQ(dump(wrong.find("wrong_lines")), "3");
}

TEST_F(FineTuningTest, AFileThatIsWrongFailsTheJobWhileAnotherIsTrained) {
  runner_.open = false;
  const std::string busy = at(create(file(kLine)), "id").as_string();
  wait(busy, "running");
  wait(at(create(file("{no\n")), "id").as_string(), "failed");
  const std::string waiting = at(create(file(kLine)), "id").as_string();
  wait_until([&] { return !at(get("/" + waiting), "validation").is_null(); });
  EXPECT_EQ(at(get("/" + waiting), "status").as_string(), "queued");
  runner_.open = true;
  wait(waiting, "succeeded");
  int created = 0;
  const auto events = get("/" + waiting + "/events?limit=100");
  for (const auto& event : at(events, "data").as_array()) created += at(event, "message").as_string().starts_with("Created") ? 1 : 0;
  EXPECT_EQ(created, 1);
}

TEST_F(FineTuningTest, AnEstimateBeginsNothingAndKnowsThePrice) {
  ASSERT_TRUE(store_->ledger().set_price({.model = "alphabet", .currency = "CNY", .trained = 1000}));
  const auto told = ask_json("/v1/fine_tuning/estimate", R"({"model":"alphabet","training_file":")" + file(kLine) + "\"}", 200, bearer(key_));
  EXPECT_EQ(dump(at(told, "estimate").find("cost")), R"({"currency": "CNY", "expected": 7e-05, "most": 1.0})");
  EXPECT_EQ(dump(at(told, "estimate").find("seconds")), "5.0");
  EXPECT_EQ(dump(at(at(told, "validation"), "training_file").find("examples")), "1");
  const auto bad = ask_json("/v1/fine_tuning/estimate", R"({"model":"alphabet","training_file":")" + file("no\n") + "\"}", 200, bearer(key_));
  EXPECT_TRUE(at(bad, "estimate").is_null());
  ask_json("/v1/fine_tuning/estimate", R"({"model":"alphabet","training_file":"file-none"})", 400, bearer(key_));
  EXPECT_EQ(runner_.runs, 0);
  EXPECT_EQ(runner_.estimates, 1);
  EXPECT_TRUE(at(get(""), "data").as_array().empty());
}

TEST_F(FineTuningTest, AJobThatDoesNotFitFailsBeforeItTrains) {
  runner_.needs = std::int64_t{1} << 40;
  const auto job = wait(at(create(file(kLine)), "id").as_string(), "failed");
  EXPECT_EQ(at(at(job, "error"), "code").as_string(), "insufficient_memory");
  EXPECT_EQ(runner_.runs, 0);
}

TEST_F(FineTuningTest, APausedJobWaitsThroughARestartAndGoesOn) {
  runner_.open = false;
  const std::string id = at(create(file(kLine)), "id").as_string();
  wait_until([&] { return !at(get("/" + id), "trained_tokens").is_null(); });
  ask_json(kJobs + "/" + id + "/pause", "", 200, bearer(key_));
  const auto paused = wait(id, "paused");
  EXPECT_TRUE(at(paused, "finished_at").is_null());
  EXPECT_TRUE(at(paused, "estimated_finish").is_null());
  restart();
  runner_.open = true;
  ::usleep(50'000);
  EXPECT_EQ(at(get("/" + id), "status").as_string(), "paused");
  EXPECT_EQ(runner_.runs, 1);
  ask_json(kJobs + "/" + id + "/resume", "", 200, bearer(key_));
  wait(id, "succeeded");
  EXPECT_EQ(runner_.runs, 2);
  ask_json(kJobs + "/" + id + "/pause", "", 400, bearer(key_));
  ask_json(kJobs + "/" + id + "/resume", "", 400, bearer(key_));
  ask_json(kJobs + "/ftjob-none/pause", "", 404, bearer(key_));
}

TEST_F(FineTuningTest, APausedJobIsCancelledAndItsFilesGo) {
  runner_.open = false;
  const std::string id = at(create(file(kLine)), "id").as_string();
  wait(id, "running");
  ask_json(kJobs + "/" + id + "/pause", "", 200, bearer(key_));
  wait(id, "paused");
  EXPECT_EQ(at(ask_json(kJobs + "/" + id + "/cancel", "", 200, bearer(key_)), "status").as_string(), "cancelled");
  EXPECT_EQ(runner_.forgotten, id);
}

TEST_F(FineTuningTest, EventsTellHowFastItGoesAndWhenItEnds) {
  runner_.open = false;
  const std::string id = at(create(file(kLine)), "id").as_string();
  wait_until([&] { return !at(get("/" + id), "estimated_finish").is_null(); });
  const auto events = get("/" + id + "/events?limit=1");
  const json::Value& data = at(at(events, "data").as_array()[0], "data");
  for (const char* member : {"train_loss", "learning_rate", "gradient_norm", "tokens_per_second", "seconds_left"})
    EXPECT_NE(data.find(member), nullptr) << member << " " << dump(&data);
  runner_.open = true;
  EXPECT_TRUE(at(wait(id, "succeeded"), "estimated_finish").is_null());
}

TEST_F(FineTuningTest, WhatTheRunnerSaysIsTheJobsError) {
  runner_.failure = "it exploded";
  const std::string id = at(create(file(kLine)), "id").as_string();
  EXPECT_EQ(at(at(wait(id, "failed"), "error"), "message").as_string(), "it exploded");
  EXPECT_EQ(at(at(get("/" + id + "/events"), "data").as_array()[0], "level").as_string(), "error");
}

TEST_F(FineTuningTest, ARunningJobIsCancelled) {
  runner_.open = false;
  const std::string id = at(create(file(kLine)), "id").as_string();
  wait(id, "running");
  const std::string second = at(create(file(kLine)), "id").as_string();  // waits behind it
  EXPECT_EQ(at(ask_json(kJobs + "/" + second + "/cancel", "", 200, bearer(key_)), "status").as_string(), "cancelled");
  ask_json(kJobs + "/" + id + "/cancel", "", 200, bearer(key_));
  wait(id, "cancelled");
  EXPECT_EQ(runner_.runs, 1);
}

TEST_F(FineTuningTest, AJobGoesOnWhereAServiceEndedAndTellsNoStepTwice) {
  runner_.open = false;
  const std::string id = at(create(file(kLine)), "id").as_string();
  for (int i = 0; i < 1000 && at(get("/" + id), "trained_tokens").is_null(); ++i) ::usleep(5'000);
  restart();
  runner_.open = true;
  wait(id, "succeeded");
  EXPECT_EQ(runner_.runs, 2);
  int steps = 0;
  const auto events = get("/" + id + "/events?limit=100");
  for (const auto& event : at(events, "data").as_array()) steps += at(event, "type").as_string() == "metrics";
  EXPECT_EQ(steps, 11);
}

TEST_F(FineTuningTest, AJobLearnsFromPairs) {
  const std::string pair =
      R"({"input":{"messages":[{"role":"user","content":"a"}]},"preferred_output":[{"role":"assistant","content":"b"}],)"
      R"("non_preferred_output":[{"role":"assistant","content":"c"}]})"
      "\n";
  const std::string dpo = R"(,"method":{"type":"dpo","dpo":{"hyperparameters":{"beta":0.5,"n_epochs":2}}})";
  const std::string id = at(create(file(pair), 200, dpo), "id").as_string();
  const auto job = wait(id, "succeeded");
  EXPECT_TRUE(runner_.asked.pairs);
  EXPECT_EQ(runner_.asked.beta, 0.5);
  EXPECT_EQ(runner_.asked.epochs, 2);
  EXPECT_EQ(dump(job.find("method")),
            R"({"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto", )"
            R"("learning_rate_multiplier": "auto", "beta": 0.5}}})");
  EXPECT_EQ(runner_.text, pair);

  const std::string input = R"({"input":{"messages":[{"role":"user","content":"a"}]},)", one = R"([{"role":"assistant","content":"b"}])",
                    user = R"([{"role":"user","content":"b"}])";
  const std::string wrong = at(create(file(kLine + input + R"("preferred_output":)" + one + "}\n" + input +
                                              R"("preferred_output":)" + one + R"(,"non_preferred_output":)" + one + "}\n" + input +
                                              R"("preferred_output":)" + one + R"(,"non_preferred_output":)" + user + "}\n"),
                                         200, dpo), "id").as_string();
  wait(wrong, "failed");
  const auto report = get("/" + wrong + "/validation");
  std::vector<std::string> codes;
  for (const auto& problem : at(at(report, "training_file"), "problems").as_array())
    codes.push_back(at(problem, "code").as_string() + " " + at(problem, "where").as_string());
  EXPECT_EQ(codes, (std::vector<std::string>{"no_input input", "no_messages non_preferred_output",
                                             "nothing_to_learn non_preferred_output", "not_the_assistant non_preferred_output"}));
}

TEST_F(FineTuningTest, RequestsThatMakeNoSenseAreRefused) {
  const std::string good = file(kLine);
  create("file-none", 400);
  create(file(kLine, "batch"), 400);
  for (const char* more : {R"(,"suffix":"a b")", R"(,"method":{"type":"reinforcement"})", R"(,"method":{"type":"dpo","dpo":{"hyperparameters":{"beta":3}}})", R"(,"hyperparameters":{"n_epochs":0})",
                           R"(,"hyperparameters":{"lora_rank":0})",
                           R"(,"integrations":[{"type":"wandb"}])", R"(,"seed":-1)"})
    create(good, 400, more);
  ask_json(kJobs, R"({"model":"none","training_file":")" + good + "\"}", 404, bearer(key_));
  ask_json(kJobs, R"({"model":"vectors","training_file":")" + good + "\"}", 400, bearer(key_));
  ask_json(kJobs, R"({"training_file":")" + good + "\"}", 400, bearer(key_));
  EXPECT_EQ(ask("GET", kJobs + "/ftjob-none", "", bearer(key_)).status, 404);
  EXPECT_EQ(ask("GET", kJobs + "/x/cancel", "", bearer(key_)).status, 405);
  EXPECT_EQ(ask("GET", kJobs, "", bearer(key({"inference"}))).status, 403);
  EXPECT_EQ(at(get(""), "data").as_array().size(), 0u);
}

TEST_F(FineTuningTest, AModelOfAProjectIsThatProjectsAlone) {
  ServedModel own = *models_.find("alphabet");
  own.id = "ft:own";
  own.project = project_;
  ASSERT_TRUE(models_.add(own));
  own.id = "ft:foreign";
  own.project = "proj_other";
  ASSERT_TRUE(models_.add(own));
  const std::string chat = R"(,"messages":[{"role":"user","content":"a"}],"max_tokens":1})";
  ask_json("/v1/chat/completions", R"({"model":"ft:own")" + chat, 200, bearer(key_));
  ask_json("/v1/chat/completions", R"({"model":"ft:foreign")" + chat, 404, bearer(key_));
  EXPECT_EQ(ask("GET", "/v1/models", "", bearer(key_)).body.find("ft:foreign"), std::string::npos);
}

class UntrainedTest : public test::AccountsServiceTest {};

TEST_F(UntrainedTest, WithoutARunnerNothingIsPretended) {
  const auto error =
      at(ask_json("/v1/fine_tuning/jobs", R"({"model":"alphabet","training_file":"x"})", 501, bearer(key_)), "error");
  EXPECT_EQ(at(error, "code").as_string(), "no_runner");
  EXPECT_EQ(ask("GET", "/v1/fine_tuning/jobs", "", bearer(key_)).status, 200);
}

// What is learned from is reserved before, settled after, and paid once however many services had the job.
TEST_F(FineTuningTest, TrainingIsPaidForByTheToken) {
  const std::string subject = "project:" + project_;
  ASSERT_TRUE(store_->ledger().set_price({"alphabet", "CNY", 300, 60, 600, 600, 5000}).has_value());
  ASSERT_TRUE(store_->ledger().set_budget(subject, "CNY", "total", 500'000).has_value());  // a hundred tokens
  runner_.open = false;
  const std::string id = at(create(file(kLine)), "id").as_string();
  wait_until([&] { return store_->ledger().budgets()->at(0).reserved == 350'000; });
  wait_until([&] { return dump(get("/" + id).find("trained_tokens")) == "28"; });
  restart();  // four steps were made
  wait_until([&] { return store_->ledger().budgets()->at(0).spent == 140'000; });
  wait_until([&] { return store_->ledger().budgets()->at(0).reserved == 210'000; });
  runner_.open = true;
  wait(id, "succeeded");
  auto rows = *store_->ledger().usage({}, 0, 10);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].outcome, "interrupted");
  EXPECT_EQ(rows[0].tokens.trained, 28);
  EXPECT_EQ(rows[1].outcome, "trained");
  EXPECT_EQ(rows[1].tokens.trained, 42);
  EXPECT_EQ(rows[1].request_id, id);
  EXPECT_EQ(rows[1].key_id, key_.key.id);
  const auto budget = store_->ledger().budgets()->at(0);
  EXPECT_EQ(budget.spent, 350'000);
  EXPECT_EQ(budget.reserved, 0);
  const auto refused = wait(at(create(file(kLine)), "id").as_string(), "failed");
  EXPECT_EQ(at(at(refused, "error"), "code").as_string(), "insufficient_quota");
  EXPECT_EQ(store_->ledger().budgets()->at(0).spent, 350'000);
}

TEST_F(FineTuningTest, TrainingThatFailsOrIsCancelledPaysForWhatWasTrained) {
  ASSERT_TRUE(store_->ledger().set_budget("project:" + project_, "tokens", "total", 1000).has_value());
  runner_.open = false;
  const std::string id = at(create(file(kLine)), "id").as_string();
  wait_until([&] { return dump(get("/" + id).find("trained_tokens")) == "28"; });
  ask_json(kJobs + "/" + id + "/cancel", "", 200, bearer(key_));
  wait(id, "cancelled");
  EXPECT_EQ(store_->ledger().budgets()->at(0).spent, 28);
  EXPECT_EQ(store_->ledger().budgets()->at(0).reserved, 0);
  runner_.open = true;
  runner_.late_failure = "the disk is full";
  wait(at(create(file(kLine)), "id").as_string(), "failed");
  EXPECT_EQ(store_->ledger().budgets()->at(0).spent, 28) << "nothing is paid for what failed";
  EXPECT_EQ(store_->ledger().budgets()->at(0).reserved, 0);
}

TEST_F(FineTuningTest, AProjectHasSoManyUnfinishedJobsAtMost) {
  store::Limits limits;
  limits.subject = "project:" + project_;
  limits.jobs = 2;
  ASSERT_TRUE(store_->ledger().set_limits(limits).has_value());
  runner_.open = false;
  const std::string input = file(kLine);
  const std::string first = at(create(input), "id").as_string();
  const std::string second = at(create(input), "id").as_string();
  EXPECT_EQ(at(at(create(input, 429), "error"), "code").as_string(), "too_many_jobs");
  ask_json(kJobs + "/" + second + "/cancel", "", 200, bearer(key_));
  const std::string third = at(create(input), "id").as_string();
  for (const char* body : {R"({"model":"alphabet","input":"a","background":true})"}) {
    const auto refused = ask("POST", "/v1/responses", body, bearer(key_));
    EXPECT_EQ(refused.status, 429) << refused.body;
    EXPECT_NE(refused.head.find("Retry-After: "), std::string::npos);
  }
  const auto task = ask("POST", "/api/v1/services/aigc/text-generation/generation",
                        R"({"model":"alphabet","input":{"prompt":"a"}})", bearer(key_) + "X-DashScope-Async: enable\r\n");
  EXPECT_EQ(task.status, 429) << task.body;
  runner_.open = true;
  wait(first, "succeeded");
  wait(third, "succeeded");
}

}  // namespace
}  // namespace qw::api
