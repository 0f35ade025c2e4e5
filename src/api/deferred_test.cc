// Requests that are answered later: responses in the background, DashScope's tasks.
#include <condition_variable>
#include <mutex>

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
  const std::string too_long = std::string(600, 'a');  // found out when it is made
  const json::Value begun = ask_json(
      kResponses, R"({"model":"alphabet","input":")" + too_long + R"(","background":true})", 200, bearer(key_));
  const json::Value failed = response(at(begun, "id").as_string(), "failed");
  EXPECT_EQ(at(at(failed, "error"), "code").as_string(), "context_length_exceeded");
  EXPECT_NE(at(at(failed, "error"), "message").as_string().find("512"), std::string::npos);
  // What can be known before is said at once, streamed or not.
  for (const char* more : {"", R"(,"stream":true)"}) {
    const json::Value refused =
        ask_json(kResponses,
                 R"({"model":"alphabet","input":"abc","background":true,"previous_response_id":"resp_none")" +
                     std::string(more) + "}",
                 400, bearer(key_));
    EXPECT_EQ(at(at(refused, "error"), "code").as_string(), "previous_response_not_found");
    EXPECT_EQ(at(at(refused, "error"), "param").as_string(), "previous_response_id");
  }
  ask_json(kResponses, R"({"input":"a","background":true,"store":false})", 400, bearer(key_));
  ask_json(kResponses, R"({"input":"a","background":true,"model":"none"})", 404, bearer(key_));
  const auto kept =
      ask_json(kResponses, R"({"model":"alphabet","input":"abc","max_output_tokens":1})", 200, bearer(key_));
  ask_json(std::string(kResponses) + "/" + at(kept, "id").as_string() + "/cancel", "", 400, bearer(key_));
  ask_json(std::string(kResponses) + "/resp_none/cancel", "", 404, bearer(key_));
  get(std::string(kResponses) + "/" + at(kept, "id").as_string() + "?stream=true", 400);
}

// The texts of a stream's events, each with its end.
std::vector<std::string> events_of(const std::string& chunked) {
  std::vector<std::string> out;
  for (std::size_t at = 0; (at = chunked.find("event: ", at)) != std::string::npos;) {
    const std::size_t end = chunked.find("\n\n", at);
    if (end == std::string::npos) break;
    out.push_back(chunked.substr(at, end + 2 - at));
    at = end;
  }
  return out;
}

json::Value data_of(const std::string& event) {
  const std::size_t at = event.find("data: ");
  return *json::parse(event.substr(at + 6));
}

TEST_F(DeferredTest, AStreamOfTheBackgroundIsGoneOnWithFromAnyEvent) {
  const auto begun =
      ask("POST", kResponses,
          R"({"model":"alphabet","input":"abc","max_output_tokens":5,"background":true,"stream":true})", bearer(key_));
  ASSERT_EQ(begun.status, 200) << begun.body;
  const auto events = events_of(begun.body);
  ASSERT_GT(events.size(), 8u) << begun.body;
  std::string text;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const json::Value data = data_of(events[i]);
    EXPECT_EQ(at(data, "sequence_number").as_int(), static_cast<std::int64_t>(i));
    EXPECT_TRUE(events[i].starts_with("event: " + at(data, "type").as_string() + "\n")) << events[i];
    if (at(data, "type").as_string() == "response.output_text.delta") text += at(data, "delta").as_string();
  }
  EXPECT_EQ(text, "defgh");
  EXPECT_TRUE(events[0].starts_with("event: response.created\n"));
  EXPECT_TRUE(events[1].starts_with("event: response.queued\n"));
  EXPECT_TRUE(events[2].starts_with("event: response.in_progress\n"));
  EXPECT_TRUE(events.back().starts_with("event: response.incomplete\n"));
  const json::Value last = data_of(events.back());
  const std::string path = std::string(kResponses) + "/" + at(at(last, "response"), "id").as_string();
  EXPECT_EQ(json::dump(at(last, "response")), json::dump(get(path)));
  for (const std::size_t after : {std::size_t{0}, std::size_t{1}, std::size_t{4}, events.size() - 2}) {
    const auto rest = ask("GET", path + "?stream=true&starting_after=" + std::to_string(after), "", bearer(key_));
    EXPECT_EQ(events_of(rest.body),
              std::vector<std::string>(events.begin() + static_cast<std::ptrdiff_t>(after) + 1, events.end()));
  }
  EXPECT_EQ(events_of(ask("GET", path + "?stream=true", "", bearer(key_)).body), events);
  const std::string seen = std::to_string(events.size() - 1);
  EXPECT_TRUE(events_of(ask("GET", path + "?stream=true&starting_after=" + seen, "", bearer(key_)).body).empty());
  get(path + "?stream=true&starting_after=x", 400);
  get(path + "?stream=true&starting_after=-1", 400);
  // The next start tells the same, and what is deleted is told no more.
  restart();
  EXPECT_EQ(events_of(ask("GET", path + "?stream=true", "", bearer(key_)).body), events);
  const std::string id = path.substr(path.rfind('/') + 1);
  EXPECT_FALSE(store_->jobs().records(id, kEventStream, 0, 1)->empty());
  EXPECT_EQ(ask("DELETE", path, "", bearer(key_)).status, 200);
  get(path + "?stream=true", 404);
  EXPECT_TRUE(store_->jobs().records(id, kEventStream, 0, 1)->empty());
}

