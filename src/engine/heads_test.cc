// Models with other heads against PyTorch (tests/golden/head_*, made by tools/reference/make_head_golden.py), through the
// engine: what a caller gets, alone and among others.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "engine/loaded_model.h"
#include "engine/scores.h"
#include "models/load.h"

namespace qw::engine {
namespace {

using models::HeadKind;

constexpr const char* kFolders[] = {"head_embedding", "head_classes", "head_reward", "head_steps", "head_guard"};
constexpr int kSequences = 3;  // of each golden

// What a result that must be there is; throws its error otherwise.
template <class T>
T take(Result<T> r) {
  if (!r) throw std::runtime_error(r.error().message);
  return std::move(*r);
}

double largest(const std::vector<float>& x) {
  double m = 0;
  for (const float v : x) m = std::max(m, std::abs(double{v}));
  return m;
}

std::filesystem::path golden_folder(const std::string& name) {
  return std::filesystem::path(QW_SOURCE_DIR) / "tests/golden" / name;
}

std::unique_ptr<LoadedModel> load(const std::string& name, const LoadOptions& options) {
  const auto source = take(formats::ModelSource::open(golden_folder(name)));
  auto model = take(models::model_from_source(source));
  const auto views = take(models::load_weights(*model, source));
  return take(LoadedModel::create(std::move(model), views, options));
}

struct Case {
  formats::Safetensors expected;
  std::unique_ptr<LoadedModel> model;
  explicit Case(const std::string& name, std::int64_t max_rows = 256)
      : expected(take(formats::Safetensors::open(golden_folder(name) / "expected.safetensors"))) {
    LoadOptions options;
    options.threads = 2;
    options.engine.max_rows = max_rows;
    options.engine.max_sequences = 4;
    options.engine.growth_tokens = 1;
    options.block_tokens = 4;
    model = load(name, options);
  }
  Request request(int i, Wanted wanted) const {
    Request r;
    for (const std::int64_t id : read_all<std::int64_t>("ids." + std::to_string(i))) r.prompt.push_back(static_cast<TokenId>(id));
    r.wanted = wanted;
    return r;
  }
  template <class T>
  std::vector<T> read_all(const std::string& name) const {
    const tensor::ConstView view = take(expected.tensor(name));
    std::vector<T> out(static_cast<std::size_t>(view.bytes()) / sizeof(T));
    std::memcpy(out.data(), view.data, out.size() * sizeof(T));
    return out;
  }
  std::vector<float> rows(int i) const { return read_all<float>("rows." + std::to_string(i)); }
  std::vector<float> score(int i) const { return read_all<float>("score." + std::to_string(i)); }
};

std::vector<Reading> take_all(Engine& engine, std::vector<Request> requests) {
  return take(read(engine, std::move(requests)));
}

template <class... R>
std::vector<Request> list(R... requests) {
  std::vector<Request> out;
  (out.push_back(std::move(requests)), ...);
  return out;
}

void expect_close(std::span<const float> got, const std::vector<float>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  const double tolerance = 1e-4 * largest(wanted);
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], wanted[i], tolerance) << i;
}

TEST(Heads, EveryRowAgreesWithTheReference) {
  for (const char* name : kFolders) {
    SCOPED_TRACE(name);
    Case c(name);
    for (int i = 0; i < kSequences; ++i) {
      SCOPED_TRACE(i);
      const auto got = take_all(c.model->engine(), list(c.request(i, Wanted::kEveryRow)));
      ASSERT_EQ(got.size(), 1u);
      expect_close(got[0].rows, c.rows(i));
      EXPECT_EQ(got[0].finished.usage.prompt_tokens, got[0].count);
      EXPECT_EQ(got[0].finished.usage.completion_tokens, 0);
    }
  }
}

