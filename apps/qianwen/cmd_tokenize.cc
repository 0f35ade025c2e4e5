// qianwen tokenize: text to token ids and back.
#include <cstdio>

#include "commands.h"
#include "json/value.h"
#include "text_source.h"
#include "tokenizer/prompt.h"

namespace qw::app {
namespace {

struct TokenizeOptions {
  std::string model, file, text, decode;
  bool has_text = false, has_decode = false, no_special = false, lines = false, json = false;
};

json::Array to_json(const std::vector<tokenizer::TokenId>& ids) {
  json::Array out;
  out.reserve(ids.size());
  for (const auto id : ids) out.emplace_back(static_cast<std::int64_t>(id));
  return out;
}

// As a model would be given the text; with --no-special, its plain text and nothing else.
std::vector<tokenizer::TokenId> ids_of(const tokenizer::Tokenizer& tokenizer, const TokenizeOptions& o,
                                       std::string_view text) {
  return o.no_special ? tokenizer.encode(text, false) : tokenizer::encode_prompt(tokenizer, text, false);
}

// One object of ids a line.
Status tokenize_lines(const tokenizer::Tokenizer& tokenizer, const TokenizeOptions& o, std::string_view input) {
  auto texts = json_lines(input);
  if (!texts)
    return in_context(o.has_text ? "--text" : o.file.empty() ? "standard input" : o.file, std::move(texts).error());
  for (const std::string& text : *texts)
    std::puts(json::dump(json::Object{{"ids", to_json(ids_of(tokenizer, o, text))}}).c_str());
  return {};
}

Status tokenize(const TokenizeOptions& o) {
  QW_ASSIGN(auto spec, tokenizer_of(o.model));
  auto made = tokenizer::Tokenizer::create(std::move(spec));
  if (!made) return in_context(o.model, std::move(made).error());
  const tokenizer::Tokenizer tokenizer = std::move(*made);
  if (o.has_decode) {
    QW_ASSIGN(const auto ids, parse_ids("tokenize: --decode", o.decode));
    for (const auto id : ids)
      if (id < 0 || id >= tokenizer.vocab_size())
        return fail(ErrorKind::kBadInput,
                    "tokenize: --decode: " + std::to_string(id) + " is no id of the vocabulary of " + o.model);
    const std::string text = tokenizer.decode(ids, o.no_special);
    const std::string out = o.json ? json::dump(json::Object{{"text", text}}) + "\n" : text + "\n";
    std::fwrite(out.data(), 1, out.size(), stdout);
    return {};
  }
  std::string input = o.text;
  if (!o.has_text) {
    QW_ASSIGN(input, read_text(o.file.empty() ? "-" : o.file));
  }
  if (o.lines) return tokenize_lines(tokenizer, o, input);
  const auto ids = ids_of(tokenizer, o, input);
  if (o.json) {
    std::puts(json::dump(json::Object{{"ids", to_json(ids)}}).c_str());
    return {};
  }
  for (const auto id : ids) {
    std::printf("%7d  %s\n", id, json::dump(json::Value(tokenizer.decode(std::span(&id, 1), false))).c_str());
  }
  std::fprintf(stderr, "%zu tokens, %zu bytes\n", ids.size(), input.size());
  return {};
}

}  // namespace

void add_tokenize(CLI::App& app, Outcome& outcome) {
  auto o = std::make_shared<TokenizeOptions>();
  CLI::App* cmd = app.add_subcommand("tokenize", "Turn text into token ids, or ids into text");
  cmd->add_option("-m,--model", o->model, "model or tokenizer folder")->required();
  add_models_option(*cmd);
  auto* file = cmd->add_option("--file", o->file, "text file (- for standard input, the default)");
  auto* text = cmd->add_option("--text", o->text, "the text itself")->excludes(file);
  auto* decode =
      cmd->add_option("--decode", o->decode, "ids to turn into text, e.g. 1,2,3")->excludes(file)->excludes(text);
  cmd->add_flag("--no-special", o->no_special,
                "special tokens in the text are plain text and no bos is put in front; with --decode, leave them out");
  cmd->add_flag("--lines", o->lines, "each input line is a JSON string or {\"text\": ...} and gives one JSON object")
      ->excludes(decode);
  cmd->add_flag("--json", o->json, "print {\"ids\": [...]} or {\"text\": ...}");
  cmd->callback([o, text, decode, &outcome] {
    o->has_text = text->count() > 0;
    o->has_decode = decode->count() > 0;
    if (auto status = tokenize(*o); !status) outcome.code = report(status.error());
  });
}

}  // namespace qw::app
