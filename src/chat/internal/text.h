// Python's view of text, on UTF-8: characters are code points, white space and case are Unicode's.
//
// A byte that is not part of well-formed UTF-8 counts as one character of its own and is copied as it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qw::chat::internal {

inline constexpr std::uint32_t kBadByte = 0x80000000u;  // flag of a decoded character that was a stray byte

// Decodes the character at `at` and moves `at` past it; a stray byte b gives kBadByte | b.
std::uint32_t decode_char(std::string_view text, std::size_t* at);
void append_char(std::string* out, std::uint32_t c);
bool is_ascii(std::string_view text);

std::vector<std::uint32_t> to_chars(std::string_view text);
std::string from_chars(const std::vector<std::uint32_t>& chars);
std::size_t char_count(std::string_view text);
// Byte offset of character `index`, or size() if there are fewer.
std::size_t byte_offset(std::string_view text, std::size_t index);

bool is_space(std::uint32_t c);  // str.isspace()
bool is_alpha(std::uint32_t c);
bool is_decimal(std::uint32_t c);
bool is_digit(std::uint32_t c);
bool is_numeric(std::uint32_t c);
bool is_upper(std::uint32_t c);
bool is_lower(std::uint32_t c);
bool is_title(std::uint32_t c);
bool is_printable(std::uint32_t c);
bool is_word(std::uint32_t c);  // \w of Python's re

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string title(std::string_view text);       // str.title()
std::string capitalize(std::string_view text);  // str.capitalize()
std::string swapcase(std::string_view text);

enum class Side { kBoth, kLeft, kRight };
// Strips white space, or the characters of `*chars`.
std::string_view strip(std::string_view text, Side side, const std::string_view* chars = nullptr);

std::vector<std::string> split_space(std::string_view text, std::int64_t limit);
std::vector<std::string> rsplit_space(std::string_view text, std::int64_t limit);
std::vector<std::string> split_on(std::string_view text, std::string_view separator, std::int64_t limit);
std::vector<std::string> rsplit_on(std::string_view text, std::string_view separator, std::int64_t limit);
std::vector<std::string> split_lines(std::string_view text, bool keep_ends);
std::string replace(std::string_view text, std::string_view from, std::string_view to, std::int64_t limit);

// repr(str).
std::string quoted(std::string_view text);
// HTML escaping as markupsafe does it.
std::string escape_html(std::string_view text);

}  // namespace qw::chat::internal