std::vector<float> told(const models::HeadTraits& head, const Reading& r) {
  const auto last = r.row(r.count - 1);
  if (head.kind == HeadKind::kEmbedding) return *embedding_of(last, 0, true);
  if (head.kind == HeadKind::kSteps) {
    std::vector<float> out;
    for (std::int64_t i = 0; i < r.count; ++i) out.push_back(softmax(r.row(i))[1]);
    return out;
  }
  if (head.kind == HeadKind::kClasses && head.outputs == 1) return {last.begin(), last.end()};
  std::vector<float> out;
  std::size_t begin = 0;
  std::vector<std::size_t> parts{last.size()};
  if (head.kind == HeadKind::kGuard)
    parts = {head.response_levels.size(), head.response_categories.size(), head.query_levels.size(),
             head.query_categories.size()};
  for (const std::size_t n : parts) {
    for (const float p : softmax(last.subspan(begin, n))) out.push_back(p);
    begin += n;
  }
  return out;
}

TEST(Heads, ScoresAgreeWithTheReference) {
  for (const char* name : kFolders) {
    SCOPED_TRACE(name);
    Case c(name);
    for (int i = 0; i < kSequences; ++i)
      expect_close(told(c.model->model().traits().head, take_all(c.model->engine(), list(c.request(i, Wanted::kEveryRow)))[0]),
                   c.score(i));
  }
}

TEST(Heads, TogetherEqualsAloneWhateverTheSteps) {
  for (const char* name : kFolders) {
    SCOPED_TRACE(name);
    Case alone(name), together(name), cut(name, 4);
    std::vector<Request> many, pieces;
    std::vector<Reading> wanted;
    for (int round = 0; round < 40; ++round) {
      const int i = round % kSequences;
      const Wanted what = round % 2 == 0 ? Wanted::kEveryRow : Wanted::kLastRow;
      wanted.push_back(std::move(take_all(alone.model->engine(), list(alone.request(i, what)))[0]));
      many.push_back(together.request(i, what));
      pieces.push_back(cut.request(i, what));
    }
    const auto got = take_all(together.model->engine(), std::move(many));
    const auto got_cut = take_all(cut.model->engine(), std::move(pieces));
    ASSERT_EQ(got.size(), wanted.size());
    for (std::size_t r = 0; r < wanted.size(); ++r) {
      ASSERT_EQ(wanted[r].count, r % 2 == 0 ? static_cast<std::int64_t>(wanted[r].finished.usage.prompt_tokens) : 1);
      ASSERT_EQ(got[r].rows, wanted[r].rows) << r;
      ASSERT_EQ(got_cut[r].rows, wanted[r].rows) << r;
    }
    EXPECT_EQ(together.model->engine().violation(), "");
    EXPECT_EQ(together.model->engine().stats().free_blocks, together.model->engine().stats().total_blocks);
  }
}

// A model that generates gives the logits of the last token to who wants them, in the batches of the others.
TEST(Heads, RowsAndTextShareSteps) {
  LoadOptions options;
  options.threads = 2;
  options.engine.max_rows = 8;
  options.engine.max_sequences = 4;
  const auto model = load("qwen3_untied_f32", options);
  const std::vector<TokenId> ids{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5};
  std::vector<float> logits;
  ASSERT_TRUE(model->for_each_logits(ids, [&](std::int64_t t, std::span<const float> row) {
    if (t + 1 == static_cast<std::int64_t>(ids.size())) logits.assign(row.begin(), row.end());
  }));
  class Ignore final : public Sink {
    Verdict on_token(const TokenEvent&) noexcept override { return Verdict::kContinue; }
    void on_finished(const Finished&) noexcept override {}
  };
  Request text;
  text.prompt = {7, 8};
  text.max_tokens = 20;
  text.sink = std::make_shared<Ignore>();
  ASSERT_TRUE(model->engine().submit(std::move(text)));
  const auto row = [&](Wanted wanted) {
    Request r;
    r.prompt = ids;
    r.wanted = wanted;
    return r;
  };
  const auto got = take_all(model->engine(), list(row(Wanted::kLastRow)));
  EXPECT_EQ(got[0].count, 1);
  EXPECT_EQ(got[0].rows, logits);
  EXPECT_GT(model->engine().stats().output_tokens, 0);
  const auto refused = read(model->engine(), list(row(Wanted::kEveryRow)));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("last token only"), std::string::npos) << refused.error().message;
}

