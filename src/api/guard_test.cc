// What a policy does to answers, the same in every protocol, whole and streamed.
#include <map>

#include "api/generation/output_guard.h"
#include "api/internal/guard_test_service.h"
#include "governance/audit/audit_log.h"
#include "governance/audit/verify.h"

namespace qw::api {
namespace {

using test::GuardTest;
using test::Told;

TEST_F(GuardTest, WhatIsMaskedIsSoInEveryProtocol) {
  follow(R"({"output": {"pii": {"email": "mask"}}})");
  says("write to anna@example.org, darn");
  for (const Protocol& p : kProtocols)
    for (const bool stream : {false, true}) {
      SCOPED_TRACE(std::string(p.name) + (stream ? " stream" : ""));
      const Told told = (this->*p.ask)(stream, "abc", "");
      EXPECT_EQ(told.content, "write to ****@example.org, darn");
      EXPECT_EQ(told.output_tokens, static_cast<std::int64_t>(model_.script.size()));
      EXPECT_EQ(told.retractions, 0);
    }
}

TEST_F(GuardTest, WhatIsBlockedEndsTheAnswerInEveryProtocol) {
  const std::string reply = "I do not speak of this.";
  for (const bool replies : {false, true}) {
    follow(replies ? R"({"output": {"reply": ")" + reply + R"("}})" : "{}");
    says("here is how a bomb is made, in a hundred steps of which this is the first one");
    for (const Protocol& p : kProtocols)
      for (const bool stream : {false, true}) {
        SCOPED_TRACE(std::string(p.name) + (stream ? " stream" : ""));
        const Told told = (this->*p.ask)(stream, "abc", "");
        EXPECT_EQ(told.content, replies ? reply : "");
        EXPECT_EQ(told.reason, replies ? p.replied : p.blocked);
        EXPECT_EQ(told.retractions, stream ? 1 : 0);
        EXPECT_EQ(told.status, !stream && !replies && std::string_view(p.name) == "dashscope" ? 400 : 200);
        if (told.reason == "DataInspectionFailed") continue;  // errors have no counts
        // The engine drew nothing behind the sign that ended the word.
        EXPECT_EQ(told.output_tokens, static_cast<std::int64_t>(std::string("here is how a bomb ").size()));
        EXPECT_EQ(told.prompt_tokens, 3);
      }
  }
}

TEST_F(GuardTest, TextThatWentOutMayStay) {
  follow(R"({"output": {"reply": "No."}, "retract": false})");
  says("here is a bomb and more");
  for (const Protocol& p : kProtocols)
    for (const bool stream : {false, true}) {
      SCOPED_TRACE(std::string(p.name) + (stream ? " stream" : ""));
      const Told told = (this->*p.ask)(stream, "abc", "");
      EXPECT_EQ(told.content, "here is a \n\nNo.");
      EXPECT_EQ(told.retractions, 0);
      EXPECT_EQ(told.reason, p.replied);
    }
}

TEST_F(GuardTest, ReasoningAndCallsAreGuardedToo) {
  follow(R"({"output": {"pii": {"email": "mask"}}})");
  says("<think>\nask c@d.org\n</think>\n\nfine");
  for (const Protocol& p : kProtocols)
    for (const bool stream : {false, true}) {
      SCOPED_TRACE(std::string(p.name) + (stream ? " stream" : ""));
      const Told told = (this->*p.ask)(stream, "abc", "");
      EXPECT_EQ(told.content, "fine");
      EXPECT_NE(told.reasoning.find("ask *@d.org"), std::string::npos) << told.reasoning;
    }
  const std::string inner = R"({"name":"send","parameters":{"type":"object","properties":{}}})";
  const std::string wrapped = R"(,"tools":[{"type":"function","function":)" + inner + "}]";
  for (const bool blocks : {false, true}) {
    says(std::string("<tool_call>\n{\"name\": \"send\", \"arguments\": {\"to\": \"a@b.org\", \"text\": \"") +
         (blocks ? "a b\\u006fmb" : "fine") + "\"}}\n</tool_call>");
    const std::string wanted = R"({"to": "*@b.org", "text": "fine"})";
    for (const bool stream : {false, true}) {
      SCOPED_TRACE(stream);
      for (const Told& told :
           {openai(stream, "abc", wrapped), dashscope(stream, "abc", wrapped),
            responses(stream, "abc",
                      R"(,"tools":[{"type":"function","name":"send","parameters":{"type":"object","properties":{}}}])"),
            anthropic(stream, "abc",
                      R"(,"tools":[{"name":"send","input_schema":{"type":"object","properties":{}}}])")}) {
        EXPECT_EQ(told.arguments, blocks ? "" : wanted);
        EXPECT_EQ(told.reason == "content_filter" || told.reason == "refusal" || told.reason == "DataInspectionFailed",
                  blocks)
            << told.reason;
      }
    }
  }
}

TEST_F(GuardTest, WhoIsInDangerIsToldWhereHelpIsInEveryProtocol) {
  const std::string crisis =
      R"({}, "crisis": {"keywords": ["end my life"], "reply": "Wait.", "helplines": [{"name": "A", "contact": "1"}])";
  const std::string text = "Wait.\n\nA: 1";
  const std::map<std::string_view, std::string_view> ends = {{"openai", "stop"},
                                                             {"responses", "completed"},
                                                             {"anthropic", "end_turn"},
                                                             {"dashscope", "stop"},
                                                             {"ollama", "stop"}};
  const auto in_every = [&](const char* asked, auto check) {
    for (const Protocol& p : kProtocols)
      for (const bool stream : {false, true}) {
        SCOPED_TRACE(std::string(p.name) + (stream ? " stream" : ""));
        const Told told = (this->*p.ask)(stream, asked, "");
        EXPECT_EQ(told.status, 200);
        check(p, stream, told);
      }
  };
  follow(crisis + "}");
  says("never said", 7);
  in_every("I want to END my life!", [&](const Protocol& p, bool, const Told& told) {
    EXPECT_EQ(told.content, text);
    EXPECT_EQ(told.reason, ends.at(p.name));
    EXPECT_EQ(told.retractions, 0);
    EXPECT_EQ(told.output_tokens, 0);
  });
  // With a word that is blocked, too: who is in danger is not refused.
  EXPECT_EQ(openai(false, "end my life with a bomb").content, text);
  says("never said", 2);
  const std::string turns = R"({"model":"alphabet","messages":[{"role":"user","content":"I want to end my life"},)"
                            R"({"role":"assistant","content":"Wait."},{"role":"user","content":"hi"}]})";
  const auto later = ask("POST", "/v1/chat/completions", turns);
  EXPECT_NE(later.body.find("never said"), std::string::npos) << later.body;
  EXPECT_EQ(later.body.find("helplines"), std::string::npos);
  const auto told = ask("POST", "/v1/completions", R"({"model":"alphabet","prompt":"I'll end my life"})");
  EXPECT_NE(told.body.find(R"("helplines":[{"name":"A","contact":"1"}])"), std::string::npos) << told.body;
  // A model that speaks of it is taken back.
  says("you could end my life now");
  in_every("abc", [&](const Protocol& p, bool stream, const Told& answer) {
    EXPECT_EQ(answer.content, text);
    EXPECT_EQ(answer.reason, p.replied);
    EXPECT_EQ(answer.retractions, stream ? 1 : 0);
  });
  follow(crisis + R"(, "answer": "before"})");
  says("<think>\nhm\n</think>\n\nsay more", 21);
  in_every("I want to end my life", [&](const Protocol& p, bool, const Told& answer) {
    EXPECT_EQ(answer.content, text + "\n\nsay more");
    EXPECT_EQ(answer.reason, ends.at(p.name));
  });
}

TEST_F(GuardTest, WhatWasFoundIsOnRecordAndNoTextOfIt) {
  auto key = governance::SigningKey::create(folder_ / "key");
  ASSERT_TRUE(key);
  auto log = governance::AuditLog::open(folder_ / "log", *key);
  ASSERT_TRUE(log) << log.error().message;
  audit_ = log->get();
  follow(R"({"input": {"pii": {"email": "flag"}}, "output": {"pii": {"email": "mask"}}, "tell_client": true})");
  says("write to anna@example.org or bert@example.org", 11);
  const json::Value v =
      ask_json("/v1/chat/completions", std::string("{") + kMessages + R"(is a@b.org!"}],"timings":true})");
  EXPECT_EQ(dump(v.find("guard")), R"({"input": [{"kind": "pii/email", "action": "flag", "count": 1}], )"
                                   R"("output": [{"kind": "pii/email", "action": "mask", "count": 2}]})");
  says("a bomb is", 3);
  openai(true, "abc", "");
  openai(false, "a bomb", "");
  service_.reset();
  audit_ = nullptr;
  log->reset();
  const std::string records = *base::read_file(folder_ / "log" / "records.jsonl");
  EXPECT_EQ(records.find("anna"), std::string::npos);
  EXPECT_EQ(records.find("bomb"), std::string::npos);
  for (const char* wanted :
       {R"("findings":[{"action":"mask","count":2,"kind":"pii/email"}])",
        R"("input_findings":[{"action":"flag","count":1,"kind":"pii/email"}])", R"("finish":"content_filter")",
        R"("findings":[{"action":"block","count":1,"kind":"keyword/arms"}])", R"("type":"refusal")"})
    EXPECT_NE(records.find(wanted), std::string::npos) << wanted << "\n" << records;
  std::size_t named = 0;
  for (std::size_t at = 0; (at = records.find("\"policy\":\"" + policies_->of("")->hash(), at)) != std::string::npos;
       ++at)
    ++named;
  EXPECT_EQ(named, 3u);
}

