// What the operator stops ends at once, says why, and goes on when it is released.
#include "api/stop_switch.h"

#include <future>

#include "api/internal/test_accounts.h"
#include "base/file.h"

namespace qw::api {
namespace {

using governance::Stop;
using What = Stop::What;

class StopTest : public test::AccountsServiceTest {
 protected:
  StopTest() {
    file_ = std::filesystem::temp_directory_path() / ("qw-stops-" + std::to_string(::getpid()));
    std::filesystem::remove(file_);
  }
  ~StopTest() override {
    service_.reset();
    std::filesystem::remove(file_);
  }
  void SetUp() override {
    open();
    AccountsServiceTest::SetUp();
  }
  void open() {
    auto made = StopSwitch::open(file_, nullptr);
    ASSERT_TRUE(made) << made.error().message;
    switches_.push_back(std::move(*made));
    stops_ = switches_.back().get();
  }
  static std::string body(const char* more = "") {
    return R"({"model":"alphabet","messages":[{"role":"user","content":"abc"}],"max_tokens":50)" + std::string(more) +
           "}";
  }
  int status(const char* path = "/v1/chat/completions", const std::string& what = body()) {
    return ask("POST", path, what, bearer(key_)).status;
  }
  json::Value change(const char* path, const std::string& what, int wanted = 200) {
    return ask_json(path, what, wanted, bearer(key_));
  }
  std::filesystem::path file_;
  std::vector<std::unique_ptr<StopSwitch>> switches_;
};

TEST_F(StopTest, WhatRunsEndsInTheStepThatItIsIn) {
  for (const bool stream : {false, true}) {
    SCOPED_TRACE(stream);
    model_.waiting = false;
    model_.held = true;
    auto running = std::async(std::launch::async, [&] {
      return ask("POST", "/v1/chat/completions", body(stream ? R"(,"stream":true)" : ""), bearer(key_));
    });
    while (!model_.waiting) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const auto before = engine_->stats().output_tokens;
    const json::Value told = change("/admin/stops", R"({"what":"model","name":"alphabet","reason":"a test"})");
    EXPECT_EQ(at(at(told, "stopped").as_array()[0], "reason").as_string(), "a test");
    EXPECT_EQ(at(at(told, "stopped").as_array()[0], "by").as_string(), key_.key.id);
    const auto answer = running.get();  // while the step is still held
    EXPECT_EQ(answer.status, stream ? 200 : 503);
    EXPECT_NE(answer.body.find("The operator of this service has stopped the model alphabet."), std::string::npos)
        << answer.body;
    EXPECT_NE(answer.body.find(R"("code":"stopped")"), std::string::npos);
    model_.held = false;
    while (engine_->stats().running > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_LE(engine_->stats().output_tokens, before + 1);
    EXPECT_EQ(status(), 503);
    EXPECT_EQ(status("/v1/messages", body()), 503);
    EXPECT_EQ(status("/v1/embeddings", R"({"model":"vectors","input":"x"})"), 200);
    change("/admin/stops/release", R"({"what":"model","name":"alphabet"})");
    EXPECT_EQ(status(), 200);
  }
}

TEST_F(StopTest, AProjectIsStoppedAloneAndAllTogether) {
  ASSERT_TRUE(store_->tenants().add_project("o", "other").has_value());
  const auto other = *store_->tenants().add_key({"other", "", "", {"*"}, {}, {}, 0});
  ASSERT_TRUE(stops_->set({What::kProject, project_, "", "", 1}, true));
  EXPECT_EQ(status(), 403);
  EXPECT_EQ(status("/v1/embeddings", R"({"model":"vectors","input":"x"})"), 403);
  EXPECT_EQ(ask("POST", "/v1/chat/completions", body(), bearer(other)).status, 200);
  ASSERT_TRUE(stops_->set({What::kAll, "", "", "", 1}, true));
  EXPECT_EQ(ask("POST", "/v1/chat/completions", body(), bearer(other)).status, 503);
  EXPECT_EQ(at(*json::parse(ask("GET", "/admin/stops", "", bearer(key_)).body), "stopped").as_array().size(), 2u);
}

TEST_F(StopTest, ItIsAFileThatOutlivesTheServiceAndCommandsWrite) {
  ASSERT_TRUE(stops_->set({What::kAll, "", "", "", 1}, true));
  open();
  restart();
  EXPECT_EQ(status(), 503);
  ASSERT_TRUE(governance::StopList().write(file_));
  ASSERT_TRUE(stops_->look());
  EXPECT_EQ(status(), 200);
  ASSERT_TRUE(base::write_file_atomically(file_, "nonsense"));
  EXPECT_FALSE(stops_->look());
  EXPECT_EQ(status(), 200);
  std::filesystem::remove(file_);
  EXPECT_TRUE(stops_->look());
}

TEST_F(StopTest, WhatMakesNoSenseIsRefused) {
  for (const char* what : {"{}", R"({"what":"moon"})", R"({"what":"model"})", R"({"what":"all","name":"x"})"})
    change("/admin/stops", what, 400);
  EXPECT_EQ(ask("DELETE", "/admin/stops", "", bearer(key_)).status, 405);
  EXPECT_EQ(ask("POST", "/admin/stops", R"({"what":"all"})", bearer(key({"inference"}))).status, 403);
  EXPECT_TRUE(stops_->stopped().empty());
}

}  // namespace
}  // namespace qw::api
