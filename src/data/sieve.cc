#include "data/internal/sieve.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "base/utf8.h"
#include "data/internal/line_reader.h"
#include "data/internal/source_reader.h"
#include "data/internal/units.h"

namespace qw::data {
namespace {

constexpr std::size_t kShingle = 5;       // units: short enough that one changed word spoils five runs only
constexpr std::size_t kRepeatedRun = 10;  // units of a run that counts as repeated
constexpr double kHanOfChinese = 0.3, kKanaOfChinese = 0.05, kLatinOfEnglish = 0.9;
// Of these at least two stand in any English text of some length (Rae et al., "Gopher", 2021, A.1).
constexpr std::string_view kEnglishWords[] = {"the", "be", "to", "of", "and", "that", "have", "with"};
constexpr std::size_t kEnoughUnits = 50;  // below, too few words for that rule

bool is_english(const CharacterCounts& c, const std::vector<std::uint64_t>& units) {
  if (static_cast<double>(c.latin) < kLatinOfEnglish * static_cast<double>(c.letters)) return false;
  if (units.size() < kEnoughUnits) return true;
  const std::unordered_set<std::uint64_t> has(units.begin(), units.end());
  int found = 0;
  for (const std::string_view word : kEnglishWords) found += has.count(units_of(word)[0]) != 0 ? 1 : 0;
  return found >= 2;
}

// Share of the characters in lines that stood before.
double repeated_lines(std::string_view text) {
  std::unordered_set<std::string_view> lines;
  std::size_t all = 0, again = 0;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    all += line.size();
    again += lines.insert(line).second ? 0 : line.size();
  }
  return all == 0 ? 0 : static_cast<double>(again) / static_cast<double>(all);
}

// Share of the units in runs that stood before.
double repeated_runs(const std::vector<std::uint64_t>& units) {
  if (units.size() <= kRepeatedRun) return 0;
  std::unordered_set<std::uint64_t> seen;
  std::size_t again = 0, covered = 0;  // covered: up to here
  const auto runs = runs_of(units, kRepeatedRun);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (seen.insert(runs[i]).second) continue;
    again += i + kRepeatedRun - std::max(covered, i);
    covered = i + kRepeatedRun;
  }
  return static_cast<double>(again) / static_cast<double>(units.size());
}

// Whether a character stands in NFC as it is, whatever stands beside it: what stands before the
// combining marks, Han but for the compatibility blocks, the usual marks. Many others do, too; these make up most texts.
bool stays_in_nfc(std::uint32_t code) {
  return code < 0x300 || (code >= 0x4E00 && code <= 0x9FFF) || (code >= 0x3400 && code <= 0x4DBF) ||
         (code >= 0x2010 && code <= 0x2027) || (code >= 0x3000 && code <= 0x3029) || (code >= 0xFF01 && code <= 0xFF5E);
}

// But line feed and tab.
bool is_control(std::uint32_t code) {
  return (code < 0x20 && code != '\n' && code != '\t') || (code >= 0x7F && code < 0xA0);
}

