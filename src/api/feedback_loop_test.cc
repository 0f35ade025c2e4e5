// From a rating to a rolled-out model, and back along its digests; with a runner and a gate that are told what to do.
#include <set>

#include "api/feedback/chain.h"
#include "api/internal/test_accounts.h"
#include "api/internal/test_measure.h"
#include "api/rollouts/table.h"

namespace qw::api {
namespace {

using openai::FineTuneAsk;
using openai::FineTuneEnd;

// What it makes is served as another name of the alphabet.
class Runner final : public openai::FineTuneRunner {
 public:
  explicit Runner(ModelList& models) : models_(models) {}
  Status check(const FineTuneAsk&) const override { return {}; }
  Result<std::unique_ptr<openai::ExampleMeasure>> measure(const FineTuneAsk&) const override {
    return std::unique_ptr<openai::ExampleMeasure>(std::make_unique<test::WordMeasure>());
  }
  Result<openai::FineTuneEstimate> estimate(const FineTuneAsk&, const openai::ExampleMeasure&, store::Files&,
                                            const std::function<bool()>&) override {
    return test::ten_steps();
  }
  void forget(const std::string&) override {}
  Result<std::string> digest(const FineTuneAsk&) const override { return std::string("model-bytes"); }
  Result<FineTuneEnd> run(const FineTuneAsk& ask, store::Files& files, openai::FineTuneWatch&) override {
    text = *files.read(ask.training_file, 0);
    ServedModel made = *models_.find("alphabet");
    made.id = ask.name;
    made.base = "alphabet";
    made.project = ask.project_id;
    QW_TRY(models_.add(std::move(made)));
    return FineTuneEnd::kDone;
  }
  std::string text;

 private:
  ModelList& models_;
};

class Gate final : public GateRunner {
 public:
  Status check(const GateAsk&) const override { return {}; }
  Result<GateResult> run(const GateAsk&, store::Files&, const std::function<bool()>&) override {
    return GateResult{"t", "acc", value, 10, sha};
  }
  Result<std::string> digest(const std::string&) const override { return now; }
  double value = 0.9;
  std::string sha = "model-bytes", now = sha;  // when it was judged, and now
};

class FeedbackLoopTest : public test::AccountsServiceTest {
 protected:
  FeedbackLoopTest() : runner_(models_) {}
  ~FeedbackLoopTest() override {
    engine_->stop();
    service_.reset();
  }
  void SetUp() override {
    fine_tuning_.runner = &runner_;
    fine_tuning_.poll = fine_tuning_.flush = std::chrono::milliseconds(5);
    gates_ = &gate_;
    keep_days_ = 1;
    AccountsServiceTest::SetUp();
  }
  std::string file(const std::string& content, const char* purpose) {
    const auto made = store_->files().begin(project_, "in.jsonl", purpose);
    EXPECT_TRUE(store_->files().append(made->id, content).has_value());
    return store_->files().complete(made->id)->id;
  }
  json::Value post(const std::string& path, const std::string& body, int status = 200) {
    return ask_json(path, body, status, bearer(key_));
  }
  json::Value get(const std::string& path, int status = 200) {
    const auto answer = ask("GET", path, "", bearer(key_));
    EXPECT_EQ(answer.status, status) << answer.body;
    return *json::parse(answer.body);
  }
  json::Value until(const std::string& path, const std::string& status) {
    json::Value last;
    for (int i = 0; i < 1000; ++i) {
      last = get(path);
      if (at(last, "status").as_string() == status) return last;
      ::usleep(5'000);
    }
    ADD_FAILURE() << "not " << status << ": " << json::dump(last);
    return last;
  }
  json::Value chat(const std::string& model, const std::string& more = "", int status = 200) {
    return post(
        "/v1/chat/completions",
        R"({"model":")" + model + R"(","max_tokens":4,"messages":[{"role":"user","content":"abc"}])" + more + "}",
        status);
  }
  std::string rated(const std::string& rest) {
    const std::string answer = at(chat("alphabet"), "id").as_string();
    return at(post("/v1/feedback", R"({"answer_id":")" + answer + "\"," + rest + "}"), "id").as_string();
  }
  json::Value evaluate(const std::string& model, const std::string& bound = R"("at_least":0.5)") {
    const auto made = post("/v1/evaluations",
                           R"({"model":")" + model + R"(","task_file":")" + file("t", "evals") + "\"," + bound + "}");
    return until("/v1/evaluations/" + at(made, "id").as_string(), "succeeded");
  }
  std::string train(const std::string& file_id) {
    const auto made = post("/v1/fine_tuning/jobs", R"({"model":"alphabet","training_file":")" + file_id + "\"}");
    return at(until("/v1/fine_tuning/jobs/" + at(made, "id").as_string(), "succeeded"), "fine_tuned_model").as_string();
  }
  Runner runner_;
  Gate gate_;
};

