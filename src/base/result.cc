#include "base/result.h"

#include <cstdio>
#include <cstdlib>

namespace qw {

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kFailed: return 1;
    case ErrorKind::kUsage: return 2;
    case ErrorKind::kBadInput: return 3;
    case ErrorKind::kRefused: return 4;
    case ErrorKind::kResource: return 5;
    case ErrorKind::kInterrupted: return 130;
  }
  return 1;
}

namespace base {
void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
  std::abort();
}
}  // namespace base

}  // namespace qw
