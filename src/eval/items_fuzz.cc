// Files of items of any bytes, in each form.
#include <string_view>

#include "eval/compare.h"
#include "eval/items.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  eval::DataSpec spec;
  spec.documents = static_cast<eval::Documents>(size % 4);
  for (const char* name : {"f.jsonl", "f.json", "f.csv", "f.txt"}) {
    const auto items = eval::parse_items(text, name, spec);
    if (!items) QW_CHECK(items.error().message.starts_with(name));
  }
  spec.columns = {"question", "a"};
  (void)eval::parse_items(text, "f.csv", spec);
  if (const auto samples = eval::parse_samples(text, "f.jsonl")) (void)eval::compare_samples(*samples, *samples);
  return 0;
}
