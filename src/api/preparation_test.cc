// What takes long before the engine has a request is done beside the threads of connections, and fairly.
#include "api/preparation.h"

#include <algorithm>
#include <future>

#include "api/internal/test_service.h"

namespace qw::api {
namespace {

TEST(Preparation, WhoHasLessRunningGoesFirst) {
  std::mutex mutex;
  std::string order;
  std::promise<void> go;
  const auto gate = go.get_future().share();
  Preparation work(1, 8);
  std::promise<void> begun;
  ASSERT_TRUE(work.post("a", [&] {
    begun.set_value();
    gate.wait();
  }));
  begun.get_future().wait();
  const auto note = [&](char c) {
    return [&, c] {
      const std::lock_guard lock(mutex);
      order += c;
    };
  };
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(work.post("a", note('a')));
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(work.post("b", note('b')));
  std::promise<void> last;
  ASSERT_TRUE(work.post("c", note('c')));
  ASSERT_TRUE(work.post("a", [&last] { last.set_value(); }));
  go.set_value();
  last.get_future().wait();
  EXPECT_EQ(order, "bcabaaa");
}

TEST(Preparation, TooMuchOfOneIsRefusedAndOthersAreNot) {
  std::promise<void> go;
  const auto gate = go.get_future().share();
  Preparation work(1, 2);
  std::promise<void> begun;
  ASSERT_TRUE(work.post("a", [&] {
    begun.set_value();
    gate.wait();
  }));
  begun.get_future().wait();
  EXPECT_TRUE(work.post("a", [] {}));
  EXPECT_TRUE(work.post("a", [] {}));
  EXPECT_FALSE(work.post("a", [] {}));
  EXPECT_TRUE(work.post("b", [] {}));
  go.set_value();
  work.stop();
  EXPECT_FALSE(work.post("b", [] {}));
}

// How long a grammar is that takes half a second to make; sanitizers make it take many times that.
#if defined(__SANITIZE_THREAD__)
constexpr int kRepeats = 40;
#elif defined(__SANITIZE_ADDRESS__)
constexpr int kRepeats = 200;
#else
constexpr int kRepeats = 700;
#endif

class PreparationTest : public test::ServiceTest {
 protected:
  // With a grammar that nobody asked for before.
  static std::string slow_request(int i) {
    std::string grammar = "root ::= \\\"" + std::to_string(i) + "\\\"";
    for (int r = 0; r < 40; ++r) grammar += " r" + std::to_string(r);
    for (int r = 0; r < 40; ++r)
      grammar += "\\nr" + std::to_string(r) + " ::= ((\\\"a\\\" | \\\"b\\\")?){" + std::to_string(kRepeats) + "}";
    return R"({"model":"alphabet","messages":[{"role":"user","content":"abc"}],"max_tokens":1,"guided_grammar":")" +
           grammar + "\"}";
  }
};

TEST_F(PreparationTest, ALongBodyIsReadAsAShortOneIs) {
  max_body_ = 1 << 20;
  service_.reset();
  start_service(nullptr);
  const std::string space(100'000, ' ');
  const std::string body =
      R"({"model":"alphabet",)" + space + R"("messages":[{"role":"user","content":"abc"}],"max_tokens":3})";
  EXPECT_NE(ask("POST", "/v1/chat/completions", body).body.find(R"("content":"def")"), std::string::npos);
  const auto answer = ask("POST", "/v1/messages", R"({"model":"none",)" + space + R"("messages":7})");
  EXPECT_EQ(answer.status, 400);
  EXPECT_NE(answer.body.find(R"("type":"error")"), std::string::npos) << answer.body;
  EXPECT_EQ(ask("POST", "/v1/embeddings", space).status, 400);
}

TEST_F(PreparationTest, OthersAreAnsweredWhileGrammarsAreMade) {
  constexpr int kSlow = 4;  // each takes longer than all the others' requests
  std::atomic<int> answered{0};
  std::vector<std::thread> slow;
  for (int i = 0; i < kSlow; ++i)
    slow.emplace_back([&, i] {
      const auto answer = ask("POST", "/v1/chat/completions", slow_request(i));
      EXPECT_NE(answer.body.find("\"content\":\"" + std::to_string(i) + "\""), std::string::npos) << answer.body;
      ++answered;
    });
  // All of them are there when others ask: the one thread of connections has read them.
  while (service_->preparing() < kSlow && answered == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(ask("GET", "/health/live", "").status, 200);
  EXPECT_EQ(ask("POST", "/v1/chat/completions",
                R"({"model":"alphabet","messages":[{"role":"user","content":"abc"}],"max_tokens":4})")
                .status,
            200);
  EXPECT_LT(answered, kSlow);
  for (std::thread& thread : slow) thread.join();
}

TEST_F(PreparationTest, WhoLeavesIsNotWaitedFor) {
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(ask("POST", "/v1/chat/completions", slow_request(0)).status, 200);
  const auto one = std::chrono::steady_clock::now() - began;
  std::vector<int> sockets;
  constexpr int kSlow = 40;
  for (int i = 1; i <= kSlow; ++i) sockets.push_back(send_request("POST", "/v1/chat/completions", slow_request(i)));
  // Most have been read, as those that run take their time; if not, they become fewer before.
  for (std::size_t most = 0, now = 0; now + 4 < kSlow && now >= most; most = std::max(most, now)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    now = service_->preparing();
  }
  for (const int fd : sockets) {
    const linger reset{1, 0};  // gone, not only silent
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    ::close(fd);
  }
  // Two at a time, all of them would take as long as twenty.
  const auto left = std::chrono::steady_clock::now();
  while (service_->preparing() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_LT(std::chrono::steady_clock::now() - left, 10 * one);
  EXPECT_EQ(ask("POST", "/v1/chat/completions", slow_request(0)).status, 200);
}

}  // namespace
}  // namespace qw::api
