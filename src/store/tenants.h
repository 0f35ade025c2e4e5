// Who may use the service: organisations, their projects and users, roles, keys and sessions.
//
// An organisation pays, a project owns what is left with the service (files, jobs, stored answers), a user is a person,
// a key is what a client shows. Names are unique within the organisation; every `where` argument takes an id or a name.
// Secrets are never stored: of a key its SHA-256 and its first characters are kept (it has 256 bits of randomness, so a
// slow hash would add nothing). Times are microseconds since 1970; 0 = never.
//
// Errors: kBadInput for names and values that make no sense or are taken, and for what does not exist; kFailed where
// the database fails. Threads: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/conduct.h"

namespace qw::store {

class Work;

struct Organisation {
  std::string id, name;
  std::int64_t weight = 1;  // share of the engine beside other organisations
  std::int64_t created_us = 0;
  bool disabled = false;
};
struct Project {
  std::string id, organisation_id, name;
  std::int64_t weight = 1;  // beside the other projects of the organisation
  std::int64_t created_us = 0;
  bool disabled = false;
};
struct User {
  std::string id, organisation_id, name;
  std::vector<std::string> roles;
  std::int64_t created_us = 0;
  bool disabled = false;
  std::string email;
  std::string project_id;  // whose files, jobs and answers are his in a browser; "": his organisation's oldest
  bool has_password = false;
  std::string external_id;  // who he is to a provider of logins: issuer and subject; "": nobody
};
// What is to be changed of an organisation or a project. A name is free for another once it is changed; ids stay.
struct TenantChange {
  std::optional<std::string> name = {};
  std::optional<std::int64_t> weight = {};
  std::optional<bool> disabled = {};
};
// What is to be changed of a user.
struct UserChange {
  std::optional<std::string> name = {};
  std::optional<std::vector<std::string>> roles = {};
  std::optional<bool> disabled = {};
  std::optional<std::string> email = {}, project = {};  // project: id or name
  std::optional<std::string> password_hash = {};        // base/password.h; "": none. Ends his sessions
};
// Who may log in by that name, and what his password must match; both "" if there is no such user.
struct Login {
  std::string user_id, password_hash;
};
// Patterns of actions: "files.read", "files.*", "*". What is denied by any role is denied.
struct Role {
  std::string name;
  std::vector<std::string> allow, deny;
  bool built_in = false;
};
struct Key {
  std::string id, project_id, user_id, name;  // user_id "": a service account
  std::string shown;                          // its first characters, to tell keys apart
  std::vector<std::string> scopes;            // patterns of actions
  std::vector<std::string> models;            // names; empty: all
  std::vector<std::string> networks;          // addresses and ranges (10.0.0.0/8); empty: anywhere
  std::int64_t created_us = 0, expires_us = 0, revoked_us = 0, used_us = 0;
  std::string rotated_from;  // id of the key it replaces
};
struct NewKey {
  Key key;
  std::string secret;  // the only time it is seen
};
struct NewSession {
  std::string secret;  // the only time it is seen
  Key key;             // what it may do
};
struct KeySpec {
  std::string project, user, name;
  std::vector<std::string> scopes = {"*"}, models, networks;
  std::int64_t expires_us = 0;
  std::string repeat_id = {};  // a key of one that is not empty is made once; its id follows from it
};

// What is to be changed of a key; its secret, project and user stay.
struct KeyChange {
  std::optional<std::string> name = {};
  std::optional<std::vector<std::string>> scopes = {}, models = {}, networks = {};
  std::optional<std::int64_t> expires_us = {};
};

// A key and everything that decides what it may do.
struct Principal {
  Key key;
  std::string project, organisation_id, organisation, user;  // names, and the organisation's id
  std::int64_t organisation_weight = 1, project_weight = 1;
  std::vector<std::string> allow = {"*"}, deny;  // of the user's roles; a key without a user has its scopes only
  bool disabled = false;                         // the user, the project or the organisation is
  // 64 hexadecimal digits that hashes of what he says are made with: his own, or his project's; gone when he is erased.
  std::string salt;
  std::optional<Minor> minor;  // the user, the key or the project is one's; the youngest of them
};
// True if scopes and roles allow `action` and no role denies it.
bool may(const Principal& principal, std::string_view action);
// True if one of `patterns` covers `action`.
bool covers(const std::vector<std::string>& patterns, std::string_view action);

class Tenants {
 public:
  explicit Tenants(Work& work) : work_(work) {}

