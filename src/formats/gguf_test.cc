#include "formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>

#include "formats/internal/test_files.h"
#include "formats/npy.h"
#include "formats/tokenizer_gguf.h"
#include "tensor/blocks.h"

namespace qw::formats {
namespace {

using tensor::DType;
using tensor::Shape;
using test::golden;
using test::ramp;
using test::values_of;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(GgufRead, MetadataOfEveryKind) {
  const auto file = GgufFile::open(golden("small.gguf"));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->version(), 3u);
  const json::Object& m = file->metadata();
  EXPECT_EQ(m.begin()->first, "general.architecture");
  EXPECT_EQ(m.find("general.architecture")->as_string(), "qwen3");
  EXPECT_EQ(m.find("general.name")->as_string(), "Golden 黄金");
  EXPECT_EQ(m.find("kinds.u8")->as_int(), 255);
  EXPECT_EQ(m.find("kinds.i8")->as_int(), -128);
  EXPECT_EQ(m.find("kinds.u16")->as_int(), 65535);
  EXPECT_EQ(m.find("kinds.i16")->as_int(), -32768);
  EXPECT_EQ(m.find("kinds.u32")->as_int(), 4294967295);
  EXPECT_EQ(m.find("kinds.i32")->as_int(), -2147483648LL);
  EXPECT_EQ(m.find("kinds.f32")->as_double(), double{1e-6f});
  EXPECT_EQ(m.find("kinds.u64")->as_double(), 0x1.0p64);
  EXPECT_EQ(m.find("kinds.i64")->as_int(), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(m.find("kinds.f64")->as_double(), 0.1);
  EXPECT_TRUE(m.find("kinds.bool")->as_bool());
  EXPECT_EQ(json::dump(*m.find("kinds.ints")), "[1, -2, 3]");
  EXPECT_EQ(json::dump(*m.find("kinds.floats")), "[0.5, -1.5]");
  EXPECT_EQ(json::dump(*m.find("kinds.bools")), "[true, false]");
  EXPECT_THAT(*file->strings("tokenizer.ggml.tokens"), ElementsAre("a", "b", "Ġ", "ab", "<|endoftext|>", "<|im_end|>"));
  EXPECT_THAT(*file->integers("kinds.ints"), ElementsAre(1, -2, 3));
  EXPECT_THAT(*file->numbers("kinds.floats"), ElementsAre(0.5, -1.5));
  EXPECT_FALSE(file->strings("kinds.ints"));
  EXPECT_FALSE(file->integers("kinds.floats"));
  EXPECT_FALSE(file->numbers("kinds.bools"));
  EXPECT_FALSE(file->integers("kinds.u8"));
  EXPECT_FALSE(file->strings("absent"));
}

TEST(GgufRead, TensorsOfEveryType) {
  const auto file = GgufFile::open(golden("small.gguf"));
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(file->tensors().size(), 11u);
  EXPECT_THAT(values_of<float>(*file->tensor("plain.f32")), testing::ElementsAreArray(ramp(5)));
  EXPECT_EQ(file->tensor("matrix.f32")->shape, (Shape{2, 3}));
  EXPECT_EQ(file->tensor("cube.i32")->shape, (Shape{2, 3, 4}));
  EXPECT_EQ(values_of<std::int32_t>(*file->tensor("cube.i32"))[23], 23);
  EXPECT_THAT(values_of<std::int8_t>(*file->tensor("byte.i8")), ElementsAre(-3, -2, -1, 0, 1, 2, 3));
  EXPECT_THAT(values_of<std::int16_t>(*file->tensor("short.i16")), ElementsAre(-300, 300));
  EXPECT_THAT(values_of<std::int64_t>(*file->tensor("long.i64")), ElementsAre(std::int64_t{1} << 40, -1));
  EXPECT_THAT(values_of<double>(*file->tensor("double.f64")), ElementsAre(0.1, -1e300));
  const auto expected = ramp(192);
  const struct {
    const char* name;
    DType dtype;
    float tolerance;
  } floats[] = {{"half.f16", DType::kF16, 0},
                {"brain.bf16", DType::kBF16, 0},
                {"block.q8_0", DType::kQ8_0, 6.25f / 127 * 0.5f + 6.25f * 0x1.0p-11f},
                {"block.q4_0", DType::kQ4_0, 6.25f / 8 + 6.25f * 0x1.0p-11f}};
  for (const auto& c : floats) {
    const auto view = file->tensor(c.name);
    ASSERT_TRUE(view) << c.name;
    EXPECT_EQ(view->dtype, c.dtype);
    EXPECT_EQ(view->shape, (Shape{3, 64}));
    std::vector<float> got(192);
    for (int r = 0; r < 3; ++r)
      tensor::decode_row(c.dtype, view->data + r * tensor::row_bytes(c.dtype, 64), 64, got.data() + r * 64);
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], c.tolerance) << c.name << i;
  }
  EXPECT_EQ(file->find("absent"), nullptr);
  EXPECT_THAT(file->tensor("absent").error().message, HasSubstr("no tensor 'absent'"));
}

