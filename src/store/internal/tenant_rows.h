// Rows of organisations, projects, users, roles and keys, within a transaction of the caller.
#pragma once

#include <string>
#include <vector>

#include "store/internal/work.h"
#include "store/tenants.h"

namespace qw::store {

#define QW_KEY_COLUMNS                                                                                           \
  "k.id, k.project_id, k.user_id, k.name, k.shown, k.scopes, k.models, k.networks, k.created_us, k.expires_us, " \
  "k.revoked_us, k.used_us, k.rotated_from"
#define QW_USER_COLUMNS "id, organisation_id, name, created_us, disabled, email, project_id, password, external_id"
#define QW_PRINCIPAL_FROM                                                                                       \
  "SELECT " QW_KEY_COLUMNS                                                                                      \
  ", p.name, o.id, o.name, u.name, p.disabled, o.disabled, u.disabled, p.weight, o.weight, x.salt FROM keys k " \
  "JOIN projects p ON p.id = k.project_id JOIN organisations o ON o.id = p.organisation_id "                    \
  "LEFT JOIN users u ON u.id = k.user_id LEFT JOIN salts x ON x.subject = COALESCE(k.user_id, k.project_id) "

Status check_name(const std::string& what, const std::string& name);
Status check_weight(std::int64_t weight);
Status check_words(const std::string& what, const std::vector<std::string>& words);
tl::unexpected<Error> missing(const std::string& what, const std::string& where);
tl::unexpected<Error> taken(const std::string& what, const std::string& name);
// kBadInput if another than `self` has that name: an "organisation", or a "project" or "user" of the organisation
// `owner`.
Status check_free(Connection& c, const std::string& what, const std::string& name, const std::string& owner,
                  const std::string& self = "");

Organisation organisation_of(const Row& r);
Project project_of(const Row& r);
Key key_of(const Row& r);                              // of QW_KEY_COLUMNS
Result<User> with_roles(Connection& c, const Row& r);  // of QW_USER_COLUMNS
Result<Principal> principal_of(Connection& c, const Row& r);

// By id or name (a key: or the characters that are shown).
Result<Organisation> find_organisation(Connection& c, const std::string& where);
Result<Project> find_project(Connection& c, const std::string& where);
Result<User> find_user(Connection& c, const std::string& where);
Result<Key> find_key(Connection& c, const std::string& where);

Result<Organisation> insert_organisation(Connection& c, const std::string& name, std::int64_t weight, std::int64_t now);
Result<Project> insert_project(Connection& c, const std::string& organisation, const std::string& name,
                               std::int64_t weight, std::int64_t now);
Result<User> insert_user(Connection& c, const std::string& organisation, const std::string& name,
                         const std::vector<std::string>& roles, std::int64_t now);
Status set_roles(Connection& c, const std::string& user, std::vector<std::string> roles);
Result<NewKey> insert_key(Connection& c, Key key, std::int64_t now, bool browser = false);

bool alive(const Key& key, std::int64_t now);

}  // namespace qw::store