TEST_F(FeedbackLoopTest, GoesFromARatingToARolledOutModelAndBack) {
  const std::string bad = rated(R"("rating":"down","correction":"better","comment":"c")"),
                    good = rated(R"("rating":"up")"), other = rated(R"("rating":"down")");
  EXPECT_EQ(at(get("/v1/reviews?status=open"), "data").as_array().size(), 3u);
  post("/v1/reviews/" + other + "/accept", "", 400);  // nothing to learn
  post("/v1/reviews/" + other + "/edit", R"({"correction":"other"})");
  post("/v1/reviews/" + other + "/reject", R"({"note":"no"})");
  post("/v1/reviews/" + other + "/accept", "", 409);
  const auto accepted = post("/v1/reviews/" + bad + "/accept", "");
  EXPECT_EQ(at(accepted, "sha256").as_string(), feedback_digest(*store_->feedback().find(project_, bad)));
  post("/v1/reviews/" + good + "/accept", "");
  const auto dataset = post("/v1/datasets", R"({"name":"fixes"})");
  EXPECT_EQ(dump(dataset.find("examples")), "2");
  EXPECT_EQ(dump(dataset.find("pairs")), "1");
  const std::string examples = at(dataset, "examples_file").as_string();
  EXPECT_EQ(*store_->files().read(examples, 0),
            R"({"messages":[{"role":"user","content":"abc"},{"role":"assistant","content":"better"}]})"
            "\n"
            R"({"messages":[{"role":"user","content":"abc"},{"role":"assistant","content":"defg"}]})"
            "\n");
  EXPECT_EQ(
      *store_->files().read(at(dataset, "pairs_file").as_string(), 0),
      R"({"input":{"messages":[{"role":"user","content":"abc"}]},"preferred_output":[{"role":"assistant","content":"better"}],)"
      R"("non_preferred_output":[{"role":"assistant","content":"defg"}]})"
      "\n");
  EXPECT_EQ(at(post("/v1/datasets", R"({"name":"fixes"})"), "sha256").as_string(), at(dataset, "sha256").as_string());
  const std::string model = train(examples);
  EXPECT_EQ(runner_.text, *store_->files().read(examples, 0));

  post("/v1/rollouts", R"({"name":"support","model":"alphabet"})");
  post("/v1/rollouts/support/canary", R"({"model":")" + model + R"(","share":5})", 400);  // no gate was passed
  gate_.value = 0.2;
  const std::string failed = at(evaluate(model), "id").as_string();
  const auto refused = post("/v1/rollouts/support/canary",
                            R"({"model":")" + model + R"(","share":5,"evaluation":")" + failed + "\"}", 409);
  EXPECT_EQ(at(at(refused, "error"), "code").as_string(), "gate_not_passed");
  gate_.value = 0.9;
  const std::string passed = at(evaluate(model), "id").as_string();
  post("/v1/rollouts/support/canary", R"({"model":"vectors","share":5,"evaluation":")" + passed + "\"}",
       400);  // of another model
  EXPECT_EQ(dump(post("/v1/rollouts/support/canary",
                      R"({"model":")" + model + R"(","share":5,"evaluation":")" + passed + "\"}")
                     .find("share")),
            "5.0");
  gate_.now = "other-bytes";  // what was judged is not what would be rolled out, nor promoted
  for (const auto& [action, body] :
       {std::pair{"canary", R"({"share":50,"evaluation":")" + passed + "\"}"}, {"promote", std::string("{}")}})
    EXPECT_EQ(at(at(post(std::string("/v1/rollouts/support/") + action, body, 409), "error"), "code").as_string(),
              "gate_of_other_bytes");
  gate_.now = gate_.sha;
  post("/v1/rollouts/support/promote", R"({"reason":"fine"})");
  EXPECT_EQ(at(chat("support"), "model").as_string(), model);

  const auto chain = get("/v1/lineage/support");
  EXPECT_EQ(dump(chain.find("holds")), "true") << dump(chain.find("breaks"));
  EXPECT_EQ(at(chain, "model").as_string(), model);
  EXPECT_EQ(at(at(chain, "dataset"), "items").as_array().size(), 2u);
  EXPECT_EQ(at(at(at(chain, "dataset"), "items").as_array()[0], "rating").as_string(), "down");
  EXPECT_EQ(at(chain, "evaluations").as_array().size(), 2u);
  EXPECT_EQ(at(chain, "rollouts").as_array().size(), 2u);
  EXPECT_EQ(dump(get("/v1/lineage/alphabet", 404).find("dataset")), "(absent)");

  // One call goes back, at once.
  post("/v1/rollouts/support/rollback", "");
  EXPECT_EQ(at(chat("support"), "model").as_string(), "alphabet");
  post("/v1/rollouts/support/rollback", "", 409);
  EXPECT_EQ(at(get("/v1/rollouts/support/history"), "data").as_array().size(), 4u);
}