TEST_F(DeferredTest, AStreamOfWhatFailsEndsWithWhy) {
  const auto begun = ask(
      "POST", kResponses,
      R"({"model":"alphabet","background":true,"stream":true,"input":")" + std::string(600, 'a') + "\"}", bearer(key_));
  const auto events = events_of(begun.body);
  ASSERT_EQ(events.size(), 3u) << begun.body;
  const json::Value last = data_of(events[2]);
  EXPECT_EQ(at(last, "type").as_string(), "response.failed");
  EXPECT_EQ(at(at(at(last, "response"), "error"), "code").as_string(), "context_length_exceeded");
}

// A runner whose requests are answered by the test.
class EventsTest : public test::AccountsServiceTest {
 protected:
  void run(const std::vector<std::string>& events, bool answers) {
    std::mutex mutex;
    std::condition_variable changed;
    bool called = false;
    DeferredOptions options;
    options.event_pause = std::chrono::milliseconds(1);
    options.poll = std::chrono::milliseconds(10);
    const auto dispatch = [&](InnerRequest request, std::function<void(net::Response)> then) {
      for (const std::string& event : events) request.on_event(event);
      if (answers) then({500, {}, R"({"error":{"message":"enough"}})"});
      const std::lock_guard lock(mutex);
      called = true;
      changed.notify_one();
      return std::make_unique<InnerCall>();
    };
    DeferredRunner runner(*store_, "one", dispatch, options);
    std::unique_lock lock(mutex);
    EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(20), [&] { return called; }));
    lock.unlock();
    for (int i = 0; i < 1000 && told().size() < wanted_; ++i) ::usleep(5'000);
    for (int i = 0; i < 1000 && answers && store_->jobs().find(project_, kTask, id_)->status != "done"; ++i)
      ::usleep(5'000);
  }
  std::vector<std::string> told() {
    std::vector<std::string> out;
    const auto records = store_->jobs().records(id_, kEventStream, 0, 100);
    for (const store::JobRecord& record : *records) out.push_back(record.body);
    return out;
  }
  void SetUp() override {
    test::AccountsServiceTest::SetUp();
    service_.reset();  // its own runner
    DeferredRequest request{"/x", "{}", "", true};
    id_ = store_->jobs().add("task-", project_, kTask, request.text())->id;
  }
  std::string id_;
  std::size_t wanted_ = 0;
};

