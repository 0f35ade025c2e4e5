// Models that are loaded when asked for, and adapters that come and go, as clients see them.
#include "api/served_model.h"

#include <condition_variable>
#include <thread>

#include "api/internal/test_service.h"

namespace qw::api {
namespace {

constexpr const char* kChat = "/v1/chat/completions";

std::string chat_body(const std::string& model) {
  return R"({"model":")" + model + R"(","messages":[{"role":"user","content":"abc"}],"max_tokens":4})";
}

// Loads what the test says, on a thread of its own, when the test says so.
class LaterTest : public test::ServiceTest, public AdapterDesk {
 protected:
  void SetUp() override {
    ServedModel later;
    later.id = "later";
    later.acquire = [this](std::function<void(Result<ModelLease>)> then) {
      const std::lock_guard lock(mutex_);
      if (auto held = weak_.lock()) return then(ModelLease(held));
      waiting_.push_back(std::move(then));
      wake_.notify_one();
    };
    later.peek = [this] { return ModelLease(weak_.lock()); };
    EXPECT_TRUE(models_.add(std::move(later)));
    ServedModel full;
    full.id = "full";
    full.acquire = [](std::function<void(Result<ModelLease>)> then) { then(fail(ErrorKind::kResource, "no room")); };
    full.peek = [] { return ModelLease(); };
    EXPECT_TRUE(models_.add(std::move(full)));
    ServiceOptions options;
    options.http.port = 0;
    options.adapters = this;
    service_ = std::move(*Service::start(models_, std::move(options)));
  }
  ~LaterTest() override {
    service_.reset();
    if (loader_.joinable()) loader_.join();
  }

  // Answers those who wait, once `count` do.
  void load_when_waiting(std::size_t count, const std::string& base = "alphabet") {
    loader_ = std::thread([this, count, base] {
      std::vector<std::function<void(Result<ModelLease>)>> waiting;
      std::shared_ptr<ServedModel> model;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return waiting_.size() >= count; });
        std::swap(waiting, waiting_);
        model = std::make_shared<ServedModel>(*models_.find(base));
        model->id = "later";
        weak_ = model;
      }
      for (auto& then : waiting) then(ModelLease(model));
    });
  }

  // AdapterDesk: paths that begin with "good" are fine.
  void load(std::string name, std::string path, std::string model, Then then) override {
    if (!path.starts_with("good")) return then(fail(ErrorKind::kRefused, path + ": not from there"));
    if (model == "nobody") return then(fail(ErrorKind::kUsage, "there is no model nobody"));
    ServedModel adapter = *models_.find("alphabet");
    adapter.id = name;
    adapter.base = "alphabet";
    then(models_.add(std::move(adapter)));
  }
  void unload(std::string name, Then then) override {
    then(models_.remove(name) ? Status() : fail(ErrorKind::kUsage, "none"));
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::function<void(Result<ModelLease>)>> waiting_;
  std::weak_ptr<const ServedModel> weak_;
  std::thread loader_;
};

TEST_F(LaterTest, ARequestWaitsForItsModelAndHoldsItWhileItRuns) {
  load_when_waiting(1);
  const auto answer = ask_json(kChat, chat_body("later"));
  EXPECT_EQ(at(answer, "model").as_string(), "later");
  EXPECT_EQ(at(at(at(answer, "choices").as_array()[0], "message"), "content").as_string(), "defg");
  loader_.join();
  loader_ = {};
  for (int i = 0; i < 2000 && !weak_.expired(); ++i) ::usleep(1000);
  EXPECT_TRUE(weak_.expired());  // nothing of the request keeps it
}

TEST_F(LaterTest, EmbeddingsWaitAsWell) {
  load_when_waiting(1, "vectors");
  const auto answer = ask_json("/v1/embeddings", R"({"model":"later","input":["a","b"]})");
  EXPECT_EQ(at(answer, "data").as_array().size(), 2u);
}

TEST_F(LaterTest, AClientThatLeavesWhileItWaitsIsForgotten) {
  const int fd = send_request("POST", kChat, chat_body("later"));
  {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return !waiting_.empty(); });
  }
  ::close(fd);
  ::usleep(50'000);  // the server sees it
  load_when_waiting(1);
  loader_.join();
  loader_ = {};
  for (int i = 0; i < 2000 && !weak_.expired(); ++i) ::usleep(1000);
  EXPECT_TRUE(weak_.expired());
  EXPECT_EQ(engine_->stats().running + engine_->stats().waiting, 0);
}

