// Arithmetic, comparison, membership and slicing, with Python's rules.
#include <string.h>

#include <algorithm>
#include <cmath>

#include "chat/internal/interpreter.h"
#include "chat/internal/text.h"

namespace qw::chat::internal {

namespace {

tl::unexpected<Error> unsupported(Interpreter& in, std::string_view op, const Value& a, const Value& b) {
  if (a.is_undefined()) return in.fail(a.text());
  if (b.is_undefined()) return in.fail(b.text());
  return in.fail("unsupported operand type(s) for " + std::string(op) + ": '" + python_type(a) + "' and '" +
                 python_type(b) + "'");
}

tl::unexpected<Error> overflow(Interpreter& in) { return in.fail("integer result does not fit 64 bits"); }

double python_mod(double a, double b) {
  double m = std::fmod(a, b);
  if (m != 0 ? (b < 0) != (m < 0) : false) m += b;
  return m == 0 ? std::copysign(0.0, b) : m;
}

double python_floordiv(double a, double b) {
  const double mod = std::fmod(a, b);
  double div = (a - mod) / b;
  if (mod != 0 && (b < 0) != (mod < 0)) div -= 1;
  if (div == 0) return std::copysign(0.0, a / b);
  const double floor = std::floor(div);
  return div - floor > 0.5 ? floor + 1 : floor;
}

Result<Value> int_power(Interpreter& in, std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return in.fail("0.0 cannot be raised to a negative power");
    return Value::real(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  std::int64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) return overflow(in);
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) return overflow(in);
  }
  return Value::integer(result);
}

Result<Value> int_arithmetic(Interpreter& in, std::string_view op, std::int64_t a, std::int64_t b) {
  std::int64_t r = 0;
  if (op == "+") return __builtin_add_overflow(a, b, &r) ? overflow(in) : Result<Value>(Value::integer(r));
  if (op == "-") return __builtin_sub_overflow(a, b, &r) ? overflow(in) : Result<Value>(Value::integer(r));
  if (op == "*") return __builtin_mul_overflow(a, b, &r) ? overflow(in) : Result<Value>(Value::integer(r));
  if (op == "**") return int_power(in, a, b);
  if (b == 0) return in.fail("division by zero");
  if (op == "/") return Value::real(static_cast<double>(a) / static_cast<double>(b));
  if (b == -1) {  // the one quotient that can overflow
    if (op == "%") return Value::integer(0);
    return __builtin_sub_overflow(std::int64_t{0}, a, &r) ? overflow(in) : Result<Value>(Value::integer(r));
  }
  const std::int64_t q = a / b, m = a % b;
  const bool down = m != 0 && (m < 0) != (b < 0);
  return Value::integer(op == "//" ? q - down : m + (down ? b : 0));
}

Result<Value> float_arithmetic(Interpreter& in, std::string_view op, double a, double b) {
  if (op == "+") return Value::real(a + b);
  if (op == "-") return Value::real(a - b);
  if (op == "*") return Value::real(a * b);
  if (op == "**") {
    if (a == 0 && b < 0) return in.fail("0.0 cannot be raised to a negative power");
    if (a < 0 && b != std::floor(b)) return in.fail("a negative number has no real fractional power");
    const double r = std::pow(a, b);
    if (std::isinf(r) && std::isfinite(a) && std::isfinite(b)) return in.fail("numerical result out of range");
    return Value::real(r);
  }
  if (b == 0) return in.fail("float division by zero");
  if (op == "/") return Value::real(a / b);
  if (op == "//") return Value::real(python_floordiv(a, b));
  return Value::real(python_mod(a, b));
}

Result<Value> add_strings(Interpreter& in, const Value& a, const Value& b) {
  const bool markup = a.is_markup() || b.is_markup();
  QW_TRY(in.room(a.text().size() + b.text().size()));
  if (!markup || (a.is_markup() && b.is_markup())) return Value::string(a.text() + b.text(), markup);
  return in.string(a.is_markup() ? a.text() + escape_html(b.text()) : escape_html(a.text()) + b.text(), true);
}

