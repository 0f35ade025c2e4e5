// The administration over HTTP: every operation, who may, pages, repeats, and its own listener.
#include <gmock/gmock.h>

#include "api/admin/operations.h"
#include "api/auth.h"
#include "api/internal/test_accounts.h"

namespace qw::api {
namespace {

class AdminTest : public test::AccountsServiceTest {
 protected:
  json::Value send(const std::string& method, const std::string& path, const std::string& body = "", int status = 200,
                   const std::string& headers = "") {
    const auto answer = ask(method, "/admin/v1" + path, body, bearer(key_) + headers);
    EXPECT_EQ(answer.status, status) << method << " " << path << ": " << answer.body;
    auto value = json::parse(answer.body);
    return value ? std::move(*value) : json::Value();
  }
  std::vector<std::string> column(const json::Value& list, const char* name) {
    std::vector<std::string> out;
    for (const auto& one : at(list, "data").as_array()) out.push_back(at(one, name).as_string());
    return out;
  }
};

// A path of an operation, with something in place of its argument.
std::string path_of(const admin::Operation& operation) {
  std::string path = "/admin/v1" + std::string(operation.path);
  if (const auto open = path.find('{'); open != std::string::npos)
    path.replace(open, path.find('}') - open + 1, "some");
  return path;
}

TEST_F(AdminTest, EveryOperationNeedsAKeyThatMayAdminister) {
  const auto plain = key({"inference", "files.*", "usage.read"});
  ASSERT_FALSE(admin::operations().empty());
  for (const auto& operation : admin::operations()) {
    const std::string method(operation.method);
    EXPECT_EQ(ask(method, path_of(operation), "{}").status, 401) << operation.name;
    EXPECT_EQ(ask(method, path_of(operation), "{}", bearer(plain)).status, 403) << operation.name;
    EXPECT_NE(ask(method, path_of(operation), "{}", bearer(key_)).status, 403) << operation.name;
    EXPECT_EQ(ask("PATCH", path_of(operation), "{}", bearer(key_)).status, 405) << operation.name;
  }
  for (const std::string_view prefix : guarded_routes()) {
    for (const char* method : {"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"}) {
      EXPECT_EQ(ask(method, std::string(prefix), "{}").status, 401) << method << " " << prefix;
      EXPECT_EQ(ask(method, std::string(prefix) + "/x", "{}").status, 401) << method << " " << prefix;
    }
  }
}

TEST_F(AdminTest, AnOrganisationFromItsBeginningToItsBill) {
  const auto school = send("POST", "/organisations", R"({"name":"school","weight":3})");
  EXPECT_EQ(dump(school.find("weight")), "3");
  send("POST", "/organisations/school", R"({"weight":2})");
  EXPECT_EQ(dump(send("GET", "/organisations/school").find("weight")), "2");
  const auto essays = send("POST", "/projects", R"({"organisation":"school","name":"essays"})");
  send("POST", "/roles", R"({"name":"writer","allow":["inference","models.read"],"deny":["inference"]})");
  const auto user = send("POST", "/users", R"({"organisation":"school","name":"lin","roles":["writer"]})");
  EXPECT_EQ(dump(user.find("roles")), R"(["writer"])");
  const auto key = send("POST", "/keys", R"({"project":"essays","user":"lin","scopes":["*"],"networks":["127.0.0.1"],"days":3})");
  const std::string secret = "Authorization: Bearer " + at(key, "key").as_string() + "\r\n";
  const std::string chat = R"({"model":"alphabet","messages":[{"role":"user","content":"ab"}],"max_tokens":3})";
  EXPECT_EQ(ask("POST", "/v1/chat/completions", chat, secret).status, 403) << "denied by the role";
  send("POST", "/users/lin", R"({"roles":["member"]})");
  send("POST", "/prices", R"({"model":"alphabet","currency":"CNY","prompt":"0.3","output":0.6,"trained":"2.5"})");
  send("POST", "/budgets", R"({"subject":"project:essays","amount":"0.00001","unit":"CNY"})");
  send("POST", "/limits", R"({"subject":"project:essays","requests_per_minute":100,"jobs":5})");
  send("POST", "/limits", R"({"subject":"project:essays","concurrency":7})");
  const auto limits = at(send("GET", "/limits"), "data").as_array();
  ASSERT_EQ(limits.size(), 1u);
  EXPECT_EQ(dump(limits[0].find("requests_per_minute")) + dump(limits[0].find("jobs")) + dump(limits[0].find("concurrency")),
            "10057");
  EXPECT_EQ(ask("POST", "/v1/chat/completions", chat, secret).status, 200);
  const auto budgets = send("GET", "/budgets?subject=project:essays");
  EXPECT_EQ(column(budgets, "spent"), std::vector<std::string>{"0.0000024"});
  const auto sums = send("GET", "/usage?by=project&project=essays");
  EXPECT_EQ(column(sums, "cost"), std::vector<std::string>{"0.0000024"});
  EXPECT_EQ(column(sums, "group"), std::vector<std::string>{at(essays, "id").as_string()});
  const auto csv = ask("GET", "/admin/v1/usage/rows?format=csv&user=lin", "", bearer(key_));
  EXPECT_NE(csv.head.find("text/csv"), std::string::npos);
  EXPECT_TRUE(csv.body.starts_with("number,request_id,")) << csv.body;
  EXPECT_EQ(std::count(csv.body.begin(), csv.body.end(), '\n'), 2);
  const std::string id = at(key, "id").as_string();
  const auto next = send("POST", "/keys/" + id + "/rotate", R"({"grace_seconds":0})");
  EXPECT_EQ(at(next, "rotated_from").as_string(), id);
  send("POST", "/keys/" + id + "/rotate", "", 400);  // sent twice: there is one heir
  for (int i = 0; i < 2; ++i) send("DELETE", "/keys/" + at(next, "id").as_string());
  send("DELETE", "/budgets/" + column(budgets, "id")[0]);
  send("DELETE", "/budgets/" + column(budgets, "id")[0], "", 404);
  send("DELETE", "/prices/alphabet");
  send("DELETE", "/roles/member", "", 400);
  send("POST", "/organisations/school", R"({"disabled":true})");
  EXPECT_EQ(dump(send("GET", "/organisations/" + at(school, "id").as_string()).find("disabled")), "true");
}

TEST_F(AdminTest, AChangedKeyIsAnotherFromTheNextRequestOn) {
  const auto made = key({"models.read"});
  const std::string path = "/keys/" + made.key.id;
  const std::string chat = R"({"model":"alphabet","messages":[{"role":"user","content":"ab"}],"max_tokens":3})";
  const auto asked = [&] { return ask("POST", "/v1/chat/completions", chat, bearer(made)).status; };
  EXPECT_EQ(asked(), 403);
  const auto set = send("POST", path, R"({"scopes":["inference"],"name":"bench"})");
  EXPECT_EQ(dump(set.find("scopes")) + at(set, "name").as_string(), R"(["inference"]bench)");
  EXPECT_EQ(set.find("key"), nullptr) << "its secret is known to who has it";
  EXPECT_EQ(asked(), 200);
  send("POST", path, R"({"models":["another"]})");
  EXPECT_EQ(asked(), 403);
  send("POST", path, R"({"models":[],"networks":["10.0.0.0/8"]})");
  EXPECT_EQ(asked(), 403);
  send("POST", path, R"({"networks":["127.0.0.0/8"],"days":2})");
  EXPECT_EQ(asked(), 200);
  EXPECT_GT(send("GET", path).find("expires")->as_double(), 0);
  send("POST", "/limits", R"({"subject":"key:)" + made.key.id + R"(","requests_per_minute":1})");
  EXPECT_EQ(asked(), 200);
  EXPECT_EQ(asked(), 429);
  send("POST", "/limits", R"({"subject":"key:)" + made.key.id + R"(","requests_per_minute":0})");
  EXPECT_EQ(asked(), 200);
  EXPECT_EQ(dump(send("POST", path, R"({"days":0})").find("expires")), "null");
  for (const char* wrong : {R"({"scopes":[]})", R"({"scopes":["inferense"]})", R"({"networks":["10.0.0.0/99"]})",
                            R"({"days":-1})", R"({"project":"p"})"})
    send("POST", path, wrong, 400);
  EXPECT_EQ(asked(), 200);
  send("DELETE", path);
  EXPECT_EQ(asked(), 401);
  send("POST", path, R"({"name":"x"})", 400);
}

TEST_F(AdminTest, AnotherNameHoldsFromTheNextRequestOn) {
  send("POST", "/users", R"({"organisation":"o","name":"lin"})");
  const auto own = send("POST", "/keys", R"({"project":"p","user":"lin"})");
  const std::string secret = "Authorization: Bearer " + at(own, "key").as_string() + "\r\n";
  const std::string chat = R"({"model":"alphabet","messages":[{"role":"user","content":"ab"}],"max_tokens":3})";
  EXPECT_EQ(ask("POST", "/v1/chat/completions", chat, secret).status, 200);
  for (const auto& [list, old, kind] : {std::tuple{"/organisations", "o", "organisation"},
                                        std::tuple{"/projects", "p", "project"}, std::tuple{"/users", "lin", "user"}}) {
    const std::string path = list, was = path + "/" + old;
    const std::string id = at(send("GET", was), "id").as_string(), name = std::string("a new ") + kind;
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const auto set = send("POST", was, R"({"name":")" + name + "\"}");
    const std::string log = testing::internal::GetCapturedStdout() + testing::internal::GetCapturedStderr();
    EXPECT_NE(log.find("admin: " + path.substr(1) + ".set "), std::string::npos) << log;
    EXPECT_NE(log.find(name), std::string::npos) << log;
    EXPECT_EQ(at(set, "name").as_string() + at(set, "id").as_string(), name + id);
    send("POST", was, R"({"name":"x"})", 404);
    send("GET", was, "", 404);
    EXPECT_EQ(dump(set.find("weight")), dump(send("POST", path + "/" + id, "{}").find("weight")));
    for (const std::string& wrong : {std::string("\"\""), "\"" + std::string(201, 'a') + "\"", std::string(R"("a\nb")"),
                                     std::string(R"("\u007f")"), std::string("7"), std::string("[]")})
      send("POST", path + "/" + id, "{\"name\":" + wrong + "}", 400);
    send("POST", path, path == "/organisations" ? R"({"name":"taken"})" : R"({"organisation":"a new organisation","name":"taken"})");
    send("POST", path + "/" + id, R"({"name":"taken"})", 400);
    EXPECT_EQ(at(send("GET", path + "/" + id), "name").as_string(), name);
  }
  EXPECT_EQ(ask("POST", "/v1/chat/completions", chat, secret).status, 200) << "keys are of ids";
  send("POST", "/limits", R"({"subject":"project:a new project","jobs":3})");
}

TEST_F(AdminTest, WhoMayReadUsageSeesThatOfItsProject) {
  ASSERT_TRUE(store_->tenants().add_project("o", "other").has_value());
  const auto mine = key({"inference", "usage.read"}), blind = key({"inference"});
  const auto theirs = *store_->tenants().add_key({"other", "", "", {"inference"}, {}, {}, 0});
  const auto complete = [&](const store::NewKey& who) {
    return ask("POST", "/v1/completions", R"({"model":"alphabet","prompt":"a","max_tokens":1})", bearer(who)).status;
  };
  EXPECT_EQ(complete(mine), 200);
  EXPECT_EQ(complete(blind), 200);
  EXPECT_EQ(complete(theirs), 200);
  const auto read = [&](const std::string& path, int status = 200) {
    const auto answer = ask("GET", path, "", bearer(mine));
    EXPECT_EQ(answer.status, status) << path << answer.body;
    return status == 200 ? *json::parse(answer.body) : json::Value();
  };
  const auto sums = read("/v1/usage?by=project");
  ASSERT_EQ(column(sums, "group"), std::vector<std::string>{project_});
  EXPECT_EQ(dump(at(sums, "data").as_array()[0].find("requests")), "2") << "with those of the project's other keys";
  EXPECT_EQ(read("/v1/usage/rows?limit=1").find("has_more")->as_bool(), true);
  EXPECT_EQ(column(read("/v1/usage/rows"), "key"), (std::vector<std::string>{mine.key.id, blind.key.id}));
  EXPECT_EQ(ask("GET", "/v1/usage/rows?format=csv", "", bearer(mine)).body.find(theirs.key.id), std::string::npos);
  for (const std::string& more : std::vector<std::string>{"project=other", "organisation=o", "key=" + theirs.key.id, "user=x"})
    read("/v1/usage?" + more, 400);
  EXPECT_EQ(ask("POST", "/v1/usage", "{}", bearer(mine)).status, 405);
  for (const char* path : {"/v1/usage", "/v1/usage/rows"}) EXPECT_EQ(ask("GET", path, "", bearer(blind)).status, 403);
  read("/admin/v1/usage", 403);
  EXPECT_EQ(ask("GET", "/v1/usages", "", bearer(key_)).status, 404);
}

TEST_F(AdminTest, MistakesAreNamed) {
  const auto message = [&](const json::Value& answer) { return at(at(answer, "error"), "message").as_string(); };
  EXPECT_EQ(message(send("POST", "/projects", R"({"organisation":"nobody","name":"x"})", 400)),
            "there is no organisation nobody.");
  EXPECT_EQ(message(send("POST", "/organisations", R"({"nmae":"x"})", 400)), "'name' is missing.");
  EXPECT_EQ(message(send("POST", "/organisations", R"({"name":"x","wieght":2})", 400)), "'wieght' is not known here.");
  send("POST", "/organisations", R"({"name":"x","weight":"2"})", 400);
  send("POST", "/organisations", "[]", 400);
  send("POST", "/keys", R"({"project":"p","networks":["10.0.0.0/99"]})", 400);
  send("POST", "/keys", R"({"project":"p","scopes":[1]})", 400);
  send("POST", "/budgets", R"({"subject":"p","amount":1})", 400);
  send("POST", "/budgets", R"({"subject":"project:p","amount":"much"})", 400);
  send("POST", "/limits", R"({"subject":"org:o","jobs":3})", 400);
  // Words that would bind nobody are no words.
  EXPECT_THAT(message(send("POST", "/keys", R"({"project":"p","scopes":["inferense"]})", 400)),
              testing::HasSubstr("there is no action inferense; there are *, admin, "));
  send("POST", "/roles", R"({"name":"r","deny":["file.*"]})", 400);
  send("POST", "/roles", R"({"name":"r","allow":["*"],"deny":["files.*","responses.write"]})");
  send("POST", "/budgets", R"({"subject":"project:p","amount":1,"unit":"token"})", 400);
  send("POST", "/budgets", R"({"subject":"project:p"})", 400);
  send("POST", "/prices", R"({"model":"m","currency":"yuan","prompt":1,"output":1})", 400);
  send("POST", "/users/nobody/logout", "", 404);
  send("GET", "/usage?from=2026-13-01", "", 400);
  send("GET", "/usage/rows?limit=0", "", 400);
  send("GET", "/usage/rows?after=x", "", 400);
  send("GET", "/keys?after=nothing", "", 400);
  send("GET", "/keys/key_nobody", "", 404);
  send("POST", "/users/nobody", "{}", 404);
  send("GET", "/nothing", "", 404);
}

TEST_F(AdminTest, ListsComeInPages) {
  for (int i = 0; i < 5; ++i) send("POST", "/organisations", R"({"name":"org)" + std::to_string(i) + "\"}");
  std::vector<std::string> names;
  std::string after;
  int pages = 0;
  for (bool more = true; more; ++pages) {
    const auto list = send("GET", "/organisations?limit=4" + after);
    for (auto& name : column(list, "name")) names.push_back(name);
    more = dump(list.find("has_more")) == "true";
    if (more) after = "&after=" + at(list, "next").as_string();
  }
  EXPECT_EQ(pages, 2);
  EXPECT_EQ(names, (std::vector<std::string>{"o", "org0", "org1", "org2", "org3", "org4"}));
  for (int i = 0; i < 3; ++i)
    ask("POST", "/v1/completions", R"({"model":"alphabet","prompt":"a","max_tokens":1})", bearer(key_));
  const auto first = send("GET", "/usage/rows?limit=2");
  EXPECT_EQ(at(first, "data").as_array().size(), 2u);
  EXPECT_EQ(dump(first.find("has_more")), "true");
  const auto second = send("GET", "/usage/rows?limit=2&after=" + at(first, "next").as_string());
  EXPECT_EQ(at(second, "data").as_array().size(), 1u);
  EXPECT_EQ(dump(second.find("has_more")), "false");
}

