// Quantised weights that lie about themselves: every one is an error of one line that names the tensor or the key.
#include "formats/quantised_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "formats/hf_folder.h"
#include "formats/internal/test_files.h"
#include "formats/safetensors.h"

namespace qw::formats {
namespace {

using ::testing::HasSubstr;
using tensor::DType;
using tensor::Shape;

std::string config_error(const std::string& text) {
  const auto config = json::parse(R"({"quantization_config":)" + text + "}");
  const auto read = read_quant_config(config->as_object());
  return read ? "ok" : read.error().message;
}

TEST(QuantConfig, VariantsThatAreNotReadAreNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("gptq")", "must be an object"},
      {R"({})", "quant_method: is missing"},
      {R"({"quant_method":"bitsandbytes"})", "'bitsandbytes' is not one that is read (fp8, gptq, awq)"},
      {R"({"quant_method":7})", "integer is not one"},
      {R"({"quant_method":"gptq","group_size":128})", "bits: is missing"},
      {R"({"quant_method":"gptq","bits":3,"group_size":128})", "3 bits are not read"},
      {R"({"quant_method":"gptq","bits":4.0,"group_size":128})", "bits: must be an integer"},
      {R"({"quant_method":"gptq","bits":4,"group_size":0})", "must not be 0"},
      {R"({"quant_method":"gptq","bits":4,"group_size":-2})", "group_size: must be"},
      {R"({"quant_method":"gptq","bits":4,"group_size":9223372036854775807})", "group_size: must be"},
      {R"({"quant_method":"gptq","bits":4,"group_size":128,"checkpoint_format":"marlin"})", "'marlin'"},
      {R"({"quant_method":"gptq","bits":4,"group_size":128,"is_marlin_format":true})", "Marlin"},
      {R"({"quant_method":"gptq","bits":4,"group_size":128,"pack_dtype":"int16"})", "'int16'"},
      {R"({"quant_method":"awq","bits":8,"group_size":128})", "8 bits are not read"},
      {R"({"quant_method":"awq","bits":4,"group_size":128,"version":"gemv"})", "'gemv'"},
      {R"({"quant_method":"fp8","fmt":"e5m2"})", "'e5m2'"},
      {R"({"quant_method":"fp8","weight_block_size":[128]})", "must hold two numbers"},
      {R"({"quant_method":"fp8","weight_block_size":[0,128]})", "must hold integers from 1"},
      {R"({"quant_method":"fp8","modules_to_not_convert":[1]})", "must be an array of names"},
      {R"({"quant_method":"fp8","weight_block_size":[128,128],"modules_to_not_convert":null})", "ok"},
      {R"({"quant_method":"awq","w_bit":4,"q_group_size":64,"version":"GEMM"})", "ok"},
      {R"({"quant_method":"gptq","bits":8,"group_size":-1,"checkpoint_format":"gptq_v2"})", "ok"}};
  for (const auto& [text, wanted] : cases) {
    const std::string error = config_error(text);
    EXPECT_THAT(error, HasSubstr(wanted)) << text;
    EXPECT_EQ(error.find('\n'), std::string::npos);
  }
  EXPECT_FALSE(*read_quant_config(json::Object{{"quantization_config", nullptr}}));
}

// A weight [32, 64] of 4 bits in groups of 32, whose parts a test may change.
struct Parts {
  std::vector<TensorInfo> infos;
  std::map<std::string, std::vector<std::byte>> bytes;
  QuantConfig config;

