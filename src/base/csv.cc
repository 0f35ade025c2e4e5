#include "base/csv.h"

#include <algorithm>

namespace qw::base {

Result<std::vector<CsvRow>> parse_csv(std::string_view bytes) {
  if (bytes.starts_with("\xEF\xBB\xBF")) bytes.remove_prefix(3);
  std::vector<CsvRow> rows;
  std::size_t line = 1, at = 0;
  while (at < bytes.size()) {
    CsvRow row{line, {}};
    for (bool more = true; more;) {
      std::string field;
      if (at < bytes.size() && bytes[at] == '"') {
        const std::size_t opened = line;
        for (++at;; ++at) {
          if (at >= bytes.size())
            return fail(ErrorKind::kBadInput, "line " + std::to_string(opened) + ": a quote is not closed");
          line += bytes[at] == '\n';
          if (bytes[at] != '"') {
            field += bytes[at];
          } else if (at + 1 < bytes.size() && bytes[at + 1] == '"') {
            field += bytes[at++];
          } else {
            break;
          }
        }
        ++at;
        if (at < bytes.size() && bytes[at] != ',' && bytes[at] != '\n' && bytes[at] != '\r')
          return fail(ErrorKind::kBadInput, "line " + std::to_string(line) + ": text follows a closing quote");
      } else {
        const std::size_t end = std::min(bytes.find_first_of(",\r\n", at), bytes.size());
        field = bytes.substr(at, end - at);
        at = end;
      }
      row.fields.push_back(std::move(field));
      more = at < bytes.size() && bytes[at] == ',';
      if (more) ++at;
    }
    if (at < bytes.size() && bytes[at] == '\r') ++at;
    if (at < bytes.size() && bytes[at] == '\n') ++at;
    ++line;
    const bool blank = row.fields.size() == 1 && row.fields[0].empty();
    if (!blank) rows.push_back(std::move(row));
  }
  return rows;
}

std::string csv_row(const std::vector<std::string>& fields) {
  std::string out;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (i > 0) out += ',';
    if (fields[i].find_first_of(",\"\r\n") == std::string::npos) {
      out += fields[i];
      continue;
    }
    out += '"';
    for (const char c : fields[i]) out += c == '"' ? std::string("\"\"") : std::string(1, c);
    out += '"';
  }
  return out + "\n";
}

}  // namespace qw::base
