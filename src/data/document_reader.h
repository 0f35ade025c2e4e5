// Documents out of corpus files: plain text cut by a rule, or JSON lines with a text or with a conversation.
//
// Streaming: memory is bounded by the longest line or document (max_document_bytes, max_line_bytes). Byte-order marks
// are dropped, line ends become "\n", invalid UTF-8 is handled as asked and counted. Errors name file and line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "data/clean_text.h"
#include "data/conversation.h"
#include "json/value.h"

namespace qw::data {

enum class SourceFormat : std::uint8_t { kText, kJsonl, kChat, kConversation, kCsv, kHtml, kMarkdown };  // the last three are read whole
enum class Separator : std::uint8_t {
  kBlankLine,  // one or more empty lines end a document (poems, paragraphs)
  kLine,       // every line is a document
  kFile,       // the whole file, cut only at max_document_bytes
};

struct ReaderOptions {
  SourceFormat format = SourceFormat::kText;
  Separator separator = Separator::kBlankLine;
  InvalidUtf8 invalid_utf8 = InvalidUtf8::kReplace;
  bool simplify_han = false;
  std::string text_field = "text";          // kJsonl, kCsv: which member or column holds the text
  ConversationForm form{};                  // kConversation
  std::vector<std::string> labels;          // of ConversationForm::kClassified: the names of classes, in order
  std::string messages_field = "messages";  // kChat: an array of {"role", "content", ...}; "tools" is taken along
  // A longer plain-text document is cut after the last line (or character) that fits; a longer JSONL text is kept.
  std::uint64_t max_document_bytes = 1 << 20;
  std::uint64_t max_line_bytes = 16 << 20;  // a longer line is an error: it is not a text corpus
};

struct Document {
  std::string text;        // kText, kJsonl
  json::Object chat;       // kChat, kConversation: the variables a chat template gets ("messages", "tools")
  std::vector<std::string> texts;  // of retrieval and ranking: the query, the document that answers it, the others
  json::Object rejected;   // of preferences: the other answer's
  std::size_t context = 0;  // so many messages at the beginning are not learnt from
  float value = 0;          // of a rated answer: 1 if it was liked; of preferences: the margin; of classes: which
  std::uint64_t line = 0;  // first line of it, counted from 1
};

struct ReaderCounts {
  std::uint64_t documents = 0, bytes = 0;  // given out; bytes of text after cleaning
  std::uint64_t invalid_utf8 = 0;          // ill-formed parts replaced, or documents dropped for them
  std::uint64_t empty = 0;                 // documents without text, left out
};

class DocumentReader {
 public:
  static Result<DocumentReader> open(const std::filesystem::path& path, ReaderOptions options);
  DocumentReader(DocumentReader&&) noexcept;
  DocumentReader& operator=(DocumentReader&&) noexcept;
  ~DocumentReader();

  // The next document, or false at the end.
  Result<bool> next(Document& document);
  const ReaderCounts& counts() const;

 private:
  struct State;
  explicit DocumentReader(std::unique_ptr<State>);
  std::unique_ptr<State> state_;
};

}  // namespace qw::data