TEST(Heads, WhatDoesNotGenerateSaysSo) {
  Case c("head_embedding");
  const auto answer = generate(c.model->engine(), c.request(0, Wanted::kTokens));
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kUsage);
  EXPECT_NE(answer.error().message.find("generates no text"), std::string::npos);
}

TEST(Heads, TheLongestTextFillsTheContextAndNoMore) {
  Case c("head_reward");
  const auto of_length = [](std::size_t n) {
    Request r;
    r.wanted = Wanted::kLastRow;
    r.prompt.assign(n, 1);
    return r;
  };
  EXPECT_TRUE(read(c.model->engine(), list(of_length(64))));
  const auto refused = read(c.model->engine(), list(of_length(65)));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kResource);
}

TEST(Scores, EmbeddingsAreCutBeforeTheyAreNormalised) {
  const float row[] = {3, 4, 12};
  EXPECT_EQ(*embedding_of(row, 2, true), (std::vector<float>{0.6f, 0.8f}));
  EXPECT_EQ(*embedding_of(row, 0, false), (std::vector<float>{3, 4, 12}));
  EXPECT_FALSE(embedding_of(row, 4, true));
  const float zeros[] = {0, 0};
  EXPECT_EQ(*embedding_of(zeros, 0, true), (std::vector<float>{0, 0}));
}

TEST(Scores, LargeScoresDoNotOverflow) {
  const float row[] = {1000, 999};
  EXPECT_NEAR(softmax(row)[0], 1 / (1 + std::exp(-1.0)), 1e-6);
  EXPECT_NEAR(share_of(row, 1, 0), 1 / (1 + std::exp(1.0)), 1e-6);
}

// Rows as they come, and how the request ended.
class Rows final : public Sink {
 public:
  Verdict on_token(const TokenEvent&) noexcept override { return Verdict::kContinue; }
  void on_row(const RowEvent& e) noexcept override {
    EXPECT_EQ(e.position, count++);
    rows.insert(rows.end(), e.row.begin(), e.row.end());
  }
  void on_finished(const Finished& f) noexcept override { finished = f; }
  std::vector<float> rows;
  std::int64_t count = 0;
  std::optional<Finished> finished;
};

// A conversation that grows gives what the whole one gives, byte for byte, and computes every token once.
TEST(Heads, AnOpenRequestGrowsPieceByPiece) {
  for (const std::size_t piece : {1u, 3u, 7u}) {
    Case c("head_guard");
    Engine& engine = c.model->engine();
    Request whole = c.request(0, Wanted::kEveryRow);
    const std::vector<TokenId> ids = whole.prompt;
    const auto wanted = take_all(engine, list(std::move(whole)))[0].rows;
    const std::int64_t before = engine.stats().computed_tokens;
    Request open;
    open.prompt.assign(ids.begin(), ids.begin() + 5);
    open.wanted = Wanted::kEveryRow;
    open.open = true;
    open.max_tokens = static_cast<std::int64_t>(ids.size()) - 5;
    const auto sink = std::make_shared<Rows>();
    open.sink = sink;
    const RequestId id = take(engine.submit(std::move(open)));
    engine.step();
    EXPECT_EQ(sink->count, 5);
    for (std::size_t i = 5; i < ids.size(); i += piece) {
      const std::size_t end = std::min(ids.size(), i + piece);
      ASSERT_TRUE(engine.extend(id, {ids.begin() + static_cast<std::ptrdiff_t>(i), ids.begin() + static_cast<std::ptrdiff_t>(end)}));
      for (std::size_t steps = 0; steps < piece && sink->count < static_cast<std::int64_t>(end); ++steps) {
        engine.step();
        EXPECT_EQ(engine.violation(), "");
      }
      EXPECT_EQ(sink->count, static_cast<std::int64_t>(end));
    }
    EXPECT_EQ(engine.extend(id, {1}).error().kind, ErrorKind::kResource);
    EXPECT_EQ(engine.extend(id, {61}).error().kind, ErrorKind::kBadInput);
    EXPECT_TRUE(engine.step());  // it waits
    EXPECT_FALSE(sink->finished);
    engine.close(id);
    EXPECT_FALSE(engine.step());
    ASSERT_TRUE(sink->finished);
    EXPECT_EQ(sink->finished->reason, FinishReason::kStop);
    EXPECT_EQ(sink->finished->usage.prompt_tokens, static_cast<std::int64_t>(ids.size()));
    EXPECT_EQ(sink->rows, wanted);
    EXPECT_EQ(engine.stats().computed_tokens - before, static_cast<std::int64_t>(ids.size()));
    EXPECT_EQ(engine.stats().free_blocks, engine.stats().total_blocks);
    EXPECT_TRUE(engine.extend(id, {1}));  // ended: ignored
  }
}

