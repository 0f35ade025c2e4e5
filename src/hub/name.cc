#include "hub/name.h"

#include <algorithm>
#include <array>
#include <optional>

namespace qw::hub {
namespace {

// Both services allow up to 96 characters.
constexpr std::size_t kMaxPart = 96;

bool plain_part(std::string_view part) {
  return !part.empty() && part.size() <= kMaxPart && part.front() != '.' && part.front() != '-' &&
         std::all_of(part.begin(), part.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
         });
}

bool digit(char c) { return c >= '0' && c <= '9'; }

// "0.6b" -> "0.6B", "1_8b" -> "1_8B", "a3b" -> "A3B".
std::optional<std::string> size_word(std::string word) {
  const std::size_t from = word.starts_with('a') ? 1 : 0;
  if (word.size() < from + 2 || word.back() != 'b' || !digit(word[from])) return std::nullopt;
  for (std::size_t i = from; i + 1 < word.size(); ++i) {
    if (!digit(word[i]) && word[i] != '.' && word[i] != '_') return std::nullopt;
  }
  word.back() = 'B';
  if (from == 1) word.front() = 'A';
  return word;
}

// The spelling the makers of the family use for one word between hyphens; nothing for a word they do not use.
std::optional<std::string> family_word(const std::string& word) {
  static constexpr std::array<const char*, 32> kWords{
      "Qwen",   "Qwen1.5", "Qwen2",     "Qwen2.5",  "Qwen3",    "Qwen3.5", "QwQ",  "CodeQwen1.5", "Qwen3Guard", "Base",  "Chat",
      "Instruct", "Thinking", "Coder",   "Math",     "Embedding", "Reranker", "RM", "PRM",        "Gen",         "Stream", "Next",
      "MoE",    "Preview", "GGUF",      "AWQ",      "FP8",      "GPTQ",    "Int4", "Int8",        "1M",         "MLX"};
  for (const char* known : kWords) {
    if (lower(known) == word) return known;
  }
  if (word.size() == 4 && std::all_of(word.begin(), word.end(), digit)) return word;   // a month: "2507"
  return size_word(word);
}

Result<std::string> short_name(std::string_view text) {
  std::string out;
  const std::string all = lower(text);
  for (std::size_t at = 0; at <= all.size();) {
    const std::size_t end = std::min(all.find('-', at), all.size());
    const auto word = family_word(all.substr(at, end - at));
    if (!word || (at == 0 && word->find("Qw") == std::string::npos))
      return fail(ErrorKind::kUsage, std::string(text) + ": not a short name of the Qwen family; give OWNER/NAME");
    out += (at == 0 ? "" : "-") + *word;
    at = end + 1;
  }
  return out;
}

}  // namespace

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

const char* service_name(Service service) { return service == Service::kHuggingFace ? "huggingface" : "modelscope"; }

Result<ModelName> parse_name(std::string_view text) {
  const std::string whole(text);
  ModelName name;
  if (text.starts_with("hf:")) text.remove_prefix(3);
  else if (text.starts_with("ms:")) {
    text.remove_prefix(3);
    name.service = Service::kModelScope;
  }
  if (const std::size_t colon = text.find(':'); colon != std::string_view::npos) {
    name.pattern = text.substr(colon + 1);
    text = text.substr(0, colon);
    if (name.pattern.empty() || name.pattern.size() > 256)
      return fail(ErrorKind::kUsage, whole + ": after ':' stands a part of a file's name, such as q4_k_m");
  }
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) {
    name.owner = "Qwen";
    QW_ASSIGN(name.repository, short_name(text));
    return name;
  }
  name.owner = text.substr(0, slash);
  name.repository = text.substr(slash + 1);
  if (!plain_part(name.owner) || !plain_part(name.repository))
    return fail(ErrorKind::kUsage, whole + ": a model's name is OWNER/NAME of letters, digits, '-', '_' and '.'");
  return name;
}

}  // namespace qw::hub