void normalise(std::string& text, Normalisation form) {
  if (form == Normalisation::kNone) return;
  bool as_it_is = form == Normalisation::kNfc;
  for (std::size_t at = 0; as_it_is && at < text.size();) {
    const base::Utf8Char c = base::utf8_at(text, at);
    as_it_is = !is_control(c.code) && stays_in_nfc(c.code);
    at += c.size;
  }
  if (as_it_is) return;
  std::string plain;
  for (std::size_t at = 0; at < text.size();) {
    const base::Utf8Char c = base::utf8_at(text, at);
    const bool unseen = c.code == 0x200B || c.code == 0xFEFF || c.code == 0x2060;
    if (!is_control(c.code) && !unseen) plain.append(text, at, c.size);
    at += c.size;
  }
  utf8proc_uint8_t* made = nullptr;
  const int options = UTF8PROC_STABLE | UTF8PROC_COMPOSE | (form == Normalisation::kNfkc ? UTF8PROC_COMPAT : 0);
  const auto length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(plain.data()), static_cast<utf8proc_ssize_t>(plain.size()),
                   &made, static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(made, &std::free);
  text = length < 0 ? std::move(plain)
                    : std::string(reinterpret_cast<const char*>(made), static_cast<std::size_t>(length));
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

// Lines of JSON count by their texts, other lines as they are.
Status read_kept_out(const std::filesystem::path& path, std::size_t run, std::unordered_set<std::uint64_t>& into) {
  QW_ASSIGN(auto bytes, ByteReader::open(path));
  constexpr std::uint64_t kLongestLine = 16 << 20;
  LineReader lines(std::move(bytes), path, kLongestLine);
  const auto add = [&](std::string& text) {
    const auto units = units_of(text);
    if (units.size() < run) return;
    for (const std::uint64_t hash : runs_of(units, run)) into.insert(hash);
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
  static constexpr const char* kNames[] = {"none",     "too_short", "too_long",           "few_letters",
                                           "language", "repeated",  "held_out_elsewhere", "near_copies"};
  return kNames[static_cast<std::size_t>(flaw)];
}

Flaw flaw_of(std::string_view text, const CleaningRules& rules) {
  const CharacterCounts c = count_characters(text);
  if (c.all < rules.min_characters) return Flaw::kShort;
  if (rules.max_characters > 0 && c.all > rules.max_characters) return Flaw::kLong;
  const auto all = static_cast<double>(c.all), letters = static_cast<double>(c.letters);
  if (letters < rules.min_letters * all) return Flaw::kLetters;
  if (rules.max_repeated_lines < 1 && repeated_lines(text) > rules.max_repeated_lines) return Flaw::kRepetition;
  if (rules.language == Language::kAny && rules.max_repeated_runs >= 1) return Flaw::kNone;
  const auto units = units_of(text);
  if (rules.language == Language::kChinese &&
      (static_cast<double>(c.han) < kHanOfChinese * letters || static_cast<double>(c.kana) > kKanaOfChinese * letters))
    return Flaw::kLanguage;
  if (rules.language == Language::kEnglish && !is_english(c, units)) return Flaw::kLanguage;
  return repeated_runs(units) > rules.max_repeated_runs ? Flaw::kRepetition : Flaw::kNone;
}

// Few rows a band find less similar texts: sixteen bands of eight find 95 % of what is 0.8 similar, 32 of four those of
// 0.6.
NearCopies::NearCopies(double similarity) : similarity_(similarity), bands_(similarity < 0.75 ? 32 : 16) {}

bool NearCopies::seen(const std::vector<std::uint64_t>& units) {
  if (units.empty()) return false;
  Signature minima;
  constexpr std::uint32_t kEmpty = 0xFFFFFFFFu;
  minima.fill(kEmpty);
  for (const std::uint64_t run : runs_of(units, kShingle)) {
    std::uint32_t& least = minima[run % kMinima];
    least = std::min(least, static_cast<std::uint32_t>(run >> 32) & 0x7FFFFFFFu);
  }
  const Signature filled = minima;
  for (std::size_t bin = 0; bin < kMinima; ++bin)  // at least one is full
    for (std::uint64_t probe = bin; minima[bin] == kEmpty;) {
      probe = probe * 6364136223846793005u + 1442695040888963407u + bin;
      minima[bin] = filled[(probe >> 33) % kMinima];
    }
  const std::size_t rows = kMinima / bands_;
  std::array<std::uint64_t, kMinima> keys{};
  for (std::size_t b = 0; b < bands_; ++b) {
    std::vector<std::uint64_t> band{b};
    band.insert(band.end(), minima.begin() + static_cast<std::ptrdiff_t>(b * rows),
                minima.begin() + static_cast<std::ptrdiff_t>((b + 1) * rows));
    keys[b] = runs_of(band, band.size())[0];
    const auto found = first_in_.find(keys[b]);
    if (found == first_in_.end()) continue;
    const Signature& other = kept_[found->second];
    std::size_t equal = 0;
    for (std::size_t i = 0; i < kMinima; ++i) equal += minima[i] == other[i] ? 1 : 0;
    if (static_cast<double>(equal) >= similarity_ * static_cast<double>(kMinima)) return true;
  }
  const auto number = static_cast<std::uint32_t>(kept_.size());
  kept_.push_back(minima);
  for (std::size_t b = 0; b < bands_; ++b) first_in_.emplace(keys[b], number);
  return false;
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

bool Sieve::idle(const SourceConfig& source) const {
  return kept_out_.empty() && !finds_near_ && source.cleaning == CleaningRules{};
}

Flaw Sieve::flaw_in(const SourceConfig& source, const std::string& text) {
  if (kept_out_.empty() && !finds_near_) return Flaw::kNone;
  const auto units = units_of(text);
  if (!kept_out_.empty() && units.size() >= run_)
    for (const std::uint64_t run : runs_of(units, run_))
      if (kept_out_.count(run) != 0) return Flaw::kHeldOut;
  // Lines of verse and chats made of them repeat on purpose; what poems become is decided later.
  return finds_near_ && source.exercises == Exercises::kNone && near_.seen(units) ? Flaw::kNearCopy : Flaw::kNone;
}

Result<bool> Sieve::keeps(const SourceConfig& source, Document& document) {
  if (idle(source)) return true;
  Counts& counts = counts_[source.name];
  const CleaningRules& rules = source.cleaning;
  std::string all;
  each_text(document, [&](std::string& text) {
    normalise(text, rules.normalisation);
    all += text;
    all += '\n';
  });
  Flaw flaw = document.text.empty() ? Flaw::kNone : flaw_of(document.text, rules);  // rules are those of plain texts
  if (flaw == Flaw::kNone) flaw = flaw_in(source, all);
  if (flaw != Flaw::kNone) {
    ++counts.dropped[static_cast<std::size_t>(flaw)];
    return false;
  }
  if (!rules.personal_data.empty()) {
    const Scrubber& scrub = scrubbers_.at(rules.personal_data);
    each_text(document, [&](std::string& text) { counts.replaced += scrub(text); });
  }
  return true;
}

std::uint64_t Sieve::dropped(const SourceConfig& source, Flaw flaw) const {
  const auto found = counts_.find(source.name);
  return found == counts_.end() ? 0 : found->second.dropped[static_cast<std::size_t>(flaw)];
}
std::uint64_t Sieve::replaced(const SourceConfig& source) const {
  const auto found = counts_.find(source.name);
  return found == counts_.end() ? 0 : found->second.replaced;
}

}  // namespace qw::data
