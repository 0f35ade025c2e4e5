#include "formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/internal/test_files.h"

namespace qw::formats {
namespace {

using tensor::DType;
using tensor::Shape;
using test::golden;
using test::ramp;
using test::values_of;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;

TEST(SafetensorsRead, FileOfThePackage) {
  const auto file = Safetensors::open(golden("small.safetensors"));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->metadata().find("note")->as_string(), "黄金");
  EXPECT_THAT(values_of<float>(*file->tensor("a.f32")), ElementsAreArray(ramp(6)));
  EXPECT_EQ(file->tensor("a.f32")->shape, (Shape{2, 3}));
  EXPECT_EQ(file->tensor("b.f16")->dtype, DType::kF16);
  EXPECT_THAT(values_of<std::int64_t>(*file->tensor("c.i64")), ElementsAre(std::int64_t{1} << 40, -1));
  EXPECT_THAT(values_of<std::uint8_t>(*file->tensor("d.u8")), ElementsAre(0, 1, 2, 3, 4, 5, 6));
  EXPECT_THAT(values_of<std::uint8_t>(*file->tensor("e.bool")), ElementsAre(1, 0, 1));
  EXPECT_EQ(file->tensor("scalar")->shape.rank(), 0);
  EXPECT_EQ(*file->tensor("scalar")->f32(), 2.5f);
  EXPECT_EQ(file->tensor("empty")->shape, (Shape{0, 4}));
  EXPECT_EQ(file->tensor("empty")->bytes(), 0);
  EXPECT_THAT(values_of<std::int32_t>(*file->tensor("f.i32")), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(file->tensor("five").error().message, HasSubstr("5 dimensions are not supported"));
  EXPECT_THAT(file->tensor("wide.u32").error().message, HasSubstr("dtype U32 is not supported"));
  EXPECT_THAT(file->tensor("absent").error().message, HasSubstr("no tensor 'absent'"));
  EXPECT_EQ(file->tensors().size(), 8u);
}

TEST(SafetensorsRead, Shards) {
  const auto file = Safetensors::open(golden("hf_sharded/model.safetensors.index.json"));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->tensors().size(), 3u);
  EXPECT_THAT(values_of<float>(*file->tensor("x.weight")), ElementsAreArray(ramp(16)));
  EXPECT_THAT(values_of<float>(*file->tensor("z.weight")), ElementsAreArray(ramp(16)));
  EXPECT_EQ(file->find("z.weight")->shape, (Shape{2, 8}));
}

TEST(SafetensorsRead, BadIndexes) {
  const test::Folder folder;
  for (const char* shard : {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}) {
    std::filesystem::copy(golden(std::string("hf_sharded/") + shard), folder / shard);
  }
  const struct {
    const char* text;
    const char* why;
  } cases[] = {
      {R"({"weight_map": {"x.weight": "model.safetensors.index.json"}})", "no name of a .safetensors file"},
      {R"({"weight_map": {"x.weight": "../other.safetensors"}})", "no name of a .safetensors file"},
      {R"({"weight_map": {"x.weight": "/etc/x.safetensors"}})", "no name of a .safetensors file"},
      {R"({"weight_map": {"x.weight": 3}})", "no name of a .safetensors file"},
      {R"({"weight_map": {"x.weight": "model-00003-of-00002.safetensors"}})", "cannot open"},
      {R"({"weight_map": {"q.weight": "model-00001-of-00002.safetensors"}})", "'q.weight' is not in"},
      {R"({"weight_map": {"z.weight": "model-00001-of-00002.safetensors"}})", "'z.weight' is not in"},
      {R"({"weight_map": []})", "no weight_map"},
      {R"([])", "no weight_map"},
      {R"({"weight_map": )", "unexpected end"},
  };
  for (const auto& c : cases) {
    test::spill(folder / "model.safetensors.index.json", c.text);
    const auto file = Safetensors::open(folder / "model.safetensors.index.json");
    ASSERT_FALSE(file) << c.text;
    EXPECT_THAT(file.error().message, HasSubstr(c.why)) << c.text;
    EXPECT_EQ(file.error().kind, ErrorKind::kBadInput);
  }
}

// Nothing in the format aligns data; a view handed out must be.
TEST(SafetensorsRead, MisalignedTensorsAreCopied) {
  std::string header =
      R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"F32","shape":[2],"data_offsets":[3,11]}})";
  std::string text;
  const std::uint64_t length = header.size();
  text.append(reinterpret_cast<const char*>(&length), 8);
  text += header + "\x01\x02\x03";
  const float values[2] = {1.5f, -2.0f};
  text.append(reinterpret_cast<const char*>(values), 8);
  const test::Folder folder;
  test::spill(folder / "x.safetensors", text);
  auto file = Safetensors::open(folder / "x.safetensors");
  ASSERT_TRUE(file) << file.error().message;
  const auto view = file->tensor("b");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view->data) % 4, 0u);
  EXPECT_THAT(values_of<float>(*view), ElementsAre(1.5f, -2.0f));
  EXPECT_EQ(file->tensor("b")->data, view->data);
  const Safetensors moved = std::move(*file);
  EXPECT_EQ(moved.tensor("b")->data, view->data);
}

// ---- writing
// ---------------------------------------------------------------------------------------------------------

