// Keys, limits, budgets and the ledger on the wire: a service over a store of its own.
#include "api/accounts.h"

#include <atomic>
#include <iterator>
#include <numeric>
#include <thread>

#include "api/auth.h"
#include "api/internal/test_accounts.h"

namespace qw::api {
namespace {

constexpr const char* kChat = "/v1/chat/completions";

std::string chat(int max_tokens, bool stream = false, const char* content = "abc") {
  std::string body = std::string(R"({"model":"alphabet","messages":[{"role":"user","content":")") + content + "\"}]";
  body += max_tokens > 0 ? ",\"max_tokens\":" + std::to_string(max_tokens) : std::string(",\"ignore_eos\":true");
  return body + (stream ? R"(,"stream":true,"stream_options":{"include_usage":true}})" : "}");
}

class AccountsTest : public test::AccountsServiceTest {
 protected:
  store::Tokens total() {
    const auto sums = store_->ledger().usage_sums({}, "");
    return sums->empty() ? store::Tokens() : sums->at(0).tokens;
  }
  // What the engine counted; it tells a step's figures after the step's answers.
  std::int64_t engine_output(std::int64_t expected) {
    for (int i = 0; i < 500 && engine_->stats().output_tokens < expected; ++i) ::usleep(10'000);
    ::usleep(20'000);
    return engine_->stats().output_tokens;
  }
  bool all_settled() {
    for (int i = 0; i < 500; ++i) {
      if (*store_->ledger().open_reservations() == 0) return true;
      ::usleep(10'000);
    }
    return false;
  }
};

TEST_F(AccountsTest, EveryRouteButTheHealthPagesNeedsAKey) {
  for (const char* path : {"/",
                           "/index.html",
                           "/v1/models",
                           "/v1/models/alphabet",
                           "/v1/chat/completions",
                           "/v1/files",
                           "/v1/files/x/content",
                           "/v1/uploads",
                           "/v1/uploads/x/parts",
                           "/v1/batches",
                           "/v1/completions",
                           "/v1/embeddings",
                           "/v1/rerank",
                           "/v2/rerank",
                           "/rerank",
                           "/metrics",
                           "/v1/score",
                           "/score",
                           "/v1/tokenize",
                           "/tokenize",
                           "/v1/detokenize",
                           "/detokenize",
                           "/v1/moderations",
                           "/v1/content_provenance",
                           "/v1/fine_tuning/jobs",
                           "/v1/responses/x/cancel",
                           "/api/v1/tasks",
                           "/api/v1/tasks/x/cancel",
                           "/admin",
                           "/nowhere",
                           "/health",
                           "/health/live/x"}) {
    for (const char* method : {"GET", "POST", "OPTIONS"}) {
      const auto answer = ask(method, path, "{}");
      EXPECT_EQ(answer.status, 401) << method << " " << path;
      EXPECT_NE(answer.head.find("WWW-Authenticate: Bearer"), std::string::npos);
    }
  }
  EXPECT_EQ(ask("GET", "/health/live", "").status, 200);
  EXPECT_EQ(ask("GET", "/health/ready", "").status, 200);
  EXPECT_EQ(ask("GET", "/", "", bearer(key_)).status, 200);
  EXPECT_EQ(ask("GET", "/nowhere", "", bearer(key_)).status, 404);
}

TEST_F(AccountsTest, AKeyIsShownInTheUsualWays) {
  EXPECT_EQ(ask("GET", "/v1/models", "", "authorization: bearer  " + key_.secret + "\r\n").status, 200);
  EXPECT_EQ(ask("GET", "/v1/models", "", "X-Api-Key: " + key_.secret + "\r\n").status, 200);
  EXPECT_EQ(ask("GET", "/v1/models", "", "Authorization: Basic " + key_.secret + "\r\n").status, 401);
  EXPECT_EQ(ask("GET", "/v1/models", "", "Authorization: Bearer " + key_.secret + "x\r\n").status, 401);
  const auto session = store_->tenants().begin_session(key_.key.id, 60'000'000, "");
  EXPECT_EQ(ask("GET", "/v1/models", "", "Cookie: a=b; qw_session=" + *session + "; c=d\r\n").status, 200);
  EXPECT_EQ(ask("GET", "/v1/models", "", "Cookie: qw_session=" + key_.secret + "\r\n").status, 401);
  const auto error = ask_json(kChat, chat(1), 401);
  EXPECT_EQ(at(at(error, "error"), "code").as_string(), "invalid_api_key");
}

TEST_F(AccountsTest, ARevokedKeyEndsWithinASecond) {
  EXPECT_EQ(ask("GET", "/v1/models", "", bearer(key_)).status, 200);
  ASSERT_TRUE(store_->tenants().revoke_key(key_.key.id).has_value());
  std::this_thread::sleep_for(std::chrono::milliseconds(1050));
  EXPECT_EQ(ask("GET", "/v1/models", "", bearer(key_)).status, 401);
}

TEST_F(AccountsTest, ScopesModelsAndNetworksBind) {
  const auto reader = key({"models.read"});
  EXPECT_EQ(ask("GET", "/v1/models", "", bearer(reader)).status, 200);
  EXPECT_EQ(ask("POST", kChat, chat(1), bearer(reader)).status, 403);
  const auto vectors = key({"*"}, {"vectors"});
  EXPECT_EQ(ask("GET", "/v1/models", "", bearer(vectors)).body.find("alphabet"), std::string::npos);
  EXPECT_EQ(ask("GET", "/v1/models/alphabet", "", bearer(vectors)).status, 404);
  EXPECT_EQ(ask("POST", kChat, chat(1), bearer(vectors)).status, 403);
  EXPECT_EQ(ask("POST", "/v1/embeddings", R"({"model":"vectors","input":[1]})", bearer(vectors)).status, 200);
  EXPECT_EQ(ask("POST", "/v1/embeddings", R"({"input":[1]})", bearer(vectors)).status, 200);  // its first model
  EXPECT_EQ(ask("GET", "/v1/models", "", bearer(key({"*"}, {}, {"10.0.0.0/8"}))).status, 403);
  EXPECT_EQ(ask("GET", "/v1/models", "", bearer(key({"*"}, {}, {"10.0.0.0/8", "127.0.0.1"}))).status, 200);
  const auto fresh = key({"*"});
  ASSERT_TRUE(store_->tenants().set_organisation("o", {.disabled = true}).has_value());
  EXPECT_EQ(ask("GET", "/v1/models", "", bearer(fresh)).status, 403);
}

TEST_F(AccountsTest, WhatAnAnswerSaysIsInTheLedger) {
  const auto whole = ask_json(kChat, chat(7), 200, bearer(key_));
  const auto& usage = at(whole, "usage");
  EXPECT_EQ(at(usage, "completion_tokens").as_int(), 7);
  auto rows = *store_->ledger().usage({}, 0, 10);  // there before the answer was
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].tokens, (store::Tokens{3, 0, 0, 7}));
  EXPECT_EQ(rows[0].outcome, "length");
  EXPECT_EQ(rows[0].model, "alphabet");
  EXPECT_EQ(rows[0].key_id, key_.key.id);
  EXPECT_EQ(rows[0].project_id, project_);

  const auto stream = ask("POST", kChat, chat(5, true), bearer(key_));
  EXPECT_NE(stream.body.find("\"completion_tokens\":5"), std::string::npos);
  EXPECT_NE(stream.body.find("[DONE]"), std::string::npos);
  rows = *store_->ledger().usage({}, 0, 10);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[1].tokens, (store::Tokens{3, 0, 0, 5}));

