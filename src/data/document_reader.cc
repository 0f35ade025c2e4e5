#include "data/document_reader.h"

#include <simdjson.h>

#include <algorithm>
#include <utility>

#include "base/csv.h"
#include "base/utf8.h"
#include "data/html_text.h"
#include "data/internal/line_reader.h"

namespace qw::data {
namespace {

// Nesting of a JSON line that we follow; chat messages with tool schemas stay far below it.
constexpr std::size_t kMaxJsonDepth = 64;

Result<json::Value> to_value(simdjson::dom::element element, std::size_t depth) {
  if (depth > kMaxJsonDepth) return fail(ErrorKind::kBadInput, "nested too deeply");
  using Type = simdjson::dom::element_type;
  switch (element.type()) {
    case Type::ARRAY: {
      json::Array out;
      for (auto item : simdjson::dom::array(element)) {
        QW_ASSIGN(auto value, to_value(item, depth + 1));
        out.push_back(std::move(value));
      }
      return json::Value(std::move(out));
    }
    case Type::OBJECT: {
      json::Object out;
      for (auto [key, item] : simdjson::dom::object(element)) {
        QW_ASSIGN(auto value, to_value(item, depth + 1));
        out.set(std::string(key), std::move(value));
      }
      return json::Value(std::move(out));
    }
    case Type::STRING: return json::Value(std::string_view(element));
    case Type::INT64: return json::Value(std::int64_t(element));
    case Type::UINT64: return json::Value(std::uint64_t(element));
    case Type::DOUBLE: return json::Value(double(element));
    case Type::BOOL: return json::Value(bool(element));
    default: return json::Value();
  }
}

// Checks the messages of a chat line as far as every template relies on them.
Status check_messages(const json::Value& messages) {
  if (!messages.is_array() || messages.as_array().empty())
    return fail(ErrorKind::kBadInput, "messages is not an array with entries");
  for (const auto& message : messages.as_array()) {
    const json::Value* role = message.find("role");
    if (role == nullptr || !role->is_string()) return fail(ErrorKind::kBadInput, "a message has no role");
    const json::Value* content = message.find("content");
    if (content == nullptr && message.find("tool_calls") == nullptr)
      return fail(ErrorKind::kBadInput, "a message has neither content nor tool_calls");
  }
  return {};
}

Result<float> class_of(const json::Value& label, const std::vector<std::string>& labels) {
  if (label.is_int()) {
    if (label.as_int() >= 0 && label.as_int() < static_cast<std::int64_t>(labels.size()))
      return static_cast<float>(label.as_int());
    return fail(ErrorKind::kBadInput, "\"label\" " + std::to_string(label.as_int()) + " is not one of " +
                                          std::to_string(labels.size()) + " classes");
  }
  const auto found = std::find(labels.begin(), labels.end(), label.as_string());
  if (found != labels.end()) return static_cast<float>(found - labels.begin());
  return fail(ErrorKind::kBadInput, "\"label\" is '" + label.as_string().substr(0, 64) + "', which is none of the labels");
}

}  // namespace

struct DocumentReader::State {
  State(LineReader reader, ReaderOptions o) : lines(std::move(reader)), options(std::move(o)) {}

  LineReader lines;
  ReaderOptions options;
  ReaderCounts counts;
  std::optional<HanConverter> simplifier;
  simdjson::dom::parser parser;
  std::string line, carried;           // carried: rest of a text that was longer than a document may be
  std::uint64_t carried_line = 0;
  std::optional<std::vector<base::CsvRow>> rows;  // of a table, or the one text of a page, when it was read
  std::size_t next_row = 0, column = 0;
  bool has_line = false;               // `line` was read but not used yet

  // Text after the rules for invalid UTF-8 and script; false = leave the document out.
  Result<bool> clean(std::string& text, std::uint64_t at_line) {
    if (options.invalid_utf8 == InvalidUtf8::kReplace) {
      counts.invalid_utf8 += replace_invalid_utf8(text);
    } else if (!base::is_valid_utf8(text)) {
      if (options.invalid_utf8 == InvalidUtf8::kRefuse)
        return fail(ErrorKind::kBadInput, lines.where(at_line) + ": invalid UTF-8");
      ++counts.invalid_utf8;
      return false;
    }
    if (simplifier) text = simplifier->convert(text);
    return true;
  }