TEST_F(AdminTest, ARepeatedRequestMakesNoSecondKey) {
  const std::string once = "Idempotency-Key: 7f1\r\n";
  const auto made = send("POST", "/keys", R"({"project":"p"})", 200, once);
  const auto again = send("POST", "/keys", R"({"project":"p"})", 409, once);
  EXPECT_NE(dump(&again).find(at(made, "id").as_string()), std::string::npos);
  send("POST", "/keys", R"({"project":"p"})", 200, "Idempotency-Key: 7f2\r\n");
  send("POST", "/keys", R"({"project":"p"})");
  EXPECT_EQ(store_->tenants().keys()->size(), 4u);
  send("POST", "/keys", R"({"project":"p","repeat_id":"x"})", 400);
}

TEST_F(AdminTest, ChangesAreInTheLogWithoutSecrets) {
  testing::internal::CaptureStdout();  // where the log goes as long as nobody configured it
  testing::internal::CaptureStderr();
  const auto made = send("POST", "/keys", R"({"project":"p","name":"for the bench"})");
  send("GET", "/keys");
  send("POST", "/keys", R"({"project":"nobody"})", 400);
  const std::string log = testing::internal::GetCapturedStdout() + testing::internal::GetCapturedStderr();
  const auto line = log.find("admin: keys.add ");
  ASSERT_NE(line, std::string::npos) << log;
  EXPECT_EQ(log.find("admin: ", line + 1), std::string::npos) << "reading and failing change nothing: " << log;
  EXPECT_NE(log.find(at(made, "id").as_string()), std::string::npos);
  EXPECT_NE(log.find(key_.key.id), std::string::npos);
  EXPECT_NE(log.find("for the bench"), std::string::npos);
  EXPECT_EQ(log.find(at(made, "key").as_string()), std::string::npos);
}

