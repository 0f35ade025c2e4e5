// Any bytes are what was kept of an answer, from which it can be drawn again, or an error of one line; what is read is
// kept again as the same. So are rules of outputs by themselves.
#include <functional>
#include <optional>
#include <string_view>

#include "api/generation/drawing.h"
#include "base/result.h"
#include "json/value.h"
#include "tokenizer/tokenizer.h"

namespace {

using namespace qw;

tokenizer::Tokenizer bytes_alone() {
  const std::function<std::optional<std::string_view>()> nothing = [] { return std::nullopt; };
  auto spec = tokenizer::train_bpe(nothing, {.vocab = 256, .added_tokens = {"<|im_start|>", "<|im_end|>"}});
  return std::move(*tokenizer::Tokenizer::create(std::move(*spec)));
}

void check(const Error& error) {
  QW_CHECK(error.kind == ErrorKind::kBadInput && !error.message.empty());
  QW_CHECK(error.message.find('\n') == std::string::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const tokenizer::Tokenizer tokenizer = bytes_alone();
  // Without what makes grammars, which have a target of their own (sampling_grammar).
  static const api::ServedModel model = [] {
    api::ServedModel out;
    out.id = "model";
    out.tokenizer = &tokenizer;
    return out;
  }();
  const auto value = json::parse(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!value) return 0;
  const auto rules = api::rules_from(model, *value);
  if (!rules) check(rules.error());
  const auto drawing = api::drawing_from(model, *value);
  if (!drawing) {
    check(drawing.error());
    return 0;
  }
  QW_CHECK(drawing->prompts.size() == drawing->limits.size() && drawing->n >= 1);
  const json::Object kept = api::kept_drawing(*drawing, tokenizer, value->find("rules")->as_object());
  const auto again = api::drawing_from(model, json::Value(kept));
  QW_CHECK(again.has_value());
  QW_CHECK(json::dump(json::Value(api::kept_drawing(*again, tokenizer, value->find("rules")->as_object()))) ==
           json::dump(json::Value(kept)));
  return 0;
}
