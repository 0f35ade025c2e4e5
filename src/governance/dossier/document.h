// Documents of a dossier as they are before they have a form: titles, and cells that each know what they rest on. What
// no evidence holds is a cell that says so; nothing is filled in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "json/value.h"

namespace qw::governance {

struct Cell {
  std::string text;
  bool recorded = true;  // false: "not recorded"
  std::string evidence;  // its id, "E3"; "": it rests on nothing but the rules that are named beside it
  std::string place;     // "/flops/learning", "record 17"
};
Cell plain(std::string text);
Cell not_recorded();

struct Line {
  std::string title;
  Cell cell;
};
struct Table {
  std::vector<std::string> heads;
  std::vector<std::vector<Cell>> rows;  // none: "not recorded" is said instead
};
struct Section {
  std::string title, text;
  std::vector<Line> lines;
  std::vector<Table> tables;
};
struct Document {
  std::string name;      // of its files, "model_card"
  std::string language;  // "en", "zh"
  std::string title, intro;
  std::vector<Section> sections;
};

// A file that cells point to.
struct Evidence {
  std::string id;    // "E3"
  std::string file;  // "evidence/E3-compute.json"
  std::string what;  // for people
  std::string bytes;
  std::string sha256;   // of those
  json::Value content;  // null: it is no JSON
};

class EvidenceSet {
 public:
  // `name`: of its file, without a folder. Returns its place in all().
  std::size_t add(const std::string& name, std::string what, std::string bytes);
  const std::vector<Evidence>& all() const { return all_; }
  // What stands at a dotted place of a JSON evidence; a list or an object that is there in short. Not recorded where it
  // is absent, null or "".
  Cell at(std::size_t evidence, std::string_view place) const;
  // The same as a number of two significant figures, as laws ask for of compute.
  Cell rounded(std::size_t evidence, std::string_view place, const char* unit) const;
  // A text of one's own about what stands there.
  Cell about(std::size_t evidence, std::string_view place, std::string text) const;

 private:
  std::vector<Evidence> all_;
};

// A page that needs nothing but itself (and, for who follows its links, the evidence beside it). All texts are escaped.
std::string html_of(const Document& document, const EvidenceSet& evidence);

}  // namespace qw::governance
