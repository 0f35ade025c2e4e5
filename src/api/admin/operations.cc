#include "api/admin/operations.h"

#include <algorithm>
#include <vector>

namespace qw::api::admin {
namespace {

template <class T>
Result<bool> found(const Result<T>& one) {
  if (one) return true;
  if (one.error().kind == ErrorKind::kBadInput) return false;
  return tl::unexpected(one.error());
}
template <class T>
Result<bool> among(const Result<std::vector<T>>& list, std::string T::*member, const std::string& where) {
  if (!list) return tl::unexpected(list.error());
  return std::any_of(list->begin(), list->end(), [&](const T& x) { return x.*member == where; });
}

}  // namespace

std::span<const Operation> operations() {
  static const std::vector<Operation> all = [] {
    const auto tenants = tenant_operations(), money = money_operations(), cases = case_operations();
    std::vector<Operation> out(tenants.begin(), tenants.end());
    out.insert(out.end(), money.begin(), money.end());
    out.insert(out.end(), cases.begin(), cases.end());
    return out;
  }();
  return all;
}

const Operation& operation(std::string_view name) {
  const auto all = operations();
  return *std::find_if(all.begin(), all.end(), [&](const Operation& one) { return one.name == name; });
}

Result<json::Value> perform(const Operation& operation, store::Store& store, const json::Object& arguments) {
  FieldReader in(arguments);
  return operation.run(&store, in);
}

json::Object arguments_of(const Operation& operation) {
  json::Object schema = describe_body([&operation](const json::Object& body) {
    FieldReader in(body);
    (void)operation.run(nullptr, in);
  });
  std::string_view inner = operation.path;
  inner.remove_prefix(std::min(inner.find('{'), inner.size()));
  std::string in_path(inner.substr(std::min<std::size_t>(1, inner.size()), inner.find_first_of("*}") - 1));
  if (inner.empty()) in_path.clear();
  json::Object& properties = schema.find("properties")->as_object();
  for (const std::string& name : {in_path, std::string("repeat_id")}) properties.erase(name);  // the latter: a header's
  if (json::Value* required = schema.find("required")) {
    std::erase(required->as_array(), json::Value(in_path));
    if (required->as_array().empty()) schema.erase("required");
  }
  return schema;
}

Result<bool> exists(store::Store& store, std::string_view kind, const std::string& where) {
  auto& t = store.tenants();
  if (kind == "organisation") return found(t.organisation(where));
  if (kind == "project") return found(t.project(where));
  if (kind == "user") return found(t.user(where));
  if (kind == "key") return found(t.key(where));
  if (kind == "person") {
    const auto user = found(t.user(where));
    const auto key = !user || *user ? user : found(t.key(where));
    return !key || *key ? key : found(store.conduct().find(where));  // whom a client named
  }
  if (kind == "minor") return among(store.conduct().minors(), &store::Minor::subject, where);
  if (kind == "complaint") return found(store.complaints().find(where));
  if (kind == "role") return among(t.roles(), &store::Role::name, where);
  if (kind == "budget") return among(store.ledger().budgets(), &store::Budget::id, where);
  return among(store.ledger().prices(), &store::Price::model, where);
}

Result<std::string> subject_of(store::Store& store, const std::string& text) {
  const auto colon = text.find(':');
  const std::string kind = text.substr(0, colon), where = colon == std::string::npos ? "" : text.substr(colon + 1);
  auto& t = store.tenants();
  const auto named = [&](const auto& one) -> Result<std::string> {
    if (!one) return tl::unexpected(one.error());
    return kind + ":" + one->id;
  };
  if (kind == "key") return named(t.key(where));
  if (kind == "user") return named(t.user(where));
  if (kind == "project") return named(t.project(where));
  if (kind == "org") return named(t.organisation(where));
  return fail(ErrorKind::kBadInput, "a subject is key:, user:, project: or org: and a name or id, not " + text);
}

}  // namespace qw::api::admin