TEST_F(LaterTest, NoRoomIsA503WithRetryAfter) {
  const auto answer = ask("POST", kChat, chat_body("full"));
  EXPECT_EQ(answer.status, 503);
  EXPECT_NE(answer.head.find("Retry-After: "), std::string::npos) << answer.head;
  EXPECT_NE(answer.body.find("no room"), std::string::npos);
  EXPECT_EQ(ask("POST", kChat, chat_body("nobody")).status, 404);
}

TEST_F(LaterTest, ListsAndFiguresSayWhatIsLoaded) {
  const auto list = json::parse(ask("GET", "/v1/models", "").body);
  ASSERT_TRUE(list);
  const auto& data = at(*list, "data").as_array();
  ASSERT_EQ(data.size(), 4u);
  EXPECT_TRUE(at(data[0], "loaded").as_bool());
  EXPECT_EQ(at(data[2], "id").as_string(), "later");
  EXPECT_FALSE(at(data[2], "loaded").as_bool());
  const auto figures = ask("GET", "/metrics", "").body;
  EXPECT_NE(figures.find("qianwen_model_loaded{model=\"alphabet\"} 1\n"), std::string::npos) << figures;
  EXPECT_NE(figures.find("qianwen_model_loaded{model=\"later\"} 0\n"), std::string::npos) << figures;
}

TEST_F(LaterTest, AdaptersComeAndGo) {
  EXPECT_EQ(ask("POST", kChat, chat_body("poet")).status, 404);
  const auto loaded = ask_json("/admin/adapters", R"({"name":"poet","path":"good/poet"})");
  EXPECT_EQ(at(loaded, "model").as_string(), "alphabet");
  EXPECT_EQ(at(ask_json(kChat, chat_body("poet")), "model").as_string(), "poet");
  EXPECT_EQ(at(*json::parse(ask("GET", "/v1/models/poet", "").body), "parent").as_string(), "alphabet");
  EXPECT_EQ(at(*json::parse(ask("GET", "/admin/adapters", "").body), "adapters").as_array().size(), 1u);
  EXPECT_EQ(ask("DELETE", "/admin/adapters/poet", "").status, 200);
  EXPECT_EQ(ask("POST", kChat, chat_body("poet")).status, 404);
  EXPECT_EQ(ask("DELETE", "/admin/adapters/poet", "").status, 404);
  EXPECT_EQ(ask("DELETE", "/admin/adapters/alphabet", "").status, 404);  // a model is no adapter
}

// The engine has let go of it, and a request had just found it in the list.
TEST_F(LaterTest, AnAdapterThatWentMeanwhileIsAModelThatDoesNotExist) {
  ServedModel gone = *models_.find("alphabet");
  gone.id = "gone";
  gone.adapter = 7;
  ASSERT_TRUE(models_.add(std::move(gone)));
  const auto answer = ask("POST", kChat, chat_body("gone"));
  EXPECT_EQ(answer.status, 404) << answer.body;
  EXPECT_NE(answer.body.find("model_not_found"), std::string::npos) << answer.body;
}

TEST_F(LaterTest, WrongAdaptersAreNamed) {
  const auto status = [&](const std::string& body) { return ask("POST", "/admin/adapters", body).status; };
  EXPECT_EQ(status("{"), 400);
  EXPECT_EQ(status("[]"), 400);
  EXPECT_EQ(status(R"({"path":"good"})"), 400);
  EXPECT_EQ(status(R"({"name":"a b","path":"good"})"), 400);
  EXPECT_EQ(status(R"({"name":"a"})"), 400);
  EXPECT_EQ(status(R"({"name":7,"path":"good"})"), 400);
  EXPECT_EQ(status(R"({"name":"a","path":"bad"})"), 403);
  EXPECT_EQ(status(R"({"name":"a","path":"good","model":"nobody"})"), 400);
  EXPECT_EQ(status(R"({"name":"alphabet","path":"good"})"), 400);
  const auto wrong = ask("PUT", "/admin/adapters", "");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_NE(wrong.head.find("Allow: GET, POST"), std::string::npos);
  EXPECT_EQ(ask("GET", "/admin/adapters/poet", "").status, 405);
}

TEST(ModelList, TheFirstAnswersForNoName) {
  ModelList list;
  EXPECT_EQ(list.find(""), nullptr);
  for (const char* id : {"a", "b"}) {
    ServedModel model;
    model.id = id;
    EXPECT_TRUE(list.add(model));
    EXPECT_EQ(list.add(model).error().kind, ErrorKind::kUsage);
  }
  EXPECT_EQ(list.find("")->id, "a");
  const ModelEntry held = list.find("a");
  EXPECT_TRUE(list.remove("a"));
  EXPECT_FALSE(list.remove("a"));
  EXPECT_EQ(held->id, "a");
  EXPECT_EQ(list.find("")->id, "b");
}

}  // namespace
}  // namespace qw::api