TEST_F(EventsTest, WhatIsMadeAnewIsToldOnce) {
  wanted_ = 2;
  run({"a", "b"}, false);
  EXPECT_EQ(told(), (std::vector<std::string>{"a", "b"}));
  wanted_ = 3;
  run({"a", "b", "c"}, true);
  EXPECT_EQ(told(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(store_->jobs().find(project_, kTask, id_)->status, "done");
}

TEST_F(EventsTest, AnotherAnswerIsNotMixedWithWhatWasTold) {
  wanted_ = 2;
  run({"a", "b"}, false);
  run({"a", "x", "c"}, true);
  EXPECT_EQ(told(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(store_->jobs().find(project_, kTask, id_)->status, "done");
}

// It was kept as if it were whole; in the background, where a service that stops leaves, it was lost so.
TEST_F(DeferredTest, AResponseWhoseClientLeftIsNotKept) {
  model_.held = true;
  const int fd = send_request(
      "POST", kResponses, R"({"model":"alphabet","input":"abc","max_output_tokens":400,"stream":true})", bearer(key_));
  std::string told;
  char more[4096];
  std::size_t at = std::string::npos;
  while ((at = told.find("resp_")) == std::string::npos || told.size() < at + 29) {
    const ssize_t n = ::recv(fd, more, sizeof(more), 0);
    ASSERT_GT(n, 0) << told;
    told.append(more, static_cast<std::size_t>(n));
  }
  ::close(fd);
  ::usleep(100'000);  // the service sees it; if it is slow to, while the answer is made
  model_.step_us = 5'000;
  model_.held = false;
  for (int i = 0; i < 2000 && engine_->stats().running + engine_->stats().waiting > 0; ++i) ::usleep(5'000);
  ::usleep(50'000);
  get(std::string(kResponses) + "/" + told.substr(at, 29), 404);
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

TEST_F(DeferredTest, ALongConversationLosesItsOldestMessagesIfItMay) {
  // The template of the tests shows a conversation's last message alone: one of all of it is needed.
  const auto whole = *chat::Template::parse("{% for m in messages %}{{ m.content }}{% endfor %}");
  ServedModel served = *models_.find("alphabet");
  served.id = "whole";
  served.chat_template = &whole;
  ASSERT_TRUE(models_.add(served));
  const auto body = [](const std::string& truncation, int messages, int length) {
    std::string items = R"({"role":"system","content":"S"})";
    for (int i = 0; i < messages; ++i)
      items += R"(,{"role":"user","content":")" + std::string(static_cast<std::size_t>(length), 'a') +
               R"("},{"role":"assistant","content":"x"})";
    items += R"(,{"role":"user","content":"abc"})";
    return R"({"model":"whole","max_output_tokens":2,"truncation":")" + truncation + R"(","input":[)" + items + "]}";
  };
  EXPECT_EQ(ask("POST", kResponses, body("disabled", 10, 100), bearer(key_)).status, 400);
  const auto cut = ask("POST", kResponses, body("auto", 10, 100), bearer(key_));
  ASSERT_EQ(cut.status, 200) << cut.body;
  // 512 tokens, two of them for the answer: the system's message, five of ten pairs and the last fit.
  EXPECT_NE(cut.head.find("X-Messages-Left-Out: 10\r"), std::string::npos) << cut.head;
  const json::Value answer = *json::parse(cut.body);
  EXPECT_EQ(at(at(answer, "usage"), "input_tokens").as_int(), 1 + 5 * 101 + 3);
  EXPECT_EQ(at(answer, "truncation").as_string(), "auto");
  const auto fits = ask("POST", kResponses, body("auto", 2, 100), bearer(key_));
  EXPECT_EQ(fits.head.find("X-Messages-Left-Out"), std::string::npos);
  // What was asked last is never left out.
  EXPECT_EQ(ask("POST", kResponses,
                body("auto", 0, 0).replace(body("auto", 0, 0).find("abc"), 3, std::string(600, 'a')), bearer(key_))
                .status,
            400);
  ask_json(kResponses, body("often", 1, 1), 400, bearer(key_));
  models_.remove("whole");
}

class StorelessTest : public test::ServiceTest {};

TEST_F(StorelessTest, WithoutAStoreNothingIsAnsweredLater) {
  ask_json(kResponses, R"({"model":"alphabet","input":"a","background":true})", 501);
  ask_json(kGeneration, R"({"model":"alphabet","input":{"prompt":"a"}})", 501, kAsync);
}

}  // namespace
}  // namespace qw::api