TEST(Heads, OpenRequestsAmongOthersOnAThread) {
  Case c("head_guard", 8);
  Engine& engine = c.model->engine();
  const std::vector<TokenId> ids = c.request(0, Wanted::kEveryRow).prompt;
  const auto wanted = take_all(engine, list(c.request(0, Wanted::kEveryRow)))[0].rows;
  engine.start();
  std::vector<std::shared_ptr<Rows>> sinks;
  std::vector<RequestId> open;
  for (int i = 0; i < 3; ++i) {
    Request r;
    r.prompt = {ids[0]};
    r.wanted = Wanted::kEveryRow;
    r.open = true;
    sinks.push_back(std::make_shared<Rows>());
    r.sink = sinks.back();
    open.push_back(take(engine.submit(std::move(r))));
  }
  for (std::size_t t = 1; t < ids.size(); ++t) {
    for (const RequestId id : open) ASSERT_TRUE(engine.extend(id, {ids[t]}));
    if (t % 5 == 0) {
      EXPECT_EQ(take_all(engine, list(c.request(0, Wanted::kEveryRow)))[0].rows, wanted);
    }
  }
  engine.drain();  // closes them
  for (const auto& sink : sinks) {
    ASSERT_TRUE(sink->finished);
    EXPECT_EQ(sink->finished->reason, FinishReason::kStop);
    EXPECT_EQ(sink->rows, wanted);
  }
  Case other("head_guard");
  Request text = other.request(0, Wanted::kLastRow);
  text.open = true;
  text.sink = std::make_shared<Rows>();
  EXPECT_EQ(other.model->engine().submit(std::move(text)).error().kind, ErrorKind::kUsage);
}

// Rows from some token on are those of the whole, and what lies before comes from the prefix cache the second time.
TEST(Heads, RowsFromATokenOnAreTheLastOfAll) {
  Case c("head_guard");
  Engine& engine = c.model->engine();
  const auto whole = take_all(engine, list(c.request(0, Wanted::kEveryRow)))[0];
  const std::int64_t width = static_cast<std::int64_t>(whole.rows.size()) / whole.count;
  for (const std::int64_t first : {std::int64_t{0}, std::int64_t{1}, whole.count / 2, whole.count - 1}) {
    Request r = c.request(0, Wanted::kEveryRow);
    r.first_row = first;
    const auto got = take_all(engine, list(std::move(r)))[0];
    EXPECT_EQ(got.count, whole.count - first);
    EXPECT_EQ(got.rows, std::vector<float>(whole.rows.begin() + static_cast<std::ptrdiff_t>(first * width), whole.rows.end()));
    EXPECT_EQ(got.finished.usage.cached_tokens, first);
  }
  Request none = c.request(0, Wanted::kEveryRow);
  none.first_row = whole.count;
  none.sink = std::make_shared<Rows>();
  EXPECT_EQ(engine.submit(std::move(none)).error().kind, ErrorKind::kUsage);
}

}  // namespace
}  // namespace qw::engine
