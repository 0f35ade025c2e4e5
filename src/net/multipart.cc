#include "net/multipart.h"

#include <algorithm>

#include "base/trim.h"
#include "net/http.h"

namespace qw::net {
namespace {

// Of the head of one part: a name, a file's name and a type are far shorter.
constexpr std::size_t kMaxPartHead = 16 * 1024;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

bool same_word(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

constexpr std::string_view kBlanks = " \t";

auto bad(const std::string& what) { return fail(ErrorKind::kBadInput, "multipart body: " + what); }

// "value; name=x; other=\"y\"" taken apart: the value, then the parameters. False if it is not of that form.
struct Parameter {
  std::string_view name;
  std::string value;
};
bool split_header(std::string_view text, std::string_view& value, std::vector<Parameter>& parameters) {
  const auto first = std::min(text.find(';'), text.size());
  value = base::trimmed(text.substr(0, first), kBlanks);
  std::size_t at = first;
  while (at < text.size()) {
    ++at;  // the semicolon
    const auto equals = text.find_first_of("=;", at);
    if (equals == std::string_view::npos || text[equals] == ';') {  // a word without a value means nothing here
      if (!base::trimmed(text.substr(at, equals == std::string_view::npos ? equals : equals - at), kBlanks).empty())
        return false;
      at = std::min(equals, text.size());
      continue;
    }
    Parameter one{base::trimmed(text.substr(at, equals - at), kBlanks), {}};
    at = equals + 1;
    while (at < text.size() && text[at] == ' ') ++at;
    if (at < text.size() && text[at] == '"') {
      // Only a quote is escaped: browsers of old wrote the backslashes of a Windows path as they are.
      for (++at; at < text.size() && text[at] != '"'; ++at) {
        if (text[at] == '\\' && at + 1 < text.size() && text[at + 1] == '"') ++at;
        one.value += text[at];
      }
      if (at == text.size()) return false;
      ++at;
      const auto next = std::min(text.find(';', at), text.size());
      if (!base::trimmed(text.substr(at, next - at), kBlanks).empty()) return false;
      at = next;
    } else {
      const auto next = std::min(text.find(';', at), text.size());
      one.value = base::trimmed(text.substr(at, next - at), kBlanks);
      at = next;
    }
    parameters.push_back(std::move(one));
  }
  return true;
}

const std::string* parameter(const std::vector<Parameter>& parameters, std::string_view name) {
  for (const Parameter& one : parameters)
    if (same_word(one.name, name)) return &one.value;
  return nullptr;
}

// A client's folders are nobody's business here.
std::string last_component(std::string_view path) {
  const auto slash = path.find_last_of("/\\");
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

// filename*=UTF-8''%e4%bd%a0 (RFC 8187), which says more than the plain one.
bool extended_name(std::string_view text, std::string& out) {
  const auto first = text.find('\'');
  const auto second = first == std::string_view::npos ? first : text.find('\'', first + 1);
  return second != std::string_view::npos && same_word(text.substr(0, first), "utf-8") &&
         percent_decode(text.substr(second + 1), out);
}

Status read_disposition(std::string_view text, FormPart& part) {
  std::string_view value;
  std::vector<Parameter> parameters;
  if (!split_header(text, value, parameters) || !same_word(value, "form-data"))
    return bad("a part's Content-Disposition is not form-data; name=...");
  const std::string* name = parameter(parameters, "name");
  if (name == nullptr) return bad("a part without a name");
  part.name = *name;
  if (const std::string* file = parameter(parameters, "filename")) part.filename = last_component(*file);
  std::string extended;
  if (const std::string* file = parameter(parameters, "filename*"); file != nullptr && extended_name(*file, extended))
    part.filename = last_component(extended);
  return {};
}

Status read_head(std::string_view head, FormPart& part) {
  bool named = false;
  while (!head.empty()) {
    const auto end = std::min(head.find("\r\n"), head.size());
    const std::string_view line = head.substr(0, end);
    head.remove_prefix(std::min(end + 2, head.size()));
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) return bad("a header line without a colon in the head of a part");
    const std::string_view name = base::trimmed(line.substr(0, colon), kBlanks),
                           value = base::trimmed(line.substr(colon + 1), kBlanks);
    if (same_word(name, "content-type")) part.content_type = value;
    if (same_word(name, "content-transfer-encoding") && !same_word(value, "binary") && !same_word(value, "8bit") &&
        !same_word(value, "7bit"))
      return bad("Content-Transfer-Encoding " + std::string(value.substr(0, 40)) + " is not supported");
    if (!same_word(name, "content-disposition")) continue;
    QW_TRY(read_disposition(value, part));
    named = true;
  }
  if (!named) return bad("a part without Content-Disposition");
  return {};
}

}  // namespace

Result<std::vector<FormPart>> parse_form(std::string_view content_type, std::string_view body) {
  std::string_view type;
  std::vector<Parameter> parameters;
  if (!split_header(content_type, type, parameters) || !same_word(type, "multipart/form-data"))
    return bad("the Content-Type must be multipart/form-data with a boundary");
  const std::string* boundary = parameter(parameters, "boundary");
  if (boundary == nullptr || boundary->empty() || boundary->size() > 70)  // RFC 2046 allows 70 characters
    return bad("the Content-Type has no boundary of 1 to 70 characters");

  // Every delimiter but the first begins with the end of a line, which is not part of the body before it.
  const std::string delimiter = "\r\n--" + *boundary;
  std::size_t at = 0;
  if (body.starts_with(std::string_view(delimiter).substr(2))) {
    at = delimiter.size() - 2;
  } else if (const auto first = body.find(delimiter); first != std::string_view::npos) {
    at = first + delimiter.size();
  } else {
    return bad("the boundary of the Content-Type does not occur");
  }
  std::vector<FormPart> parts;
  while (true) {
    if (body.substr(at, 2) == "--") return parts;
    while (at < body.size() && (body[at] == ' ' || body[at] == '\t')) ++at;  // padding that gateways may add
    if (body.substr(at, 2) != "\r\n")
      return bad("byte " + std::to_string(at) + ": a boundary that is not the end of its line");
    at += 2;
    if (parts.size() == kMaxFormParts) return bad("more than " + std::to_string(kMaxFormParts) + " parts");
    const auto head_end = body.substr(at, kMaxPartHead).find("\r\n\r\n");
    if (head_end == std::string_view::npos)
      return bad("byte " + std::to_string(at) + ": the head of a part has no end within " +
                 std::to_string(kMaxPartHead) + " bytes");
    FormPart part;
    QW_TRY(read_head(body.substr(at, head_end), part));
    // An empty body ends with the line end of its head.
    const auto end = body.find(delimiter, at + head_end + 2);
    if (end == std::string_view::npos) return bad("the last part is cut off");
    at += head_end + 4;
    part.body = end < at ? std::string_view() : body.substr(at, end - at);
    parts.push_back(std::move(part));
    at = end + delimiter.size();
  }
}

}  // namespace qw::net