TEST_F(FeedbackLoopTest, AChainThatWasTamperedWithDoesNotHold) {
  const std::string good = rated(R"("rating":"up")");
  post("/v1/reviews/" + good + "/accept", "");
  const auto dataset = post("/v1/datasets", R"({"name":"d"})");
  const std::string model = train(at(dataset, "examples_file").as_string());
  gate_.sha = "other-bytes";
  evaluate(model);
  const auto chain = get("/v1/lineage/" + model);
  EXPECT_EQ(dump(chain.find("holds")), "false");
  EXPECT_NE(dump(chain.find("breaks")).find("other bytes"), std::string::npos) << dump(chain.find("breaks"));
}

TEST_F(FeedbackLoopTest, WhatIsErasedIsGoneFromDataSetsAndItsDigestStays) {
  const std::string good = rated(R"("rating":"up")");
  post("/v1/reviews/" + good + "/accept", "");
  const auto dataset = post("/v1/datasets", R"({"name":"d"})");
  const std::string model = train(at(dataset, "examples_file").as_string());
  EXPECT_EQ(ask("DELETE", "/v1/feedback/" + good, "", bearer(key_)).status, 200);
  EXPECT_TRUE(at(get("/v1/reviews/" + good), "answer").is_null());
  EXPECT_FALSE(store_->files().find(project_, at(dataset, "examples_file").as_string()).has_value());
  const auto chain = get("/v1/lineage/" + model);
  EXPECT_EQ(dump(at(chain, "dataset").find("erased")), "true");
  EXPECT_EQ(dump(chain.find("holds")), "true") << dump(chain.find("breaks"));
}

TEST_F(FeedbackLoopTest, OnlyWhatIsKeptIsJudgedAndOnlyByItsProject) {
  const std::string answer = at(chat("alphabet"), "id").as_string();
  const std::string refused = at(chat("alphabet", R"(,"store":false)"), "id").as_string();
  post("/v1/feedback", R"({"answer_id":")" + refused + R"(","rating":"up"})", 404);
  post("/v1/feedback", R"({"answer_id":"chatcmpl-none","rating":"up"})", 404);
  post("/v1/feedback", R"({"answer_id":")" + answer + R"(","rating":"maybe"})", 400);
  post("/v1/feedback", R"({"answer_id":")" + answer + R"(","choice":3,"rating":"up"})", 404);
  ASSERT_TRUE(store_->tenants().add_project("o", "q").has_value());
  const auto foreign = *store_->tenants().add_key({"q", "", "", {"*"}, {}, {}, 0});
  ask_json("/v1/feedback", R"({"answer_id":")" + answer + R"(","rating":"up"})", 404, bearer(foreign));
  const std::string id =
      at(post("/v1/feedback", R"({"answer_id":")" + answer + R"(","rating":"up"})"), "id").as_string();
  EXPECT_EQ(ask("GET", "/v1/reviews/" + id, "", bearer(foreign)).status, 404);
  EXPECT_TRUE(at(*json::parse(ask("GET", "/v1/reviews", "", bearer(foreign)).body), "data").as_array().empty());
  // Streams are kept, too, and what /v1/responses keeps is judged as well.
  const auto stream =
      ask("POST", "/v1/chat/completions",
          R"({"model":"alphabet","max_tokens":4,"stream":true,"messages":[{"role":"user","content":"abc"}]})",
          bearer(key_));
  const std::string events = test::dechunked(stream.body);
  const auto begin = events.find("chatcmpl-");
  post("/v1/feedback",
       R"({"answer_id":")" + events.substr(begin, events.find('"', begin) - begin) + R"(","rating":"up"})");
  const std::string response =
      at(post("/v1/responses", R"({"model":"alphabet","max_output_tokens":16,"input":"abc"})"), "id").as_string();
  EXPECT_EQ(at(post("/v1/feedback", R"({"answer_id":")" + response + R"(","rating":"up"})"), "answer")
                .as_string()
                .substr(0, 4),
            "defg");
}

