// The reader: Boost.JSON's event parser for the grammar, our own values and our own numbers.
//
// Boost 1.81 rounds some decimal fractions to a neighbouring double, and has no integers beyond 64 bits without a type
// switch; so only its grammar is used and every number is converted here from its text.
#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/src.hpp>
#include <charconv>
#include <cmath>
#include <optional>

#include "json/value.h"

namespace qw::json {
namespace {

namespace bj = boost::json;

// Decimal exponent of the first non-zero digit of a JSON number, or nullopt if every digit is zero. Only asked of
// numbers that from_chars calls out of range, to tell "too large" from "too small".
std::optional<long long> decimal_exponent(std::string_view text) {
  const std::size_t e = text.find_first_of("eE");
  const std::string_view mantissa = text.substr(0, e);
  long long exponent = 0;
  if (e != std::string_view::npos) {
    std::string_view digits = text.substr(e + 1);
    if (digits.starts_with('+')) digits.remove_prefix(1);
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), exponent);
    if (code != std::errc{}) exponent = digits.starts_with('-') ? -(1LL << 40) : (1LL << 40);
  }
  const std::size_t first = mantissa.find_first_of("123456789");
  if (first == std::string_view::npos) return std::nullopt;
  const std::size_t point = std::min(mantissa.find('.'), mantissa.size());
  return exponent + static_cast<long long>(point) - static_cast<long long>(first);
}

// The number as Python's json reads it, except that integers beyond 64 bits become doubles and what no double can hold
// is refused (nullopt) rather than turned into infinity.
std::optional<Value> convert_number(std::string_view text) {
  const char* end = text.data() + text.size();
  if (text.find_first_of(".eE") == std::string_view::npos) {
    std::int64_t i = 0;
    if (std::from_chars(text.data(), end, i).ec == std::errc{}) return Value(i);
  }
  double d = 0;
  if (std::from_chars(text.data(), end, d).ec == std::errc{}) return Value(d);
  const auto exponent = decimal_exponent(text);
  if (exponent && *exponent > 0) return std::nullopt;
  return Value(text.starts_with('-') ? -0.0 : 0.0);
}

// Builds the value bottom up: one frame per open array or object.
class Builder {
 public:
  static constexpr std::size_t max_object_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_array_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_key_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_string_size = static_cast<std::size_t>(-1);

  Value take() { return std::move(root_); }
  bool number_too_large() const { return number_too_large_; }

  bool on_document_begin(bj::error_code&) { return true; }
  bool on_document_end(bj::error_code&) { return true; }
  bool on_object_begin(bj::error_code&) { return open(true); }
  bool on_array_begin(bj::error_code&) { return open(false); }
  bool on_object_end(std::size_t, bj::error_code&) { return close(); }
  bool on_array_end(std::size_t, bj::error_code&) { return close(); }
  bool on_key_part(bj::string_view s, std::size_t, bj::error_code&) { return gather(s); }
  bool on_key(bj::string_view s, std::size_t, bj::error_code&) {
    gather(s);
    frames_.back().key = std::move(text_);
    text_.clear();
    return true;
  }
  bool on_string_part(bj::string_view s, std::size_t, bj::error_code&) { return gather(s); }
  bool on_string(bj::string_view s, std::size_t, bj::error_code&) {
    gather(s);
    Value value(std::move(text_));
    text_.clear();
    return add(std::move(value));
  }
  bool on_number_part(bj::string_view s, bj::error_code&) { return gather(s); }
  bool on_int64(std::int64_t, bj::string_view s, bj::error_code& ec) { return number(s, ec); }
  bool on_uint64(std::uint64_t, bj::string_view s, bj::error_code& ec) { return number(s, ec); }
  bool on_double(double, bj::string_view s, bj::error_code& ec) { return number(s, ec); }
  bool on_bool(bool b, bj::error_code&) { return add(Value(b)); }
  bool on_null(bj::error_code&) { return add(Value()); }
  bool on_comment_part(bj::string_view, bj::error_code&) { return true; }
  bool on_comment(bj::string_view, bj::error_code&) { return true; }

 private:
  struct Frame {
    bool is_object = false;
    Array array;
    Object object;
    std::string key;  // of the member being read
  };

  bool gather(bj::string_view s) {
    text_.append(s.data(), s.size());
    return true;
  }
  bool open(bool is_object) {
    if (frames_.capacity() == 0) frames_.reserve(kUsualDepth);
    frames_.emplace_back().is_object = is_object;
    return true;
  }
  bool close() {
    Frame& top = frames_.back();
    Value done = top.is_object ? Value(std::move(top.object)) : Value(std::move(top.array));
    frames_.pop_back();
    return add(std::move(done));
  }
  bool add(Value value) {
    if (frames_.empty()) {
      root_ = std::move(value);
    } else if (Frame& top = frames_.back(); top.is_object) {
      top.object.set(std::move(top.key), std::move(value));
    } else {
      top.array.push_back(std::move(value));
    }
    return true;
  }
  bool number(bj::string_view s, bj::error_code& ec) {
    gather(s);
    auto value = convert_number(text_);
    text_.clear();
    if (value) return add(std::move(*value));
    number_too_large_ = true;
    ec = bj::make_error_code(bj::error::exponent_overflow);
    return false;
  }

  static constexpr std::size_t kUsualDepth = 4;
  std::vector<Frame> frames_;
  std::string text_;  // of the string or number being read
  Value root_;
  bool number_too_large_ = false;
};

// What is wrong at byte `at`, in our words.
std::string reason(const bj::error_code& ec, bool number_too_large, std::string_view text, std::size_t at) {
  using E = bj::error;
  if (number_too_large || ec == E::exponent_overflow) return "number too large";
  if (ec == E::incomplete || at >= text.size()) return "unexpected end of text";
  if (ec == E::too_deep) return "nested too deeply";
  if (ec == E::extra_data) return "more text after the value";
  if (ec == E::illegal_leading_surrogate || ec == E::illegal_trailing_surrogate || ec == E::expected_utf16_escape) {
    return "unpaired surrogate escape";
  }
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte > 0x20 && byte < 0x7f) return std::string("syntax error near '") + text[at] + "'";
  static constexpr char kHex[] = "0123456789abcdef";
  return std::string("syntax error near byte 0x") + kHex[byte >> 4] + kHex[byte & 15];
}

}  // namespace

Result<Value> parse(std::string_view text, ReadLimits limits) {
  if (text.size() > limits.max_bytes) {
    return fail(ErrorKind::kBadInput, "JSON of " + std::to_string(text.size()) + " bytes is above the limit of " +
                                          std::to_string(limits.max_bytes));
  }
  bj::parse_options options;
  options.max_depth = static_cast<std::size_t>(std::max(0, limits.max_depth));
  bj::basic_parser<Builder> parser(options);
  bj::error_code ec;
  const std::size_t used = parser.write_some(false, text.data(), text.size(), ec);
  if (!ec && used < text.size()) ec = bj::make_error_code(bj::error::extra_data);
  if (ec) {
    return fail(ErrorKind::kBadInput, "JSON: byte " + std::to_string(used) + ": " +
                                          reason(ec, parser.handler().number_too_large(), text, used));
  }
  return parser.handler().take();
}

}  // namespace qw::json