  void put(const std::string& name, DType type, const Shape& shape) {
    drop(name);
    infos.push_back({name, type, shape});
    bytes[name].assign(static_cast<std::size_t>(infos.back().bytes()), std::byte{0});
  }
  void drop(const std::string& name) {
    std::erase_if(infos, [&](const TensorInfo& t) { return t.name == name; });
  }
  template <class T>
  T* at(const std::string& name) {
    return reinterpret_cast<T*>(bytes.at(name).data());
  }
  Result<QuantisedWeights> open() {
    return QuantisedWeights::create(config, infos, [this](std::string_view name) -> Result<tensor::ConstView> {
      for (const TensorInfo& t : infos)
        if (t.name == name) return tensor::ConstView{t.dtype, t.shape, bytes.at(t.name).data()};
      return fail(ErrorKind::kBadInput, "no tensor " + std::string(name));
    });
  }
  std::string error() {
    const auto opened = open();
    return opened ? "ok" : opened.error().message;
  }
};

Parts gptq() {
  Parts p;
  p.config = {.method = QuantMethod::kGptq, .bits = 4, .group = 32};
  p.put("x.qweight", DType::kI32, {8, 32});
  p.put("x.qzeros", DType::kI32, {2, 4});
  p.put("x.scales", DType::kF16, {2, 32});
  p.put("x.g_idx", DType::kI32, {64});
  for (int i = 0; i < 64; ++i) p.at<std::int32_t>("x.g_idx")[i] = i / 32;
  return p;
}

TEST(QuantisedWeights, PartsThatDoNotFitAreNamed) {
  const std::pair<std::function<void(Parts&)>, const char*> cases[] = {
      {[](Parts&) {}, "ok"},
      {[](Parts& p) { p.drop("x.g_idx"); }, "ok"},
      {[](Parts& p) { p.drop("x.scales"); }, "x.scales"},
      {[](Parts& p) { p.drop("x.qzeros"); }, "'x.qzeros': is missing"},
      {[](Parts& p) { p.drop("x.qweight"); }, "belongs to no quantised weight"},
      {[](Parts& p) { p.put("x.scales", DType::kF16, {1, 32}); }, "'x.scales': has shape [1, 32], should be [2, 32]"},
      {[](Parts& p) { p.put("x.scales", DType::kI32, {2, 32}); }, "'x.scales': is of type i32"},
      {[](Parts& p) { p.put("x.qzeros", DType::kI32, {2, 5}); }, "'x.qzeros': has shape [2, 5]"},
      {[](Parts& p) { p.put("x.qweight", DType::kI32, {8, 31}); }, "no whole words"},
      {[](Parts& p) { p.put("x.qweight", DType::kI32, {0, 32}); }, "'x.qweight': has shape [0, 32]"},
      {[](Parts& p) { p.put("x.qweight", DType::kI32, {256}); }, "'x.qweight': has shape [256]"},
      {[](Parts& p) { p.put("x.qweight", DType::kF32, {8, 32}); }, "'x.qweight': is of type f32"},
      {[](Parts& p) { p.put("x.g_idx", DType::kI32, {63}); }, "'x.g_idx': has shape [63]"},
      {[](Parts& p) { p.at<std::int32_t>("x.g_idx")[3] = -1; }, "input 3 is in group -1 of 2"},
      {[](Parts& p) { p.at<std::int32_t>("x.g_idx")[63] = 2; }, "input 63 is in group 2 of 2"},
      {[](Parts& p) { p.at<std::uint16_t>("x.scales")[5] = 0x7c00; }, "'x.scales': scale 5 is not finite"},
      {[](Parts& p) { p.config.group = std::int64_t{1} << 24; }, "should be [1, "},
      {[](Parts& p) { p.config.group = 1; }, "should be [64, "},
      {[](Parts& p) { p.config.bits = 8; }, "should be"},
      {[](Parts& p) { p.put("x.weight", DType::kF16, {32, 64}); }, "both as it is and quantised"},
      {[](Parts& p) { p.put("y.qzeros", DType::kI32, {2, 4}); }, "'y.qzeros': belongs to no quantised weight"}};
  for (const auto& [change, wanted] : cases) {
    Parts p = gptq();
    change(p);
    const std::string error = p.error();
    EXPECT_THAT(error, HasSubstr(wanted));
    EXPECT_EQ(error.find('\n'), std::string::npos);
  }
}

TEST(QuantisedWeights, ModulesOfOtherBitsAreToldByTheirShapes) {
  Parts p = gptq();
  p.config.bits = 8;
  p.config.dynamic = true;
  auto opened = p.open();
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->find("x.weight")->shape, (Shape{32, 64}));
  p.put("x.qzeros", DType::kI32, {2, 5});
  EXPECT_THAT(p.error(), HasSubstr("none of 4 or 8 bits"));
}

TEST(QuantisedWeights, Fp8WithoutItsScalesIsNoWeight) {
  Parts p;
  p.config = {.method = QuantMethod::kFp8, .bits = 8, .block_rows = 16, .block_columns = 16};
  p.put("x.weight", DType::kF8_E4M3, {40, 32});
  EXPECT_THAT(p.error(), HasSubstr("x.weight_scale_inv"));
  p.put("x.weight_scale_inv", DType::kF32, {2, 2});
  EXPECT_THAT(p.error(), HasSubstr("should be [3, 2]"));
  p.put("x.weight_scale_inv", DType::kF32, {3, 2});
  p.at<float>("x.weight_scale_inv")[4] = NAN;
  EXPECT_THAT(p.error(), HasSubstr("scale 4 is not finite"));
  p.at<float>("x.weight_scale_inv")[4] = 2;
  p.at<std::uint8_t>("x.weight")[32 * 33] = 0x38;  // 1.0, in the block of scale 4
  p.put("x.activation_scale", DType::kF32, {1});   // of products in FP8: set aside
  const auto opened = p.open();
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->tensors().size(), 1u);
  tensor::Buffer own;
  const auto view = tensor::in_memory(*opened->made("x.weight"), own);
  EXPECT_EQ(view.dtype, DType::kBF16);
  EXPECT_EQ(tensor::bf16_to_f32(reinterpret_cast<const std::uint16_t*>(view.data)[32 * 33]), 2.0f);
  p.put("y.weight_scale_inv", DType::kF32, {1, 1});
  EXPECT_THAT(p.error(), HasSubstr("belongs to no quantised weight"));
}

