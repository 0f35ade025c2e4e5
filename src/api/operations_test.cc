// What those who run the service see of it: health, the end, figures; and what requests must not be able to do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "api/internal/test_service.h"
#include "api/model_swap.h"
#include "api/token_health.h"

namespace qw::api {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kChat = "/v1/chat/completions";
constexpr const char* kBody = R"({"messages":[{"role":"user","content":"abc"}],"max_tokens":4)";

class OperationsTest : public test::ServiceTest {
 protected:
  template <class Condition>
  static bool soon(Condition condition) {
    for (int i = 0; i < 2000 && !condition(); ++i) std::this_thread::sleep_for(5ms);
    return condition();
  }
  // A request whose first step does not end before model_.held is false again.
  std::future<test::HttpAnswer> held_request(const std::string& fields) {
    model_.held = true;
    auto answer = std::async(std::launch::async, [this, fields] { return ask("POST", kChat, kBody + fields + "}"); });
    EXPECT_TRUE(soon([&] { return model_.waiting.load(); }));
    return answer;
  }
};

TEST_F(OperationsTest, TheEndRefusesNewRequestsAndLetsRunningOnesFinish) {
  service_->announce_end();
  EXPECT_EQ(ask("GET", "/health/ready", "").status, 503);
  EXPECT_EQ(ask("POST", kChat, std::string(kBody) + "}").status, 200);  // that is all for now
  auto running = held_request(R"(,"stream":true)");
  auto drained = std::async(std::launch::async, [&] { return service_->drain(60s); });
  test::HttpAnswer refused;
  ASSERT_TRUE(soon([&] {
    refused = ask("GET", "/v1/models", "");
    return refused.status == 503;
  }));
  EXPECT_THAT(refused.head, HasSubstr("Retry-After: "));
  EXPECT_THAT(refused.body, HasSubstr("shutting_down"));
  EXPECT_THAT(ask("POST", "/v1/messages", "{}").body, HasSubstr(R"("type":"error")"));  // in each protocol's shape
  EXPECT_EQ(ask("GET", "/health/live", "").status, 200);
  EXPECT_EQ(ask("GET", "/health/ready", "").status, 503);
  model_.held = false;
  EXPECT_THAT(running.get().body, HasSubstr("[DONE]"));
  EXPECT_TRUE(drained.get());
}

TEST_F(OperationsTest, AnswersThatDoNotFinishInTimeAreCut) {
  auto running = held_request(R"(,"stream":true)");
  EXPECT_FALSE(service_->drain(100ms));
  auto ended = std::async(std::launch::async, [&] { service_.reset(); });
  EXPECT_THAT(running.get().body, Not(HasSubstr("[DONE]")));
  model_.held = false;  // not before: the answer could be whole by the time the service has ended
  ended.get();
}

TEST_F(OperationsTest, AnswersSayHowLongTheyTookWhereThatIsAskedFor) {
  EXPECT_EQ(ask_json(kChat, std::string(kBody) + "}").find("timings"), nullptr);
  for (const char* path : {kChat, "/v1/completions"}) {
    const auto answer = ask_json(path, path == kChat ? std::string(kBody) + R"(,"timings":true})"
                                                     : R"({"prompt":"abc","max_tokens":4,"timings":true})");
    const json::Value& timings = at(answer, "timings");
    const auto ms = [&](const char* name) { return at(timings, name).as_double(); };
    EXPECT_LE(0, ms("queued_ms"));
    EXPECT_NEAR(ms("queued_ms") + ms("prompt_ms"), ms("first_token_ms"), 0.01);
    EXPECT_LE(ms("first_token_ms") + ms("predict_ms"), ms("total_ms") + 0.01);
  }
  const auto streamed = ask("POST", kChat, std::string(kBody) + R"(,"stream":true,"timings":true})");
  EXPECT_THAT(streamed.body, HasSubstr(R"("timings":{"queued_ms":)"));
  EXPECT_THAT(ask("POST", kChat, std::string(kBody) + R"(,"stream":true})").body, Not(HasSubstr("timings")));
  EXPECT_EQ(ask("POST", kChat, std::string(kBody) + R"(,"timings":"yes"})").status, 400);
}

TEST_F(OperationsTest, HealthTellsWhetherTokensAreMade) {
  EXPECT_EQ(ask("GET", "/health/tokens", "").body,
            R"({"status":"idle","running":0,"waiting":0,"seconds_since_token":null})");
  ask_json(kChat, std::string(kBody) + "}");
  EXPECT_TRUE(soon([&] { return engine_->stats().running == 0; }));  // the step that ends an answer ends after it
  const auto after = ask("GET", "/health/tokens", "");
  EXPECT_EQ(after.status, 200);
  EXPECT_THAT(after.body, HasSubstr(R"("status":"idle")"));
  EXPECT_THAT(after.body, Not(HasSubstr("null")));

  auto answer = held_request("");
  const auto now = engine::Clock::now();
  EXPECT_FALSE(token_health(models_, now).stalled);
  EXPECT_EQ(token_health(models_, now).running + token_health(models_, now).waiting, 1);
  const TokenHealth later = token_health(models_, now + 2min);  // no step has ended since
  EXPECT_TRUE(later.stalled);
  EXPECT_THAT(json::dump(health_body(later)), HasSubstr("stalled"));
  model_.held = false;
  EXPECT_EQ(answer.get().status, 200);
  EXPECT_TRUE(soon([&] { return engine_->stats().running == 0; }));
  EXPECT_FALSE(token_health(models_, now + 2h).stalled);  // who has nothing to do is not stalled
}

TEST_F(OperationsTest, MetricsTellOfTheCacheAndOfGuesses) {
  ask_json(kChat, std::string(kBody) + "}");
  const std::string figures = ask("GET", "/metrics", "").body;
  for (const char* name : {"qianwen_cache_blocks", "qianwen_cache_blocks_free", "qianwen_cache_blocks_idle",
                           "qianwen_cached_prompt_tokens_total", "qianwen_computed_tokens_total",
                           "qianwen_drafted_tokens_total", "qianwen_accepted_tokens_total"})
    EXPECT_THAT(figures, HasSubstr("\n" + std::string(name) + "{model=\"alphabet\"} "));
}

// Whatever a body holds, it is answered soon, with an error of the client's.
TEST_F(OperationsTest, RequestsThatWouldTakeForEverAreRefused) {
  std::string deep(9000, '['), schemas = R"({"type":"object"})";
  for (int i = 0; i < 70; ++i) schemas = R"({"type":"array","items":)" + schemas + "}";
  const auto with = [](const std::string& fields) { return kBody + ("," + fields + "}"); };
  const auto schema = [&](const std::string& text) {
    return with(R"("response_format":{"type":"json_schema","json_schema":{"name":"n","schema":)" + text + "}}");
  };
  std::string bomb = R"({"$defs":{"a0":{"type":"integer"})";  // every step holds the one before it twice
  for (int i = 1; i < 40; ++i) {
    const std::string before = R"({"$ref":"#/$defs/a)" + std::to_string(i - 1) + "\"}";
    bomb += ",\"a" + std::to_string(i) + R"(":{"allOf":[)" + before + "," + before + "]}";
  }
  bomb += R"(},"$ref":"#/$defs/a39"})";
  const std::vector<std::pair<const char*, std::string>> bodies = {
      {"nested JSON", deep},
      {"nested fields", with("\"metadata\":" + std::string(4000, '[') + std::string(4000, ']'))},
      {"nested schemas", schema(schemas)},
      {"a schema of itself", schema(R"({"$ref":"#"})")},
      {"many items",
       schema(
           R"({"type":"array","items":{"type":"array","minItems":99999,"items":{"type":"array","minItems":99999,"items":{}}},"minItems":99999})")},
      {"a regex that repeats", with(R"x("guided_regex":"(((((a{1,999}){1,999}){1,999}){1,999}){1,999})")x")},
      {"a regex of groups", with(R"("guided_regex":")" + std::string(4000, '(') + "a" + std::string(4000, ')') + "\"")},
      {"a grammar that repeats",
       with(R"x("structured_outputs":{"grammar":"root ::= (((\"a\"{9999}){9999}){9999}){9999}"})x")},
      {"a grammar of itself", with(R"x("structured_outputs":{"grammar":"root ::= root root"})x")},
      {"many choices", with(R"("n":1000000000)")},
      {"many alternatives", with(R"("logprobs":true,"top_logprobs":1000000000)")},
  };
  for (const auto& [name, body] : bodies) {
    const auto began = std::chrono::steady_clock::now();
    const auto answer = ask("POST", kChat, body);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    EXPECT_TRUE(answer.status == 400 || answer.status == 413)
        << name << ": " << answer.status << answer.body.substr(0, 300);
    EXPECT_LT(took.count(), 5) << name;  // sanitizers, and a busy machine
  }
  // Those that a careless reader or matcher needs exponential time for are answered.
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(ask("POST", kChat, schema(bomb)).status, 200);
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count(), 5);
  for (const char* pattern : {"(a*)*b", "(a|a|ab)*c", "(a?){30}a{30}", "(x+x+)+y"}) {
    const auto asked = std::chrono::steady_clock::now();
    const auto answer = ask("POST", kChat, with("\"guided_regex\":\"" + std::string(pattern) + "\""));
    EXPECT_EQ(answer.status, 200) << pattern << answer.body;
    EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - asked).count(), 5) << pattern;
  }
}

TEST_F(OperationsTest, AHeaderNamesNotMoreThanFits) {
  std::string body = kBody;
  for (int i = 0; i < 900; ++i) body += ",\"k" + std::to_string(i) + "\":1";
  const auto answer = ask("POST", kChat, body + "}");
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.head, HasSubstr("X-Ignored-Params: k0,k1,"));
  EXPECT_THAT(answer.head, HasSubstr(",...\r\n"));
  EXPECT_LT(answer.head.size(), 3000u);
}

