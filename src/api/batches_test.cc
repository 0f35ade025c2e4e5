// Batches on the wire, and what becomes of them when a service ends.
#include <set>

#include "api/internal/test_accounts.h"
#include "api/openai/batch_object.h"
#include "api/openai/batch_runner.h"

namespace qw::api {
namespace {

class BatchesTest : public test::AccountsServiceTest {
 protected:
  std::string file(const std::string& content) {
    auto& files = store_->files();
    const auto made = files.begin(project_, "in.jsonl", "batch");
    EXPECT_TRUE(files.append(made->id, content).has_value());
    return files.complete(made->id)->id;
  }
  static std::string line(const std::string& id, const std::string& content, const std::string& more = "",
                          const std::string& url = "/v1/chat/completions") {
    return R"({"custom_id":")" + id + R"(","method":"POST","url":")" + url +
           R"(","body":{"model":"alphabet","messages":[{"role":"user","content":")" + content +
           "\"}],\"max_tokens\":3" + more + "}}\n";
  }
  json::Value create(const std::string& file_id, int status = 200, const std::string& more = "") {
    return ask_json("/v1/batches",
                    R"({"input_file_id":")" + file_id +
                        R"(","endpoint":"/v1/chat/completions","completion_window":"24h")" + more + "}",
                    status, bearer(key_));
  }
  json::Value get(const std::string& id) {
    return *json::parse(ask("GET", "/v1/batches/" + id, "", bearer(key_)).body);
  }
  json::Value ended(const std::string& id) {
    json::Value batch;
    for (int i = 0; i < 1000; ++i) {
      batch = get(id);
      const std::string status = at(batch, "status").as_string();
      if (status == "completed" || status == "failed" || status == "cancelled" || status == "expired") return batch;
      ::usleep(10'000);
    }
    ADD_FAILURE() << "the batch did not end: " << json::dump(batch);
    return batch;
  }
  std::vector<json::Value> lines(const json::Value& batch, const char* which) {
    std::vector<json::Value> out;
    const json::Value& id = at(batch, which);
    if (!id.is_string()) return out;
    std::string text = *store_->files().read(id.as_string(), 0);
    for (std::size_t from = 0; from < text.size();) {
      const auto end = text.find('\n', from);
      out.push_back(*json::parse(text.substr(from, end - from)));
      from = end + 1;
    }
    return out;
  }
  static std::string counts(const json::Value& batch) { return json::dump(at(batch, "request_counts")); }
};

TEST_F(BatchesTest, EveryLineIsAnsweredAsIfAskedAlone) {
  std::string input;
  for (int i = 0; i < 40; ++i)
    input += line("id-" + std::to_string(i), std::string(1, static_cast<char>('a' + i % 20)) + (i % 2 ? "b" : ""));
  input += "\n" + line("wrong", "x", R"(,"temperature":9)");
  const json::Value begun = create(file(input), 200, R"(,"metadata":{"a":"b"})");
  EXPECT_EQ(at(begun, "status").as_string(), "validating");
  const json::Value batch = ended(at(begun, "id").as_string());
  EXPECT_EQ(at(batch, "status").as_string(), "completed");
  EXPECT_EQ(counts(batch), R"({"total": 41, "completed": 40, "failed": 1})");
  EXPECT_EQ(dump(batch.find("metadata")), R"({"a": "b"})");
  EXPECT_EQ(at(batch, "model").as_string(), "alphabet");
  const auto output = lines(batch, "output_file_id"), errors = lines(batch, "error_file_id");
  ASSERT_EQ(output.size(), 40u);
  std::set<std::string> ids;
  std::int64_t tokens = 0, cached = 0;
  for (const json::Value& one : output) {
    const std::string id = at(one, "custom_id").as_string();
    ids.insert(id);
    const int i = std::stoi(id.substr(3));
    const json::Value& response = at(one, "response");
    EXPECT_EQ(at(response, "status_code").as_int(), 200);
    const json::Value& body = at(response, "body");
    const char first = i % 2 ? 'b' : static_cast<char>('a' + i % 20);
    std::string expected;
    for (int k = 1; k <= 3; ++k) expected += static_cast<char>(first + k);
    EXPECT_EQ(at(at(at(body, "choices").as_array()[0], "message"), "content").as_string(), expected) << id;
    tokens += at(at(body, "usage"), "total_tokens").as_int();
    cached += at(at(at(body, "usage"), "prompt_tokens_details"), "cached_tokens").as_int();
  }
  EXPECT_EQ(ids.size(), 40u);
  EXPECT_EQ(at(at(batch, "usage"), "total_tokens").as_int(), tokens);
  EXPECT_EQ(at(at(at(batch, "usage"), "input_tokens_details"), "cached_tokens").as_int(), cached);
  EXPECT_EQ(at(at(at(batch, "usage"), "output_tokens_details"), "reasoning_tokens").as_int(), 0);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(at(at(errors[0], "response"), "status_code").as_int(), 400);
  const auto sums = store_->ledger().usage_sums({}, "");
  EXPECT_EQ(sums->at(0).tokens.prompt + sums->at(0).tokens.output, tokens);  // what it cost is in the ledger
}

TEST_F(BatchesTest, AFileThatIsWrongFailsAndSaysWhere) {
  const json::Value batch =
      ended(at(create(file(line("a", "x") + "{no json\n" + line("a", "y") + line("b", "x", "", "/v1/embeddings") +
                           R"({"custom_id":"c","method":"GET","url":"/v1/chat/completions","body":{}})" + "\n" +
                           line("d", "x", R"(,"stream":true)"))),
               "id")
                .as_string());
  EXPECT_EQ(at(batch, "status").as_string(), "failed");
  std::string found;
  for (const json::Value& error : at(at(batch, "errors"), "data").as_array())
    found += std::to_string(at(error, "line").as_int()) + ":" + at(error, "code").as_string() + " ";
  EXPECT_EQ(found, "2:invalid_json_line 3:duplicate_custom_id 4:url_not_found 5:invalid_method 6:invalid_request ");
  const json::Value none = ended(at(create(file("\n\n")), "id").as_string());
  EXPECT_EQ(at(at(at(none, "errors"), "data").as_array()[0], "code").as_string(), "empty_file");
}

TEST_F(BatchesTest, RequestsThatMakeNoSenseAreRefused) {
  create("file-none", 400);
  const std::string good = file(line("a", "x"));
  for (const char* body :
       {R"({"endpoint":"/v1/chat/completions","completion_window":"24h"})",
        R"({"input_file_id":"f","endpoint":"/v1/models","completion_window":"24h"})",
        R"({"input_file_id":"f","endpoint":"/v1/completions","completion_window":"1h"})",
        R"({"input_file_id":"f","endpoint":"/v1/completions","completion_window":"24h","metadata":{"a":1}})"})
    ask_json("/v1/batches", body, 400, bearer(key_));
  EXPECT_EQ(ask("GET", "/v1/batches/batch_none", "", bearer(key_)).status, 404);
  EXPECT_EQ(ask("POST", "/v1/batches/batch_none/cancel", "", bearer(key_)).status, 404);
  ASSERT_TRUE(store_->tenants().add_project("o", "other").has_value());
  const auto other = *store_->tenants().add_key({"other", "", "", {"*"}, {}, {}, 0});
  EXPECT_EQ(ask("GET", "/v1/batches/" + at(create(good), "id").as_string(), "", bearer(other)).status, 404);
}

TEST_F(BatchesTest, ABatchThatIsCancelledKeepsWhatWasDone) {
  std::string input = line("quick", "a");
  for (int i = 0; i < 100; ++i)
    input += line("slow-" + std::to_string(i), "a", R"(,"max_completion_tokens":400,"ignore_eos":true)");
  const std::string id = at(create(file(input)), "id").as_string();
  for (int i = 0; i < 500 && counts(get(id)).find("\"completed\": 0") != std::string::npos; ++i) ::usleep(5'000);
  const auto answer = ask("POST", "/v1/batches/" + id + "/cancel", "", bearer(key_));
  EXPECT_EQ(answer.status, 200);
  const json::Value batch = ended(id);
  const std::string status = at(batch, "status").as_string();
  EXPECT_TRUE(status == "cancelled" || status == "completed") << status;  // it may have been quicker
  EXPECT_EQ(static_cast<std::int64_t>(lines(batch, "output_file_id").size()),
            at(at(batch, "request_counts"), "completed").as_int());
  EXPECT_GE(lines(batch, "output_file_id").size(), 1u);
}

TEST_F(BatchesTest, ABatchGoesOnWhereAServiceEndedAndEveryLineIsAnsweredOnce) {
  std::string input;
  for (int i = 0; i < 60; ++i)  // they end one after the other
    input +=
        line("id-" + std::to_string(i), "a", R"(,"ignore_eos":true,"max_completion_tokens":)" + std::to_string(i + 1));
  model_.step_us = 5'000;
  const std::string id = at(create(file(input)), "id").as_string();
  int interrupted = 0;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 500; ++i) {  // some more lines are done
      const auto job = store_->jobs().find(project_, "batch", id);
      if (static_cast<int>(store_->jobs().records(id, "output", 0, 1000)->size()) > round * 8 ||
          job->status == "completed")
        break;
      ::usleep(2'000);
    }
    interrupted += store_->jobs().find(project_, "batch", id)->status != "completed";
    restart();  // gives the batch back
  }
  EXPECT_GT(interrupted, 0);
  model_.step_us = 0;
  const json::Value batch = ended(id);
  EXPECT_EQ(counts(batch), R"({"total": 60, "completed": 60, "failed": 0})");
  std::set<std::string> ids;
  for (const json::Value& one : lines(batch, "output_file_id"))
    EXPECT_TRUE(ids.insert(at(one, "custom_id").as_string()).second);
  EXPECT_EQ(ids.size(), 60u);
}

TEST_F(BatchesTest, AServiceThatDiedLosesItsBatchToAnother) {
  service_.reset();  // nobody takes the batch meanwhile
  openai::BatchSpec spec;
  spec.endpoint = "/v1/chat/completions";
  spec.input_file_id = file(line("a", "x") + line("b", "y"));
  spec.window_s = 86'400;
  spec.key_id = key_.key.id;
  const std::string id = store_->jobs().add("batch_", project_, "batch", spec.text())->id;
  // Another service claimed it, wrote one answer, and was never heard of again.
  ASSERT_TRUE(store_->jobs().claim("batch", "dead", 60'000'000)->has_value());
  ASSERT_TRUE(store_->jobs()
                  .advance(id, "dead", 60'000'000, R"({"status":"in_progress","total":2,"completed":1,"failed":0})",
                           {{"output", 0, 0, R"({"custom_id":"a","response":{"status_code":200,"body":{}}})"}})
                  .has_value());
  // Over a file there is no other service: what the dead one had is not waited for.
  restart();
  const json::Value batch = ended(id);
  EXPECT_EQ(counts(batch), R"({"total": 2, "completed": 2, "failed": 0})");
  EXPECT_EQ(lines(batch, "output_file_id").size(), 2u);
  EXPECT_FALSE(store_->jobs().advance(id, "dead", 1'000, "{}", {}).has_value());
}

TEST_F(BatchesTest, WhatTheWindowLeftOverIsAnError) {
  service_.reset();  // nobody takes the batch meanwhile
  openai::BatchSpec spec;
  spec.endpoint = "/v1/chat/completions";
  spec.input_file_id = file(line("a", "x"));
  spec.window_s = 0;
  spec.key_id = key_.key.id;
  const std::string id = store_->jobs().add("batch_", project_, "batch", spec.text())->id;
  restart();
  const json::Value batch = ended(id);
  EXPECT_EQ(at(batch, "status").as_string(), "expired");
  const auto errors = lines(batch, "error_file_id");
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(at(at(errors[0], "error"), "code").as_string(), "batch_expired");
}

TEST_F(BatchesTest, AKeyThatWasRevokedEndsItsBatch) {
  service_.reset();  // nobody takes the batch meanwhile
  openai::BatchSpec spec;
  spec.endpoint = "/v1/chat/completions";
  spec.input_file_id = file(line("a", "x"));
  spec.window_s = 86'400;
  spec.key_id = key_.key.id;
  const std::string id = store_->jobs().add("batch_", project_, "batch", spec.text())->id;
  ASSERT_TRUE(store_->tenants().revoke_key(key_.key.id).has_value());
  restart();
  for (int i = 0; i < 500 && store_->jobs().find(project_, "batch", id)->status != "completed"; ++i) ::usleep(10'000);
  const auto records = store_->jobs().records(id, "error", 0, 10);
  ASSERT_EQ(records->size(), 1u);
  EXPECT_NE(records->at(0).body.find("\"status_code\":401"), std::string::npos);
}

TEST_F(BatchesTest, ALimitThatPassesIsWaitedFor) {
  store::Limits limits;
  limits.subject = "key:" + key_.key.id;
  limits.concurrency = 1;
  ASSERT_TRUE(store_->ledger().set_limits(limits).has_value());
  std::string input;
  for (int i = 0; i < 6; ++i) input += line("id-" + std::to_string(i), "a");
  const json::Value batch = ended(at(create(file(input)), "id").as_string());
  EXPECT_EQ(counts(batch), R"({"total": 6, "completed": 6, "failed": 0})");
}

}  // namespace
}  // namespace qw::api
