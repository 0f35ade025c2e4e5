#include "store/tenants.h"

#include "store/internal/test_stores.h"

namespace qw::store {
namespace {

class TenantsTest : public test::OnEngine {
 protected:
  void SetUp() override {
    OnEngine::SetUp();
    if (!IsSkipped()) open();
  }
  Tenants& tenants() { return store_->tenants(); }
};
INSTANTIATE_TEST_SUITE_P(Both, TenantsTest, testing::Values(test::Engine::kSqlite, test::Engine::kPostgres),
                         test::engine_name);

TEST_P(TenantsTest, WorkThatAKeyLeftGoesOnUnderTheKeyItWasRotatedTo) {
  ASSERT_TRUE(tenants().add_organisation("o").has_value());
  ASSERT_TRUE(tenants().add_project("o", "p").has_value());
  const auto first = tenants().add_key({"p", "", "k", {"inference"}, {}, {}, 0});
  const std::string id = first->key.id;
  EXPECT_EQ((*tenants().principal_of_key_id(id))->key.id, id);
  const auto second = tenants().rotate_key(id, 1000);
  EXPECT_EQ((*tenants().principal_of_key_id(id))->key.id, id);
  now_us_ += 2000;
  EXPECT_EQ((*tenants().principal_of_key_id(id))->key.id, second->key.id);
  ASSERT_TRUE(tenants().revoke_key(second->key.id).has_value());
  EXPECT_FALSE(tenants().principal_of_key_id(id)->has_value());
  EXPECT_FALSE(tenants().principal_of_key_id("key_none")->has_value());
}

TEST_P(TenantsTest, BootstrapHappensOnce) {
  const auto first = tenants().bootstrap();
  ASSERT_TRUE(first.has_value()) << first.error().message;
  ASSERT_TRUE(first->has_value());
  EXPECT_TRUE((*first)->secret.starts_with("sk-qw-"));
  EXPECT_FALSE(tenants().bootstrap()->has_value());
  const auto principal = tenants().principal_of_key((*first)->secret);
  ASSERT_TRUE(principal->has_value());
  EXPECT_TRUE(may(**principal, "admin"));
  EXPECT_EQ((*principal)->organisation, "default");
  EXPECT_EQ((*principal)->user, "admin");
}

TEST_P(TenantsTest, TheSecretIsNowhereInTheDatabase) {
  const auto made = tenants().bootstrap();
  const std::string secret = (*made)->secret;
  auto connection = database()->connect();
  const auto rows = (*connection)->run("SELECT hash, shown, name FROM keys", {});
  ASSERT_EQ(rows->size(), 1u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ((*rows)[0].text(i).find(secret.substr(14)), std::string::npos);
  EXPECT_EQ((*rows)[0].text(1), secret.substr(0, 14));
}

TEST_P(TenantsTest, NamesAreUniqueAndChecked) {
  ASSERT_TRUE(tenants().add_organisation("Zhejiang 大学").has_value());
  EXPECT_EQ(tenants().add_organisation("Zhejiang 大学").error().kind, ErrorKind::kBadInput);
  EXPECT_FALSE(tenants().add_organisation("").has_value());
  EXPECT_FALSE(tenants().add_organisation("two\nlines").has_value());
  EXPECT_FALSE(tenants().add_organisation("\xff").has_value());
  EXPECT_FALSE(tenants().add_organisation("x", 0).has_value());
  ASSERT_TRUE(tenants().add_organisation("other").has_value());
  ASSERT_TRUE(tenants().add_project("other", "lab").has_value());
  EXPECT_FALSE(tenants().add_project("other", "lab").has_value());
  ASSERT_TRUE(tenants().add_project("Zhejiang 大学", "lab").has_value());
  EXPECT_FALSE(tenants().project("lab").has_value());  // which?
  EXPECT_EQ(tenants().projects("other")->size(), 1u);
  EXPECT_EQ(tenants().projects()->size(), 2u);
  EXPECT_FALSE(tenants().add_project("nobody", "lab").has_value());
}

TEST_P(TenantsTest, NamesAreChangedAndIdsStay) {
  const auto o = tenants().add_organisation("o"), other = tenants().add_organisation("other");
  const auto p = tenants().add_project("o", "p"), q = tenants().add_project("o", "q");
  const auto ann = tenants().add_user("o", "ann", {"member"});
  ASSERT_TRUE(tenants().add_user("o", "bob", {"viewer"}));
  ASSERT_TRUE(tenants().add_user("other", "mei", {"viewer"}));
  const auto key = tenants().add_key({"p", "ann", "k", {"*"}, {}, {}, 0});
  ASSERT_TRUE(tenants().set_organisation("o", {.name = "浙江 lab"}));
  ASSERT_TRUE(tenants().set_project("p", {.name = "essays"}));
  ASSERT_TRUE(tenants().set_user("ann", {.name = "mei"})) << "another organisation's may have that name";
  const auto who = **tenants().principal_of_key(key->secret);
  EXPECT_EQ(who.organisation + "/" + who.project + "/" + who.user, "浙江 lab/essays/mei");
  EXPECT_EQ(who.organisation_id + who.key.project_id + who.key.user_id, o->id + p->id + ann->id);
  EXPECT_EQ(tenants().organisation("浙江 lab")->id, o->id);
  EXPECT_EQ(tenants().user(ann->id)->roles, std::vector<std::string>{"member"}) << "what is not named stays";
  EXPECT_FALSE(tenants().organisation("o"));
  EXPECT_FALSE(tenants().set_project("p", {.name = "x"})) << "the old name is nobody's";
  EXPECT_FALSE(tenants().login("ann")->user_id == ann->id);

  EXPECT_EQ(tenants().set_organisation(o->id, {.name = "other"}).error().message, "organisation other exists already");
  EXPECT_EQ(tenants().set_project(p->id, {.name = "q"}).error().message, "project q exists already");
  EXPECT_EQ(tenants().set_user(ann->id, {.name = "bob"}).error().message, "user bob exists already");
  for (const std::string& wrong : {std::string(), std::string(201, 'a'), std::string("two\nlines"), std::string("\xff")}) {
    EXPECT_EQ(tenants().set_organisation(o->id, {.name = wrong}).error().kind, ErrorKind::kBadInput);
    EXPECT_EQ(tenants().set_project(p->id, {.name = wrong}).error().kind, ErrorKind::kBadInput);
    EXPECT_EQ(tenants().set_user(ann->id, {.name = wrong}).error().kind, ErrorKind::kBadInput);
  }
  EXPECT_FALSE(tenants().set_project(p->id, {.name = "q", .weight = 9}));
  EXPECT_EQ(tenants().project(p->id)->weight, 1) << "what is refused changes nothing";
  EXPECT_EQ(tenants().project(p->id)->name, "essays");
  EXPECT_TRUE(tenants().set_project(p->id, {.name = "essays", .weight = 3})) << "its own name is not taken";
  EXPECT_TRUE(tenants().set_project(q->id, {.name = "p"})) << "a name that was given up is free";
  EXPECT_TRUE(tenants().add_organisation("o"));
}

TEST_P(TenantsTest, KeysExpireRotateAndAreRevoked) {
  ASSERT_TRUE(tenants().add_organisation("o").has_value());
  ASSERT_TRUE(tenants().add_project("o", "p").has_value());
  const auto known = [&](const NewKey& k) { return tenants().principal_of_key(k.secret)->has_value(); };
  KeySpec spec{"p", "", "k", {"inference"}, {"mini"}, {"10.0.0.0/8"}, now_us_ + 1000};
  const auto key = tenants().add_key(spec);
  ASSERT_TRUE(key.has_value()) << key.error().message;
  const auto principal = tenants().principal_of_key(key->secret);
  ASSERT_TRUE(principal->has_value());
  EXPECT_EQ((*principal)->key.models, std::vector<std::string>{"mini"});
  EXPECT_EQ((*principal)->key.networks, std::vector<std::string>{"10.0.0.0/8"});
  EXPECT_TRUE(may(**principal, "inference"));
  EXPECT_FALSE(may(**principal, "admin"));
  EXPECT_FALSE(tenants().principal_of_key("sk-qw-nothing")->has_value());
  now_us_ += 1000;
  EXPECT_FALSE(known(*key));

  spec.expires_us = 0;
  const auto old = tenants().add_key(spec);
  const auto fresh = tenants().rotate_key(old->key.id, 500);
  ASSERT_TRUE(fresh.has_value()) << fresh.error().message;
  EXPECT_EQ(fresh->key.rotated_from, old->key.id);
  EXPECT_EQ(fresh->key.scopes, old->key.scopes);
  EXPECT_TRUE(known(*old));  // both work for a while
  EXPECT_TRUE(known(*fresh));
  EXPECT_FALSE(tenants().rotate_key(old->key.id, 0).has_value());
  now_us_ += 500;
  EXPECT_FALSE(known(*old));
  EXPECT_TRUE(known(*fresh));
  ASSERT_TRUE(tenants().revoke_key(fresh->key.shown).has_value());
  EXPECT_FALSE(known(*fresh));
  EXPECT_EQ(tenants().keys("p")->size(), 3u);
}

TEST_P(TenantsTest, WhatAKeyMayDoIsChangedUnderTheSameSecret) {
  ASSERT_TRUE(tenants().add_organisation("o").has_value());
  ASSERT_TRUE(tenants().add_project("o", "p").has_value());
  const auto key = tenants().add_key({"p", "", "k", {"inference"}, {"mini"}, {"10.0.0.0/8"}, now_us_ + 1000});
  const auto now = [&] { return *tenants().principal_of_key(key->secret); };
  const auto changed = tenants().set_key(key->key.shown, {.name = "k2", .scopes = {{"files.*", "models.read"}}});
  ASSERT_TRUE(changed.has_value()) << changed.error().message;
  EXPECT_EQ(now()->key.name, "k2");
  EXPECT_FALSE(may(*now(), "inference"));
  EXPECT_TRUE(may(*now(), "files.write"));
  EXPECT_EQ(now()->key.models, std::vector<std::string>{"mini"}) << "what is not named stays";
  EXPECT_EQ(now()->key.networks, std::vector<std::string>{"10.0.0.0/8"});
  EXPECT_EQ(now()->key.expires_us, now_us_ + 1000);
  ASSERT_TRUE(tenants().set_key(key->key.id, {.models = std::vector<std::string>(), .networks = {{"::1"}}}));
  EXPECT_TRUE(now()->key.models.empty());
  EXPECT_EQ(now()->key.networks, std::vector<std::string>{"::1"});

  now_us_ += 1000;
  EXPECT_FALSE(now());
  EXPECT_TRUE(tenants().set_key(key->key.id, {.name = "late"})) << "an end that is over is no reason against a name";
  EXPECT_FALSE(now());
  EXPECT_FALSE(tenants().set_key(key->key.id, {.expires_us = now_us_}));
  ASSERT_TRUE(tenants().set_key(key->key.id, {.expires_us = now_us_ + 5}));
  EXPECT_TRUE(now());
  ASSERT_TRUE(tenants().set_key(key->key.id, {.expires_us = 0}));
  now_us_ += 1'000'000;
  EXPECT_TRUE(now());

  EXPECT_FALSE(tenants().set_key(key->key.id, {.scopes = std::vector<std::string>()}));
  EXPECT_FALSE(tenants().set_key(key->key.id, {.models = {{"a,b"}}}));
  EXPECT_FALSE(tenants().set_key("key_none", {.name = "x"}));
  EXPECT_TRUE(may(*now(), "files.write")) << "what is refused changes nothing";
  const auto heir = tenants().rotate_key(key->key.id, 500);
  EXPECT_FALSE(tenants().set_key(key->key.id, {.name = "x"})) << "it has an end that is set";
  EXPECT_TRUE(tenants().set_key(heir->key.id, {.name = "x"}));
}

TEST_P(TenantsTest, ADenyingRoleWins) {
  ASSERT_TRUE(tenants().add_organisation("o").has_value());
  ASSERT_TRUE(tenants().add_project("o", "p").has_value());
  ASSERT_TRUE(tenants().set_role({"no-files", {}, {"files.*"}}).has_value());
  ASSERT_TRUE(tenants().add_user("o", "ann", {"member", "no-files"}).has_value());
  EXPECT_FALSE(tenants().add_user("o", "bob", {"nothing"}).has_value());
  EXPECT_EQ(tenants().users()->size(), 1u);  // bob was rolled back
  EXPECT_FALSE(tenants().set_role({"owner", {}, {}}).has_value());
  EXPECT_FALSE(tenants().remove_role("no-files").has_value());
  const auto key = tenants().add_key({"p", "ann", "", {"*"}, {}, {}, 0});
  const auto now = [&] { return **tenants().principal_of_key(key->secret); };
  EXPECT_TRUE(may(now(), "inference"));
  EXPECT_FALSE(may(now(), "files.read"));
  EXPECT_FALSE(may(now(), "admin"));
  ASSERT_TRUE(tenants().set_user("ann", {.roles = std::vector<std::string>{"member"}}).has_value());
  EXPECT_TRUE(may(now(), "files.read"));
  EXPECT_TRUE(tenants().remove_role("no-files").has_value());
  ASSERT_TRUE(tenants().set_user("ann", {.disabled = true}).has_value());
  EXPECT_TRUE(now().disabled);
  ASSERT_TRUE(tenants().set_user("ann", {.disabled = false}).has_value());
  EXPECT_FALSE(now().disabled);
  ASSERT_TRUE(tenants().set_organisation("o", {.weight = 5, .disabled = true}).has_value());
  EXPECT_TRUE(now().disabled);
  EXPECT_EQ(now().organisation_weight, 5);
}

TEST_P(TenantsTest, SessionsEnd) {
  const auto key = tenants().bootstrap();
  const auto session = tenants().begin_session((*key)->key.id, 1000, "127.0.0.1");
  ASSERT_TRUE(session.has_value()) << session.error().message;
  const auto known = [&](const std::string& s) { return tenants().principal_of_session(s)->has_value(); };
  EXPECT_TRUE(known(*session));
  EXPECT_FALSE(known((*key)->secret));
  now_us_ += 1000;
  EXPECT_FALSE(known(*session));
  const auto second = tenants().begin_session((*key)->key.id, 1000, "");
  ASSERT_TRUE(tenants().end_session(*second).has_value());
  EXPECT_FALSE(known(*second));
  const auto third = tenants().begin_session((*key)->key.id, 1000, "");
  ASSERT_TRUE(tenants().revoke_key((*key)->key.id).has_value());
  EXPECT_FALSE(known(*third));
}

TEST_P(TenantsTest, SessionsOfPeopleEndWhenNobodyUsesThem) {
  ASSERT_TRUE(tenants().add_organisation("o").has_value());
  const auto none = tenants().begin_user_session(tenants().add_user("o", "ann", {"member"})->id, 9, 9, "");
  EXPECT_FALSE(none.has_value()) << "there is no project to work in";
  ASSERT_TRUE(tenants().add_project("o", "p").has_value());
  now_us_ += 1;
  ASSERT_TRUE(tenants().add_project("o", "q").has_value());
  const std::string ann = tenants().user("ann")->id;
  constexpr std::int64_t kSecond = 1'000'000;
  const auto made = tenants().begin_user_session(ann, 1000 * kSecond, 100 * kSecond, "1.2.3.4:5");
  ASSERT_TRUE(made.has_value()) << made.error().message;
  const auto who = [&] { return *tenants().principal_of_session(made->secret); };
  ASSERT_TRUE(who());
  EXPECT_EQ(who()->user, "ann");
  EXPECT_EQ(who()->project, "p");
  for (int i = 0; i < 10; ++i) {  // used now and then, it lasts
    now_us_ += 95 * kSecond;
    EXPECT_TRUE(who()) << i;
  }
  now_us_ += 60 * kSecond;
  EXPECT_FALSE(who()) << "but not for ever";
  const auto second = tenants().begin_user_session(ann, 1000 * kSecond, 100 * kSecond, "");
  EXPECT_EQ(second->key.id, made->key.id);
  now_us_ += 101 * kSecond;
  EXPECT_FALSE(*tenants().principal_of_session(second->secret)) << "nobody used it";
  ASSERT_TRUE(tenants().set_user("ann", {.project = "q"}).has_value());
  const auto third = tenants().begin_user_session(ann, 1000 * kSecond, 0, "");
  EXPECT_EQ((*tenants().principal_of_session(third->secret))->project, "q");
  EXPECT_EQ(tenants().end_sessions_of(third->key), 1);
  EXPECT_FALSE(*tenants().principal_of_session(third->secret));
}

TEST_P(TenantsTest, PasswordsAreFoundByNameOrAddress) {
  ASSERT_TRUE(tenants().add_organisation("o").has_value());
  ASSERT_TRUE(tenants().add_project("o", "p").has_value());
  ASSERT_TRUE(tenants().add_user("o", "ann", {"member"}).has_value());
  EXPECT_EQ(tenants().login("ann")->password_hash, "");
  ASSERT_TRUE(tenants().set_user("ann", {.email = "a@b.c", .password_hash = "$x"}).has_value());
  EXPECT_EQ(tenants().login("ann")->password_hash, "$x");
  EXPECT_EQ(tenants().login("a@b.c")->user_id, tenants().user("ann")->id);
  EXPECT_TRUE(tenants().user("ann")->has_password);
  EXPECT_EQ(tenants().login("nobody")->user_id, "");
  EXPECT_EQ(tenants().login("")->user_id, "") << "users without an address";
  ASSERT_TRUE(tenants().add_organisation("o2").has_value());
  ASSERT_TRUE(tenants().add_user("o2", "ann", {"member"}).has_value());
  EXPECT_EQ(tenants().login("ann")->user_id, "") << "two of that name: the address tells";
  const auto session = tenants().begin_user_session(tenants().login("a@b.c")->user_id, 1000, 0, "");
  ASSERT_TRUE(tenants().set_user(tenants().login("a@b.c")->user_id, {.password_hash = "$y"}).has_value());
  EXPECT_FALSE(*tenants().principal_of_session(session->secret)) << "a new password ends sessions";
  EXPECT_FALSE(tenants().set_user(tenants().login("a@b.c")->user_id, {.project = "nothing"}).has_value());
}

TEST_P(TenantsTest, AProvidersUserIsTheSameEachTime) {
  ASSERT_TRUE(tenants().add_organisation("o").has_value());
  ASSERT_TRUE(tenants().add_user("o", "taken", {"owner"}).has_value());
  const auto first = tenants().user_of_provider("https://id#7", "o", "mei", "mei@x.y", {"viewer"});
  ASSERT_TRUE(first.has_value()) << first.error().message;
  const auto again = tenants().user_of_provider("https://id#7", "o", "another name", "new@x.y", {"member", "viewer"});
  EXPECT_EQ(again->id, first->id);
  EXPECT_EQ(again->name, "mei");
  EXPECT_EQ(again->email, "new@x.y");
  EXPECT_EQ(again->roles, (std::vector<std::string>{"member", "viewer"}));
  EXPECT_FALSE(tenants().user_of_provider("https://id#8", "o", "taken", "", {"viewer"}).has_value())
      << "a provider's word does not make its user somebody who is here already";
  EXPECT_FALSE(tenants().user_of_provider("", "o", "x", "", {}).has_value());
}

TEST_P(TenantsTest, AttemptsAreCountedForEachSubject) {
  const auto attempt = [&](const char* name, std::int64_t limit) { return *tenants().attempt({{name, limit}, {"all", 20}}); };
  for (int i = 0; i < 3; ++i) EXPECT_EQ(attempt("ann", 3), 0);
  EXPECT_EQ(attempt("ann", 3), 20'000'000) << "one every 20 seconds";
  EXPECT_EQ(attempt("mei", 3), 0);
  now_us_ += 20'000'000;
  EXPECT_EQ(attempt("ann", 3), 0);
  EXPECT_GT(attempt("ann", 3), 0);
  for (int i = 0; i < 40; ++i) attempt(("many" + std::to_string(i)).c_str(), 3);
  EXPECT_GT(attempt("yet another", 3), 0) << "all together are limited, too";
}

TEST_P(TenantsTest, AKeyIsMadeOnceForEachRepeat) {
  ASSERT_TRUE(tenants().add_organisation("o").has_value());
  ASSERT_TRUE(tenants().add_project("o", "p").has_value());
  store::KeySpec spec;
  spec.project = "p";
  spec.repeat_id = "one";
  const auto made = tenants().add_key(spec);
  ASSERT_TRUE(made.has_value());
  EXPECT_FALSE(tenants().add_key(spec).has_value());
  EXPECT_NE(tenants().rotate_key(made->key.id, 0)->key.id, made->key.id);
  spec.repeat_id = "two";
  EXPECT_TRUE(tenants().add_key(spec).has_value());
}

TEST_P(TenantsTest, MembersMayTrain) {
  const auto roles = *tenants().roles();
  for (const auto& role : roles) {
    const bool all = role.name == "owner", member = role.name == "member";
    EXPECT_EQ(covers(role.allow, "fine_tuning.write"), all || member) << role.name;
    EXPECT_EQ(covers(role.allow, "files.write"), all || member || role.name == "releaser") << role.name;
    EXPECT_EQ(covers(role.allow, "reviews.write"), all || role.name == "reviewer") << role.name;
    EXPECT_EQ(covers(role.allow, "rollouts.write"), all || role.name == "releaser") << role.name;
    EXPECT_EQ(covers(role.allow, "feedback.write"), all || member || role.name == "reviewer") << role.name;
  }
}

}  // namespace
}  // namespace qw::store
