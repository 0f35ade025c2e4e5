#define PCRE2_CODE_UNIT_WIDTH 8
#include "eval/pattern.h"

#include <pcre2.h>

#include <functional>
#include <span>

namespace qw::eval {
namespace {

// An answer is some thousand characters; an honest expression takes some steps for each.
constexpr std::uint32_t kMaxSteps = 5'000'000;
constexpr std::uint32_t kMaxHeapKiB = 64 * 1024;
constexpr std::size_t kMaxPatternBytes = 64 * 1024;

using MatchData = std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)>;

std::string message_of(int code) {
  unsigned char text[200];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct Pattern::Impl {
  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    pcre2_match_context_free(limits);
    pcre2_code_free(code);
  }
  // Calls f with the places of each match from the left: pairs of begin and end, of the whole and of the groups.
  Status each(std::string_view text, const std::function<void(std::span<const std::size_t>)>& f) const;

  pcre2_code* code = nullptr;
  pcre2_match_context* limits = nullptr;
  std::uint32_t groups = 0;
};

Result<Pattern> Pattern::compile(std::string_view source) {
  if (source.size() > kMaxPatternBytes) return fail(ErrorKind::kBadInput, "the expression is too long");
  auto impl = std::make_shared<Impl>();
  int error = 0;
  std::size_t at = 0;
  impl->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &error, &at, nullptr);
  if (impl->code == nullptr)
    return fail(ErrorKind::kBadInput,
                "the expression is wrong at byte " + std::to_string(at) + ": " + message_of(error));
  pcre2_pattern_info(impl->code, PCRE2_INFO_CAPTURECOUNT, &impl->groups);
  impl->limits = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(impl->limits, kMaxSteps);
  pcre2_set_heap_limit(impl->limits, kMaxHeapKiB);
  return Pattern(std::move(impl));
}

Status Pattern::Impl::each(std::string_view text, const std::function<void(std::span<const std::size_t>)>& f) const {
  const MatchData match(pcre2_match_data_create_from_pattern(code, nullptr), pcre2_match_data_free);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  std::size_t at = 0;
  std::uint32_t options = 0;
  while (at <= text.size()) {
    const int found = pcre2_match(code, subject, text.size(), at, options, match.get(), limits);
    if (found == PCRE2_ERROR_NOMATCH) {
      if (options == 0) break;
      // No longer match where an empty one was: on by a character.
      options = 0;
      do ++at;
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
      continue;
    }
    if (found < 0) return fail(ErrorKind::kResource, "the expression cannot be matched: " + message_of(found));
    const std::size_t* places = pcre2_get_ovector_pointer(match.get());
    f({places, 2 * (std::size_t{groups} + 1)});
    const bool empty = places[0] == places[1];
    at = places[1];
    options = empty ? PCRE2_NOTEMPTY_ATSTART | PCRE2_ANCHORED : 0;
  }
  return {};
}

Result<std::vector<std::vector<std::string>>> Pattern::find_all(std::string_view text) const {
  std::vector<std::vector<std::string>> out;
  QW_TRY(impl_->each(text, [&](std::span<const std::size_t> places) {
    std::vector<std::string> groups;
    for (std::size_t g = impl_->groups == 0 ? 0 : 1; g <= impl_->groups; ++g) {
      const bool took_part = places[2 * g] != PCRE2_UNSET;
      groups.emplace_back(took_part ? text.substr(places[2 * g], places[2 * g + 1] - places[2 * g])
                                    : std::string_view());
    }
    out.push_back(std::move(groups));
  }));
  return out;
}

Result<std::string> Pattern::replace_all(std::string_view text, std::string_view with) const {
  std::string out;
  std::size_t done = 0;
  QW_TRY(impl_->each(text, [&](std::span<const std::size_t> places) {
    out += text.substr(done, places[0] - done);
    for (std::size_t i = 0; i < with.size(); ++i) {
      const bool names_group = with[i] == '\\' && i + 1 < with.size() && with[i + 1] >= '1' && with[i + 1] <= '9';
      if (!names_group) {
        out += with[i];
        continue;
      }
      const auto g = static_cast<std::size_t>(with[++i] - '0');
      if (g <= impl_->groups && places[2 * g] != PCRE2_UNSET)
        out += text.substr(places[2 * g], places[2 * g + 1] - places[2 * g]);
    }
    done = places[1];
  }));
  out += text.substr(done);
  return out;
}

}  // namespace qw::eval
