#include "mcp/event_stream.h"

#include <utility>

namespace qw::mcp {

Status EventStream::line_ended(const std::function<Status(StreamEvent)>& on_event) {
  std::string line = std::exchange(line_, {});
  if (std::exchange(first_line_, false) && line.starts_with("\xef\xbb\xbf")) line.erase(0, 3);
  if (line.empty()) {
    StreamEvent event = std::exchange(event_, {});
    if (!std::exchange(has_data_, false)) return {};
    return on_event(std::move(event));
  }
  const auto colon = line.find(':');
  if (colon == 0) return {};  // a comment
  const std::string_view field = std::string_view(line).substr(0, colon);
  std::string_view value = colon == std::string::npos ? std::string_view() : std::string_view(line).substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (field == "event") {
    event_.name = value.empty() ? "message" : value;
  } else if (field == "data") {
    if (has_data_) event_.data += '\n';
    event_.data += value;
    has_data_ = true;
  }
  return {};
}

Status EventStream::push(std::string_view piece, const std::function<Status(StreamEvent)>& on_event) {
  for (const char c : piece) {
    if (std::exchange(after_return_, false) && c == '\n') continue;  // of a line that \r\n ends
    if (c == '\n' || c == '\r') {
      after_return_ = c == '\r';
      QW_TRY(line_ended(on_event));
      continue;
    }
    if (line_.size() + event_.data.size() + event_.name.size() >= most_bytes_)
      return fail(ErrorKind::kBadInput, "an event of more than " + std::to_string(most_bytes_) + " bytes");
    line_ += c;
  }
  return {};
}

}  // namespace qw::mcp