Result<Value> repeat(Interpreter& in, const Value& value, std::int64_t times) {
  times = std::max<std::int64_t>(times, 0);
  if (value.is_string()) {
    const std::size_t size = value.text().size();
    if (size > 0 && static_cast<std::size_t>(times) > in.limits().max_output_bytes / size)
      return in.fail("template makes too much text");
    std::string out;
    if (size > 0)
      for (std::int64_t i = 0; i < times; ++i) out += value.text();
    return in.string(std::move(out), value.is_markup());
  }
  const double count = static_cast<double>(value.items().size()) * static_cast<double>(times);
  QW_TRY(in.work(count));
  Values items;
  if (!value.items().empty())
    for (std::int64_t i = 0; i < times; ++i) items.insert(items.end(), value.items().begin(), value.items().end());
  return value.is(Kind::kList) ? in.list(std::move(items)) : in.tuple(std::move(items));
}

int three_way(double a, double b) { return a < b ? -1 : a > b ? 1 : 0; }

// -1, 0, 1, or 2 for unordered numbers (NaN).
Result<int> order(Interpreter& in, std::string_view op, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.as_int() < b.as_int() ? -1 : a.as_int() > b.as_int();
  if (a.is_number() && b.is_number()) {
    if (std::isnan(a.as_double()) || std::isnan(b.as_double())) return 2;
    return three_way(a.as_double(), b.as_double());
  }
  if (a.is_string() && b.is_string()) {
    QW_TRY(in.work(std::min(a.weight(), b.weight()) / 4));
    return std::clamp(a.text().compare(b.text()), -1, 1);
  }
  if (a.is_sequence() && a.kind() == b.kind()) {
    const Values &x = a.items(), &y = b.items();
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      QW_ASSIGN(const bool same, in.same(x[i], y[i]));
      if (!same) return order(in, op, x[i], y[i]);
    }
    return x.size() < y.size() ? -1 : x.size() > y.size();
  }
  if (a.is_undefined()) return in.fail(a.text());
  if (b.is_undefined()) return in.fail(b.text());
  return in.fail("'" + std::string(op) + "' not supported between instances of '" + python_type(a) + "' and '" +
                 python_type(b) + "'");
}

}  // namespace

Result<Value> Interpreter::binary(std::string_view op, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return int_arithmetic(*this, op, a.as_int(), b.as_int());
  if (a.is_number() && b.is_number()) return float_arithmetic(*this, op, a.as_double(), b.as_double());
  if (op == "%" && a.is_string()) return format_percent(*this, a, b);
  if (op == "+" && a.is_string() && b.is_string()) return add_strings(*this, a, b);
  if (op == "+" && a.is_sequence() && a.kind() == b.kind()) {
    Values items = a.items();
    items.insert(items.end(), b.items().begin(), b.items().end());
    return a.is(Kind::kList) ? list(std::move(items)) : tuple(std::move(items));
  }
  if (op == "*") {
    if ((a.is_string() || a.is_sequence()) && b.is_integral()) return repeat(*this, a, b.as_int());
    if ((b.is_string() || b.is_sequence()) && a.is_integral()) return repeat(*this, b, a.as_int());
  }
  return unsupported(*this, op, a, b);
}

Result<bool> Interpreter::compare(std::string_view op, const Value& a, const Value& b) {
  if (op == "==" || op == "!=") {
    QW_ASSIGN(const bool equals, same(a, b));
    return equals == (op == "==");
  }
  QW_ASSIGN(const int way, order(*this, op, a, b));
  if (way == 2) return false;
  if (op == "<") return way < 0;
  if (op == "<=") return way <= 0;
  if (op == ">") return way > 0;
  return way >= 0;
}

