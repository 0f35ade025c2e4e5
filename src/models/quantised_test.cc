// Quantised folders against tests/golden/quant_*, made by tools/reference/make_quantised_golden.py: the values of their
// weights bit for bit, and logits of the reference implementation on the dequantised weights.
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "models/internal/test_model.h"
#include "formats/quantise.h"
#include "models/load.h"
#include "tensor/blocks.h"
#include "tensor/groups.h"

namespace qw::models {
namespace {

using models::testing::Runner;
using models::testing::TensorFile;
using tensor::DType;
namespace fs = std::filesystem;

struct Case {
  const char* name;
  DType type;  // of the quantised weights here
};
const Case kCases[] = {{"quant_gptq_int4", DType::kQ4_0},      {"quant_gptq_int4_zeros", DType::kQ4_Z},
                       {"quant_gptq_int4_order", DType::kF16}, {"quant_gptq_int8", DType::kQ8_0},
                       {"quant_awq", DType::kQ4_Z},            {"quant_fp8_moe", DType::kBF16},
                       {"quant_fp8_cut", DType::kBF16},        {"quant_fp8_single", DType::kBF16}};

struct Opened : models::testing::OpenedGolden {
  TensorFile expected;
  explicit Opened(const std::string& name)
      : OpenedGolden(name), expected(models::testing::golden_folder() / name / "expected.safetensors") {}
};

std::vector<float> decoded(const tensor::ConstView& view) {
  std::vector<float> out(static_cast<std::size_t>(view.shape.elements()));
  tensor::decode(view, out.data());
  return out;
}

using models::testing::worst;

TEST(Quantised, WeightsHaveTheirValuesBitForBit) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const Opened o(c.name);
    int checked = 0;
    for (std::size_t i = 0; i < o.views.size(); ++i) {
      const std::string name = "weight." + o.model->parameters()[i].hf_name;
      if (!o.expected.has(name)) continue;
      EXPECT_EQ(o.views[i].dtype, c.type) << name;
      EXPECT_EQ(decoded(o.views[i]), o.expected.read<float>(name)) << name;
      // Any rows, on their own.
      const tensor::ConstView some = tensor::rows_of(o.views[i], 5, 9);
      const auto all = decoded(o.views[i]);
      const std::int64_t n = some.shape.back();
      EXPECT_EQ(decoded(some), std::vector<float>(all.begin() + 5 * n, all.begin() + 14 * n));
      ++checked;
    }
    EXPECT_GE(checked, 2);
  }
}

// What GGUF files have no format for gets there in one that holds it as exactly.
TEST(Quantised, ConversionToAFileLosesNothing) {
  base::ThreadPool threads(2);
  const Opened o("quant_awq");
  int four = 0;
  for (const auto& view : o.views) {
    if (view.dtype != DType::kQ4_Z) continue;
    formats::ConversionError error;
    const auto file = formats::convert(view, formats::file_type(view.dtype), threads, &error);
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->dtype(), DType::kQ8_0);
    EXPECT_EQ(error.max, 0);
    EXPECT_EQ(decoded(file->view()), decoded(view));
    ++four;
  }
  EXPECT_GE(four, 7);
}

// Q4_Z is opened to 24 bytes for 32 weights, Q8_0 would be 34.
TEST(Quantised, FourBitsCostSixInMemory) {
  const auto& k = kernels::kernels_for(base::best_isa());
  EXPECT_EQ(k.packed_bytes(kernels::WeightType::kGroups4, 1024, 1024), 1024 * 1024 / 32 * 24);
  EXPECT_TRUE(tensor::fits_groups4(DType::kQ4_Z));
}

