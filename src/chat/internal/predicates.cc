// What may follow `is`.
#include <algorithm>

#include "chat/internal/interpreter.h"
#include "chat/internal/parser.h"
#include "chat/internal/text.h"

namespace qw::chat::internal {

namespace {

using Check = Result<bool> (*)(Interpreter&, const Value&, const Values&);
struct Predicate {
  std::string_view name;
  std::size_t arguments;
  Check check;
};

template <Kind kKind>
Result<bool> kind_is(Interpreter&, const Value& v, const Values&) {
  return v.is(kKind);
}

template <bool kOdd>
Result<bool> parity(Interpreter& in, const Value& v, const Values&) {
  QW_ASSIGN(const Value rest, in.binary("%", v, Value::integer(2)));
  return in.compare("==", rest, Value::integer(kOdd ? 1 : 0));
}

Result<bool> divisible_by(Interpreter& in, const Value& v, const Values& args) {
  QW_ASSIGN(const Value rest, in.binary("%", v, args[0]));
  return in.compare("==", rest, Value::integer(0));
}

Result<bool> is_defined(Interpreter&, const Value& v, const Values&) { return !v.is_undefined(); }
Result<bool> is_number(Interpreter&, const Value& v, const Values&) { return v.is_number(); }
Result<bool> is_true(Interpreter&, const Value& v, const Values&) { return v.is(Kind::kBool) && v.as_bool(); }
Result<bool> is_false(Interpreter&, const Value& v, const Values&) { return v.is(Kind::kBool) && !v.as_bool(); }
Result<bool> is_escaped(Interpreter&, const Value& v, const Values&) { return v.is_markup(); }

Result<bool> is_callable(Interpreter&, const Value& v, const Values&) {
  return v.is(Kind::kMacro) || v.is(Kind::kLoop) || v.is_undefined() || (v.is(Kind::kFunction) && v.function().call);
}

Result<bool> is_sequence(Interpreter&, const Value& v, const Values&) {
  return v.is_sequence() || v.is_string() || v.is(Kind::kDict) || v.is(Kind::kRange) || v.is_undefined();
}

Result<bool> is_iterable(Interpreter&, const Value& v, const Values&) {
  return v.is_sequence() || v.is_string() || v.is(Kind::kDict) || v.is(Kind::kRange) || v.is_undefined() ||
         v.is(Kind::kIterator) || v.is(Kind::kView) || v.is(Kind::kLoop);
}

template <bool kUpper>
Result<bool> case_is(Interpreter& in, const Value& v, const Values&) {
  QW_ASSIGN(const std::string text, in.text(v));
  Args none;
  QW_ASSIGN(const Value yes, find_string_method(kUpper ? "isupper" : "islower")(in, Value::string(text), none));
  return yes.as_bool();
}

Result<bool> same_as(Interpreter&, const Value& v, const Values& args) {
  const Value& other = args[0];
  if (v.kind() != other.kind()) return false;
  if (v.is(Kind::kNone)) return true;
  if (v.is_integral()) return v.as_int() == other.as_int();
  return v.identity() != nullptr && v.identity() == other.identity();
}

Result<bool> is_in(Interpreter& in, const Value& v, const Values& args) { return in.contains(args[0], v); }

Result<bool> is_filter(Interpreter&, const Value& v, const Values&) { return v.is_string() && known_filter(v.text()); }
Result<bool> is_test(Interpreter&, const Value& v, const Values&) { return v.is_string() && known_predicate(v.text()); }

template <const char* kOp>
Result<bool> relation(Interpreter& in, const Value& v, const Values& args) {
  return in.compare(kOp, v, args[0]);
}
constexpr char kEq[] = "==", kNe[] = "!=", kLt[] = "<", kLe[] = "<=", kGt[] = ">", kGe[] = ">=";

constexpr Predicate kPredicates[] = {
    {"defined", 0, is_defined},
    {"undefined", 0, kind_is<Kind::kUndefined>},
    {"none", 0, kind_is<Kind::kNone>},
    {"string", 0, kind_is<Kind::kString>},
    {"mapping", 0, kind_is<Kind::kDict>},
    {"boolean", 0, kind_is<Kind::kBool>},
    {"integer", 0, kind_is<Kind::kInt>},
    {"float", 0, kind_is<Kind::kFloat>},
    {"number", 0, is_number},
    {"true", 0, is_true},
    {"false", 0, is_false},
    {"sequence", 0, is_sequence},
    {"iterable", 0, is_iterable},
    {"callable", 0, is_callable},
    {"escaped", 0, is_escaped},
    {"odd", 0, parity<true>},
    {"even", 0, parity<false>},
    {"divisibleby", 1, divisible_by},
    {"lower", 0, case_is<false>},
    {"upper", 0, case_is<true>},
    {"sameas", 1, same_as},
    {"in", 1, is_in},
    {"filter", 0, is_filter},
    {"test", 0, is_test},
    {"==", 1, relation<kEq>},
    {"eq", 1, relation<kEq>},
    {"equalto", 1, relation<kEq>},
    {"!=", 1, relation<kNe>},
    {"ne", 1, relation<kNe>},
    {"<", 1, relation<kLt>},
    {"lt", 1, relation<kLt>},
    {"lessthan", 1, relation<kLt>},
    {"<=", 1, relation<kLe>},
    {"le", 1, relation<kLe>},
    {">", 1, relation<kGt>},
    {"gt", 1, relation<kGt>},
    {"greaterthan", 1, relation<kGt>},
    {">=", 1, relation<kGe>},
    {"ge", 1, relation<kGe>},
};

const Predicate* find_predicate(std::string_view name) {
  for (const Predicate& p : kPredicates)
    if (p.name == name) return &p;
  return nullptr;
}

}  // namespace

bool known_predicate(std::string_view name) { return find_predicate(name) != nullptr; }

Result<bool> Interpreter::test(const std::string& name, const Value& value, Args& args) {
  const Predicate* predicate = find_predicate(name);
  if (!predicate) return fail("No test named '" + name + "'");
  Values values = args.positional;
  for (auto& [key, v] : args.named) values.push_back(std::move(v));  // all take one argument at most
  if (values.size() != predicate->arguments)
    return fail("test '" + name + "' takes " + std::to_string(predicate->arguments) + " argument(s)");
  return predicate->check(*this, value, values);
}

}  // namespace qw::chat::internal
