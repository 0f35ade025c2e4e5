#include "train/retrieval.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "formats/embedding_config.h"
#include "models/load.h"
#include "tokenizer/retrieval_prompt.h"
#include "train/internal/test_run.h"

namespace qw::train {
namespace {

using testing::HasSubstr;

// By tools/reference/make_retrieval_golden.py: PyTorch's losses and gradients of four examples.
const std::vector<float> kRows = {-1.875, -0.25,  1.375,  -0.25, 1,      -1.5625, -1.625, 1.4375, 0.6875,
                                  1.125,  0.75,   0.375,  1.625, -1.125, -0.0625, 1.125,  -1.25,  0.1875,
                                  1.875,  0.9375, 0,      -0.25, 1,      -1.5625, -0.875, 0,      0.875,
                                  -1.875, 1.375,  0.8125, 1,     -0.125, -1.25,   -0.125, 0.5625, 1.25};
const std::vector<std::uint64_t> kSame = {0, 4, 5, 1, 6, 2, 7, 4, 8, 3, 9, 10};
struct Golden {
  EmbeddingConfig config;
  double loss;
  std::vector<double> gradient;
};
const Golden kGolden[] = {
    {{0.05, 0.1, true, true},
     1.18942026371,
     {1.204932178,    -1.523892567,  1.366017958,    2.803788311,     -0.55627213,     -0.8046202929,
      0.1531796737,   0.5729929682,  -0.8360151593,  -2.058440105,    2.003714038,     2.167892241,
      -0.7517216696,  -1.01174774,   -1.333304093,   -0.7822250177,   -0.5750608962,   0.8596107983,
      -0.2362462235,  0.4724924469,  -0.07196337622, 0.0002451340204, 0.0001716039213, 7.060506636e-05,
      -0.08905629782, 0.09586976827, -0.08905629782, -0.04791886462,  -0.5381683492,   0.8001644418,
      0.1603173123,   0.1667698795,  0.1115768619,   2.104726933,     1.016747503,     -0.247063683}},
    {{0.5, 2.0, true, true},
     3.60620800836,
     {0.106721621,     -0.02578254854, 0.1408417471,   0.2932747388,    -0.03286476428,   -0.06795740734,
      -0.005063750916, -0.01369289081, 0.01666172408,  -0.1709044128,   0.2437971228,     0.025118993,
      -0.09299494776,  -0.128937433,   -0.09699484703, -0.1539930926,   -0.139158596,     -0.003765417278,
      -0.0819762062,   0.1639524124,   -0.05250122557, 0.02101525683,   -0.0009210684439, -0.003951924897,
      -0.01731979774,  0.01566888435,  -0.01731979774, -0.009063032161, -0.09626808596,   0.1420005328,
      0.1383621789,    -0.1187767018,  0.1225674133,   -0.002174626261, 0.00984958725,    -0.004649776889}},
    {{0.1, 0.0, false, true},
     0.441464538744,
     {0.3176689305,   -0.3320502044, 0.3728121408,     0.5342742764,   0.2664931074,   0.08507170452,
      0.004549281011, 0.00428902957, 0.001784875106,   -0.1016130997,  0.3381265386,   -0.3714137781,
      -0.2216868785,  -0.3201755239, -0.0006994105696, -0.3247792168,  -0.2894565194,  0.01896517118,
      -0.2356765511,  0.4713531022,  -0.04221798657,   0.01548876621,  0.01014281357,  0.004013198092,
      -0.2676128584,  0.2661680903,  -0.2676128584,    0.005224373838, -0.08381769201, 0.1539015723,
      0.3494811679,   0.04757287011, 0.2748276473,     0.1666013551,   0.3539428476,   -0.1426141459}},
    {{0.1, 0.1, true, false},
     0.76473275727,
     {0.6210350348,   -0.7671217916,   0.7073892671,    0.8036367581,    -0.1143389615,  -0.2017588166,
      0.001632822344, 0.001490361509,  0.0007431878406, -0.6846655594,   0.6108154938,   0.8323656908,
      -0.4609521646,  -0.656977807,    -0.1591557556,   -0.4364794849,   -0.2783457721,  0.7632384284,
      -0.1449451731,  0.2898903462,    -0.02863233188,  0.006954300886,  0.004697301264, 0.001893584667,
      0.001045334693, -0.001272377381, 0.001045334693,  -0.001451306844, -0.1810830738,  0.3030991091,
      0.2682480071,   -0.1564773277,   0.2302461385,    0.7457465253,    0.3285758025,   -0.07328445861}},
};

TEST(RetrievalLoss, IsThePapersWithPyTorchsGradients) {
  base::ThreadPool pool(2);
  const EmbeddedTexts texts{3, kRows, {0, 3, 5, 9, 12}, kSame};
  for (const Golden& g : kGolden) {
    const RetrievalLoss loss = retrieval_loss(g.config, texts, true, pool);
    EXPECT_NEAR(loss.loss, g.loss, 1e-10 * g.loss);
    ASSERT_EQ(loss.d_rows.size(), g.gradient.size());
    for (std::size_t i = 0; i < g.gradient.size(); ++i)
      EXPECT_NEAR(static_cast<double>(loss.d_rows[i]), g.gradient[i], 1e-6 * (1 + std::abs(g.gradient[i]))) << i;
  }
}

TEST(RetrievalLoss, PlacesAreAmongAllDocuments) {
  base::ThreadPool pool(1);
  // The second query is closer to the first one's document than to its own; a copy of its own does not count.
  const EmbeddedTexts texts{2, {1, 0, 1, 0.1f, 1, 0, 0.5f, 1, 0.5f, 1}, {0, 2, 5}, {0, 1, 2, 3, 3}};
  const RetrievalLoss loss = retrieval_loss({}, texts, false, pool);
  EXPECT_EQ(loss.found, 0.5);
  EXPECT_EQ(loss.reciprocal, (1 + 0.5) / 2);
  EXPECT_TRUE(loss.d_rows.empty());
}

// Queries of a word each, which find the word after it; and questions whose answer is yes when a document speaks of the
// moon. All are held out too.
class RetrievalTest : public TestRun {
 protected:
  static void SetUpTestSuite() {
    TestRun::SetUpTestSuite();
    static const char* kWords[] = {"moon", "river", "crane", "autumn", "mountain", "wind", "old", "friend"};
    std::ofstream found(folder_ / "found.jsonl"), ranked(folder_ / "ranked.jsonl");
    for (int i = 0; i < 8; ++i) {
      found << R"({"query":")" << kWords[i] << R"(","positive":")" << kWords[(i + 1) % 8] << " " << kWords[(i + 1) % 8]
            << "\"";
      if (i % 2 == 0) found << R"(,"negatives":[")" << kWords[(i + 3) % 8] << R"("])";
      found << "}\n";
      ranked << R"({"query":")" << kWords[i] << R"(","positive":"moon )" << kWords[i] << R"(","negatives":["wind )"
             << kWords[i] << "\"]}\n";
    }
    found.close();
    ranked.close();
    found_ = examples("found", "retrieval", "instruction = 'Find'\n");
    // Tokens for yes and no, in a tokenizer of their own.
    const std::string source =
        "path = 'ranked.jsonl'\nformat = 'ranking'\ninstruction = 'R'\nlicence = 'CC0'\norigin = 'test'\n";
    const auto object =
        *data::parse_toml("output = '" + (folder_ / "ranked").string() + "'\ndedup = 'none'\n[tokenizer]\nfolder = '" +
                              (folder_ / "tok2").string() +
                              "'\nvocab = 288\nadded = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', 'yes', 'no']\n"
                              "[[source]]\nname = 'text'\npath = 'text.txt'\nlicence = 'CC0'\norigin = "
                              "'test'\nmax_documents = 1\nweight = 0\n",
                          "data");
    const auto config = data::data_config(object, folder_);
    ASSERT_TRUE(config) << config.error().message;
    ASSERT_TRUE(data::train_tokenizer(*config, {}));
    const auto of =
        *data::parse_toml("output = '" + (folder_ / "ranked").string() + "'\ndedup = 'none'\n[tokenizer]\nfolder = '" +
                              (folder_ / "tok2").string() + "'\n[[source]]\nname = 'train'\n" + source +
                              "[[source]]\nname = 'held'\nheldout_tail = 1.0\n" + source,
                          "data");
    ASSERT_TRUE(data::build_data(*data::data_config(of, folder_), {}));
    ranked_ = new data::Dataset(*data::open_dataset(folder_ / "ranked"));
    train_base();
  }
  static void TearDownTestSuite() {
    delete found_;
    delete ranked_;
    TestRun::TearDownTestSuite();
  }
  static TrainConfig finding(std::vector<std::string> more, const std::string& table = "embedding") {
    auto object = recipe();
    object.erase("model");
    object.set(table, json::Object());
    more.insert(more.begin(),
                {"init_from='" + (folder_ / "base/model").string() + "'", output(table), "batch_sequences=8",
                 "sequence_length=64", "accumulation=1", "optimizer.weight_decay=0.0", "schedule.warmup=0",
                 "schedule.kind=constant", "export_type=f32"});
    return config_with(more, object);
  }
  static TrainConfig ranking(std::vector<std::string> more) {
    more.insert(more.begin(), {"sequence_length=512", "batch_sequences=4"});
    return finding(std::move(more), "ranking");
  }
  static inline const data::Dataset *found_ = nullptr, *ranked_ = nullptr;
};