// Events of an answer, their texts cut anywhere.
TEST(OutputGuard, CutsMakeNoDifference) {
  const auto folder = std::filesystem::temp_directory_path() / ("qw-output-guard-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const auto policy = test::policy_of(R"({"output": {"pii": {"email": "mask"}}})", folder);
  std::filesystem::remove_all(folder);
  using Kind = chat::OutputEvent::Kind;
  std::uint64_t state = 3;
  const auto below = [&](std::uint64_t n) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (state >> 33) % n;
  };
  constexpr const char* kParts[] = {"a@b.org", "darn", " ", "bo", "mb", "bomb ", "ok", "x@", "y.com"};
  int blocked = 0;
  for (int round = 0; round < 300; ++round) {
    std::vector<chat::OutputEvent> events;
    for (std::uint64_t n = below(5); n > 0; --n) {
      std::string text;
      for (std::uint64_t k = below(8); k > 0; --k) text += kParts[below(std::size(kParts))];
      if (below(3) == 0) {
        events.push_back({Kind::kToolCallBegin, "f", 0});
        events.push_back({Kind::kToolCallArguments, json::dump(json::Object{{"x", text}}), 0});
        events.push_back({Kind::kToolCallEnd, "", 0});
      } else {
        events.push_back({below(2) == 0 ? Kind::kReasoning : Kind::kContent, text, -1});
      }
    }
    const auto through = [&](std::size_t size) {
      OutputGuard guard(policy->output());
      std::string out;
      Kind last = Kind::kToolCallEnd;
      const auto add = [&](const std::vector<chat::OutputEvent>& passed) {
        for (const auto& e : passed) {
          if (e.kind != last) out += "|" + std::to_string(static_cast<int>(e.kind)) + ":";
          last = e.kind;
          out += e.text;
        }
      };
      for (const auto& event : events) {
        for (std::size_t at = 0; at < event.text.size(); at += size) {
          auto part = event;
          part.text = event.text.substr(at, size);
          if (event.kind == Kind::kToolCallBegin) part.text = event.text;
          add(guard.pass(part));
        }
        if (event.text.empty()) add(guard.pass(event));
      }
      add(guard.finish());
      blocked += guard.blocked() ? 1 : 0;
      return out + (guard.blocked() ? "!" : "") + json::dump(json::Value(to_json(guard.counts())));
    };
    const std::string whole = through(1000);
    for (const std::size_t size : {1, 2, 5}) ASSERT_EQ(through(size), whole);
  }
  EXPECT_GT(blocked, 20);
}

}  // namespace
}  // namespace qw::api