TEST(Quantised, LogitsAgreeWithTheReference) {
  base::ThreadPool threads(2);
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const Opened o(c.name);
    const auto ids = o.expected.ids("input_ids");
    const auto wanted = o.expected.read<float>("logits");
    std::vector<std::vector<float>> wide;
    std::vector<tensor::ConstView> views;
    for (const auto& v : o.views) {
      wide.push_back(decoded(v));
      views.push_back({DType::kF32, v.shape, reinterpret_cast<const std::byte*>(wide.back().data())});
    }
    for (const auto* table : testing::all_kernels()) {
      const auto& k = *table;
      Runner exact(*o.model, views, threads, k), as_loaded(*o.model, o.views, threads, k);
      EXPECT_LT(worst(exact.step(exact.rows_of(ids)), wanted), 1e-4) << k.name;
      // Block formats round the activations to 8 bits for each 32, and these rows have 64; beside weights of four bits by
      // a power of two (largest seen: 0.063).
      const bool four_bits =
          std::any_of(o.views.begin(), o.views.end(), [](const auto& v) { return v.dtype == DType::kQ4_Z; });
      EXPECT_LT(worst(as_loaded.step(as_loaded.rows_of(ids)), wanted), four_bits ? 7e-2 : 6e-2) << k.name;
    }
  }
}

// Experts of a layer as one tensor [E, 2F, D] and [E, D, F] with their scales stacked, as newer libraries save them.
class FusedFp8 : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("qw_fused_" + std::to_string(::getpid()));
    fs::create_directories(folder_);
    fs::copy_file(testing::golden_folder() / "quant_fp8_moe/config.json", folder_ / "config.json", fs::copy_options::overwrite_existing);
    const auto raw = *formats::Safetensors::open(testing::golden_folder() / "quant_fp8_moe/model.safetensors");
    const std::string experts = "model.layers.0.mlp.experts.";
    for (const auto& t : raw.tensors())
      if (!t.name.starts_with(experts)) add(t, {*raw.tensor(t.name)});
    for (const char* end : {"weight", "weight_scale_inv"}) {
      const std::string tail = std::string(end).substr(6);  // "" or "_scale_inv"
      std::vector<tensor::ConstView> first, down;
      for (int e = 0; e < 4; ++e) {
        const std::string at = experts + std::to_string(e) + ".";
        first.push_back(*raw.tensor(at + "gate_proj." + end));
        first.push_back(*raw.tensor(at + "up_proj." + end));
        down.push_back(*raw.tensor(at + "down_proj." + end));
      }
      add({experts + "gate_up_proj" + tail, first[0].dtype, {4, 2 * first[0].shape[0], first[0].shape[1]}}, first);
      add({experts + "down_proj" + tail, down[0].dtype, {4, down[0].shape[0], down[0].shape[1]}}, down);
    }
  }
  void TearDown() override { fs::remove_all(folder_); }
  void add(const formats::TensorInfo& info, const std::vector<tensor::ConstView>& parts) {
    infos_.push_back(info);
    std::vector<std::byte>& to = bytes_.emplace_back();
    for (const auto& part : parts) to.insert(to.end(), part.data, part.data + part.bytes());
  }
  std::string load() {
    auto writer = *formats::SafetensorsWriter::create(folder_ / "model.safetensors", infos_);
    for (const auto& b : bytes_) EXPECT_TRUE(writer.append(b));
    EXPECT_TRUE(writer.commit());
    source_ = formats::ModelSource::open(folder_);
    if (!*source_) return source_->error().message;
    const auto model = model_from_source(**source_);
    auto views = load_weights(**model, **source_);
    if (!views) return views.error().message;
    views_ = std::move(*views);
    return "ok";
  }
  formats::TensorInfo& info(const std::string& end) {
    return *std::find_if(infos_.begin(), infos_.end(), [&](const auto& t) { return t.name.ends_with(end); });
  }
  fs::path folder_;
  std::vector<formats::TensorInfo> infos_;
  std::vector<std::vector<std::byte>> bytes_;
  std::optional<Result<formats::ModelSource>> source_;
  std::vector<tensor::ConstView> views_;
};

TEST_F(FusedFp8, GivesTheValuesOfItsExperts) {
  ASSERT_EQ(load(), "ok");
  const Opened apart("quant_fp8_moe");
  for (std::size_t i = 0; i < views_.size(); ++i)
    EXPECT_EQ(decoded(views_[i]), decoded(apart.views[i])) << apart.model->parameters()[i].hf_name;
}