TEST_F(FeedbackLoopTest, RightsSeparateWhoRatesReviewsAndReleases) {
  const std::string answer = at(chat("alphabet"), "id").as_string();
  const auto member = key({"feedback.write"}), reviewer = key({"reviews.*", "datasets.*"}),
             releaser = key({"rollouts.*", "models.read"});
  const auto made = ask_json("/v1/feedback", R"({"answer_id":")" + answer + R"(","rating":"up"})", 200, bearer(member));
  const std::string id = at(made, "id").as_string();
  EXPECT_EQ(ask("GET", "/v1/reviews", "", bearer(member)).status, 403);
  EXPECT_EQ(ask("POST", "/v1/reviews/" + id + "/accept", "", bearer(member)).status, 403);
  EXPECT_EQ(ask("POST", "/v1/reviews/" + id + "/accept", "", bearer(reviewer)).status, 200);
  EXPECT_EQ(ask("POST", "/v1/datasets", R"({"name":"d"})", bearer(member)).status, 403);
  EXPECT_EQ(ask("POST", "/v1/datasets", R"({"name":"d"})", bearer(reviewer)).status, 200);
  EXPECT_EQ(ask("POST", "/v1/rollouts", R"({"name":"n","model":"alphabet"})", bearer(reviewer)).status, 403);
  EXPECT_EQ(ask("POST", "/v1/rollouts", R"({"name":"n","model":"alphabet"})", bearer(releaser)).status, 200);
  const auto another = key({"feedback.*"});
  EXPECT_EQ(ask("DELETE", "/v1/feedback/" + id, "", bearer(another)).status, 404) << "it is not theirs";
  EXPECT_EQ(ask("DELETE", "/v1/feedback/" + id, "", bearer(member)).status, 200);
}

TEST_F(FeedbackLoopTest, ANameIsAnsweredForItsProjectAndKeysOnly) {
  post("/v1/rollouts", R"({"name":"support","model":"alphabet"})");
  post("/v1/rollouts", R"({"name":"support","model":"alphabet"})", 409);
  post("/v1/rollouts", R"({"name":"alphabet","model":"alphabet"})", 409);
  post("/v1/rollouts", R"({"name":"x","model":"none"})", 404);
  ASSERT_TRUE(store_->tenants().add_project("o", "q").has_value());
  const auto foreign = *store_->tenants().add_key({"q", "", "", {"*"}, {}, {}, 0});
  const std::string body = R"({"model":"support","max_tokens":4,"messages":[{"role":"user","content":"abc"}]})";
  EXPECT_EQ(ask("POST", "/v1/chat/completions", body, bearer(foreign)).status, 404);
  EXPECT_EQ(ask("GET", "/v1/rollouts/support", "", bearer(foreign)).status, 404);
  EXPECT_EQ(ask("POST", "/v1/chat/completions", body, bearer(key({"*"}, {"support"}))).status, 200);
  EXPECT_EQ(ask("POST", "/v1/chat/completions", body, bearer(key({"*"}, {"alphabet"}))).status, 403);
  EXPECT_NE(ask("GET", "/metrics", "", bearer(key_))
                .body.find("qianwen_rollout_requests_total{project=\"" + project_ +
                           "\",rollout=\"support\",version=\"stable\",model=\"alphabet\"} 1"),
            std::string::npos);
  EXPECT_EQ(ask("DELETE", "/v1/rollouts/support", "", bearer(key_)).status, 200);
  chat("support", "", 404);
}

TEST(Rollouts, AShareIsThatManyAndTheSamePeopleStay) {
  store::Rollout r;
  r.stable = "a";
  r.candidate = "b";
  r.salt = "salt";
  std::set<int> five, twenty;
  for (int i = 0; i < 20'000; ++i) {
    const std::string who = "user-" + std::to_string(i);
    r.share = 500;
    if (falls_on_candidate(r, who)) five.insert(i);
    EXPECT_EQ(falls_on_candidate(r, who), five.contains(i));
    r.share = 2000;
    if (falls_on_candidate(r, who)) twenty.insert(i);
  }
  // Binomial: 1000 +- 31, 4000 +- 57; five deviations.
  EXPECT_NEAR(static_cast<double>(five.size()), 1000, 155);
  EXPECT_NEAR(static_cast<double>(twenty.size()), 4000, 285);
  EXPECT_TRUE(std::includes(twenty.begin(), twenty.end(), five.begin(), five.end()));
  r.salt = "another";
  std::set<int> others;
  r.share = 500;
  for (int i = 0; i < 20'000; ++i)
    if (falls_on_candidate(r, "user-" + std::to_string(i))) others.insert(i);
  std::vector<int> both;
  std::set_intersection(five.begin(), five.end(), others.begin(), others.end(), std::back_inserter(both));
  EXPECT_LT(both.size(), 120u) << "another candidate falls on others";
  r.share = store::Rollout::kWhole;
  EXPECT_TRUE(falls_on_candidate(r, "anybody"));
  r.share = 0;
  EXPECT_FALSE(falls_on_candidate(r, "anybody"));
}

}  // namespace
}  // namespace qw::api
