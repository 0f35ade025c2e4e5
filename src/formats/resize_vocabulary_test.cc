#include "formats/resize_vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/internal/test_files.h"
#include "tensor/blocks.h"

namespace qw::formats {
namespace {

using tensor::DType;
using testing::ElementsAre;
using testing::HasSubstr;

struct Matrix {
  std::string name;
  DType type;
  std::int64_t rows;
  std::vector<float> values;  // two columns
};

void write_model(const std::filesystem::path& folder, const std::string& config, const std::vector<Matrix>& matrices) {
  std::ofstream(folder / "config.json") << config;
  std::vector<TensorInfo> infos;
  for (const Matrix& m : matrices) infos.push_back({m.name, m.type, {m.rows, 2}});
  auto writer = SafetensorsWriter::create(folder / "model.safetensors", infos);
  ASSERT_TRUE(writer) << writer.error().message;
  for (const Matrix& m : matrices) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(tensor::row_bytes(m.type, 2 * m.rows)));
    tensor::encode_row(m.type, m.values.data(), 2 * m.rows, bytes.data());
    ASSERT_TRUE(writer->append(bytes));
  }
  ASSERT_TRUE(writer->commit());
}

std::vector<float> values(const HfFolder& model, const char* name) {
  const auto view = *model.tensor(name);
  std::vector<float> out(static_cast<std::size_t>(view.shape.elements()));
  tensor::decode_row(view.dtype, view.data, view.shape.elements(), out.data());
  return out;
}

std::string error_of(const std::filesystem::path& model, const VocabularyRows& plan, const std::filesystem::path& out) {
  const auto opened = HfFolder::open(model);
  if (!opened) return opened.error().message;
  const auto done = write_resized_vocabulary(*opened, plan, out);
  return done ? "" : done.error().message;
}

TEST(ResizeVocabulary, NewRowsAreMeansInEveryMatrix) {
  const test::Folder in, out;
  write_model(in.path(), R"({"vocab_size": 3, "text_config": {"vocab_size": 3}, "other": 3})",
              {{"model.embed_tokens.weight", DType::kBF16, 3, {1, 2, 3, 4, 5, 6}},
               {"model.norm.weight", DType::kF32, 3, {9, 9, 9, 9, 9, 9}},
               {"lm_head.weight", DType::kF32, 3, {-1, 0, -3, 0, 8, 1}}});
  const auto rows = write_resized_vocabulary(*HfFolder::open(in.path()), {5, {{3, {0, 1}}, {4, {2}}}}, out.path());
  ASSERT_TRUE(rows) << rows.error().message;
  EXPECT_EQ(*rows, 5);
  const auto model = HfFolder::open(out.path());
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->config().find("vocab_size")->as_int(), 5);
  EXPECT_EQ(model->config().find("text_config")->find("vocab_size")->as_int(), 5);
  EXPECT_EQ(model->config().find("other")->as_int(), 3);
  EXPECT_EQ(model->find("model.embed_tokens.weight")->dtype, DType::kBF16);
  EXPECT_THAT(values(*model, "model.embed_tokens.weight"), ElementsAre(1, 2, 3, 4, 5, 6, 2, 3, 5, 6));
  EXPECT_THAT(values(*model, "lm_head.weight"), ElementsAre(-1, 0, -3, 0, 8, 1, -2, 0, 8, 1));
  EXPECT_THAT(values(*model, "model.norm.weight"), ElementsAre(9, 9, 9, 9, 9, 9));
}

TEST(ResizeVocabulary, RowsTheModelHasAreUsedFirst) {
  const test::Folder in, out;
  write_model(in.path(), R"({"vocab_size": 4})",
              {{"transformer.wte.weight", DType::kF32, 4, {1, 2, 3, 4, 0, 0, 7, 7}}});
  ASSERT_EQ(error_of(in.path(), {3, {{2, {0, 1}}}}, out.path()), "");
  const auto model = HfFolder::open(out.path());
  EXPECT_THAT(values(*model, "transformer.wte.weight"), ElementsAre(1, 2, 3, 4, 2, 3, 7, 7));
  EXPECT_EQ(model->config().find("vocab_size")->as_int(), 4);
}

TEST(ResizeVocabulary, RefusesWhatHasNoSuchRows) {
  const test::Folder in, out;
  write_model(in.path(), R"({"vocab_size": 2})", {{"model.embed_tokens.weight", DType::kF32, 2, {1, 2, 3, 4}}});
  EXPECT_THAT(error_of(in.path(), {3, {{2, {2}}}}, out.path()), HasSubstr("token 2 has no row"));
  EXPECT_THAT(error_of(in.path(), {4, {{3, {1}}}}, out.path()), HasSubstr("row 2 would have no value"));
  write_model(in.path(), "{}", {{"a.weight", DType::kF32, 2, {1, 2, 3, 4}}});
  EXPECT_THAT(error_of(in.path(), {3, {{2, {0}}}}, out.path()), HasSubstr("no embed_tokens.weight"));
  write_model(in.path(), "{}",
              {{"embed_tokens.weight", DType::kF32, 2, {1, 2, 3, 4}}, {"lm_head.weight", DType::kF32, 1, {1, 2}}});
  EXPECT_THAT(error_of(in.path(), {3, {{2, {0}}}}, out.path()), HasSubstr("has 1 rows, another 2"));
  EXPECT_FALSE(std::filesystem::exists(out / "model.safetensors"));
}

}  // namespace
}  // namespace qw::formats
