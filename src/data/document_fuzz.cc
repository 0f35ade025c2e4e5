// Corpus files of any bytes: what comes out is valid UTF-8, without carriage returns, and within the size asked for.
#include "base/utf8.h"
#include "data/document_reader.h"
#include "base/memory_file.h"
#include "data/poem_chat.h"
#include "data/poem_forms.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  if (size < 1) return 0;
  const base::MemoryFile file(data + 1, size - 1);
  data::ReaderOptions options;
  options.format = static_cast<data::SourceFormat>(data[0] % 7);
  options.separator = static_cast<data::Separator>(data[0] / 7 % 3);
  options.form = static_cast<data::ConversationForm>(data[0] / 4 % 9);
  options.labels = {"a", "b"};
  options.invalid_utf8 = static_cast<data::InvalidUtf8>(data[0] / 16 % 3);
  options.max_document_bytes = 64;
  options.max_line_bytes = 1 << 16;
  auto reader = data::DocumentReader::open(file.path(), options);
  if (!reader) return 0;
  data::Document document;
  for (;;) {
    const auto more = reader->next(document);
    if (!more || !*more) break;
    QW_CHECK(base::is_valid_utf8(document.text));
    if (options.format == data::SourceFormat::kConversation) {
      const auto* messages = document.chat.find("messages");
      QW_CHECK(messages != nullptr && document.context <= messages->as_array().size());
    } else if (options.format != data::SourceFormat::kChat) {
      QW_CHECK(!document.text.empty());
      QW_CHECK(document.text.find('\r') == std::string::npos);
    }
    if (const auto poem = data::parse_poem(document.text)) {
      base::Rng rng(1);
      QW_CHECK(data::poem_conversation(*poem, rng, {}).size() == 1);
      if (const auto form = data::poem_form(*poem))
        QW_CHECK(data::form_conversation(*poem, *form, rng, {}).size() == 1);
    }
  }
  return 0;
}
