#include "data/internal/sieve.h"

#include <algorithm>
#include <functional>

#include "data/internal/line_reader.h"
#include "data/internal/source_reader.h"
#include "data/internal/units.h"

namespace qw::data {
namespace {

constexpr std::size_t kRepeatedRun = 10;  // units of a run that counts as repeated
constexpr double kHanOfChinese = 0.3, kKanaOfChinese = 0.05, kLatinOfEnglish = 0.9;
// Of these at least two stand in any English text of some length (Rae et al., "Gopher", 2021, A.1).
constexpr std::string_view kEnglishWords[] = {"the", "be", "to", "of", "and", "that", "have", "with"};
constexpr std::size_t kEnoughUnits = 50;  // below, too few words for that rule

// A thread's room to work in, kept from text to text.
struct Room {
  std::vector<std::uint64_t> units;
  HashSet seen;
};
Room& room() {
  thread_local Room mine;
  return mine;
}

bool is_english(const CharacterCounts& c, const std::vector<std::uint64_t>& units) {
  if (static_cast<double>(c.latin) < kLatinOfEnglish * static_cast<double>(c.letters)) return false;
  if (units.size() < kEnoughUnits) return true;
  static const auto common = [] {
    std::vector<std::uint64_t> all;
    for (const std::string_view word : kEnglishWords) all.push_back(units_of(word)[0]);
    return all;
  }();
  std::uint64_t first = 0;  // that was found
  for (const std::uint64_t unit : units)
    if (unit != first && std::find(common.begin(), common.end(), unit) != common.end()) {
      if (first != 0) return true;
      first = unit;
    }
  return false;
}

// Calls visit(line with its end) for every line of a text.
template <typename Visit>
void each_line(std::string_view text, const Visit& visit) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
    visit(text.substr(at, end - at));
    at = end;
  }
}
std::string_view without_blanks(std::string_view line) {
  const std::size_t begin = line.find_first_not_of(" \t\n");
  return begin == line.npos ? std::string_view() : line.substr(begin, line.find_last_not_of(" \t\n") + 1 - begin);
}
std::uint64_t hash_of(std::string_view line) { return mixed(std::hash<std::string_view>()(line)); }

// Share of the characters in lines that stood before.
double repeated_lines(std::string_view text) {
  HashSet& lines = room().seen;
  lines.reset(static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1);
  std::size_t all = 0, again = 0;
  each_line(text, [&](std::string_view line) {
    if (line.ends_with('\n')) line.remove_suffix(1);
    if (without_blanks(line).empty()) return;
    all += line.size();
    again += lines.insert(hash_of(line)) ? 0 : line.size();
  });
  return all == 0 ? 0 : static_cast<double>(again) / static_cast<double>(all);
}

// Share of the units in runs that stood before.
double repeated_runs(const std::vector<std::uint64_t>& units) {
  if (units.size() <= kRepeatedRun) return 0;
  HashSet& seen = room().seen;
  seen.reset(units.size());
  std::size_t again = 0, covered = 0, i = 0;  // covered: up to here
  each_run(units, kRepeatedRun, [&](std::uint64_t run) {
    if (!seen.insert(run)) {
      again += i + kRepeatedRun - std::max(covered, i);
      covered = i + kRepeatedRun;
    }
    ++i;
  });
  return static_cast<double>(again) / static_cast<double>(units.size());
}

Flaw flaw_by(std::string_view text, const CharacterCounts& c, const std::vector<std::uint64_t>& units,
             const CleaningRules& rules) {
  if (c.all < rules.min_characters) return Flaw::kShort;
  if (rules.max_characters > 0 && c.all > rules.max_characters) return Flaw::kLong;
  const auto all = static_cast<double>(c.all), letters = static_cast<double>(c.letters);
  if (letters < rules.min_letters * all) return Flaw::kLetters;
  if (rules.max_repeated_lines < 1 && repeated_lines(text) > rules.max_repeated_lines) return Flaw::kRepetition;
  if (rules.language == Language::kChinese &&
      (static_cast<double>(c.han) < kHanOfChinese * letters || static_cast<double>(c.kana) > kKanaOfChinese * letters))
    return Flaw::kLanguage;
  if (rules.language == Language::kEnglish && !is_english(c, units)) return Flaw::kLanguage;
  return rules.max_repeated_runs < 1 && repeated_runs(units) > rules.max_repeated_runs ? Flaw::kRepetition
                                                                                       : Flaw::kNone;
}

