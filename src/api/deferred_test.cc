// Requests that are answered later: responses in the background, DashScope's tasks.
#include "api/internal/test_accounts.h"

namespace qw::api {
namespace {

constexpr const char* kResponses = "/v1/responses";
constexpr const char* kAsync = "X-DashScope-Async: enable\r\n";
constexpr const char* kGeneration = "/api/v1/services/aigc/text-generation/generation";

class DeferredTest : public test::AccountsServiceTest {
 protected:
  json::Value get(const std::string& path, int status = 200) {
    const auto answer = ask("GET", path, "", bearer(key_));
    EXPECT_EQ(answer.status, status) << answer.body;
    return *json::parse(answer.body);
  }
  json::Value response(const std::string& id, const std::string& status) {
    json::Value out;
    for (int i = 0; i < 1000; ++i) {
      out = get(std::string(kResponses) + "/" + id);
      if (at(out, "status").as_string() == status) return out;
      ::usleep(5'000);
    }
    ADD_FAILURE() << "not " << status << ": " << json::dump(out);
    return out;
  }
  json::Value task(const std::string& id, const std::string& status) {
    json::Value out;
    for (int i = 0; i < 1000; ++i) {
      out = get("/api/v1/tasks/" + id);
      if (at(at(out, "output"), "task_status").as_string() == status) return out;
      ::usleep(5'000);
    }
    ADD_FAILURE() << "not " << status << ": " << json::dump(out);
    return out;
  }
  std::string ask_limited() {
    return ask_json(kResponses, R"({"model":"alphabet","input":"abc","max_output_tokens":2,"background":true})", 200,
                    bearer(limited_))
        .find("id")
        ->as_string();
  }
  store::NewKey limited_;
};

TEST_F(DeferredTest, AResponseInTheBackgroundIsTheOneThatWasAskedFor) {
  const json::Value begun = ask_json(
      kResponses, R"({"model":"alphabet","input":"abc","max_output_tokens":2,"background":true,"metadata":{"a":"b"}})",
      200, bearer(key_));
  EXPECT_EQ(at(begun, "status").as_string(), "queued");
  EXPECT_EQ(dump(begun.find("background")), "true");
  EXPECT_EQ(dump(begun.find("output")), "[]");
  const std::string id = at(begun, "id").as_string();
  const json::Value done = response(id, "incomplete");  // two tokens were not enough
  EXPECT_EQ(at(done, "id").as_string(), id);
  EXPECT_EQ(dump(done.find("background")), "true");
  EXPECT_EQ(dump(done.find("metadata")), R"({"a": "b"})");
  EXPECT_EQ(at(at(at(done, "output").as_array()[0], "content").as_array()[0], "text").as_string(), "de");
  const json::Value next = ask_json(
      kResponses, R"({"model":"alphabet","input":"x","max_output_tokens":1,"previous_response_id":")" + id + "\"}", 200,
      bearer(key_));
  EXPECT_EQ(at(next, "previous_response_id").as_string(), id);
  // What is done stays done.
  EXPECT_EQ(json::dump(ask_json(std::string(kResponses) + "/" + id + "/cancel", "", 200, bearer(key_))),
            json::dump(done));
  EXPECT_EQ(ask("DELETE", std::string(kResponses) + "/" + id, "", bearer(key_)).status, 200);
  get(std::string(kResponses) + "/" + id, 404);
  const auto sums = store_->ledger().usage_sums({}, "");
  EXPECT_EQ(sums->at(0).requests, 2);
}

TEST_F(DeferredTest, WhatFailsSaysWhy) {
  const json::Value begun =
      ask_json(kResponses, R"({"model":"alphabet","input":"abc","background":true,"previous_response_id":"resp_none"})",
               200, bearer(key_));
  const json::Value failed = response(at(begun, "id").as_string(), "failed");
  EXPECT_EQ(at(at(failed, "error"), "code").as_string(), "not_found");
  EXPECT_NE(at(at(failed, "error"), "message").as_string().find("resp_none"), std::string::npos);
  ask_json(kResponses, R"({"input":"a","background":true,"stream":true})", 400, bearer(key_));
  ask_json(kResponses, R"({"input":"a","background":true,"store":false})", 400, bearer(key_));
  ask_json(kResponses, R"({"input":"a","background":true,"model":"none"})", 404, bearer(key_));
  const auto kept =
      ask_json(kResponses, R"({"model":"alphabet","input":"abc","max_output_tokens":1})", 200, bearer(key_));
  ask_json(std::string(kResponses) + "/" + at(kept, "id").as_string() + "/cancel", "", 400, bearer(key_));
  ask_json(std::string(kResponses) + "/resp_none/cancel", "", 404, bearer(key_));
  get(std::string(kResponses) + "/" + at(kept, "id").as_string() + "?stream=true", 400);
}

TEST_F(DeferredTest, AResponseThatWaitsForALimitIsCancelledOrGoesOn) {
  // One request a minute: the second waits.
  limited_ = key({"*"});
  store::Limits limits;
  limits.subject = "key:" + limited_.key.id;
  limits.requests_per_minute = 1;
  ASSERT_TRUE(store_->ledger().set_limits(limits).has_value());
  const std::string first = ask_limited();
  response(first, "incomplete");
  const std::string second = ask_limited(), third = ask_limited();
  response(second, "in_progress");
  EXPECT_EQ(
      at(ask_json(std::string(kResponses) + "/" + second + "/cancel", "", 200, bearer(key_)), "status").as_string(),
      "cancelled");
  response(second, "cancelled");
  // The service ends; the next one takes it up, when the limit is gone.
  restart();
  response(second, "cancelled");
  limits.requests_per_minute = 0;
  ASSERT_TRUE(store_->ledger().set_limits(limits).has_value());
  restart();
  response(third, "incomplete");
}

TEST_F(DeferredTest, ATaskIsAnsweredAsTheCallWouldBe) {
  const std::string body = R"({"model":"alphabet","input":{"prompt":"abc"},"parameters":{"max_tokens":2}})";
  const json::Value begun = ask_json(kGeneration, body, 200, bearer(key_) + kAsync);
  EXPECT_EQ(at(at(begun, "output"), "task_status").as_string(), "PENDING");
  const std::string id = at(at(begun, "output"), "task_id").as_string();
  const json::Value done = task(id, "SUCCEEDED");
  const json::Value& output = at(done, "output");
  EXPECT_EQ(at(output, "text").as_string(), "de");
  EXPECT_EQ(dump(output.find("task_metrics")), R"({"TOTAL": 1, "SUCCEEDED": 1, "FAILED": 0})");
  EXPECT_EQ(at(at(done, "usage"), "output_tokens").as_int(), 2);
  EXPECT_EQ(at(output, "submit_time").as_string().size(), 23u);
  const json::Value failed =
      task(at(at(ask_json(kGeneration, R"({"model":"alphabet","input":{}})", 200, bearer(key_) + kAsync), "output"),
              "task_id")
               .as_string(),
           "FAILED");
  EXPECT_EQ(at(at(failed, "output"), "code").as_string(), "InvalidParameter");
  const json::Value page = get("/api/v1/tasks?page_size=1");
  EXPECT_EQ(at(page, "total").as_int(), 2);
  EXPECT_EQ(at(page, "data").as_array().size(), 1u);
  EXPECT_EQ(at(get("/api/v1/tasks?status=SUCCEEDED"), "total").as_int(), 1);
  EXPECT_EQ(dump(at(get("/api/v1/tasks/task-none"), "output").find("task_status")), "\"UNKNOWN\"");
  EXPECT_EQ(ask("POST", "/api/v1/tasks/task-none/cancel", "", bearer(key_)).status, 404);
  EXPECT_EQ(ask("POST", "/api/v1/tasks/" + id + "/cancel", "", bearer(key_)).status, 200);
  EXPECT_EQ(ask("GET", "/api/v1/tasks?page_no=0", "", bearer(key_)).status, 400);
  const json::Value unknown =
      ask_json(kGeneration, R"({"model":"none","input":{"prompt":"a"}})", 404, bearer(key_) + kAsync);
  EXPECT_EQ(at(unknown, "code").as_string(), "ModelNotFound");
  EXPECT_EQ(ask("POST", "/api/v1/services/none", "{}", bearer(key_) + kAsync).status, 404);
}

class StorelessTest : public test::ServiceTest {};

TEST_F(StorelessTest, WithoutAStoreNothingIsAnsweredLater) {
  ask_json(kResponses, R"({"model":"alphabet","input":"a","background":true})", 501);
  ask_json(kGeneration, R"({"model":"alphabet","input":{"prompt":"a"}})", 501, kAsync);
}

}  // namespace
}  // namespace qw::api
