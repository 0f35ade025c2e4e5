#include "json/text_writer.h"

#include "json/internal/spelling.h"

namespace qw::json {

// Room for an answer of some twenty fields, which would otherwise grow five times on the way.
static constexpr std::size_t kUsualBytes = 480;

TextWriter::TextWriter() { out_.reserve(kUsualBytes); }

void TextWriter::separate() {
  if (!first_) out_ += ',';
  first_ = false;
}

void TextWriter::open(char bracket) {
  separate();
  out_ += bracket;
  first_ = true;
}

void TextWriter::close(char bracket) {
  out_ += bracket;
  first_ = false;
}

void TextWriter::word(std::string_view text) {
  separate();
  out_ += text;
}

void TextWriter::key(std::string_view name) {
  separate();
  out_ += '"';
  out_ += name;
  out_ += "\":";
  first_ = true;
}

void TextWriter::string(std::string_view text) {
  separate();
  internal::append_string(out_, text, false);
}

void TextWriter::integer(std::int64_t number) {
  separate();
  internal::append_integer(out_, number);
}

void TextWriter::value(const Value& value) { word(dump(value, WriteStyle::compact())); }

}  // namespace qw::json
