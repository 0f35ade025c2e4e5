#include "governance/pii/pii_finder.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "governance/pii/identifiers.h"

namespace qw::governance {
namespace {

constexpr std::array<const char*, kPiiKinds> kNames = {
    "email",          "ip_address",     "payment_card", "iban",        "codice_fiscale", "partita_iva",
    "cn_resident_id", "cn_credit_code", "cn_mobile",    "cn_passport", "us_ssn"};
constexpr std::size_t kContextBytes = 48;  // that a word may stand before what it tells of

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_capital(char c) { return c >= 'A' && c <= 'Z'; }
bool is_small(char c) { return c >= 'a' && c <= 'z'; }
bool is_alnum(char c) { return is_digit(c) || is_capital(c) || is_small(c); }
char capital(char c) { return is_small(c) ? static_cast<char>(c - 'a' + 'A') : c; }
char small(char c) { return is_capital(c) ? static_cast<char>(c - 'A' + 'a') : c; }
// What things are made of. A blank is of them between digits and capitals alone.
constexpr auto kJoins = [] {
  std::array<bool, 256> of{};
  for (int c = 0; c < 256; ++c)
    of[static_cast<std::size_t>(c)] = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
  for (const char c : std::string_view("@._%+-:\0", 8)) of[static_cast<unsigned char>(c)] = true;
  return of;
}();
bool joins(char c) { return kJoins[static_cast<unsigned char>(c)]; }
bool joins_blank(char c) { return is_digit(c) || is_capital(c); }

// Letters and digits from `begin` on as one word of capitals, read over one blank or hyphen between them where
// `grouped`; `ends[i]`: where character i of them ends.
struct Compact {
  static constexpr std::size_t kMost = 40;
  std::array<char, kMost> chars;
  std::array<std::size_t, kMost> ends;
  std::size_t size = 0;
  std::string_view text() const { return {chars.data(), size}; }
};
Compact compact(std::string_view run, std::size_t begin, bool grouped) {
  Compact out;
  for (std::size_t i = begin; i < run.size() && out.size < Compact::kMost; ++i) {
    if (is_alnum(run[i])) {
      out.chars[out.size] = capital(run[i]);
      out.ends[out.size++] = i + 1;
      continue;
    }
    const bool parts = (run[i] == ' ' || run[i] == '-') && i > begin && is_alnum(run[i - 1]) && i + 1 < run.size() &&
                       is_alnum(run[i + 1]);
    if (!grouped || !parts) break;
  }
  return out;
}

// Whether the eleven characters from `first` on are parted, if at all, behind these many.
bool in_groups(const Compact& in, std::size_t first, std::initializer_list<std::size_t> behind) {
  for (std::size_t i = 1; i < 11; ++i) {
    const bool parted = in.ends[first + i] - in.ends[first + i - 1] > 1;
    if (parted && std::find(behind.begin(), behind.end(), i) == behind.end()) return false;
  }
  return true;
}

// Whether nothing of the same kind of character goes on at `end`.
bool ends_at(std::string_view run, std::size_t end) { return end >= run.size() || !is_alnum(run[end]); }

std::size_t email_end(std::string_view run, std::size_t begin) {
  const auto of_local = [](char c) { return is_alnum(c) || std::strchr("._%+-", c) != nullptr; };
  std::size_t at = begin;
  while (at < run.size() && of_local(run[at])) ++at;
  if (at == begin || at - begin > 64 || at >= run.size() || run[at] != '@') return 0;
  std::size_t end = 0, label = 0, dots = 0;
  bool letters = true;
  for (std::size_t i = at + 1; i < run.size(); ++i) {
    if (is_alnum(run[i]) || (run[i] == '-' && label > 0)) {
      letters = (label == 0 || letters) && !is_digit(run[i]) && run[i] != '-';
      ++label;
      if (dots > 0 && label >= 2 && letters)
        end = i + 1;
      else if (dots > 0 && label >= 2 && end > 0 && !letters)
        end = 0;
    } else if (run[i] == '.' && label > 0) {
      ++dots;
      label = 0;
    } else {
      break;
    }
  }
  return end;
}

// Whether anything can begin in it at all: all kinds have a digit or "@" but two, whose digits may be letters, of 16
// characters and more. Most words of a text are settled by this.
bool holds_nothing(std::string_view run) {
  constexpr std::size_t kShortestOfLetters = 16;
  return run.size() < kShortestOfLetters &&
         std::none_of(run.begin(), run.end(), [](char c) { return is_digit(c) || c == '@'; });
}

bool all_digits(std::string_view text) { return !text.empty() && std::all_of(text.begin(), text.end(), is_digit); }

}  // namespace

const char* name_of(PiiKind kind) { return kNames[static_cast<std::size_t>(kind)]; }

Result<PiiSet> PiiSet::parse(std::string_view names) {
  PiiSet out;
  for (std::size_t at = 0; at <= names.size();) {
    const std::size_t end = std::min(names.find(',', at), names.size());
    const std::string_view name = names.substr(at, end - at);
    at = end + 1;
    const auto region = [&](std::initializer_list<PiiKind> kinds) {
      for (const PiiKind kind : {PiiKind::kEmail, PiiKind::kIpAddress, PiiKind::kPaymentCard}) out.add(kind);
      for (const PiiKind kind : kinds) out.add(kind);
    };
    using K = PiiKind;
    if (name == "eu" || name == "it") {
      region({K::kIban, K::kCodiceFiscale, K::kPartitaIva});
    } else if (name == "cn") {
      region({K::kCnResidentId, K::kCnCreditCode, K::kCnMobile, K::kCnPassport});
    } else if (name == "us") {
      region({K::kUsSsn});
    } else if (name == "all") {
      for (std::size_t i = 0; i < kPiiKinds; ++i) out.add(static_cast<K>(i));
    } else {
      const auto known = std::find(kNames.begin(), kNames.end(), name);
      if (known == kNames.end())
        return fail(ErrorKind::kUsage,
                    "\"" + std::string(name) +
                        "\" is no kind of personal data: eu, it, cn, us, all, or one of email, ip_address, "
                        "payment_card, iban, codice_fiscale, partita_iva, cn_resident_id, cn_credit_code, "
                        "cn_mobile, cn_passport, us_ssn");
      out.add(static_cast<K>(known - kNames.begin()));
    }
  }
  return out;
}

PiiFinder::PiiFinder(PiiSet kinds, std::string_view before) : kinds_(kinds) {
  for (const char c : before) context_ += small(c);
}

void PiiFinder::push(std::string_view bytes, std::vector<PiiHit>& found) {
  for (std::size_t i = 0; i < bytes.size();) {
    const char c = bytes[i];
    if (run_.empty() && !joins(c)) {
      const std::size_t begin = i;
      while (i < bytes.size() && !joins(bytes[i])) ++i;
      pass(bytes.substr(begin, i - begin));
      bytes_ += i - begin;
      continue;
    }
    const bool blank = c == ' ' && joins_blank(run_.back());
    // A blank stays with the run only if what follows it does.
    if (!run_.empty() && run_.back() == ' ' && !joins_blank(c)) close_run(found);
    if (joins(c) || blank) {
      if (run_.size() == kLongest) close_run(found);
      run_ += c;
    } else {
      if (!run_.empty()) close_run(found);
      pass(bytes.substr(i, 1));
    }
    ++bytes_;
    ++i;
    if (!joins(c)) continue;
    const std::size_t begin = i, most = begin + kLongest - run_.size();
    while (i < std::min(bytes.size(), most) && joins(bytes[i])) ++i;
    run_.append(bytes, begin, i - begin);
    bytes_ += i - begin;
  }
}

// Of what is no part of anything, the end is kept: words there may tell what follows.
void PiiFinder::pass(std::string_view text) {
  for (const char c : text.substr(text.size() - std::min(text.size(), kContextBytes))) context_ += small(c);
  if (context_.size() > 4 * kContextBytes) context_.erase(0, context_.size() - kContextBytes);
}

void PiiFinder::finish(std::vector<PiiHit>& found) { close_run(found); }

void PiiFinder::close_run(std::vector<PiiHit>& found) {
  const std::uint64_t base = bytes_ - run_.size();
  for (std::size_t i = holds_nothing(run_) ? run_.size() : 0; i < run_.size();) {
    // Everything begins where a word does.
    const bool begins = is_alnum(run_[i]) ? i == 0 || !is_alnum(run_[i - 1])
                                          : run_[i] == '+' || (run_[i] == ':' && (i == 0 || !is_alnum(run_[i - 1])));
    const auto hit = begins ? at(i) : std::nullopt;
    if (hit) found.push_back({base + hit->begin, base + hit->end, hit->kind});
    i = hit ? hit->end : i + 1;
  }
  pass(run_);
  run_.clear();
}

bool PiiFinder::said_before(std::size_t begin, std::initializer_list<std::string_view> words) const {
  std::string before = context_;
  for (const char c : std::string_view(run_).substr(0, begin)) before += small(c);
  const std::string_view near = std::string_view(before).substr(before.size() - std::min(before.size(), kContextBytes));
  return std::any_of(words.begin(), words.end(), [&](std::string_view word) { return near.find(word) != near.npos; });
}

// The first thing that begins there, of those looked for; those with the strongest checks first.
std::optional<PiiHit> PiiFinder::at(std::size_t begin) const {
  const std::string_view run = run_;
  const auto hit = [&](std::size_t end, PiiKind kind) { return PiiHit{begin, end, kind}; };
  if (kinds_.has(PiiKind::kEmail))
    if (const std::size_t end = email_end(run, begin); end != 0) return hit(end, PiiKind::kEmail);
  if (kinds_.has(PiiKind::kIpAddress)) {
    std::size_t end = begin;
    while (end < run.size() && (is_alnum(run[end]) || run[end] == '.' || run[end] == ':')) ++end;
    while (end > begin && (run[end - 1] == '.' || (run[end - 1] == ':' && !run.substr(0, end).ends_with("::")))) --end;
    const std::string text(run.substr(begin, end - begin));
    in6_addr address{};
    const bool four = std::count(text.begin(), text.end(), '.') == 3 && inet_pton(AF_INET, text.c_str(), &address) == 1;
    const bool six = std::any_of(text.begin(), text.end(), is_digit) &&  // "::add" is a name
                     std::count(text.begin(), text.end(), ':') >= 2 && inet_pton(AF_INET6, text.c_str(), &address) == 1;
    if (four || six) return hit(end, PiiKind::kIpAddress);
  }
  if (run[begin] == ':') return std::nullopt;
  const bool plus = run[begin] == '+';
  const std::size_t first = plus ? begin + 1 : begin;
  const Compact grouped = compact(run, first, true), plain = compact(run, first, false);
  // The first `size` characters, in groups or not, if the text parts there.
  const auto taken = [&](const Compact& in, std::size_t size) {
    return in.size >= size && ends_at(run, in.ends[size - 1]) ? in.text().substr(0, size) : "";
  };
  for (const std::size_t prefix : {std::size_t{0}, std::size_t{2}}) {
    if (!kinds_.has(PiiKind::kCnMobile) || (prefix == 2 && !grouped.text().starts_with("86")) || (plus && prefix == 0))
      continue;
    const std::string_view text = taken(grouped, 11 + prefix);
    if (!text.empty() && is_cn_mobile(text.substr(prefix)) && in_groups(grouped, prefix, {3, 7}))
      return hit(grouped.ends[10 + prefix], PiiKind::kCnMobile);
  }
  if (plus) return std::nullopt;
  if (kinds_.has(PiiKind::kCnResidentId) && is_cn_resident_id(taken(plain, 18)))
    return hit(plain.ends[17], PiiKind::kCnResidentId);
  if (kinds_.has(PiiKind::kCnCreditCode) && is_cn_credit_code(taken(plain, 18)))
    return hit(plain.ends[17], PiiKind::kCnCreditCode);
  if (kinds_.has(PiiKind::kCodiceFiscale) && is_codice_fiscale(taken(grouped, 16)))
    return hit(grouped.ends[15], PiiKind::kCodiceFiscale);
  if (kinds_.has(PiiKind::kIban))
    for (std::size_t size = 15; size <= std::min<std::size_t>(34, grouped.size); ++size)
      if (is_iban(taken(grouped, size))) return hit(grouped.ends[size - 1], PiiKind::kIban);
  if (kinds_.has(PiiKind::kPaymentCard))
    for (std::size_t size = std::min<std::size_t>(19, grouped.size); size >= 13; --size)
      if (is_payment_card(taken(grouped, size))) return hit(grouped.ends[size - 1], PiiKind::kPaymentCard);
  if (kinds_.has(PiiKind::kPartitaIva)) {
    const std::size_t country = plain.text().starts_with("IT") ? 2 : 0;
    if (const auto text = taken(plain, 11 + country);
        !text.empty() && is_partita_iva(text.substr(country)) && (country == 2 || said_before(begin, {"iva", "vat"})))
      return hit(plain.ends[10 + country], PiiKind::kPartitaIva);
  }
  if (kinds_.has(PiiKind::kUsSsn)) {
    const std::string_view as_written = run.substr(begin, std::min<std::size_t>(11, run.size() - begin));
    const bool parted =
        as_written.size() == 11 && as_written[3] == '-' && as_written[6] == '-' && ends_at(run, begin + 11);
    if (parted && is_us_ssn(taken(grouped, 9))) return hit(begin + 11, PiiKind::kUsSsn);
    if (is_us_ssn(taken(plain, 9)) && said_before(begin, {"ssn", "social security"}))
      return hit(plain.ends[8], PiiKind::kUsSsn);
  }
  if (kinds_.has(PiiKind::kCnPassport)) {
    const auto text = taken(plain, 9);
    const bool form = !text.empty() && std::strchr("EDGPS", text[0]) != nullptr && all_digits(text.substr(2)) &&
                      (is_digit(text[1]) || is_capital(text[1]));
    if (form && said_before(begin, {"passport", "护照"})) return hit(plain.ends[8], PiiKind::kCnPassport);
  }
  return std::nullopt;
}

std::string masked(std::string_view text, const std::vector<PiiHit>& hits) {
  std::string out(text);
  for (const PiiHit& hit : hits) {
    std::size_t kept = 4;
    for (std::size_t i = hit.end; i-- > hit.begin;) {
      if (hit.kind == PiiKind::kEmail) {
        if (i < text.find('@', hit.begin)) out[i] = '*';
      } else if (is_alnum(text[i])) {
        if (kept > 0)
          --kept;
        else
          out[i] = '*';
      }
    }
  }
  return out;
}

}  // namespace qw::governance
