// Logging in with a browser: passwords, cookies, tokens against other sites' forms, limits of attempts, ends.
#include "api/sessions.h"

#include "api/internal/test_accounts.h"
#include "base/password.h"

namespace qw::api {
namespace {

constexpr const char* kPassword = "three quiet rivers";

class SessionsTest : public test::AccountsServiceTest {
 protected:
  void SetUp() override {
    AccountsServiceTest::SetUp();
    ASSERT_TRUE(store_->tenants().add_user("o", "lin", {"member"}).has_value());
    store::UserChange change;
    change.password_hash = *base::hash_password(kPassword);
    change.email = "lin@example.org";
    ASSERT_TRUE(store_->tenants().set_user("lin", change).has_value());
  }
  static std::string body(const std::string& name, const std::string& password) {
    return json::dump(json::Object{{"name", name}, {"password", password}});
  }
  // The value of a cookie that an answer sets.
  static std::string cookie(const test::HttpAnswer& answer, const std::string& name) {
    const auto at = answer.head.find("Set-Cookie: " + name + "=");
    if (at == std::string::npos) return "";
    const auto from = at + 13 + name.size();
    return answer.head.substr(from, answer.head.find(';', from) - from);
  }
  struct Browser {
    std::string cookies, token;  // header lines
  };
  Browser login(const std::string& name = "lin") {
    const auto answer = ask("POST", "/auth/login", body(name, kPassword));
    EXPECT_EQ(answer.status, 200) << answer.body;
    return {"Cookie: qw_session=" + cookie(answer, "qw_session") + "\r\n",
            "X-CSRF-Token: " + cookie(answer, "qw_csrf") + "\r\n"};
  }
  static constexpr const char* kAsk = R"({"model":"alphabet","prompt":"a","max_tokens":2})";
};

TEST_F(SessionsTest, APasswordOpensASessionThatActsForItsUser) {
  const auto answer = ask("POST", "/auth/login", body("lin@example.org", kPassword));
  ASSERT_EQ(answer.status, 200) << answer.body;
  for (const char* part : {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"})
    EXPECT_NE(answer.head.find(part), std::string::npos) << part << answer.head;
  EXPECT_EQ(answer.head.find("Secure"), std::string::npos);
  EXPECT_EQ(cookie(answer, "qw_session").size(), 64u);
  EXPECT_EQ(answer.body.find(cookie(answer, "qw_session")), std::string::npos) << "pages never see it";

  const Browser browser = login();
  const auto who = ask("GET", "/auth/session", "", browser.cookies);
  EXPECT_EQ(who.status, 200);
  EXPECT_EQ(at(*json::parse(who.body), "user").as_string(), "lin");
  EXPECT_EQ(at(*json::parse(who.body), "project").as_string(), "p");
  EXPECT_EQ(ask("POST", "/v1/completions", kAsk, browser.cookies + browser.token).status, 200);
  const auto rows = *store_->ledger().usage({}, 0, 10);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].user_id, store_->tenants().user("lin")->id);
  EXPECT_EQ(ask("GET", "/admin/v1/keys", "", browser.cookies).status, 403) << "members do not administer";
  EXPECT_EQ(store_->tenants().keys()->size(), 2u) << "one key for all his browsers";
}

TEST_F(SessionsTest, AnotherSiteCannotActForItsVisitor) {
  const Browser browser = login();
  EXPECT_EQ(ask("GET", "/v1/models", "", browser.cookies).status, 200) << "reading needs no token";
  const auto bare = ask("POST", "/v1/completions", kAsk, browser.cookies);
  EXPECT_EQ(bare.status, 403);
  EXPECT_NE(bare.body.find("csrf_token"), std::string::npos);
  EXPECT_EQ(ask("POST", "/v1/completions", kAsk, browser.cookies + "X-CSRF-Token: 0123\r\n").status, 403);
  const std::string both = browser.cookies + browser.token;
  EXPECT_EQ(ask("POST", "/v1/completions", kAsk, both + "Origin: https://evil.example\r\n").status, 403);
  EXPECT_EQ(ask("POST", "/v1/completions", kAsk, both + "Sec-Fetch-Site: cross-site\r\n").status, 403);
  EXPECT_EQ(ask("POST", "/v1/completions", kAsk, both + "Origin: http://x\r\n").status, 200) << "its own";
  EXPECT_EQ(ask("POST", "/auth/login", body("lin", kPassword), "Origin: https://evil.example\r\n").status, 403);
  EXPECT_EQ(ask("POST", "/auth/logout", "", browser.cookies).status, 403);
  EXPECT_EQ(ask("GET", "/auth/logout", "", browser.cookies).status, 405);
  EXPECT_EQ(ask("POST", "/v1/completions", kAsk, bearer(key_)).status, 200) << "keys need none";
}

TEST_F(SessionsTest, SessionsEnd) {
  const Browser one = login(), two = login(), three = login();
  EXPECT_EQ(ask("POST", "/auth/logout", "", one.cookies + one.token).status, 200);
  EXPECT_EQ(ask("GET", "/auth/session", "", one.cookies).status, 401) << "at once";
  EXPECT_EQ(ask("GET", "/auth/session", "", two.cookies).status, 200);
  const auto all = ask("POST", "/auth/logout_all", "", two.cookies + two.token);
  EXPECT_NE(all.body.find("\"sessions_ended\":2"), std::string::npos) << all.body;
  EXPECT_NE(all.head.find("Max-Age=0"), std::string::npos);
  EXPECT_EQ(ask("GET", "/auth/session", "", three.cookies).status, 401);

  const Browser four = login();
  restart();
  EXPECT_EQ(ask("GET", "/auth/session", "", four.cookies).status, 200) << "a restart ends none";
  store::UserChange change;
  change.password_hash = *base::hash_password("another password");
  ASSERT_TRUE(store_->tenants().set_user("lin", change).has_value());
  restart();
  EXPECT_EQ(ask("GET", "/auth/session", "", four.cookies).status, 401) << "a new password ends all";
}

TEST_F(SessionsTest, WhoDoesNotKnowThePasswordStaysOut) {
  const auto wrong = ask("POST", "/auth/login", body("lin", "three quiet river"));
  const auto nobody = ask("POST", "/auth/login", body("nobody", kPassword));
  EXPECT_EQ(wrong.status, 401);
  EXPECT_EQ(nobody.status, 401);
  EXPECT_EQ(wrong.body, nobody.body) << "names cannot be tried out";
  ASSERT_TRUE(store_->tenants().add_user("o", "bare", {"owner"}).has_value());
  EXPECT_EQ(ask("POST", "/auth/login", body("bare", "")).status, 400);
  EXPECT_EQ(ask("POST", "/auth/login", body("bare", "x")).status, 401) << "he has no password";
  EXPECT_EQ(ask("POST", "/auth/login", "{").status, 400);
  ASSERT_TRUE(store_->tenants().set_user("lin", {.disabled = true}).has_value());
  EXPECT_EQ(ask("POST", "/auth/login", body("lin", kPassword)).status, 403);
}

TEST_F(SessionsTest, AttemptsAreLimited) {
  int refused = 0, tried = 0;
  for (int i = 0; i < 13; ++i) {
    const auto answer = ask("POST", "/auth/login", body("lin", "wrong guess"));
    if (answer.status != 429) {
      ++tried;
      continue;
    }
    ++refused;
    EXPECT_NE(answer.head.find("Retry-After: "), std::string::npos);
  }
  EXPECT_GE(tried, 10);
  EXPECT_GE(refused, 1);
  EXPECT_EQ(ask("POST", "/auth/login", body("lin", kPassword)).status, 429) << "also the right one has to wait";
  ASSERT_TRUE(store_->tenants().add_user("o", "mei", {"member"}).has_value());
  EXPECT_EQ(ask("POST", "/auth/login", body("mei", "x")).status, 401) << "others need not";
}

TEST_F(SessionsTest, AKeyOpensASessionToo) {
  const auto answer = ask("POST", "/auth/login", json::dump(json::Object{{"key", key_.secret}}));
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(ask("GET", "/admin/v1/keys", "", "Cookie: qw_session=" + cookie(answer, "qw_session") + "\r\n").status, 200);
  EXPECT_EQ(ask("POST", "/auth/login", R"({"key":"sk-qw-guess"})").status, 401);
}

TEST_F(SessionsTest, ABrowserIsShownAForm) {
  const auto page = ask("GET", "/auth/login", "");
  EXPECT_EQ(page.status, 200);
  EXPECT_NE(page.body.find("<form method=\"post\""), std::string::npos);
  EXPECT_NE(page.head.find("Content-Security-Policy: default-src 'none'"), std::string::npos);
  const std::string form = "Content-Type: application/x-www-form-urlencoded\r\n";
  const auto in = ask("POST", "/auth/login", "name=lin&password=three+quiet+rivers", form + "Origin: http://x\r\n");
  EXPECT_EQ(in.status, 303) << in.body;
  EXPECT_NE(in.head.find("Location: /\r\n"), std::string::npos);
  EXPECT_FALSE(cookie(in, "qw_session").empty());
  const auto sent_on = ask("GET", "/", "", "Accept: text/html,*/*\r\n");
  EXPECT_EQ(sent_on.status, 303);
  EXPECT_NE(sent_on.head.find("Location: /auth/login\r\n"), std::string::npos);
}

TEST(Sessions, CookiesAreSecureOverHttps) {
  SessionOptions options;
  options.secure = true;
  for (const auto& [name, value] : session_cookies("s", options)) EXPECT_TRUE(value.ends_with("; Secure")) << value;
  EXPECT_NE(csrf_token("a"), csrf_token("b"));
}

TEST_F(SessionsTest, AnAdministratorEndsThem) {
  const Browser one = login(), other = login();
  EXPECT_EQ(ask("GET", "/auth/session", "", one.cookies).status, 200);
  const auto ended = ask("POST", "/admin/v1/users/lin/logout", "", bearer(key_));
  EXPECT_EQ(ended.body, R"({"sessions_ended":2})") << ended.head;
  for (const Browser& browser : {one, other}) EXPECT_EQ(ask("GET", "/auth/session", "", browser.cookies).status, 401);
}

}  // namespace
}  // namespace qw::api
