// Any model output in any pieces: the joined result may not depend on the pieces.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "chat/output_parser.h"

namespace {

std::string joined(const std::vector<qw::chat::OutputEvent>& events) {
  std::string reasoning, content, calls;  // arguments may come in pieces
  for (const auto& e : events) {
    using Kind = qw::chat::OutputEvent::Kind;
    if (e.kind == Kind::kReasoning) {
      reasoning += e.text;
    } else if (e.kind == Kind::kContent) {
      content += e.text;
    } else if (e.kind == Kind::kToolCallArguments) {
      calls += e.text;
    } else {
      calls += static_cast<char>('0' + static_cast<int>(e.kind)) + e.text + "\n";
    }
  }
  return reasoning + '\0' + content + '\0' + calls;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const qw::chat::OutputOptions options{
      (data[0] & 1) != 0, (data[0] & 2) != 0, (data[0] & 4) != 0, {}, (data[0] & 8) != 0};
  const std::size_t step = data[1] % 16 + 1;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  qw::chat::OutputParser whole(options), pieces(options);
  auto one = whole.push(text);
  for (auto& e : whole.finish()) one.push_back(std::move(e));
  std::vector<qw::chat::OutputEvent> many;
  for (std::size_t at = 0; at < text.size(); at += step)
    for (auto& e : pieces.push(text.substr(at, step))) many.push_back(std::move(e));
  for (auto& e : pieces.finish()) many.push_back(std::move(e));
  if (joined(one) != joined(many)) std::abort();
  return 0;
}