TEST(QuantisedWeights, Fp8Values) {
  EXPECT_EQ(tensor::f8_e4m3_to_f32(0x00), 0.0f);
  EXPECT_EQ(tensor::f8_e4m3_to_f32(0x38), 1.0f);
  EXPECT_EQ(tensor::f8_e4m3_to_f32(0x7e), 448.0f);
  EXPECT_EQ(tensor::f8_e4m3_to_f32(0xfe), -448.0f);
  EXPECT_EQ(tensor::f8_e4m3_to_f32(0x01), 0x1p-9f);
  EXPECT_EQ(tensor::f8_e4m3_to_f32(0x87), -7 * 0x1p-9f);
  EXPECT_TRUE(std::isnan(tensor::f8_e4m3_to_f32(0x7f)));
  EXPECT_TRUE(std::isnan(tensor::f8_e4m3_to_f32(0xff)));
}

// ---- sharded folders ------------------------------------------------------------------------------------------------

class Shards : public ::testing::Test {
 protected:
  void SetUp() override {
    write("model-00001-of-00002.safetensors", {"a", "b"});
    write("model-00002-of-00002.safetensors", {"c"});
    test::spill(folder_ / "config.json", "{}");
  }
  void write(const std::string& file, const std::vector<std::string>& names) {
    std::vector<TensorInfo> infos;
    for (const auto& n : names) infos.push_back({n, DType::kF32, {2}});
    auto writer = SafetensorsWriter::create(folder_ / file, infos);
    ASSERT_TRUE(writer);
    for (std::size_t i = 0; i < names.size(); ++i) {
      const float values[] = {static_cast<float>(i), static_cast<float>(file[9])};
      ASSERT_TRUE(writer->append(std::as_bytes(std::span(values))));
    }
    ASSERT_TRUE(writer->commit());
  }
  std::string error(const std::string& index) {
    test::spill(folder_ / "model.safetensors.index.json", index);
    const auto opened = HfFolder::open(folder_.path());
    if (opened) return "ok";
    EXPECT_EQ(opened.error().kind, ErrorKind::kBadInput);
    EXPECT_EQ(opened.error().message.find('\n'), std::string::npos);
    return opened.error().message;
  }
  test::Folder folder_;
};

TEST_F(Shards, AnIndexThatLiesIsAnError) {
  const std::string one = "model-00001-of-00002.safetensors", two = "model-00002-of-00002.safetensors";
  const auto map = [](std::initializer_list<std::pair<std::string, std::string>> entries) {
    std::string text = R"({"metadata":{"total_size":0},"weight_map":{)";
    for (const auto& [name, file] : entries) text += (text.back() == '{' ? "\"" : ",\"") + name + "\":\"" + file + "\"";
    return text + "}}";
  };
  EXPECT_EQ(error(map({{"a", one}, {"b", one}, {"c", two}})), "ok");
  EXPECT_THAT(error(map({{"a", one}, {"b", one}, {"c", one}})), HasSubstr("tensor 'c' is not in"));
  EXPECT_THAT(error(map({{"a", one}, {"b", one}, {"c", two}, {"d", two}})), HasSubstr("tensor 'd' is not in"));
  EXPECT_THAT(error(map({{"a", one}, {"b", one}, {"c", "model-00003-of-00002.safetensors"}})), HasSubstr("00003"));
  for (const char* file : {"../model-00001-of-00002.safetensors", "/etc/x.safetensors", "a\\\\b.safetensors",
                           "x/..safetensors", "model.bin", ""})
    EXPECT_THAT(error(map({{"a", file}})), HasSubstr("its shard is no name of a .safetensors file")) << file;
  EXPECT_THAT(error(R"({"weight_map":{"a":7}})"), HasSubstr("its shard is no name"));
  EXPECT_THAT(error(R"({"weight_map":[]})"), HasSubstr("no weight_map"));
  EXPECT_THAT(error("[]"), HasSubstr("weight_map"));
}

TEST_F(Shards, ATensorInTwoShardsIsAnError) {
  write("model-00002-of-00002.safetensors", {"c", "a"});
  EXPECT_THAT(error(R"({"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00001-of-00002.safetensors",
                      "c":"model-00002-of-00002.safetensors"}})"),
              HasSubstr("tensor 'a' stands in two shards"));
}

TEST_F(Shards, AShardThatIsCutOffIsAnError) {
  const auto path = folder_ / "model-00002-of-00002.safetensors";
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  EXPECT_THAT(error(R"({"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00001-of-00002.safetensors",
                      "c":"model-00002-of-00002.safetensors"}})"),
              HasSubstr("model-00002-of-00002.safetensors: tensor 'c'"));
}

}  // namespace
}  // namespace qw::formats