// Whether a run of a text is one of those. What is to be looked at is fetched some looks ahead: it lies anywhere in
// memory.
bool has_run_of(const HashSet& all, const std::vector<std::uint64_t>& units, std::size_t run) {
  constexpr std::size_t kAhead = 16;
  std::array<std::uint64_t, kAhead> coming{};
  std::size_t number = 0;
  bool found = false;
  each_run(units, run, [&](std::uint64_t hash) {
    all.expect(hash);
    std::uint64_t& place = coming[number++ % kAhead];
    found = found || (number > kAhead && all.has(place));
    place = hash;
  });
  for (std::size_t i = 0; i < std::min(number, kAhead); ++i) found = found || all.has(coming[i]);
  return found;
}

// Every text of a value, in order.
template <typename Visit>
void each_text(json::Value& value, const Visit& visit) {
  if (value.is_string()) {
    std::string text = value.as_string();
    visit(text);
    value = json::Value(std::move(text));
  } else if (value.is_array()) {
    for (json::Value& item : value.as_array()) each_text(item, visit);
  } else if (value.is_object()) {
    for (auto& [key, item] : value.as_object()) each_text(item, visit);
  }
}

// What people wrote of a conversation, and no names of roles.
template <typename Visit>
void each_said(json::Object& chat, const Visit& visit) {
  json::Value* messages = chat.find("messages");
  if (messages == nullptr || !messages->is_array()) return;
  for (json::Value& message : messages->as_array())
    for (const char* key : {"content", "reasoning_content", "tool_calls"})
      if (message.is_object())
        if (json::Value* said = message.as_object().find(key)) each_text(*said, visit);
}

template <typename Visit>
void each_text(Document& document, const Visit& visit) {
  if (!document.text.empty()) visit(document.text);
  each_said(document.chat, visit);
  each_said(document.rejected, visit);
  for (std::string& text : document.texts) visit(text);
}

bool is_plain(const Document& d) { return d.chat.empty() && d.rejected.empty() && d.texts.empty(); }

// Lines of JSON count by their texts, other lines as they are.
Status read_kept_out(const std::filesystem::path& path, std::size_t run, HashSet& into) {
  QW_ASSIGN(auto bytes, ByteReader::open(path));
  constexpr std::uint64_t kLongestLine = 16 << 20;
  LineReader lines(std::move(bytes), path, kLongestLine);
  const auto add = [&](std::string& text) {
    const auto units = units_of(text);
    if (units.size() < run) return;
    each_run(units, run, [&](std::uint64_t hash) { into.insert(hash); });
  };
  std::string line;
  for (;;) {
    QW_ASSIGN(const bool more, lines.next(line));
    if (!more) return {};
    auto value =
        line.starts_with('{') || line.starts_with('[') ? json::parse(line) : Result<json::Value>(json::Value());
    if (value && !value->is_null())
      each_text(*value, add);
    else
      add(line);
  }
}

}  // namespace

const char* flaw_name(Flaw flaw) {
  static constexpr const char* kNames[] = {"none",     "too_short",          "too_long",    "few_letters", "language",
                                           "repeated", "held_out_elsewhere", "near_copies", "boilerplate"};
  return kNames[static_cast<std::size_t>(flaw)];
}

Flaw flaw_of(std::string_view text, const CleaningRules& rules) {
  std::vector<std::uint64_t> units;
  CharacterCounts counts;
  read_units(text, units, counts);
  return flaw_by(text, counts, units, rules);
}

void LineCounts::add(std::string_view document) {
  once_.reset(static_cast<std::size_t>(std::count(document.begin(), document.end(), '\n')) + 1);
  each_line(document, [&](std::string_view line) {
    line = without_blanks(line);
    if (line.size() < kShortest) return;
    const std::uint64_t hash = hash_of(line);
    if (!once_.insert(hash)) return;
    if (counts_.size() >= most_ && counts_.find(hash) == nullptr) make_room();
    ++counts_.at(hash, 0);
  });
}

// Every count less by the least that leaves half of them.
void LineCounts::make_room() {
  std::vector<std::uint32_t> all;
  all.reserve(counts_.size());
  counts_.each([&](std::uint32_t& count) { return all.push_back(count), true; });
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
  std::nth_element(all.begin(), middle, all.end());
  counts_.each([less = *middle](std::uint32_t& count) { return count > less ? (count -= less, true) : false; });
}

std::uint64_t LineCounts::drop(std::string& document, std::int64_t documents) const {
  std::string left;
  std::uint64_t dropped = 0;
  each_line(document, [&](std::string_view line) {
    const std::string_view bare = without_blanks(line);
    const std::uint32_t* const count = bare.size() < kShortest ? nullptr : counts_.find(hash_of(bare));
    if (count != nullptr && static_cast<std::int64_t>(*count) >= documents)
      ++dropped;
    else
      left += line;
  });
  if (dropped == 0) return 0;
  while (left.ends_with('\n')) left.pop_back();
  document = std::move(left);
  return dropped;
}