Result<bool> Interpreter::contains(const Value& container, const Value& value) {
  switch (container.kind()) {
    case Kind::kString:
      if (!value.is_string())
        return fail(std::string("'in <string>' requires string as left operand, not ") + python_type(value));
      QW_TRY(work(static_cast<double>(container.text().size()) / 256));
      // memmem is linear whatever the needle.
      return value.text().empty() || ::memmem(container.text().data(), container.text().size(), value.text().data(),
                                              value.text().size()) != nullptr;
    case Kind::kDict:
      if (!hashable(value)) return fail(std::string("unhashable type: '") + python_type(value) + "'");
      QW_TRY(work(value.weight() / 4));
      return container.dict().find(value) != nullptr;
    case Kind::kRange: {
      if (!value.is_number()) return false;
      const Range& r = container.range();
      const double d = value.as_double();
      if (d != std::floor(d) || std::fabs(d) > 9e15) return false;
      const auto i = static_cast<std::int64_t>(d);
      const bool inside = r.step > 0 ? i >= r.start && i < r.stop : i <= r.start && i > r.stop;
      return inside && (i - r.start) % r.step == 0;
    }
    default: {
      if (!container.is_sequence() && !container.is_undefined() && !container.is(Kind::kView) &&
          !container.is(Kind::kIterator))
        return fail(std::string("argument of type '") + python_type(container) + "' is not iterable");
      QW_ASSIGN(const Source next, source(container));
      for (;;) {
        QW_ASSIGN(const Value item, next());
        if (item.is_missing()) return false;
        QW_TRY(work(0.25));
        QW_ASSIGN(const bool equals, same(item, value));
        if (equals) return true;
      }
    }
  }
}

namespace {

bool slice_bound(const Value& v) { return v.is(Kind::kNone) || v.is_integral(); }

struct SliceSpan {
  std::int64_t start = 0, stop = 0, count = 0, step = 1;
};

// CPython's PySlice_AdjustIndices.
SliceSpan adjust(const Value& begin, const Value& end, std::int64_t step, std::int64_t n) {
  const auto clip = [&](const Value& v, std::int64_t otherwise) {
    if (v.is(Kind::kNone)) return otherwise;
    std::int64_t i = v.as_int();
    if (i < 0) i = i < -n ? -1 : i + n;
    if (step < 0) return std::clamp<std::int64_t>(i, -1, n - 1);
    return std::clamp<std::int64_t>(i, 0, n);
  };
  const std::int64_t from = clip(begin, step < 0 ? n - 1 : 0), to = clip(end, step < 0 ? -1 : n);
  SliceSpan span{from, to, 0, step};
  if (step > 0 && from < to) span.count = (to - from - 1) / step + 1;
  if (step < 0 && from > to) span.count = (from - to - 1) / -step + 1;
  return span;
}

}  // namespace

Result<Value> slice(Interpreter& in, const Value& value, const Value& begin, const Value& end, const Value& step) {
  if (value.is_undefined()) return in.fail(value.text());
  const bool sliceable = value.is_sequence() || value.is_string() || value.is(Kind::kRange);
  if (!sliceable) return in.fail(std::string("'") + python_type(value) + "' object cannot be sliced");
  if (!slice_bound(begin) || !slice_bound(end) || !slice_bound(step))
    return in.fail("slice indices must be integers or None");
  std::int64_t by = step.is(Kind::kNone) ? 1 : step.as_int();
  if (by == 0) return in.fail("slice step cannot be zero");
  by = std::max<std::int64_t>(by, -INT64_MAX);
  QW_ASSIGN(const std::int64_t n, in.length(value));
  const SliceSpan s = adjust(begin, end, by, n);
  QW_TRY(in.work(static_cast<double>(s.count) / 64));
  if (value.is(Kind::kRange)) {
    const Range& r = value.range();
    std::int64_t stride = 0;
    if (__builtin_mul_overflow(r.step, s.step, &stride)) return overflow(in);
    return Value::range(r.at(s.start), r.at(s.stop), stride);
  }
  if (value.is_sequence()) {
    Values items;
    items.reserve(static_cast<std::size_t>(s.count));
    for (std::int64_t i = 0; i < s.count; ++i)
      items.push_back(value.items()[static_cast<std::size_t>(s.start + i * s.step)]);
    return value.is(Kind::kList) ? in.list(std::move(items)) : in.tuple(std::move(items));
  }
  const std::string& text = value.text();
  if (s.step == 1) {
    const std::size_t at = byte_offset(text, static_cast<std::size_t>(s.start));
    const std::string_view rest = std::string_view(text).substr(at);
    return in.string(std::string(rest.substr(0, byte_offset(rest, static_cast<std::size_t>(s.count)))),
                     value.is_markup());
  }
  const auto chars = to_chars(text);
  std::string out;
  for (std::int64_t i = 0; i < s.count; ++i) append_char(&out, chars[static_cast<std::size_t>(s.start + i * s.step)]);
  return in.string(std::move(out), value.is_markup());
}

}  // namespace qw::chat::internal