  // Prompts count once however many answers they have; several prompts add up.
  const auto several = ask_json("/v1/completions", R"({"model":"alphabet","prompt":["ab","xyz"],"max_tokens":2,"n":3})",
                                200, bearer(key_));
  EXPECT_EQ(at(at(several, "usage"), "prompt_tokens").as_int(), 5);
  EXPECT_EQ(at(at(several, "usage"), "completion_tokens").as_int(), 12);
  EXPECT_EQ(store_->ledger().usage({}, 0, 10)->at(2).tokens, (store::Tokens{5, 0, 0, 12}));
  ask_json("/v1/embeddings", R"({"model":"vectors","input":[[1,2],[3]]})", 200, bearer(key_));
  EXPECT_EQ(store_->ledger().usage({}, 0, 10)->at(3).tokens, (store::Tokens{3, 0, 0, 0}));
  EXPECT_EQ(*store_->ledger().open_reservations(), 0);
}

TEST_F(AccountsTest, ThoughtsAreCountedApart) {
  for (const bool stream : {false, true}) {
    const auto answer = ask("POST", kChat, chat(6, stream, "<think>\\n"), bearer(key_));
    EXPECT_NE(answer.body.find("\"reasoning_tokens\":6"), std::string::npos) << answer.body;
    EXPECT_EQ(store_->ledger().usage({}, stream ? 1 : 0, 10)->at(0).tokens.reasoning, 6);
  }
}

TEST_F(AccountsTest, ALimitAnswers429AndSaysWhen) {
  ASSERT_TRUE(store_->ledger().set_limits({"project:" + project_, 2, 100, 0, 0}).has_value());
  const auto first = ask("POST", kChat, chat(4), bearer(key_));
  EXPECT_EQ(first.status, 200);
  for (const char* header : {"x-ratelimit-limit-requests: 2\r\n", "x-ratelimit-remaining-requests: 1\r\n",
                             "x-ratelimit-limit-tokens: 100\r\n", "x-ratelimit-remaining-tokens: 93\r\n"})
    EXPECT_NE(first.head.find(header), std::string::npos) << header << first.head;
  const auto tokens = ask("POST", kChat, chat(200), bearer(key_));
  EXPECT_EQ(tokens.status, 429);
  EXPECT_EQ(tokens.head.find("Retry-After"), std::string::npos) << "more than the limit: waiting does not help";
  EXPECT_EQ(ask("POST", kChat, chat(4), bearer(key_)).status, 200);
  const auto requests = ask("POST", kChat, chat(4), bearer(key_));
  EXPECT_EQ(requests.status, 429);
  EXPECT_NE(requests.body.find("rate_limit_exceeded"), std::string::npos);
  const auto at = requests.head.find("Retry-After: ");
  ASSERT_NE(at, std::string::npos);
  EXPECT_NEAR(std::atoi(requests.head.c_str() + at + 13), 30, 1);
}

TEST_F(AccountsTest, ABudgetIsUsedToTheLastTokenAndNoFurther) {
  ASSERT_TRUE(store_->ledger().set_budget("project:" + project_, "tokens", "total", 300).has_value());
  // No length is stated: the answer gets what the budget leaves.
  const auto answer = ask_json(kChat, chat(0), 200, bearer(key_));
  EXPECT_EQ(at(at(answer, "usage"), "total_tokens").as_int(), 300);
  EXPECT_EQ(at(at(answer, "choices").as_array()[0], "finish_reason").as_string(), "length");
  const auto refused = ask_json(kChat, chat(1), 429, bearer(key_));
  EXPECT_EQ(at(at(refused, "error"), "type").as_string(), "insufficient_quota");
  EXPECT_EQ(store_->ledger().budgets()->at(0).spent, 300);
  ASSERT_TRUE(store_->ledger().set_budget("project:" + project_, "CNY", "total", 300).has_value());
  ASSERT_TRUE(store_->ledger().set_budget("project:" + project_, "tokens", "total", 900).has_value());
  EXPECT_NE(dump(at(ask_json(kChat, chat(1), 429, bearer(key_)), "error").find("message")).find("no price"),
            std::string::npos);
}

// The answers that clients got, the ledger and the budgets agree to the token, and the budget was never overrun.
TEST_F(AccountsTest, ConcurrentRequestsKeepTheBudgetExact) {
  constexpr int kClients = 8, kEach = 30;
  constexpr std::int64_t kBudget = 2500;
  const std::string subject = "project:" + project_;
  ASSERT_TRUE(store_->ledger().set_price({"alphabet", "CNY", 300, 60, 600, 600}).has_value());
  ASSERT_TRUE(store_->ledger().set_budget(subject, "tokens", "total", kBudget).has_value());
  ASSERT_TRUE(store_->ledger().set_budget(subject, "CNY", "month", 100'000'000).has_value());
  std::atomic<std::int64_t> prompt{0}, output{0}, answered{0}, refused{0};
  std::vector<std::thread> clients;
  for (int c = 0; c < kClients; ++c) {
    clients.emplace_back([&, c] {
      for (int i = 0; i < kEach; ++i) {
        const bool stream = (c + i) % 2 == 0;
        const auto answer = ask("POST", kChat, chat(5 + (c * 7 + i) % 30, stream), bearer(key_));
        if (answer.status == 429) {
          ++refused;
          continue;
        }
        ASSERT_EQ(answer.status, 200) << answer.body;
        ++answered;
        const auto number = [&](const char* name) {
          const auto found = answer.body.rfind(std::string("\"") + name + "\":");
          return found == std::string::npos
                     ? -1000000
                     : std::atoll(answer.body.c_str() + found + std::string_view(name).size() + 3);
        };
        prompt += number("prompt_tokens");
        output += number("completion_tokens");
      }
    });
  }
  for (auto& client : clients) client.join();
  EXPECT_EQ(answered + refused, kClients * kEach);
  EXPECT_GT(refused, 0);
  EXPECT_TRUE(all_settled());
  EXPECT_EQ(total().prompt, prompt);
  EXPECT_EQ(total().output, output);
  EXPECT_LE(prompt + output, kBudget);
  EXPECT_GT(prompt + output, kBudget - 40);  // the shortest request did not fit any more
  const auto budgets = *store_->ledger().budgets();
  for (const auto& budget : budgets) {
    EXPECT_EQ(budget.reserved, 0);
    EXPECT_EQ(budget.spent, budget.unit == "tokens" ? prompt + output : prompt * 300 + output * 600);
  }
  EXPECT_EQ(engine_output(output), output);
}

TEST_F(AccountsTest, AClientThatLeavesPaysForWhatWasComputed) {
  ASSERT_TRUE(store_->ledger().set_budget("project:" + project_, "tokens", "total", 100'000).has_value());
  for (int i = 0; i < 5; ++i) {
    ASSERT_NO_FATAL_FAILURE(leave_early(kChat, chat(400, true), bearer(key_)));
  }
  EXPECT_TRUE(all_settled());
  EXPECT_EQ(engine_output(total().output), total().output);
  EXPECT_EQ(store_->ledger().budgets()->at(0).spent, total().prompt + total().output);
  EXPECT_EQ(store_->ledger().budgets()->at(0).reserved, 0);
}

TEST_F(AccountsTest, TheEngineIsToldWhoseARequestIs) {
  ASSERT_TRUE(store_->tenants().set_organisation("o", {.weight = 5}));
  ASSERT_TRUE(store_->tenants().set_project("p", {.weight = 3}));
  const auto who = store_->tenants().principal_of_key(key_.secret);
  ASSERT_TRUE(who && *who);
  Exchange exchange(nullptr, "id");
  engine::Request request;
  set_owner(exchange, request);
  EXPECT_EQ(request.tenant, "");
  EXPECT_EQ(request.tenant_group, "");
  exchange.belongs_to(*accounts_, std::make_shared<const store::Principal>(**who));
  set_owner(exchange, request);
  EXPECT_EQ(request.tenant, project_);
  EXPECT_EQ(request.tenant_weight, 3);
  EXPECT_EQ(request.tenant_group, (*who)->organisation_id);
  EXPECT_EQ(request.group_weight, 5);
}

TEST_F(AccountsTest, RequestsThatAreRefusedCostNothing) {
  ASSERT_TRUE(store_->ledger().set_budget("project:" + project_, "tokens", "total", 1000).has_value());
  ask_json(kChat, "{", 400, bearer(key_));
  ask_json(kChat, R"({"messages":[{"role":"user","content":"x"}],"temperature":9})", 400, bearer(key_));
  ask_json(kChat, chat(1, false, std::string(600, 'a').c_str()), 400, bearer(key_));
  EXPECT_EQ(store_->ledger().usage({}, 0, 10)->size(), 0u);
  EXPECT_EQ(store_->ledger().budgets()->at(0).left(), 1000);
}

TEST(Auth, ActionsOfRoutes) {
  EXPECT_EQ(action_of("POST", "/v1/chat/completions"), "inference");
  EXPECT_EQ(action_of("POST", "/v1/models"), "models.read");
  EXPECT_EQ(action_of("POST", "/v1/models/a/b"), "models.read");
  EXPECT_EQ(action_of("POST", "/v1/modelsx"), "");
  EXPECT_EQ(action_of("GET", "/v1/files/x"), "files.read");
  EXPECT_EQ(action_of("DELETE", "/v1/files/x"), "files.write");
  EXPECT_EQ(action_of("POST", "/v1/responses"), "inference");  // one is made of tokens
  EXPECT_EQ(action_of("GET", "/v1/responses/x"), "responses.read");
  EXPECT_EQ(action_of("POST", "/v1/fine_tuning/jobs/x/cancel"), "fine_tuning.write");
  EXPECT_EQ(action_of("POST", "/"), "");
}

class CachedPrefixesTest : public test::AccountsServiceTest {
 protected:
  CachedPrefixesTest() : AccountsServiceTest(true) {}
  // Of the prompts that this request has, as the engine counts them: what is told of a step comes after its answers.
  std::int64_t cached(const char* path, const std::string& body, const store::NewKey& key) {
    const engine::EngineStats before = engine_->stats();
    ask_json(path, body, 200, bearer(key));
    const auto ended = [](const engine::EngineStats& s) {
      return std::accumulate(std::begin(s.finished), std::end(s.finished), std::int64_t{0});
    };
    while (ended(engine_->stats()) == ended(before)) std::this_thread::yield();
    return engine_->stats().cached_tokens - before.cached_tokens;
  }
};

// How long an answer takes tells what was asked before, so each project finds only what it asked itself: on every route
// that reads texts.
TEST_F(CachedPrefixesTest, AreFoundByTheirOwnProjectOnly) {
  ASSERT_TRUE(store_->tenants().add_project("o", "q").has_value());
  const auto other = *store_->tenants().add_key({"q", "", "", {"*"}, {}, {}, 0});
  const std::string text(200, 'a');
  const std::pair<const char*, std::string> requests[] = {
      {kChat, chat(2, false, text.c_str())},
      {"/v1/completions", R"({"model":"alphabet","max_tokens":2,"prompt":"b)" + text + "\"}"},
      {"/v1/embeddings", R"({"model":"vectors","input":"c)" + text + "\"}"},
      {"/v1/score", R"({"model":"vectors","text_1":"d)" + text + R"(","text_2":"e"})"}};
  for (const auto& [path, body] : requests) {
    SCOPED_TRACE(path);
    EXPECT_EQ(cached(path, body, key_), 0);
    EXPECT_GT(cached(path, body, key_), 150);
    EXPECT_EQ(cached(path, body, other), 0);
    EXPECT_GT(cached(path, body, other), 150);
  }
  // A client may keep its own from itself, too, and no salt reaches what is another project's.
  std::string salted = requests[1].second;
  salted.insert(1, R"("cache_salt":"x",)");
  EXPECT_EQ(cached("/v1/completions", salted, key_), 0);
  EXPECT_GT(cached("/v1/completions", salted, key_), 150);
  EXPECT_EQ(cached("/v1/completions", salted, other), 0);
}

}  // namespace
}  // namespace qw::api