// A desk with one model, which remembers what it was asked.
class OneModelDesk final : public ModelDesk {
 public:
  void replace(std::string name, std::string path, bool unload_first, Then then) override {
    asked = name + " " + path + (unload_first ? " unload_first" : "");
    if (path == "large") return then(fail(ErrorKind::kResource, "it does not fit beside the old one"));
    if (path == "torn") return then(fail(ErrorKind::kBadInput, "torn: not a model"));
    if (path == "../x") return then(fail(ErrorKind::kRefused, "only from inside"));
    then({});
  }
  std::vector<Info> models() const override { return {{"alphabet", true, 1000, 2, 1}}; }
  std::string asked;
};

TEST_F(OperationsTest, ModelsAreReplacedOverHttp) {
  EXPECT_EQ(ask("GET", "/admin/models", "").status, 404);  // nobody does it
  OneModelDesk desk;
  ServiceOptions options;
  options.http.port = 0;
  options.models = &desk;
  service_.reset();
  service_ = std::move(*Service::start(models_, std::move(options)));
  const std::string entry = R"({"name":"alphabet","loaded":true,"bytes":1000,"requests":2,"replaced_in_use":1})";
  EXPECT_EQ(ask("GET", "/admin/models", "").body, R"({"models":[)" + entry + "]}");
  const auto put = [&](const std::string& body, const std::string& name = "alphabet") {
    return ask("PUT", "/admin/models/" + name, body);
  };
  EXPECT_EQ(put(R"({"path":"new"})").body, entry);
  EXPECT_EQ(desk.asked, "alphabet new");
  EXPECT_EQ(put("").status, 200);
  EXPECT_EQ(desk.asked, "alphabet ");
  EXPECT_EQ(put(R"({"path":"new","unload_first":true})").status, 200);
  EXPECT_EQ(desk.asked, "alphabet new unload_first");
  const auto large = put(R"({"path":"large"})");
  EXPECT_EQ(large.status, 503);
  EXPECT_THAT(large.body, HasSubstr("beside the old one"));
  EXPECT_EQ(put(R"({"path":"torn"})").status, 400);
  EXPECT_EQ(put(R"({"path":"../x"})").status, 403);
  EXPECT_EQ(put(R"({"path":7})").status, 400);
  EXPECT_EQ(put("[]").status, 400);
  EXPECT_EQ(put("{}", "nobody").status, 404);
  EXPECT_EQ(ask("DELETE", "/admin/models/alphabet", "").status, 405);
}

}  // namespace
}  // namespace qw::api
