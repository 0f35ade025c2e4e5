// Server-sent events as they come in, in pieces of any size (WHATWG HTML, "Interpreting an event stream").
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace qw::mcp {

struct StreamEvent {
  std::string name = "message", data;
};

class EventStream {
 public:
  // `most_bytes`: of one event; kBadInput from push above it.
  explicit EventStream(std::size_t most_bytes) : most_bytes_(most_bytes) {}
  // Calls back with each event that is complete; an error of the callback ends the push. What is cut off at the end of
  // a stream is no event.
  Status push(std::string_view piece, const std::function<Status(StreamEvent event)>& on_event);

 private:
  Status line_ended(const std::function<Status(StreamEvent)>& on_event);
  const std::size_t most_bytes_;
  std::string line_;
  StreamEvent event_;
  bool has_data_ = false, after_return_ = false, first_line_ = true;
};

}  // namespace qw::mcp