TEST(GgufRead, SplitFiles) {
  auto file = GgufFile::open(golden("split-00001-of-00003.gguf"));
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(file->tensors().size(), 5u);
  const GgufFile moved = std::move(*file);
  const auto base = ramp(32);
  for (int i = 0; i < 5; ++i) {
    const auto values = values_of<float>(*moved.tensor("t" + std::to_string(i)));
    for (std::size_t k = 0; k < values.size(); ++k) EXPECT_EQ(values[k], base[k] + static_cast<float>(i));
  }
  EXPECT_THAT(GgufFile::open(golden("split-00002-of-00003.gguf")).error().message,
              HasSubstr("part 2 of 3; open the first part"));
}

TEST(GgufRead, SplitFilesThatDoNotBelongTogether) {
  const test::Folder folder;
  for (int i = 1; i <= 3; ++i) {
    const std::string name = "split-0000" + std::to_string(i) + "-of-00003.gguf";
    std::filesystem::copy(golden(name), folder / name);
  }
  ASSERT_TRUE(GgufFile::open(folder / "split-00001-of-00003.gguf"));
  std::filesystem::copy(golden("split-00001-of-00003.gguf"), folder / "whole.gguf");
  EXPECT_THAT(GgufFile::open(folder / "whole.gguf").error().message, HasSubstr("do not agree with the file's name"));
  std::filesystem::copy(golden("split-00002-of-00003.gguf"), folder / "split-00003-of-00003.gguf",
                        std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(GgufFile::open(folder / "split-00001-of-00003.gguf").error().message, HasSubstr("split.no"));
  std::filesystem::remove(folder / "split-00003-of-00003.gguf");
  EXPECT_THAT(GgufFile::open(folder / "split-00001-of-00003.gguf").error().message,
              HasSubstr("split-00003-of-00003.gguf"));
}

TEST(GgufRead, Vocabulary) {
  const auto file = GgufFile::open(golden("small.gguf"));
  const auto v = read_gguf_vocabulary(*file);
  ASSERT_TRUE(v) << v.error().message;
  EXPECT_EQ(v->pre, "qwen2");
  EXPECT_THAT(v->tokens, ElementsAre("a", "b", "Ġ", "ab", "<|endoftext|>", "<|im_end|>"));
  EXPECT_EQ(v->token_types[3], GgufTokenType::kNormal);
  EXPECT_EQ(v->token_types[4], GgufTokenType::kControl);
  EXPECT_THAT(v->merges, ElementsAre("a b", "Ġ a"));
  EXPECT_EQ(v->eos, 5);
  EXPECT_EQ(v->pad, 4);
  EXPECT_EQ(v->bos, std::nullopt);
  EXPECT_FALSE(v->add_bos);
  EXPECT_EQ(v->chat_template, "{{ messages }}");
}

// ---- writing
// ---------------------------------------------------------------------------------------------------------

std::vector<TensorInfo> infos_of(const GgufFile& file) { return file.tensors(); }

TEST(GgufWrite, CopyOfAGoldenIsTheSameModel) {
  const test::Folder folder;
  const auto source = GgufFile::open(golden("small.gguf"));
  ASSERT_TRUE(source);
  auto writer = GgufWriter::create(folder / "written.gguf", GgufMetadata::copy_of(*source), infos_of(*source));
  ASSERT_TRUE(writer) << writer.error().message;
  for (const TensorInfo& t : source->tensors()) ASSERT_TRUE(writer->write(*source->tensor(t.name)));
  EXPECT_FALSE(std::filesystem::exists(folder / "written.gguf"));
  ASSERT_TRUE(writer->commit());
  folder.keep_for_python("written.gguf");
  const auto copy = GgufFile::open(folder / "written.gguf");
  ASSERT_TRUE(copy) << copy.error().message;
  EXPECT_EQ(json::dump(copy->metadata()), json::dump(source->metadata()));
  ASSERT_EQ(copy->entries().size(), source->entries().size());
  for (std::size_t i = 0; i < copy->entries().size(); ++i) {
    const GgufEntry &a = copy->entries()[i], &b = source->entries()[i];
    EXPECT_EQ(a.key, b.key);
    EXPECT_EQ(a.type, b.type);
    EXPECT_TRUE(std::equal(a.bytes.begin(), a.bytes.end(), b.bytes.begin(), b.bytes.end())) << a.key;
  }
  for (const TensorInfo& t : source->tensors()) {
    EXPECT_EQ(copy->find(t.name)->shape, t.shape);
    EXPECT_EQ(values_of<std::byte>(*copy->tensor(t.name)), values_of<std::byte>(*source->tensor(t.name))) << t.name;
  }
}

TEST(GgufWrite, TypesAreInferredAndStated) {
  GgufMetadata m;
  m.set("u32", 7);
  m.set("i32", -7);
  m.set("i64", std::int64_t{1} << 40);
  m.set("f32", 0.5);
  m.set("bool", true);
  m.set("text", "x");
  m.set("ints", json::Array{1, 2});
  m.set("floats", json::Array{1, 2.5});
  m.set("empty", json::Array{});
  m.set_typed("u16", GgufType::kU16, 3);
  m.set_array("f64s", GgufType::kF64, {0.1});
  m.set("u32", 8);
  const test::Folder folder;
  auto writer = GgufWriter::create(folder / "m.gguf", m, {});
  ASSERT_TRUE(writer) << writer.error().message;
  ASSERT_TRUE(writer->commit());
  const auto file = GgufFile::open(folder / "m.gguf");
  ASSERT_TRUE(file) << file.error().message;
  const auto type = [&](const char* key) { return file->entry(key)->type; };
  EXPECT_EQ(type("u32"), GgufType::kU32);
  EXPECT_EQ(type("i32"), GgufType::kI32);
  EXPECT_EQ(type("i64"), GgufType::kI64);
  EXPECT_EQ(type("f32"), GgufType::kF32);
  EXPECT_EQ(type("bool"), GgufType::kBool);
  EXPECT_EQ(type("u16"), GgufType::kU16);
  EXPECT_EQ(file->entry("ints")->element, GgufType::kI32);
  EXPECT_EQ(file->entry("floats")->element, GgufType::kF32);
  EXPECT_EQ(file->entry("f64s")->element, GgufType::kF64);
  EXPECT_EQ(json::dump(file->metadata()),
            R"({"u32": 8, "i32": -7, "i64": 1099511627776, "f32": 0.5, "bool": true, "text": "x", "ints": [1, 2], )"
            R"("floats": [1.0, 2.5], "empty": [], "u16": 3, "f64s": [0.1]})");
}

TEST(GgufWrite, RefusesWhatTheFormatCannotHold) {
  const test::Folder folder;
  const auto create = [&](const GgufMetadata& m, std::vector<TensorInfo> t) {
    return GgufWriter::create(folder / "x.gguf", m, std::move(t));
  };
  GgufMetadata null, mixed, big;
  null.set("k", nullptr);
  mixed.set("k", json::Array{1, "x"});
  big.set_typed("k", GgufType::kU8, 256);
  for (const auto& m : {null, mixed, big}) {
    const auto writer = create(m, {});
    ASSERT_FALSE(writer);
    EXPECT_EQ(writer.error().kind, ErrorKind::kUsage);
    EXPECT_THAT(writer.error().message, HasSubstr("'k'"));
  }
  EXPECT_THAT(create({}, {{"a", DType::kF32, {2}}, {"a", DType::kF32, {2}}}).error().message, HasSubstr("twice"));
  EXPECT_THAT(create({}, {{"a", DType::kU8, {2}}}).error().message, HasSubstr("no type u8"));
  EXPECT_THAT(create({}, {{"a", DType::kQ8_0, {2, 31}}}).error().message, HasSubstr("whole blocks"));
  EXPECT_THAT(create({}, {{"a", DType::kF32, {0}}}).error().message, HasSubstr("shape [0]"));
  EXPECT_THAT(create({}, {{std::string(64, 'n'), DType::kF32, {1}}}).error().message, HasSubstr("63 bytes"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(GgufWrite, MissingDataIsNotCommitted) {
  const test::Folder folder;
  {
    auto writer = GgufWriter::create(folder / "x.gguf", {}, {{"a", DType::kF32, {2}}, {"b", DType::kF32, {2}}});
    const float row[2] = {1, 2};
    ASSERT_TRUE(writer->append(std::as_bytes(std::span(row))));
    EXPECT_THAT(writer->commit().error().message, HasSubstr("'b'"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(GgufWrite, VocabularyGoesRoundAndBadOnesAreRefused) {
  GgufVocabulary v;
  v.tokens = {"a", "Ġb", "<|im_end|>"};
  v.token_types = {GgufTokenType::kNormal, GgufTokenType::kNormal, GgufTokenType::kControl};
  v.merges = {"Ġ b"};
  v.eos = 2;
  v.chat_template = "{{ x }}";
  const test::Folder folder;
  const auto store = [&](const GgufMetadata& m) {
    auto writer = GgufWriter::create(folder / "v.gguf", m, {});
    EXPECT_TRUE(writer && writer->commit());
    return GgufFile::open(folder / "v.gguf");
  };
  GgufMetadata m;
  write_gguf_vocabulary(v, m);
  const auto file = store(m);
  const auto back = read_gguf_vocabulary(*file);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->tokens, v.tokens);
  EXPECT_EQ(back->token_types, v.token_types);
  EXPECT_EQ(back->merges, v.merges);
  EXPECT_EQ(back->eos, 2);
  EXPECT_EQ(back->chat_template, "{{ x }}");
  const auto refused = [&](const char* key, json::Value value) {
    GgufMetadata changed = m;
    changed.set(key, std::move(value));
    const auto bad = store(changed);
    const auto result = read_gguf_vocabulary(*bad);
    return result ? std::string("accepted") : result.error().message;
  };
  EXPECT_THAT(refused("tokenizer.ggml.eos_token_id", 3), HasSubstr("no id of the vocabulary"));
  EXPECT_THAT(refused("tokenizer.ggml.eos_token_id", -1), HasSubstr("no id of the vocabulary"));
  EXPECT_THAT(refused("tokenizer.ggml.model", "bert"), HasSubstr("'bert' is not supported"));
  EXPECT_THAT(refused("tokenizer.ggml.token_type", json::Array{1}), HasSubstr("differ in length"));
  EXPECT_THAT(refused("tokenizer.ggml.token_type", json::Array{1, 1, 9}), HasSubstr("holds 9"));
  EXPECT_THAT(refused("tokenizer.ggml.tokens", 5), HasSubstr("not an array of strings"));
  EXPECT_THAT(refused("tokenizer.ggml.merges", json::Array{"ab"}), HasSubstr("no pair"));
  EXPECT_THAT(refused("tokenizer.chat_template", 1), HasSubstr("not a string"));
}

TEST(GgufWrite, FullDiskLeavesTheOldFile) {
  test::expect_full_disk_leaves_the_old_file("x.gguf", [](const auto& path) -> Status {
    QW_ASSIGN(auto writer, GgufWriter::create(path, {}, {{"a", DType::kF32, {8192}}}));
    const std::vector<float> data(8192, 1.0f);
    return writer.append(std::as_bytes(std::span(data)));
  });
}

// A vocabulary of the largest models opens in a blink: bounds generous enough for a sanitizer build.
TEST(GgufRead, LargeVocabularyOpensFast) {
  const test::Folder folder;
  GgufVocabulary v;
  for (int i = 0; i < 151936; ++i) v.tokens.push_back("token" + std::to_string(i));
  v.token_types.assign(v.tokens.size(), GgufTokenType::kNormal);
  for (int i = 0; i < 151387; ++i) v.merges.push_back("left" + std::to_string(i) + " right");
  GgufMetadata m;
  write_gguf_vocabulary(v, m);
  auto writer = GgufWriter::create(folder / "v.gguf", m, {});
  ASSERT_TRUE(writer && writer->commit());
  const auto begin = std::chrono::steady_clock::now();
  const auto file = GgufFile::open(folder / "v.gguf");
  const double open_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  ASSERT_TRUE(file);
  EXPECT_EQ(file->metadata().find("tokenizer.ggml.tokens"), nullptr);
  const auto back = read_gguf_vocabulary(*file);
  const double all_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  ASSERT_TRUE(back);
  EXPECT_EQ(back->tokens, v.tokens);
  EXPECT_EQ(back->merges, v.merges);
  RecordProperty("open_ms", std::to_string(open_ms));
  RecordProperty("vocabulary_ms", std::to_string(all_ms));
  EXPECT_LT(all_ms, 5000);
}

// Every bit of every block format, against the values gguf decodes from the same file.
TEST(GgufRead, EveryBlockFormatDecodesBitForBit) {
  const auto file = GgufFile::open(test::golden("blocks.gguf"));
  ASSERT_TRUE(file) << file.error().message;
  const auto expected = read_npy(test::golden("blocks_decoded.npy"));
  ASSERT_TRUE(expected) << expected.error().message;
  ASSERT_EQ(expected->shape(), (tensor::Shape{22, 256}));
  ASSERT_EQ(file->tensors().size(), 11u);
  const float* want = expected->f32();
  for (const TensorInfo& info : file->tensors()) {
    EXPECT_EQ(info.name, tensor::name(info.dtype));
    ASSERT_EQ(info.shape, (tensor::Shape{2, 256})) << info.name;
    const auto view = *file->tensor(info.name);
    std::vector<float> row(256);
    for (int r = 0; r < 2; ++r, want += 256) {
      tensor::decode_row(info.dtype, view.data + r * tensor::row_bytes(info.dtype, 256), 256, row.data());
      EXPECT_EQ(std::memcmp(row.data(), want, 256 * 4), 0) << info.name << " row " << r;
    }
  }
}

}  // namespace
}  // namespace qw::formats