TEST_F(RetrievalTest, EmbeddingsLearnAndComeOutAsAFolderThatServes) {
  base::ThreadPool pool(2);
  const TrainConfig config = finding({"steps=400", "optimizer.lr=0.005"});
  auto t = trainer(config, pool, *found_);
  const auto first = t->evaluate();
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_LT(*first->accuracy, 0.6);
  EXPECT_LT(*first->mrr, 0.8);
  Result<EvalRecord> last = first;
  while (t->steps_done() < 400 && (*last->accuracy < 1 || last->eval_loss > 0.5 * first->eval_loss)) {
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(t->step());
    ASSERT_TRUE(last = t->evaluate());
  }
  EXPECT_EQ(*last->accuracy, 1.0);
  EXPECT_EQ(*last->mrr, 1.0);
  EXPECT_LE(last->eval_loss, 0.5 * first->eval_loss);
  const auto status = t->export_model(config.output / "model");
  ASSERT_TRUE(status) << status.error().message;
  const auto source = *formats::ModelSource::open(config.output / "model");
  const auto embedding = *formats::read_embedding_config(source);
  ASSERT_TRUE(embedding);
  EXPECT_TRUE(embedding->normalise);
  EXPECT_EQ(embedding->query_prompt, "Instruct: Find\nQuery:");
  const auto model = *models::model_from_source(source);
  EXPECT_EQ(model->traits().head.kind, models::HeadKind::kEmbedding);
  const auto views = models::load_weights(*model, source);
  ASSERT_TRUE(views) << views.error().message;
  // And such a folder is trained on.
  auto again = finding({"steps=41", output("on")});
  again.init_from = (config.output / "model").string();
  EXPECT_NEAR(trainer(again, pool, *found_)->evaluate()->eval_loss, last->eval_loss, 1e-6);
}

