// Finds what tells of a person in a text that comes in pieces, cut anywhere: the same wherever it is cut.
//
// A number is found where its check digits hold; of kinds that have none, or a weak one, where it is written as people
// write it ("219-09-9999") or a word before it says what it is ("P. IVA", "passport"). Digits may be written in groups,
// parted by one blank or hyphen. Names and addresses of streets are not found.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace qw::governance {

enum class PiiKind : std::uint8_t {
  kEmail,
  kIpAddress,
  kPaymentCard,
  kIban,
  kCodiceFiscale,
  kPartitaIva,
  kCnResidentId,
  kCnCreditCode,
  kCnMobile,
  kCnPassport,
  kUsSsn,
};
inline constexpr std::size_t kPiiKinds = 11;
const char* name_of(PiiKind kind);  // "email", "cn_resident_id", ...

// Which kinds are looked for.
class PiiSet {
 public:
  // Names of kinds or of regions ("eu", "it", "cn", "us", "all"), with commas between: a region is what is given to
  // people there, and e-mail, addresses of the net and cards. kUsage naming what is unknown.
  static Result<PiiSet> parse(std::string_view names);
  bool has(PiiKind kind) const { return has_[static_cast<std::size_t>(kind)]; }
  void add(PiiKind kind) { has_[static_cast<std::size_t>(kind)] = true; }
  bool empty() const { return has_ == decltype(has_){}; }

 private:
  std::array<bool, kPiiKinds> has_{};
};

struct PiiHit {
  std::uint64_t begin = 0, end = 0;  // bytes since the text began
  PiiKind kind = PiiKind::kEmail;
  friend bool operator==(const PiiHit&, const PiiHit&) = default;
};

class PiiFinder {
 public:
  // Of what could be one thing, bytes; what is longer is looked at in pieces of this length.
  static constexpr std::size_t kLongest = 320;

  // `before`: words that stand in front of the text and are none of it.
  explicit PiiFinder(PiiSet kinds, std::string_view before = "");
  // Appends what is certain, in order; nothing overlaps.
  void push(std::string_view bytes, std::vector<PiiHit>& found);
  void finish(std::vector<PiiHit>& found);
  // Text before this holds no part of what is found later: all but the letters, digits and signs that the text ends
  // with.
  std::uint64_t settled() const { return bytes_ - run_.size(); }

 private:
  void close_run(std::vector<PiiHit>& found);
  void pass(std::string_view text);
  std::optional<PiiHit> at(std::size_t begin) const;
  bool said_before(std::size_t begin, std::initializer_list<std::string_view> words) const;

  PiiSet kinds_;
  std::uint64_t bytes_ = 0;
  std::string run_;      // what could still become, or be part of, something
  std::string context_;  // small letters of what stands before it
};

// The text with all but the last four letters and digits of every hit as "*"; of e-mail addresses all before the "@".
std::string masked(std::string_view text, const std::vector<PiiHit>& hits);

}  // namespace qw::governance