  Result<bool> next_text(Document& document);
  Result<bool> next_json(Document& document);
  Result<bool> next_whole(Document& document);
  Status read_whole();
  Status chat_of(simdjson::dom::element root, Document& document);
  Status conversation(simdjson::dom::element root, Document& document) const;
  void cut(std::string& text, std::uint64_t line_number);
};

// Keeps what fits into one document and carries the rest over to the next one.
void DocumentReader::State::cut(std::string& text, std::uint64_t line_number) {
  const std::size_t limit = options.max_document_bytes;
  if (text.size() <= limit) return;
  std::size_t at = text.rfind('\n', limit - 1);
  at = at == std::string::npos ? limit : at + 1;
  if (at == limit)
    while (at > 1 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;  // not inside a character
  carried = text.substr(at);
  carried_line = line_number;
  text.resize(at);
}

Result<bool> DocumentReader::State::next_text(Document& document) {
  document.text = std::move(carried);
  carried.clear();
  document.line = carried_line;
  bool open = !document.text.empty();
  while (document.text.size() <= options.max_document_bytes) {
    if (!has_line) {
      QW_ASSIGN(has_line, lines.next(line));
      if (!has_line) break;
    }
    has_line = false;
    const bool blank = line.find_first_not_of(" \t") == std::string::npos;
    if (options.separator == Separator::kBlankLine && blank) {
      if (open) break;
      continue;
    }
    if (!open) document.line = lines.number();
    open = true;
    document.text += line;
    if (options.separator == Separator::kLine) return true;
    document.text += '\n';
  }
  cut(document.text, lines.number());
  return open;
}

// Tables have quoted fields over many lines, and pages no lines at all.
Status DocumentReader::State::read_whole() {
  constexpr std::size_t kMost = std::size_t{256} << 20;
  std::string all;
  for (;;) {
    QW_ASSIGN(const bool more, lines.next(line));
    if (!more) break;
    if (all.size() + line.size() > kMost) return fail(ErrorKind::kBadInput, lines.where(lines.number()) + ": more than 256 MiB of one table or page");
    all += line;
    all += '\n';
  }
  if (options.format != SourceFormat::kCsv) {
    rows.emplace(1);
    rows->front().line = 1;
    rows->front().fields.push_back(options.format == SourceFormat::kHtml ? html_text(all) : markdown_text(all));
    return {};
  }
  auto parsed = base::parse_csv(all);
  if (!parsed) return in_context(lines.where(1), std::move(parsed).error());
  rows = std::move(*parsed);
  if (rows->empty()) return {};
  const auto& names = rows->front().fields;
  const auto found = std::find(names.begin(), names.end(), options.text_field);
  if (found == names.end()) return fail(ErrorKind::kBadInput, lines.where(1) + ": no column \"" + options.text_field + "\"");
  column = static_cast<std::size_t>(found - names.begin());
  next_row = 1;
  return {};
}

Result<bool> DocumentReader::State::next_whole(Document& document) {
  if (!carried.empty()) {
    document.text = std::exchange(carried, {});
    document.line = carried_line;
  } else {
    if (!rows) QW_TRY(read_whole());
    if (next_row >= rows->size()) return false;
    base::CsvRow& row = (*rows)[next_row++];
    if (column >= row.fields.size())
      return fail(ErrorKind::kBadInput, lines.where(row.line) + ": a row without \"" + options.text_field + "\"");
    document.text = std::move(row.fields[column]);
    document.line = row.line;
    normalise_line_ends(document.text);
  }
  cut(document.text, document.line);
  return true;
}

Status DocumentReader::State::chat_of(simdjson::dom::element root, Document& document) {
  simdjson::dom::element messages;
  if (root[options.messages_field].get(messages) != simdjson::SUCCESS)
    return fail(ErrorKind::kBadInput, "no member \"" + options.messages_field + "\"");
  QW_ASSIGN(auto value, to_value(messages, 0));
  QW_TRY(check_messages(value));
  document.chat = json::Object();
  document.chat.set("messages", std::move(value));
  simdjson::dom::element tools;
  if (root["tools"].get(tools) == simdjson::SUCCESS && !tools.is_null()) {
    QW_ASSIGN(auto list, to_value(tools, 0));
    document.chat.set("tools", std::move(list));
  }
  return {};
}

Status DocumentReader::State::conversation(simdjson::dom::element root, Document& document) const {
  QW_ASSIGN(const json::Value line_value, to_value(root, 0));
  QW_ASSIGN(Conversation c, conversation_of(line_value, options.form));
  for (const json::Object* chat : {&c.chat, &c.rejected})
    if (const json::Value* messages = chat->find("messages")) QW_TRY(check_messages(*messages));
  document.chat = std::move(c.chat);
  document.rejected = std::move(c.rejected);
  document.texts = std::move(c.texts);
  document.context = c.context;
  document.value = c.value;
  if (options.form == ConversationForm::kClassified) {
    QW_ASSIGN(document.value, class_of(c.label, options.labels));
  }
  return {};
}

Result<bool> DocumentReader::State::next_json(Document& document) {
  for (bool keep = false; !keep;) {
    QW_ASSIGN(const bool more, lines.next(line));
    if (!more) return false;
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    QW_ASSIGN(keep, clean(line, lines.number()));
  }
  document.line = lines.number();
  document.text.clear();
  simdjson::dom::element root;
  if (const auto code = parser.parse(line).get(root); code != simdjson::SUCCESS)
    return fail(ErrorKind::kBadInput, lines.where(document.line) + ": " + simdjson::error_message(code));
  if (options.format != SourceFormat::kJsonl) {
    if (auto status = options.format == SourceFormat::kChat ? chat_of(root, document) : conversation(root, document); !status)
      return in_context(lines.where(document.line), std::move(status).error());
    return true;
  }
  std::string_view text;
  if (root[options.text_field].get(text) != simdjson::SUCCESS)
    return fail(ErrorKind::kBadInput,
                lines.where(document.line) + ": no text member \"" + options.text_field + "\"");
  document.text = text;
  normalise_line_ends(document.text);
  return true;
}

Result<DocumentReader> DocumentReader::open(const std::filesystem::path& path, ReaderOptions options) {
  QW_ASSIGN(auto bytes, ByteReader::open(path));
  if (options.max_document_bytes < 16) return fail(ErrorKind::kUsage, "max_document_bytes must be at least 16");
  LineReader lines(std::move(bytes), path, options.max_line_bytes);
  auto state = std::make_unique<State>(std::move(lines), std::move(options));
  if (state->options.simplify_han) {
    QW_ASSIGN(auto simplifier, HanConverter::create(HanScript::kSimplified));
    state->simplifier.emplace(std::move(simplifier));
  }
  return DocumentReader(std::move(state));
}

DocumentReader::DocumentReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
DocumentReader::DocumentReader(DocumentReader&&) noexcept = default;
DocumentReader& DocumentReader::operator=(DocumentReader&&) noexcept = default;
DocumentReader::~DocumentReader() = default;

const ReaderCounts& DocumentReader::counts() const { return state_->counts; }

Result<bool> DocumentReader::next(Document& document) {
  State& s = *state_;
  for (;;) {
    const bool whole = s.options.format > SourceFormat::kConversation;
    const bool plain = s.options.format == SourceFormat::kText || whole;
    QW_ASSIGN(const bool more, whole ? s.next_whole(document) : plain ? s.next_text(document) : s.next_json(document));
    if (!more) return false;
    if (plain) {
      while (document.text.ends_with('\n')) document.text.pop_back();
      QW_ASSIGN(const bool keep, s.clean(document.text, document.line));
      if (!keep) continue;
    }
    if ((plain || s.options.format == SourceFormat::kJsonl) && document.text.empty()) {
      ++s.counts.empty;
      continue;
    }
    ++s.counts.documents;
    s.counts.bytes += document.text.size();
    return true;
  }
}

}  // namespace qw::data