TEST_F(FusedFp8, ShapesThatDoNotFitAreNamed) {
  using ::testing::HasSubstr;
  info("gate_up_proj").shape = {4, 64, 64};
  info("gate_up_proj_scale_inv").shape = {2, 8, 4};
  EXPECT_THAT(load(), HasSubstr("gate_up_proj_scale_inv': has shape [2, 8, 4], should be [4, 4, 4]"));
  info("gate_up_proj_scale_inv").shape = {4, 4, 4};
  info("gate_up_proj").shape = {2, 128, 64};
  EXPECT_THAT(load(), HasSubstr("should be [2, 8, 4]"));
  info("gate_up_proj").shape = {4, 64, 64};
  info("down_proj").shape = {4, 32, 64};  // transposed
  info("down_proj_scale_inv").shape = {4, 2, 4};
  EXPECT_THAT(load(), HasSubstr("experts.down_proj\" has shape [4, 32, 64]"));
  info("down_proj").shape = {4, 64, 32};
  info("down_proj_scale_inv").shape = {4, 4, 2};
  EXPECT_EQ(load(), "ok");
}

// The same experts [E, D, 2F] and [E, F, D], scales alike: as Qwen3-VL's folders hold them.
TEST_F(FusedFp8, TransposedOnesAreTurned) {
  for (std::size_t i = 0; i < infos_.size(); ++i) {
    tensor::Shape& s = infos_[i].shape;
    if (s.rank() != 3) continue;
    const auto size = static_cast<std::size_t>(tensor::info(infos_[i].dtype).block_bytes);
    const std::vector<std::byte> stood = bytes_[i];
    for (std::int64_t e = 0, at = 0; e < s[0]; ++e)
      for (std::int64_t c = 0; c < s[2]; ++c)
        for (std::int64_t r = 0; r < s[1]; ++r, ++at)
          std::memcpy(bytes_[i].data() + static_cast<std::size_t>(at) * size,
                      stood.data() + static_cast<std::size_t>((e * s[1] + r) * s[2] + c) * size, size);
    s = {s[0], s[2], s[1]};
  }
  json::Object text = json::parse(*base::read_file(folder_ / "config.json"))->as_object(), whole;
  whole.set("quantization_config", *text.find("quantization_config"));
  text.erase("architectures");
  text.erase("quantization_config");
  whole.set("model_type", "qwen3_vl_moe");
  whole.set("architectures", json::Array{"Qwen3VLMoeForConditionalGeneration"});
  whole.set("text_config", text);
  whole.set("vision_config", json::Object{});
  ASSERT_TRUE(base::write_file_atomically(folder_ / "config.json", json::dump(whole)));
  ASSERT_EQ(load(), "ok");
  const Opened apart("quant_fp8_moe");
  for (std::size_t i = 0; i < views_.size(); ++i) {
    EXPECT_EQ(decoded(views_[i]), decoded(apart.views[i])) << apart.model->parameters()[i].hf_name;
    const tensor::Shape& s = views_[i].shape;
    if (views_[i].maker == nullptr || s.rank() != 2) continue;
    // In pieces, as files are written.
    std::vector<float> pieces, some;
    for (std::int64_t r = 0; r < s[0]; r += 5) {
      const std::int64_t n = std::min<std::int64_t>(5, s[0] - r);
      some = decoded(tensor::rows_of(views_[i], r, n));
      pieces.insert(pieces.end(), some.begin(), some.end());
    }
    EXPECT_EQ(pieces, decoded(apart.views[i]));
  }
}

// What the format must not do: treat an ordinary folder as a quantised one, or the other way round.
TEST(Quantised, PlainFoldersAreLeftAlone) {
  const auto plain = formats::ModelSource::open(testing::golden_folder() / "qwen3_tied_bf16");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->hf_folder()->quantised(), nullptr);
  const Opened o("quant_awq");
  ASSERT_NE(o.source.hf_folder()->quantised(), nullptr);
  EXPECT_EQ(o.source.hf_folder()->quantised()->config().describe(), "awq, 4 bits, groups of 32");
}

}  // namespace
}  // namespace qw::models
