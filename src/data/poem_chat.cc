#include "data/poem_chat.h"

#include <array>

#include "data/internal/poem_requests.h"

namespace qw::data {
namespace {

constexpr std::string_view kOpen = "《", kClose = "》", kComma = "，";
constexpr std::size_t kMaxLines = 12, kMaxTitleBytes = 60, kMaxBodyBytes = 400;

constexpr Theme kThemes[] = {
    {"月", "月亮", "the moon"}, {"春", "春天", "spring"},   {"秋", "秋天", "autumn"},    {"雪", "雪", "snow"},
    {"梅", "梅花", "plum blossom"}, {"柳", "柳树", "willows"}, {"竹", "竹子", "bamboo"}, {"雨", "雨", "rain"},
    {"江", "江水", "the river"}, {"山", "山", "mountains"}, {"酒", "酒", "wine"},        {"雁", "大雁", "wild geese"},
    {"松", "松树", "pine trees"}, {"菊", "菊花", "chrysanthemums"}, {"荷", "荷花", "lotus"}, {"別", "离别", "parting"},
    {"别", "离别", "parting"}, {"風", "风", "the wind"},   {"风", "风", "the wind"},    {"夜", "夜晚", "the night"},
    {"鶴", "鹤", "cranes"},    {"鹤", "鹤", "cranes"},     {"舟", "小舟", "a boat"},    {"花", "花", "flowers"},
};

std::string replaced(std::string_view pattern, std::string_view value) {
  std::string out(pattern);
  if (const auto at = out.find('@'); at != std::string::npos) out.replace(at, 1, value);
  return out;
}

template <std::size_t N>
std::string choose(const std::array<std::string_view, N>& patterns, std::string_view value, base::Rng& rng) {
  return replaced(patterns[static_cast<std::size_t>(rng.below(N))], value);
}

std::string titled(const Poem& poem) { return std::string(kOpen) + poem.title + std::string(kClose) + "\n" + body_of(poem); }

struct Exercise {
  std::string request, answer;
};

Exercise by_title(const Poem& poem, base::Rng& rng) {
  static constexpr std::array<std::string_view, 6> kPatterns = {
      "写一首诗，题目是《@》。", "请以《@》为题写一首诗。", "以《@》为题作诗一首", "作一首《@》",
      "请写一首题为《@》的诗", "Write a poem titled 《@》."};
  return {choose(kPatterns, poem.title, rng), body_of(poem)};
}

Exercise by_manner(const Poem& poem, base::Rng& rng) {
  static constexpr std::array<std::string_view, 3> kPatterns = {"用@的风格写一首诗。", "模仿@写一首诗", "写一首诗，像@那样写。"};
  return {choose(kPatterns, poem.author, rng), titled(poem)};
}

Exercise go_on(const Poem& poem, base::Rng& rng) {
  static constexpr std::array<std::string_view, 4> kPatterns = {"请续写：@", "接着往下写：@", "以“@”开头写一首诗。",
                                                                "把这首诗写完：@"};
  return {choose(kPatterns, poem.lines[0], rng), body_of(poem, 1)};
}

std::optional<Exercise> by_theme(const Poem& poem, base::Rng& rng) {
  static constexpr std::array<std::string_view, 6> kPatterns = {"写一首关于@的诗。", "请写一首@的诗",   "来一首写@的诗吧",
                                                                "作一首诗，写@。",   "帮我写一首关于@的古诗", "写一首咏@的诗"};
  const Theme* theme = theme_of(poem, rng);
  if (theme == nullptr) return std::nullopt;
  if (rng.below(8) == 0) return Exercise{replaced("Write a poem about @.", theme->en), titled(poem)};
  return Exercise{choose(kPatterns, theme->zh, rng), titled(poem)};
}

std::optional<Exercise> other_half(const Poem& poem, base::Rng& rng) {
  static constexpr std::array<std::string_view, 4> kPatterns = {"“@”，请对下一句。", "下一句怎么接：@", "@，下一句？",
                                                                "请接下一句：@"};
  const std::string& line = poem.lines[static_cast<std::size_t>(rng.below(poem.lines.size()))];
  const auto comma = line.find(kComma);
  if (comma == std::string::npos || comma == 0) return std::nullopt;
  const std::string rest = line.substr(comma + kComma.size());
  if (rest.empty() || rest.find(kComma) != std::string::npos) return std::nullopt;
  return Exercise{choose(kPatterns, std::string_view(line).substr(0, comma), rng), rest};
}

Exercise draw(const Poem& poem, base::Rng& rng) {
  const auto kind = rng.below(100);
  if (kind < 30) {
    if (auto exercise = by_theme(poem, rng)) return *exercise;
  } else if (kind < 50) {
    if (auto exercise = other_half(poem, rng)) return *exercise;
  } else if (kind < 65) {
    return go_on(poem, rng);
  } else if (kind < 75 && !poem.author.empty()) {
    return by_manner(poem, rng);
  }
  return by_title(poem, rng);
}

json::Value message(std::string_view role, std::string content) {
  json::Object o;
  o.set("role", role);
  o.set("content", std::move(content));
  return json::Value(std::move(o));
}

}  // namespace

const Theme* theme_of(const Poem& poem, base::Rng& rng) {
  const std::string body = body_of(poem);
  std::vector<const Theme*> found;
  for (const std::string_view text : {std::string_view(poem.title), std::string_view(body)}) {
    for (const Theme& theme : kThemes)
      if (text.find(theme.in_poem) != std::string::npos) found.push_back(&theme);
    if (!found.empty()) return found[static_cast<std::size_t>(rng.below(found.size()))];
  }
  return nullptr;
}

std::string body_of(const Poem& poem, std::size_t from) {
  std::string out;
  for (std::size_t i = from; i < poem.lines.size(); ++i) out += (i == from ? "" : "\n") + poem.lines[i];
  return out;
}

std::string in_some_script(std::string request, base::Rng& rng, const RequestScripts& scripts) {
  const auto draw = rng.below(4);
  if (draw < 2 && scripts.simplified != nullptr) return scripts.simplified->convert(request);
  if (draw == 2 && scripts.traditional != nullptr) return scripts.traditional->convert(request);
  return request;
}

json::Object exchange(std::string request, std::string answer) {
  json::Object conversation;
  conversation.set("messages", json::Array{message("user", std::move(request)), message("assistant", std::move(answer))});
  return conversation;
}

std::optional<Poem> parse_poem(std::string_view text) {
  if (!text.starts_with(kOpen)) return std::nullopt;
  const auto head_end = text.find('\n');
  if (head_end == std::string_view::npos) return std::nullopt;
  const auto close = text.substr(0, head_end).rfind(kClose);
  if (close == std::string_view::npos) return std::nullopt;
  Poem poem;
  poem.title = text.substr(kOpen.size(), close - kOpen.size());
  poem.author = text.substr(close + kClose.size(), head_end - close - kClose.size());
  const std::string_view body = text.substr(head_end + 1);
  if (poem.title.empty() || poem.title.size() > kMaxTitleBytes || body.size() > kMaxBodyBytes) return std::nullopt;
  for (const std::string_view unfit : {"□", "（", "(", "〖", "{", "[", "《", "?"})
    if (body.find(unfit) != std::string_view::npos) return std::nullopt;
  for (std::size_t at = 0; at < body.size();) {
    const auto end = std::min(body.find('\n', at), body.size());
    if (end > at) poem.lines.emplace_back(body.substr(at, end - at));
    at = end + 1;
  }
  if (poem.lines.size() < 2 || poem.lines.size() > kMaxLines) return std::nullopt;
  return poem;
}

json::Object poem_conversation(const Poem& poem, base::Rng& rng, const RequestScripts& scripts) {
  Exercise exercise = draw(poem, rng);
  return exchange(in_some_script(std::move(exercise.request), rng, scripts), std::move(exercise.answer));
}

}  // namespace qw::data
