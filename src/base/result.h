// Results and errors. Every expected failure in the house is a value of type Result<T>; bugs are QW_CHECKs.
//
// An Error carries a kind (which the program turns into its exit code, the API into an HTTP status) and one line that
// says what went wrong and where. A library room never prints and never exits.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace qw {

enum class ErrorKind : std::uint8_t {
  kFailed,       // the work itself failed (I/O, a training step); exit code 1
  kUsage,        // the caller asked for something that does not exist; exit code 2
  kBadInput,     // foreign bytes are wrong: file, model, template, request; exit code 3
  kRefused,      // a policy says no; exit code 4
  kResource,     // memory, disk or another limit; exit code 5
  kInterrupted,  // cancelled by the user or a deadline; exit code 130
};

struct Error {
  ErrorKind kind = ErrorKind::kFailed;
  std::string message;  // one line, no trailing newline
};

template <class T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

// Makes the failed side of a Result: `return fail(ErrorKind::kBadInput, "model.gguf: bad magic");`
inline tl::unexpected<Error> fail(ErrorKind kind, std::string message) {
  return tl::unexpected<Error>(Error{kind, std::move(message)});
}

// Puts `where` in front of an error's message: "where: message".
inline tl::unexpected<Error> in_context(std::string_view where, Error error) {
  error.message = std::string(where) + ": " + error.message;
  return tl::unexpected<Error>(std::move(error));
}

// The process exit code of an error kind (see docs/interfaces in README: 0 done, 1 failed, 2 usage, ...).
int exit_code(ErrorKind kind);

namespace base {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
}

}  // namespace qw

#define QW_CONCAT_(a, b) a##b
#define QW_CONCAT(a, b) QW_CONCAT_(a, b)

// QW_TRY(expr): evaluates a Status; returns its error from the enclosing function.
#define QW_TRY(expr)                                                                   \
  do {                                                                                 \
    if (auto qw_status_ = (expr); !qw_status_) return tl::unexpected(std::move(qw_status_).error()); \
  } while (0)

// QW_ASSIGN(auto x, expr): binds the value of a Result or returns its error.
#define QW_ASSIGN(lhs, expr)                                                        \
  auto QW_CONCAT(qw_result_, __LINE__) = (expr);                                    \
  if (!QW_CONCAT(qw_result_, __LINE__))                                             \
    return tl::unexpected(std::move(QW_CONCAT(qw_result_, __LINE__)).error());      \
  lhs = std::move(*QW_CONCAT(qw_result_, __LINE__))

// QW_CHECK(cond): a bug if false; prints the condition and aborts. Never for foreign bytes.
#define QW_CHECK(cond) ((cond) ? (void)0 : ::qw::base::check_failed(#cond, __FILE__, __LINE__))
