// qianwen embed: texts to vectors. qianwen rerank: documents by their relevance to a query.
#include <algorithm>
#include <cstdio>
#include <numeric>

#include "api/tasks.h"
#include "base/decimal.h"
#include "commands.h"
#include "engine/scores.h"
#include "open_model.h"
#include "text_source.h"

namespace qw::app {
namespace {

struct EmbedOptions {
  std::string model, file, text, instruction, query;
  std::int64_t dimensions = 0, top_n = 0;
  int threads = 0;
  bool lines = false, json = false;
};

// The last rows of the prompts, through the engine together.
Result<std::vector<engine::Reading>> last_rows(ReadyModel& model, std::vector<std::vector<engine::TokenId>> prompts) {
  std::vector<engine::Request> requests;
  for (auto& ids : prompts) {
    engine::Request r;
    r.prompt = std::move(ids);
    r.wanted = engine::Wanted::kLastRow;
    requests.push_back(std::move(r));
  }
  return engine::read(model.loaded->engine(), std::move(requests), &interrupted());
}

Result<std::vector<std::string>> texts_of(const EmbedOptions& o, bool lines) {
  if (!o.text.empty()) return std::vector<std::string>{o.text};
  QW_ASSIGN(std::string input, read_text(o.file.empty() ? "-" : o.file));
  if (!lines) {
    if (input.ends_with('\n')) input.pop_back();  // of the file, not of the text
    return std::vector<std::string>{std::move(input)};
  }
  return json_lines(input);
}

Status embed(const EmbedOptions& o) {
  QW_ASSIGN(const std::vector<std::string> texts, texts_of(o, o.lines));
  engine::LoadOptions load;
  load.threads = o.threads;
  QW_ASSIGN(ReadyModel model, load_model(o.model, load));
  if (!model.embedding) return fail(ErrorKind::kBadInput, o.model + ": makes no embeddings: it has no embedding head");
  if (o.dimensions > model.embedding->width)
    return fail(ErrorKind::kUsage, "embed: --dimensions must be 1 to " + std::to_string(model.embedding->width));
  std::vector<std::vector<engine::TokenId>> prompts;
  for (const std::string& text : texts) prompts.push_back(api::embedding_prompt(*model.tokenizer, text, o.instruction));
  QW_ASSIGN(const auto rows, last_rows(model, std::move(prompts)));
  for (const engine::Reading& reading : rows) {
    QW_ASSIGN(const auto vector, engine::embedding_of(reading.row(0), o.dimensions, model.embedding->normalise));
    json::Array numbers;
    for (const float x : vector) numbers.emplace_back(base::shortest(x));
    const json::Value out = o.json ? json::Value(json::Object{{"embedding", std::move(numbers)},
                                                              {"tokens", reading.finished.usage.prompt_tokens}})
                                   : json::Value(std::move(numbers));
    std::puts(json::dump(out).c_str());
  }
  return {};
}

Status rerank(const EmbedOptions& o) {
  QW_ASSIGN(const std::vector<std::string> documents, texts_of(o, true));
  if (documents.empty()) return fail(ErrorKind::kBadInput, o.file + ": no documents");
  engine::LoadOptions load;
  load.threads = o.threads;
  QW_ASSIGN(ReadyModel model, load_model(o.model, load));
  if (!model.ranking) return fail(ErrorKind::kBadInput, o.model + ": ranks no documents: it has no yes and no to compare");
  std::vector<std::vector<engine::TokenId>> prompts;
  for (const std::string& document : documents)
    prompts.push_back(api::ranking_prompt(*model.tokenizer, o.instruction.empty() ? api::kDefaultInstruction : o.instruction,
                                          o.query, document));
  QW_ASSIGN(const auto rows, last_rows(model, std::move(prompts)));
  std::vector<float> scores;
  for (const engine::Reading& reading : rows) scores.push_back(api::relevance(*model.ranking, reading.row(0)));
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  if (o.top_n > 0) order.resize(std::min(order.size(), static_cast<std::size_t>(o.top_n)));
  json::Array results;
  for (const std::size_t i : order) {
    if (!o.json) std::printf("%.6f  %s\n", static_cast<double>(scores[i]), json::dump(documents[i]).c_str());
    results.emplace_back(json::Object{{"index", static_cast<std::int64_t>(i)},
                                      {"relevance_score", base::shortest(scores[i])},
                                      {"document", documents[i]}});
  }
  if (o.json) std::puts(json::dump(json::Object{{"results", std::move(results)}}).c_str());
  return {};
}

}  // namespace

void add_embed(CLI::App& app, Outcome& outcome) {
  auto o = std::make_shared<EmbedOptions>();
  CLI::App* cmd = app.add_subcommand("embed", "Turn text into a vector, with an embedding model");
  cmd->add_option("-m,--model", o->model, "MODEL")->required();
  add_models_option(*cmd);
  auto* file = cmd->add_option("--file", o->file, "text file (- for standard input, the default)");
  cmd->add_option("-p,--text", o->text, "the text itself")->excludes(file);
  cmd->add_option("--instruct", o->instruction, "what is searched for, put before queries; documents have none");
  cmd->add_option("--dimensions", o->dimensions, "numbers of the vector (default: all)")->check(CLI::PositiveNumber);
  add_threads_option(*cmd, o->threads);
  cmd->add_flag("--lines", o->lines, "each input line is a JSON string or {\"text\": ...} and gives one line of output");
  cmd->add_flag("--json", o->json, "print {\"embedding\": [...], \"tokens\": N}");
  cmd->callback([o, &outcome] {
    if (auto status = embed(*o); !status) outcome.code = report(status.error());
  });
}

void add_rerank(CLI::App& app, Outcome& outcome) {
  auto o = std::make_shared<EmbedOptions>();
  CLI::App* cmd = app.add_subcommand("rerank", "Order documents by their relevance to a query");
  cmd->add_option("-m,--model", o->model, "MODEL")->required();
  add_models_option(*cmd);
  cmd->add_option("--query", o->query, "the query")->required();
  cmd->add_option("--file", o->file, "documents: each line a JSON string or {\"text\": ...} (- for standard input)")->required();
  cmd->add_option("--instruct", o->instruction, "what makes a document relevant (default: that it answers a web search)");
  cmd->add_option("--top-n", o->top_n, "how many of the best to print (default: all)")->check(CLI::PositiveNumber);
  add_threads_option(*cmd, o->threads);
  cmd->add_flag("--json", o->json, "print {\"results\": [{\"index\", \"relevance_score\", \"document\"}, ...]}");
  cmd->callback([o, &outcome] {
    if (auto status = rerank(*o); !status) outcome.code = report(status.error());
  });
}

}  // namespace qw::app