TEST(SafetensorsWrite, RoundTrip) {
  const test::Folder folder;
  const auto source = Safetensors::open(golden("small.safetensors"));
  ASSERT_TRUE(source);
  auto writer = SafetensorsWriter::create(folder / "written.safetensors", source->tensors(), source->metadata());
  ASSERT_TRUE(writer) << writer.error().message;
  for (const TensorInfo& t : source->tensors()) ASSERT_TRUE(writer->write(*source->tensor(t.name))) << t.name;
  ASSERT_TRUE(writer->commit());
  folder.keep_for_python("written.safetensors");
  const auto copy = Safetensors::open(folder / "written.safetensors");
  ASSERT_TRUE(copy) << copy.error().message;
  EXPECT_EQ(copy->metadata().find("note")->as_string(), "黄金");
  ASSERT_EQ(copy->tensors().size(), source->tensors().size());
  for (const TensorInfo& t : source->tensors()) {
    EXPECT_EQ(copy->find(t.name)->shape, t.shape);
    EXPECT_EQ(copy->find(t.name)->dtype, t.dtype);
    EXPECT_EQ(values_of<std::byte>(*copy->tensor(t.name)), values_of<std::byte>(*source->tensor(t.name)));
  }
}

TEST(SafetensorsWrite, PiecesOfAnySize) {
  const test::Folder folder;
  const auto values = ramp(100);
  auto writer = SafetensorsWriter::create(
      folder / "x.safetensors",
      {{"zero", DType::kF32, {0}}, {"x", DType::kF32, {10, 10}}, {"none", DType::kF32, {4, 0}}});
  const auto bytes = std::as_bytes(std::span(values));
  for (std::size_t at = 0, n = 1; at < bytes.size(); at += n, n = std::min<std::size_t>(n * 2 + 1, bytes.size() - at)) {
    ASSERT_TRUE(writer->append(bytes.subspan(at, std::min(n, bytes.size() - at))));
  }
  ASSERT_TRUE(writer->commit());
  const auto file = Safetensors::open(folder / "x.safetensors");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_THAT(values_of<float>(*file->tensor("x")), ElementsAreArray(values));
  EXPECT_EQ(file->find("none")->shape, (Shape{4, 0}));
}

TEST(SafetensorsWrite, Refusals) {
  const test::Folder folder;
  const auto create = [&](std::vector<TensorInfo> t, const json::Object& m = {}) {
    return SafetensorsWriter::create(folder / "x.safetensors", std::move(t), m);
  };
  EXPECT_THAT(create({{"a", DType::kQ8_0, {32}}}).error().message, HasSubstr("no dtype for q8_0"));
  EXPECT_THAT(create({{"a", DType::kF32, {1}}, {"a", DType::kF32, {1}}}).error().message, HasSubstr("twice"));
  EXPECT_THAT(create({{"__metadata__", DType::kF32, {1}}}).error().message, HasSubstr("not a name"));
  EXPECT_THAT(create({{"\xff", DType::kF32, {1}}}).error().message, HasSubstr("not a name"));
  EXPECT_THAT(create({}, {{"k", 1}}).error().message, HasSubstr("'k' is not a string"));
  EXPECT_EQ(create({{"a", DType::kQ8_0, {32}}}).error().kind, ErrorKind::kUsage);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(SafetensorsWrite, FullDiskLeavesTheOldFile) {
  test::expect_full_disk_leaves_the_old_file("checkpoint.safetensors", [](const auto& path) -> Status {
    QW_ASSIGN(auto writer, SafetensorsWriter::create(path, {{"a", DType::kF32, {8192}}}));
    const std::vector<float> data(8192, 1.0f);
    return writer.append(std::as_bytes(std::span(data)));
  });
}

TEST(SafetensorsWrite, FolderIsShardedBySize) {
  const test::Folder folder;
  std::filesystem::create_directory(folder / "sharded");
  std::vector<TensorInfo> infos;
  for (int i = 0; i < 7; ++i) infos.push_back({"t" + std::to_string(i), DType::kF32, {5, 5}});
  infos.push_back({"huge", DType::kF32, {100}});
  test::spill(folder / "sharded/model.safetensors", "stale");
  auto writer = SafetensorsFolderWriter::create(folder / "sharded", infos, 250);
  ASSERT_TRUE(writer) << writer.error().message;
  const auto values = ramp(100);
  for (int i = 0; i < 7; ++i)
    ASSERT_TRUE(writer->append(std::as_bytes(std::span(values).subspan(static_cast<std::size_t>(i), 25))));
  EXPECT_FALSE(writer->commit());
  ASSERT_TRUE(writer->write({DType::kF32, {100}, reinterpret_cast<const std::byte*>(values.data())}));
  ASSERT_TRUE(writer->commit());
  folder.keep_for_python("sharded");
  EXPECT_FALSE(std::filesystem::exists(folder / "sharded/model.safetensors"));
  EXPECT_TRUE(std::filesystem::exists(folder / "sharded/model-00005-of-00005.safetensors"));
  const auto file = Safetensors::open(folder / "sharded/model.safetensors.index.json");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->tensors().size(), 8u);
  EXPECT_EQ(values_of<float>(*file->tensor("t6"))[0], values[6]);
  EXPECT_THAT(values_of<float>(*file->tensor("huge")), ElementsAreArray(values));

  auto single = SafetensorsFolderWriter::create(folder / "sharded", {{"a", DType::kF32, {1}}}, 0);
  ASSERT_TRUE(single->append(std::as_bytes(std::span(values).first(1))));
  ASSERT_TRUE(single->commit());
  EXPECT_FALSE(std::filesystem::exists(folder / "sharded/model.safetensors.index.json"));
  EXPECT_TRUE(Safetensors::open(folder / "sharded/model.safetensors"));
}

}  // namespace
}  // namespace qw::formats