TEST_F(RetrievalTest, AStepGoesDownItsLossAndAccumulationIsTheBigBatch) {
  base::ThreadPool pool(2);
  // All examples in a step: what is learnt from is what is evaluated. A small step down a gradient g takes lr g^2.
  const std::vector<std::string> plain = {"optimizer.kind=sgd", "optimizer.lr=0.0005", "optimizer.clip=0.0",
                                          "embedding.temperature=0.2"};
  auto whole = trainer(finding(plain), pool, *found_);
  const double before = whole->evaluate()->eval_loss;
  const auto a = whole->step();
  ASSERT_TRUE(a) << a.error().message;
  EXPECT_NEAR(a->loss, before, 1e-5);
  EXPECT_NEAR((before - whole->evaluate()->eval_loss) / (0.0005 * a->grad_norm * a->grad_norm), 1, 0.05);
  auto more = plain;
  more.insert(more.end(), {"batch_sequences=2", "accumulation=4"});
  const auto b = trainer(finding(more), pool, *found_)->step();
  ASSERT_TRUE(b) << b.error().message;
  EXPECT_NEAR(a->loss, b->loss, 1e-5);
  EXPECT_NEAR(a->grad_norm, b->grad_norm, 1e-4 * a->grad_norm);
}

TEST_F(RetrievalTest, RankingsLearn) {
  base::ThreadPool pool(2);
  auto t = trainer(ranking({"steps=200"}), pool, *ranked_);
  Result<EvalRecord> last = t->evaluate();
  ASSERT_TRUE(last) << last.error().message;
  EXPECT_GT(last->eval_loss, 0.5);
  while (t->steps_done() < 200 && (*last->accuracy < 1 || last->eval_loss > 0.3)) {
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(t->step());
    ASSERT_TRUE(last = t->evaluate());
  }
  EXPECT_EQ(*last->accuracy, 1.0);
  EXPECT_LT(last->eval_loss, 0.3);
  EXPECT_GT(*last->margin, 1);
  EXPECT_TRUE(trainer(ranking({"lora.rank=4"}), pool, *ranked_)->step());
}

TEST_F(RetrievalTest, ResumedTrainingGivesTheSameBytes) {
  for (const bool ranks : {false, true}) {
    const auto config =
        ranks
            ? ranking({output("ranking-resume"), "steps=3", "batch_sequences=2", "precision=bf16"})
            : finding({output("embedding-resume"), "steps=3", "batch_sequences=3", "accumulation=2", "precision=bf16"});
    const data::Dataset& of = ranks ? *ranked_ : *found_;
    EXPECT_TRUE(bytes_of_run(config, of, 1, 0) == bytes_of_run(config, of, 2, 2)) << ranks;
  }
}

TEST_F(RetrievalTest, WhatDoesNotFitIsNamed) {
  base::ThreadPool pool(1);
  EXPECT_THAT(Trainer::create(finding({}), *dataset_, kernels_here(), pool).error().message,
              HasSubstr("text: holds texts, and retrieval are asked for"));
  EXPECT_THAT(Trainer::create(ranking({}), *found_, kernels_here(), pool).error().message,
              HasSubstr("\"yes\" and \"no\" are no tokens"));
  const auto refused = [](std::vector<std::string> more) {
    auto object = recipe();
    if (more.front() == "init_from=x") object.erase("model");
    for (const auto& o : more) EXPECT_TRUE(data::apply_override(object, o));
    return train_config(object).error().message;
  };
  EXPECT_THAT(refused({"embedding.temperature=0.1"}), HasSubstr("[embedding] needs init_from"));
  EXPECT_THAT(refused({"init_from=x", "embedding.temperature=0.1", "lora.rank=2"}), HasSubstr("[lora] cannot"));
  EXPECT_THAT(refused({"init_from=x", "embedding.scale=20"}), HasSubstr("embedding.scale"));
}

}  // namespace
}  // namespace qw::train