TEST_F(AdminTest, ListensApartIfAsked) {
  admin_apart_ = true;
  restart();
  for (const char* path : {"/admin/v1/keys", "/admin", "/metrics", "/admin/adapters"})
    EXPECT_EQ(ask("GET", path, "", bearer(key_)).status, 404) << path;
  EXPECT_EQ(ask("GET", "/v1/models", "", bearer(key_)).status, 200);
  port_ = service_->admin_port();
  ASSERT_NE(port_, 0);
  EXPECT_EQ(ask("GET", "/admin/v1/keys", "", bearer(key_)).status, 200);
  EXPECT_EQ(ask("GET", "/admin/v1/keys", "").status, 401);
  EXPECT_EQ(ask("GET", "/metrics", "", bearer(key_)).status, 200);
  EXPECT_EQ(ask("GET", "/health/ready", "").status, 200);
  EXPECT_EQ(ask("GET", "/v1/models", "", bearer(key_)).status, 404);
  EXPECT_EQ(ask("GET", "/", "", bearer(key_)).status, 404);
}

class WithoutAccounts : public test::ServiceTest {};
TEST_F(WithoutAccounts, TheRoutesSayWhatIsMissing) {
  const auto answer = ask("GET", "/admin/v1/keys", "");
  EXPECT_EQ(answer.status, 501);
  EXPECT_NE(answer.body.find("--store"), std::string::npos);
}

}  // namespace
}  // namespace qw::api