  Result<Organisation> add_organisation(const std::string& name, std::int64_t weight = 1);
  Result<std::vector<Organisation>> organisations();
  Result<Organisation> organisation(const std::string& where);
  Status set_organisation(const std::string& where, const TenantChange& change);

  Result<Project> add_project(const std::string& organisation, const std::string& name, std::int64_t weight = 1);
  Result<std::vector<Project>> projects(const std::string& organisation = "");
  Result<Project> project(const std::string& where);  // a name that two organisations use must be an id
  Status set_project(const std::string& where, const TenantChange& change);

  Result<User> add_user(const std::string& organisation, const std::string& name,
                        const std::vector<std::string>& roles);
  Result<std::vector<User>> users(const std::string& organisation = "");
  Result<User> user(const std::string& where);
  Status set_user(const std::string& where, const UserChange& change);

  Status set_role(const Role& role);  // adds or replaces; built-in ones stay as they are
  Result<std::vector<Role>> roles();
  Status remove_role(const std::string& name);  // kBadInput while users have it

  Result<NewKey> add_key(const KeySpec& spec);
  Result<std::vector<Key>> keys(const std::string& project = "");
  Result<Key> key(const std::string& where);  // id, or the characters that are shown
  // One that was revoked (or rotated) stays as it is: kBadInput. One that expired may be given another end.
  Status set_key(const std::string& where, const KeyChange& change);
  // A new secret with the same rights; the old one ends after `grace_us`.
  Result<NewKey> rotate_key(const std::string& where, std::int64_t grace_us);
  Status revoke_key(const std::string& where);
  // Nothing if there is no such key, it has expired or was revoked. Notes the time of use once a minute at most.
  Result<std::optional<Principal>> principal_of_key(std::string_view secret);
  // For work that was left here by the key of that id: it, or the key that it was rotated to.
  Result<std::optional<Principal>> principal_of_key_id(const std::string& id);

  // A browser's session for a key, which ends after `lasts_us`, or when it was not used for `idle_us` (0: however
  // long). The secret is returned.
  Result<std::string> begin_session(const std::string& key_id, std::int64_t lasts_us, const std::string& remote,
                                    std::int64_t idle_us = 0);
  // The same for a user: his browser has a key of its own, whose secret nobody knows; who revokes it ends his sessions.
  Result<NewSession> begin_user_session(const std::string& user_id, std::int64_t lasts_us, std::int64_t idle_us,
                                        const std::string& remote);
  Result<std::optional<Principal>> principal_of_session(std::string_view secret);
  Status end_session(std::string_view secret);
  // All of a user's, or of a key's that is nobody's. Returns how many.
  Result<std::int64_t> end_sessions_of(const Key& key);

  // By name or e-mail; several of that name and none are the same to who asks.
  Result<Login> login(const std::string& name);
  // The user whom a provider calls `external_id`, made if there is none yet, with these roles from now on. kBadInput if
  // the name belongs to a user who is not the provider's.
  Result<User> user_of_provider(const std::string& external_id, const std::string& organisation,
                                const std::string& name, const std::string& email,
                                const std::vector<std::string>& roles);

  // One attempt to log in, counted for each subject: of those with N a minute, N at once and one every 60/N seconds. 0:
  // go on; else how long to wait.
  struct AttemptLimit {
    std::string subject;
    std::int64_t a_minute = 1;
  };
  Result<std::int64_t> attempt(const std::vector<AttemptLimit>& limits);

  // Makes organisation, project and user of an empty store, and a key that may do everything. Nothing if there are
  // keys.
  Result<std::optional<NewKey>> bootstrap();

 private:
  Work& work_;
};

}  // namespace qw::store
