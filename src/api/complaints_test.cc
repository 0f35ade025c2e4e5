// Who may complain, who sees it, and what goes on record of it.
#include <fstream>

#include "api/internal/test_accounts.h"
#include "base/file.h"
#include "governance/audit/audit_log.h"
#include "governance/audit/log_files.h"
#include "governance/policy/policy.h"

namespace qw::api {
namespace {

class ComplaintsApiTest : public test::AccountsServiceTest {
 protected:
  ~ComplaintsApiTest() override {
    engine_->stop();
    service_.reset();
    log_.reset();
  }
  void SetUp() override {
    AccountsServiceTest::SetUp();
    auto key = governance::SigningKey::create(folder_ / "key");
    ASSERT_TRUE(key) << key.error().message;
    log_ = std::move(*governance::AuditLog::open(folder_ / "log", std::move(*key)));
    audit_ = log_.get();
    follow(true);
  }
  // Everybody's policy: complaints are open to those without a key, or not.
  void follow(bool open) {
    auto profile = governance::Profile::parse(
        std::string(R"({"profile": "p", "version": 1, "date": "2026-11-29", "complaints": {"open": )") +
        (open ? "true" : "false") + R"(, "answer_days": 15, "appeal_days": 7}})");
    ASSERT_TRUE(profile) << profile.error().message;
    auto set = std::make_unique<governance::PolicySet>();
    set->add("", std::move(*governance::Policy::load(std::move(*profile), folder_)));
    policies_ = set.get();
    held_.push_back(std::move(set));
    restart();
  }
  std::string records() const {
    std::ifstream in(folder_ / "log" / governance::kRecordsFile);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  store::NewKey key_of(const std::string& user) {
    if (!store_->tenants().user(user)) {
      EXPECT_TRUE(store_->tenants().add_user("o", user, {"member"}));
    }
    return *store_->tenants().add_key({"p", user, "", {"*"}, {}, {}, 0});
  }
  std::vector<std::unique_ptr<governance::PolicySet>> held_;
  std::unique_ptr<governance::AuditLog> log_;
};

TEST_F(ComplaintsApiTest, AReceiptIsAllThatAStrangerNeeds) {
  const json::Value filed = ask_json("/v1/complaints", R"({"text": "rude words", "about": "7", "odd": 1})");
  EXPECT_EQ(at(filed, "due").as_int() - at(filed, "created").as_int(), 15 * 86'400);
  const std::string path = "/v1/complaints/" + at(filed, "id").as_string(),
                    receipt = "?receipt=" + at(filed, "receipt").as_string();
  EXPECT_EQ(ask("GET", path + receipt, "").status, 200);
  EXPECT_EQ(ask("GET", path, "").status, 404);
  EXPECT_EQ(ask("GET", path + "?receipt=x", "").status, 404);
  EXPECT_EQ(ask("GET", "/v1/complaints", "").status, 401);
  EXPECT_EQ(ask("GET", "/v1/models", "").status, 401) << "nothing else is open";
  EXPECT_EQ(ask("DELETE", path, "").status, 405);
  EXPECT_EQ(ask("GET", path + "/x", "").status, 401);
  EXPECT_EQ(ask("POST", "/v1/complaints", R"({"text": ""})").status, 400);
  EXPECT_EQ(records().find("rude"), std::string::npos);
  EXPECT_NE(records().find(R"("action":"received")"), std::string::npos);
  follow(false);
  EXPECT_EQ(ask("POST", "/v1/complaints", R"({"text": "x"})").status, 401);
}

TEST_F(ComplaintsApiTest, UsersSeeTheirOwnAndOperatorsAnswer) {
  const store::NewKey ann = key_of("ann"), bo = key_of("bo");
  const std::string id = at(ask_json("/v1/complaints", R"({"text": "wrong"})", 200, bearer(ann)), "id").as_string();
  EXPECT_EQ(ask("GET", "/v1/complaints/" + id, "", bearer(ann)).status, 200);
  EXPECT_EQ(ask("GET", "/v1/complaints/" + id, "", bearer(bo)).status, 404);
  EXPECT_EQ(ask("GET", "/v1/complaints", "", bearer(bo)).body.find(id), std::string::npos);
  EXPECT_EQ(ask("GET", "/admin/v1/complaints", "", bearer(ann)).status, 403);
  EXPECT_EQ(ask("POST", "/v1/complaints/" + id + "/appeal", R"({"text": "x"})", bearer(ann)).status, 409);
  const json::Value answered =
      ask_json("/admin/v1/complaints/" + id + "/answer", R"({"text": "sorry", "by": "op"})", 200, bearer(key_));
  EXPECT_EQ(at(answered, "status").as_string(), "answered");
  EXPECT_EQ(ask("POST", "/admin/v1/complaints/" + id + "/answer", R"({"text": "again"})", bearer(key_)).status, 409);
  const auto seen = ask("GET", "/v1/complaints/" + id, "", bearer(ann)).body;
  EXPECT_NE(seen.find("sorry"), std::string::npos);
  EXPECT_EQ(seen.find("answered_by"), std::string::npos);
  const json::Value appeal = ask_json("/v1/complaints/" + id + "/appeal", R"({"text": "still"})", 200, bearer(ann));
  EXPECT_EQ(at(appeal, "appeal_of").as_string(), id);
  const auto open = ask("GET", "/admin/v1/complaints?status=open", "", bearer(key_)).body;
  EXPECT_EQ(open.find("\"id\":\"" + id + "\""), std::string::npos) << open;
  EXPECT_NE(open.find("\"id\":\"" + at(appeal, "id").as_string() + "\""), std::string::npos) << open;
  EXPECT_EQ(ask("GET", "/admin/v1/complaints?overdue=maybe", "", bearer(key_)).status, 400);
  EXPECT_NE(records().find(R"("operation":"complaints.answer")"), std::string::npos);
  EXPECT_EQ(records().find("sorry"), std::string::npos);
}

TEST_F(ComplaintsApiTest, ManyFromOneAddressAreRefused) {
  int taken = 0;
  for (int i = 0; i < 60; ++i) taken += ask("POST", "/v1/complaints", R"({"text": "x"})").status == 200 ? 1 : 0;
  EXPECT_GE(taken, 30);
  EXPECT_LT(taken, 60);
  const auto refused = ask("POST", "/v1/complaints", R"({"text": "x"})");
  EXPECT_EQ(refused.status, 429);
  EXPECT_NE(refused.head.find("Retry-After"), std::string::npos);
}

TEST_F(ComplaintsApiTest, OnesDataAreGivenAndErased) {
  const store::NewKey ann = key_of("ann");
  ASSERT_EQ(ask("POST", "/v1/complaints", R"({"text": "mine"})", bearer(ann)).status, 200);
  const auto held = ask("GET", "/v1/my/data", "", bearer(ann));
  EXPECT_EQ(held.status, 200);
  EXPECT_NE(held.body.find("mine"), std::string::npos);
  const store::NewKey narrow = key({"inference"});
  EXPECT_EQ(ask("DELETE", "/v1/my/data", "", bearer(narrow)).status, 403);
  const auto erased = ask("DELETE", "/v1/my/data", "", bearer(ann));
  EXPECT_EQ(erased.status, 200) << erased.body;
  EXPECT_EQ(ask("GET", "/v1/my/data", "", bearer(ann)).status, 401);
  EXPECT_NE(records().find(R"("type":"erasure")"), std::string::npos);
  EXPECT_EQ(ask("GET", "/admin/v1/users/ann/data", "", bearer(key_)).status, 404) << "nobody has that name any more";
}

TEST_F(ComplaintsApiTest, AnswersAreFoundByTheirNumbers) {
  label_producer_ = "Example";
  restart();
  const json::Value answer =
      ask_json("/v1/completions", R"({"model": "alphabet", "prompt": "abc", "max_tokens": 4})", 200, bearer(key_));
  const std::string number = at(at(answer, "aigc"), "ProduceID").as_string();
  const json::Value found =
      ask_json("/v1/content_provenance", R"({"produce_id": ")" + number + "\"}", 200, bearer(key_));
  const json::Value& one = at(found, "results").as_array()[0];
  EXPECT_EQ(at(one, "verdict").as_string(), "produced_here");
  EXPECT_EQ(at(one, "model").as_string(), "alphabet");
  EXPECT_EQ(one.find("project"), nullptr);
  const json::Value other = ask_json("/v1/content_provenance",
                                     R"({"produce_id": ["017f22e2-79b0-7cc3-98c4-dc0c0c07398f"]})", 200, bearer(key_));
  EXPECT_EQ(at(at(other, "results").as_array()[0], "verdict").as_string(), "not_found");
  for (const char* body : {R"({"produce_id": "7"})", R"({"produce_id": []})", R"({"produce_id": 7})",
                           R"({"produce_id": "x", "input": "y"})", "{}"})
    EXPECT_EQ(ask("POST", "/v1/content_provenance", body, bearer(key_)).status, 400) << body;
}

class ConductApiTest : public ComplaintsApiTest {
 protected:
  void follow_rules(const std::string& rules) {
    ASSERT_TRUE(base::write_file_atomically(folder_ / "words", "[arms]\nbomb\n"));
    auto profile = governance::Profile::parse(
        R"({"profile": "p", "version": 1, "date": "2026-11-29", "keyword_packs": [{"file": "words", "action": "block"}], )" +
        rules + "}");
    ASSERT_TRUE(profile) << profile.error().message;
    auto set = std::make_unique<governance::PolicySet>();
    set->add("", std::move(*governance::Policy::load(std::move(*profile), folder_)));
    policies_ = set.get();
    held_.push_back(std::move(set));
    restart();
    model_.script = tokenizer_.encode("fine");
    model_.script.push_back(*tokenizer_.find("<|im_end|>"));
  }
  test::HttpAnswer chat(const std::string& text, const std::string& more = "", const std::string& before = "") {
    return ask(
        "POST", "/v1/chat/completions",
        R"({"model":"alphabet","max_tokens":4,"messages":[)" + before + R"({"role":"user","content":")" + text + R"("}])" + more + "}",
        bearer(key_));
  }
};

TEST_F(ConductApiTest, StrikesLeadToWarningsAndASuspensionThatOutlivesTheService) {
  follow_rules(R"("strikes": {"in_a_row": 2, "minutes": 60, "steps": [{"in_a_row": 1, "action": "warn"}]})");
  auto answer = chat("a bomb");
  EXPECT_EQ(answer.status, 400);
  EXPECT_NE(answer.body.find("It is counted: 1 in a row, 1 today."), std::string::npos) << answer.body;
  EXPECT_NE(answer.head.find("X-Conduct: warned"), std::string::npos) << answer.head;
  EXPECT_EQ(chat("hello").status, 200);
  chat("a bomb");
  answer = chat("a bomb");
  EXPECT_NE(answer.body.find("Requests are refused until 20"), std::string::npos) << answer.body;
  answer = chat("hello");
  EXPECT_EQ(answer.status, 403);
  EXPECT_NE(answer.body.find(R"("code":"suspended")"), std::string::npos) << answer.body;
  EXPECT_NE(answer.head.find("Retry-After: "), std::string::npos);
  EXPECT_NE(records().find(R"("conduct":{"in_a_row":2,"standing":"suspended","subject":")" + key_.key.id),
            std::string::npos)
      << records();
  restart();
  EXPECT_EQ(chat("hello", R"(,"stream":true)").status, 403);
  const auto listed = ask("GET", "/admin/v1/conduct?status=suspended", "", bearer(key_));
  EXPECT_NE(listed.body.find(key_.key.id), std::string::npos) << listed.body;
  EXPECT_EQ(ask("POST", "/admin/v1/conduct/" + key_.key.id + "/lift", "{}", bearer(key_)).status, 200);
  EXPECT_EQ(chat("hello").status, 200);
  EXPECT_NE(records().find(R"("operation":"conduct.lift")"), std::string::npos);
  EXPECT_EQ(ask("GET", "/admin/v1/conduct/nobody", "", bearer(key_)).status, 404);
}

TEST_F(ConductApiTest, MinorsHaveRulesOfTheirOwn) {
  follow_rules(R"("minors": {"ages": [14, 18], "companions": false, "minutes_a_day": 1,
      "guard": {"input": {"pii": {"email": "block"}}}}, "companion": {"personas": ["girlfriend"], "models": ["luna"]})");
  const std::string persona = R"({"role":"system","content":"You are my girlfriend."},)";
  EXPECT_EQ(chat("hi", "", persona).status, 200);
  EXPECT_EQ(chat("a@b.org").status, 200);
  const auto set = [&](const std::string& more) {
    const auto answer =
        ask("POST", "/admin/v1/minors", R"({"key":")" + key_.key.id + R"(")" + more + "}", bearer(key_));
    EXPECT_EQ(answer.status, 200) << answer.body;
  };
  set(R"(,"age":13)");
  EXPECT_NE(chat("hi").body.find("guardian_consent"), std::string::npos);
  set(R"(,"age":13,"consent":true)");
  EXPECT_EQ(chat("hi").status, 200);
  EXPECT_NE(chat("hi", "", persona).body.find("not_for_minors"), std::string::npos);
  EXPECT_EQ(chat("a@b.org").status, 400);
  EXPECT_NE(records().find(R"("minor":true)"), std::string::npos);
  set(R"(,"age":18)");
  EXPECT_EQ(chat("hi", "", persona).status, 200);
  EXPECT_EQ(ask("DELETE", "/admin/v1/minors/" + key_.key.id, "", bearer(key_)).status, 200);
  EXPECT_EQ(ask("DELETE", "/admin/v1/minors/" + key_.key.id, "", bearer(key_)).status, 404);
  EXPECT_NE(records().find(R"("operation":"minors.set")"), std::string::npos);
}

}  // namespace
}  // namespace qw::api
