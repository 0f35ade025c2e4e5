// What servers send: an event stream in pieces of any size gives the same events, and every message is read or refused.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "mcp/event_stream.h"
#include "mcp/message.h"

namespace {

constexpr std::size_t kMostBytes = 4096;

struct Events {
  std::vector<std::string> all;
  bool fine = true;
};

Events read(std::string_view text, std::size_t piece) {
  Events out;
  qw::mcp::EventStream stream(kMostBytes);
  for (std::size_t at = 0; at < text.size() && out.fine; at += piece)
    out.fine = stream
                   .push(text.substr(at, piece),
                         [&](qw::mcp::StreamEvent event) -> qw::Status {
                           if (event.name.size() + event.data.size() > kMostBytes) std::abort();
                           out.all.push_back(event.name + "\n" + event.data);
                           return {};
                         })
                   .has_value();
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Events whole = read(text, size + 1), bytes = read(text, 1), some = read(text, 7);
  if (whole.all != bytes.all || whole.fine != bytes.fine || whole.all != some.all || whole.fine != some.fine)
    std::abort();

  const auto message = [](std::string_view body) {
    const auto reply = qw::mcp::read_reply(body, 1);
    if (!reply || !*reply || (*reply)->error) return;
    if (const auto page = qw::mcp::read_tools((*reply)->result))
      for (const auto& tool : page->tools)
        if (tool.name.empty() || !tool.input_schema.is_object()) std::abort();
    (void)qw::mcp::read_call_result((*reply)->result);
  };
  message(text);
  for (const std::string& event : whole.all) message(std::string_view(event).substr(event.find('\n') + 1));
  const std::string header = qw::mcp::header_value(text);
  for (const char c : header)
    if (c < ' ' || c > '~') std::abort();
  return 0;
}