Result<Sieve> Sieve::create(const DataConfig& config) {
  Sieve sieve(config);
  for (const auto& path : config.keep_out) QW_TRY(read_kept_out(path, sieve.run_, sieve.kept_out_));
  for (const SourceConfig& source : config.sources) {
    const std::string& kinds = source.cleaning.personal_data;
    if (kinds.empty() || sieve.scrubbers_.count(kinds) != 0) continue;
    if (!config.scrubber)
      return fail(ErrorKind::kUsage, "source " + source.name + ": nothing here finds personal data");
    QW_ASSIGN(auto scrubber, config.scrubber(kinds));
    sieve.scrubbers_.emplace(kinds, std::move(scrubber));
  }
  return sieve;
}

Status Sieve::learn(const SourceConfig& source, Dedup dedup) {
  if (source.cleaning.boilerplate_documents == 0) return {};
  lines_ = LineCounts();
  SeenDocuments seen;
  SourceReader reader(source, dedup == Dedup::kNone ? Dedup::kNone : Dedup::kWithin, seen);
  Document document;
  for (;;) {
    QW_ASSIGN(const bool more, reader.next(document));
    if (!more) return {};
    if (is_plain(document)) lines_.add(document.text);
  }
}

bool Sieve::idle(const SourceConfig& source) const {
  return kept_out_.empty() && similarity_ == 0 && source.cleaning == CleaningRules{};
}

void Sieve::restart() {
  near_ = NearCopies(similarity_);
  counts_.clear();
}

void Sieve::examine(const SourceConfig& source, Document& document, Finding& finding) const {
  finding.flaw = Flaw::kNone;
  finding.is_signed = false;
  finding.replaced = finding.lines_dropped = 0;
  const CleaningRules& rules = source.cleaning;
  const bool plain = is_plain(document);
  if (plain && rules.boilerplate_documents > 0) {
    finding.lines_dropped = lines_.drop(document.text, rules.boilerplate_documents);
    if (document.text.empty()) {
      finding.flaw = Flaw::kBoilerplate;
      return;
    }
  }
  std::vector<std::uint64_t>& units = room().units;
  units.clear();
  CharacterCounts counts, others;
  each_text(document, [&](std::string& text) { normalise(text, rules.normalisation); });
  if (!document.text.empty()) {  // rules are those of plain texts
    read_units(document.text, units, counts);
    finding.flaw = flaw_by(document.text, counts, units, rules);
    if (finding.flaw != Flaw::kNone) return;
  }
  if (!plain) {
    units.clear();
    each_text(document, [&](std::string& text) { read_units(text, units, others); });
  }
  if (!kept_out_.empty() && units.size() >= run_ && has_run_of(kept_out_, units, run_)) {
    finding.flaw = Flaw::kHeldOut;
    return;
  }
  // Lines of verse and chats made of them repeat on purpose; what poems become is decided later.
  finding.is_signed = similarity_ > 0 && source.exercises == Exercises::kNone && !units.empty();
  if (finding.is_signed) near_.sign(units, finding.signature);
  if (rules.personal_data.empty()) return;
  const Scrubber& scrub = scrubbers_.at(rules.personal_data);
  each_text(document, [&](std::string& text) { finding.replaced += scrub(text); });
}

void Sieve::expect(const Finding& finding) const {
  if (finding.is_signed) near_.expect(finding.signature);
}

bool Sieve::admits(const SourceConfig& source, const Finding& finding) {
  Counts& counts = counts_[source.name];
  counts.lines_dropped += finding.lines_dropped;
  Flaw flaw = finding.flaw;
  if (flaw == Flaw::kNone && finding.is_signed && near_.seen(finding.signature)) flaw = Flaw::kNearCopy;
  if (flaw != Flaw::kNone) {
    ++counts.dropped[static_cast<std::size_t>(flaw)];
    return false;
  }
  counts.replaced += finding.replaced;
  return true;
}

const Sieve::Counts* Sieve::counts_of(const SourceConfig& source) const {
  const auto found = counts_.find(source.name);
  return found == counts_.end() ? nullptr : &found->second;
}
std::uint64_t Sieve::dropped(const SourceConfig& source, Flaw flaw) const {
  const Counts* const counts = counts_of(source);
  return counts == nullptr ? 0 : counts->dropped[static_cast<std::size_t>(flaw)];
}
std::uint64_t Sieve::replaced(const SourceConfig& source) const {
  const Counts* const counts = counts_of(source);
  return counts == nullptr ? 0 : counts->replaced;
}
std::uint64_t Sieve::lines_dropped(const SourceConfig& source) const {
  const Counts* const counts = counts_of(source);
  return counts == nullptr ? 0 : counts->lines_dropped;
}

}  // namespace qw::data
