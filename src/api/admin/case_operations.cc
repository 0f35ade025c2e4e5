// Complaints, and what is held of people: looked at, answered, given out and erased by the operator.
#include "api/admin/arguments.h"
#include "api/admin/operations.h"

namespace qw::api::admin {
namespace {

using json::Value;
using store::Store;

constexpr std::int64_t kMostListed = 100'000, kMostHeld = 10'000, kOldest = 120;

// Of a query, flags are words.
std::optional<bool> flag(FieldReader& in, const char* name) {
  const Value* value = in.any(name, R"({"enum": [true, false, "true", "false"]})");
  if (value == nullptr) return std::nullopt;
  if (value->is_bool()) return value->as_bool();
  if (value->is_string() && (value->as_string() == "true" || value->as_string() == "false"))
    return value->as_string() == "true";
  in.reject(name, std::string("'") + name + "' must be true or false.");
  return std::nullopt;
}

Result<Value> list_complaints(Store* s, FieldReader& in) {
  store::ComplaintFilter filter;
  filter.status = in.choice("status", {"open", "answered", "closed"}).value_or("");
  const std::string project = in.text("project").value_or(""), user = in.text("user").value_or("");
  filter.overdue = flag(in, "overdue").value_or(false);
  QW_TRY(fine(in));
  if (!project.empty()) {
    QW_ASSIGN(const auto found, s->tenants().project(project));
    filter.project_id = found.id;
  }
  if (!user.empty()) {
    QW_ASSIGN(const auto found, s->tenants().user(user));
    filter.user_id = found.id;
  }
  return all(s->complaints().list(filter, "", kMostListed));
}
Result<Value> get_complaint(Store* s, FieldReader& in) {
  const std::string id = needed(in, "complaint");
  QW_TRY(fine(in));
  return one(s->complaints().find(id));
}
Result<Value> answer_complaint(Store* s, FieldReader& in) {
  const std::string id = needed(in, "complaint"), text = needed(in, "text"), by = in.text("by").value_or("");
  QW_TRY(fine(in));
  return one(s->complaints().answer(id, text, by));
}
Result<Value> close_complaint(Store* s, FieldReader& in) {
  const std::string id = needed(in, "complaint"), why = needed(in, "reason"), by = in.text("by").value_or("");
  QW_TRY(fine(in));
  return one(s->complaints().close(id, why, by));
}

// Whose: a user, and with him a project if that is named.
Result<store::DataSubject> subject_of_user(Store* s, FieldReader& in) {
  const std::string user = needed(in, "user"), project = in.text("project").value_or("");
  QW_TRY(fine(in));
  store::DataSubject out;
  QW_ASSIGN(const auto who, s->tenants().user(user));
  out.user_id = who.id;
  if (project.empty()) return out;
  QW_ASSIGN(const auto whose, s->tenants().project(project));
  out.project_id = whose.id;
  return out;
}
Result<store::DataSubject> subject_of_project(Store* s, FieldReader& in) {
  const std::string project = needed(in, "project");
  QW_TRY(fine(in));
  QW_ASSIGN(const auto whose, s->tenants().project(project));
  return store::DataSubject{"", whose.id};
}
Result<Value> user_data(Store* s, FieldReader& in) {
  QW_ASSIGN(const auto subject, subject_of_user(s, in));
  return one(s->personal_data().collect(subject, kMostHeld));
}
Result<Value> project_data(Store* s, FieldReader& in) {
  QW_ASSIGN(const auto subject, subject_of_project(s, in));
  return one(s->personal_data().collect(subject, kMostHeld));
}
Result<Value> erase_user(Store* s, FieldReader& in) {
  QW_ASSIGN(const auto subject, subject_of_user(s, in));
  return one(s->personal_data().erase(subject));
}
Result<Value> erase_project(Store* s, FieldReader& in) {
  QW_ASSIGN(const auto subject, subject_of_project(s, in));
  return one(s->personal_data().erase(subject));
}

// A user, or a key that is nobody's: by id or name. Whom a client named: as the list has him.
Result<std::string> person(Store* s, const std::string& where) {
  if (const auto user = s->tenants().user(where)) return user->id;
  if (where.find(".u") != std::string::npos)
    if (const auto named = s->conduct().find(where)) return named->subject;
  QW_ASSIGN(const auto key, s->tenants().key(where));
  return key.user_id.empty() ? key.id : key.user_id;
}
Result<Value> list_conduct(Store* s, FieldReader& in) {
  const std::string standing = in.choice("status", {"warned", "slowed", "suspended"}).value_or("");
  QW_TRY(fine(in));
  return all(s->conduct().list(standing, kMostListed));
}
Result<Value> get_conduct(Store* s, FieldReader& in) {
  const std::string where = needed(in, "person");
  QW_TRY(fine(in));
  QW_ASSIGN(const std::string id, person(s, where));
  return one(s->conduct().find(id));
}
Result<Value> lift_conduct(Store* s, FieldReader& in) {
  const std::string where = needed(in, "person");
  QW_TRY(fine(in));
  QW_ASSIGN(const std::string id, person(s, where));
  return one(s->conduct().lift(id));
}

Result<Value> list_minors(Store* s, FieldReader& in) {
  QW_TRY(fine(in));
  return all(s->conduct().minors());
}
Result<Value> set_minor(Store* s, FieldReader& in) {
  const char* kind = in.one_of({"user", "key", "project"}, R"({"type": "string"})");
  const std::string where = kind == nullptr ? "" : needed(in, kind);
  const std::int64_t age = count(in, "age", 0, kOldest).value_or(0);
  const bool consent = flag(in, "consent").value_or(false);
  QW_TRY(fine(in));
  QW_ASSIGN(const std::string subject, subject_of(*s, std::string(kind) + ":" + where));
  return one(s->conduct().set_minor(subject.substr(subject.find(':') + 1), age, consent));
}
Result<Value> unset_minor(Store* s, FieldReader& in) {
  const std::string subject = needed(in, "minor");
  QW_TRY(fine(in));
  return done(s->conduct().unset_minor(subject));
}

constexpr Operation kOperations[] = {
    {"complaints.list", "GET", "/complaints", "List complaints", list_complaints, example<store::Complaint>, true},
    {"complaints.get", "GET", "/complaints/{complaint}", "Show a complaint", get_complaint, example<store::Complaint>},
    {"complaints.answer", "POST", "/complaints/{complaint}/answer", "Answer a complaint", answer_complaint,
     example<store::Complaint>},
    {"complaints.close", "POST", "/complaints/{complaint}/close", "Close a complaint", close_complaint,
     example<store::Complaint>},
    {"conduct.list", "GET", "/conduct", "List who broke rules", list_conduct, example<store::Conduct>, true},
    {"conduct.get", "GET", "/conduct/{person}", "Show what was counted of somebody", get_conduct,
     example<store::Conduct>},
    {"conduct.lift", "POST", "/conduct/{person}/lift", "End what was done to somebody", lift_conduct,
     example<store::Conduct>},
    {"minors.list", "GET", "/minors", "List whose requests are minors'", list_minors, example<store::Minor>, true},
    {"minors.set", "POST", "/minors", "Say that somebody is a minor", set_minor, example<store::Minor>},
    {"minors.unset", "DELETE", "/minors/{minor}", "Say that somebody is none", unset_minor, done_example},
    {"users.data", "GET", "/users/{user}/data", "What is held of a user", user_data, example<store::HeldData>},
    {"users.erase", "POST", "/users/{user}/erase", "Erase what is held of a user", erase_user,
     example<store::ErasedData>},
    {"projects.data", "GET", "/projects/{project}/data", "What a project has left", project_data,
     example<store::HeldData>},
    {"projects.erase", "POST", "/projects/{project}/erase", "Erase what a project has left", erase_project,
     example<store::ErasedData>},
};

}  // namespace

std::span<const Operation> case_operations() { return kOperations; }

}  // namespace qw::api::admin
