// Whose key marks whose answers, and that it can be turned while the service runs.
#include <set>

#include "api/internal/test_accounts.h"

namespace qw::api {
namespace {

using governance::MarkHash;
using governance::MarkKeyHolder;
using governance::MarkKeys;
using governance::MarkScheme;

class ProvenanceTest : public test::AccountsServiceTest {
 protected:
  // Keys are asked for by answers: they are there before, and outlive the service.
  ProvenanceTest() { marks_ = &holder_; }
  ~ProvenanceTest() override { service_.reset(); }
  std::string scheme(const store::NewKey& key) {
    const auto answer =
        ask("POST", "/v1/completions",
            R"({"model": "alphabet", "prompt": "abc", "max_tokens": 8, "temperature": 2, "seed": 1})", bearer(key));
    EXPECT_EQ(answer.status, 200) << answer.body;
    const auto at = answer.head.find("X-Watermark: ");
    if (at == std::string::npos) return "";
    return answer.head.substr(at + 13, answer.head.find("\r\n", at) - at - 13);
  }
  MarkKeyHolder holder_{MarkKeys()};
};

TEST_F(ProvenanceTest, AProjectIsMarkedWithItsOwnKeyIfItHasOne) {
  ASSERT_TRUE(store_->tenants().add_project("o", "other").has_value());
  const auto other = *store_->tenants().add_key({"other", "", "", {"*"}, {}, {}, 0});
  EXPECT_EQ(scheme(key_), "");
  MarkKeys keys;
  ASSERT_TRUE(keys.add(make_mark_key(MarkScheme::kSynthId, MarkHash::kSipHash, 2, "")));
  const auto own = make_mark_key(MarkScheme::kGumbel, MarkHash::kSipHash, 2, project_);
  ASSERT_TRUE(keys.add(own));
  holder_.replace(keys);
  EXPECT_EQ(scheme(key_), "gumbel");
  EXPECT_EQ(scheme(other), "synthid");
  ASSERT_TRUE(keys.retire(own.id, 1));
  holder_.replace(keys);
  EXPECT_EQ(scheme(key_), "synthid");
}

TEST_F(ProvenanceTest, AnswersOfEveryProtocolAreMarked) {
  MarkKeys keys;
  ASSERT_TRUE(keys.add(make_mark_key(MarkScheme::kGumbel, MarkHash::kReference, 2, "")));
  holder_.replace(keys);
  for (const auto& [path, body] :
       {std::pair{"/v1/chat/completions", R"({"messages": [{"role": "user", "content": "abc"}], "temperature": 1})"},
        {"/v1/messages", R"({"model": "alphabet", "max_tokens": 9, "messages": [{"role": "user", "content": "abc"}],
                             "temperature": 1})"},
        {"/v1/responses", R"({"model": "alphabet", "input": "abc", "temperature": 1})"},
        {"/api/v1/services/aigc/text-generation/generation",
         R"({"model": "alphabet", "input": {"prompt": "abc"}, "parameters": {"temperature": 1}})"},
        {"/api/chat", R"({"model": "alphabet", "messages": [{"role": "user", "content": "abc"}], "stream": false,
                          "options": {"temperature": 1}})"}}) {
    const auto answer = ask("POST", path, body, bearer(key_));
    EXPECT_EQ(answer.status, 200) << path << answer.body;
    EXPECT_NE(answer.head.find("X-Watermark: gumbel"), std::string::npos) << path;
  }
}

TEST_F(ProvenanceTest, AnswersOfEveryProtocolAreLabelledOnceAndUnderANumberOfTheirOwn) {
  label_producer_ = "Example";
  restart();
  std::set<std::string> numbers;
  for (const bool streams : {false, true}) {
    const std::string stream = streams ? "true" : "false";
    for (const auto& [path, body] :
         {std::pair{"/v1/chat/completions",
                    R"({"messages": [{"role": "user", "content": "abc"}], "stream": )" + stream + "}"},
          {"/v1/completions", R"({"model": "alphabet", "prompt": "abc", "stream": )" + stream + "}"},
          {"/v1/messages", R"({"model": "alphabet", "max_tokens": 9, "messages": [{"role": "user", "content": "abc"}],
                               "stream": )" +
                               stream + "}"},
          {"/v1/responses", R"({"model": "alphabet", "input": "abc", "stream": )" + stream + "}"},
          {"/api/chat",
           R"({"model": "alphabet", "messages": [{"role": "user", "content": "abc"}], "stream": )" + stream + "}"}}) {
      const auto answer = ask("POST", path, body, bearer(key_));
      ASSERT_EQ(answer.status, 200) << path << answer.body;
      const auto at = answer.head.find("X-AIGC: ");
      ASSERT_NE(at, std::string::npos) << path;
      const std::string header = answer.head.substr(at + 8, answer.head.find("\r\n", at) - at - 8);
      const auto label = json::parse(header);
      ASSERT_TRUE(label) << header;
      EXPECT_EQ(*label->find("ContentProducer"), json::Value("Example"));
      EXPECT_TRUE(numbers.insert(label->find("ProduceID")->as_string()).second) << path;
      const std::size_t first = answer.body.find("\"aigc\":" + header);
      ASSERT_NE(first, std::string::npos) << path << answer.body;
      if (streams) {
        EXPECT_LT(first, answer.body.find('\n', answer.body.find('{'))) << path;  // of the first event
      }
    }
  }
  EXPECT_EQ(ask("GET", "/v1/models", "", bearer(key_)).head.find("X-AIGC"), std::string::npos);
}

TEST_F(ProvenanceTest, WhatIsKeptOfAResponseKeepsItsLabel) {
  label_producer_ = "Example";
  restart();
  const auto answer = ask("POST", "/v1/responses", R"({"model": "alphabet", "input": "abc"})", bearer(key_));
  const auto body = json::parse(answer.body);
  ASSERT_TRUE(body && body->find("aigc") != nullptr) << answer.body;
  const auto kept = json::parse(ask("GET", "/v1/responses/" + body->find("id")->as_string(), "", bearer(key_)).body);
  ASSERT_TRUE(kept && kept->find("aigc") != nullptr);
  EXPECT_EQ(*kept->find("aigc"), *body->find("aigc"));
}

}  // namespace
}  // namespace qw::api
