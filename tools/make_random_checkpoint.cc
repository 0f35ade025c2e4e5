// make_random_checkpoint CONFIG.json OUT: a model folder of any shape with random BF16 weights, for tests of size and
// speed. Weights have the mean and deviation that a fresh model is drawn with, but are uniform, which is many times
// quicker to draw; the same configuration gives the same bytes. OUT gets config.json and the weights, no tokenizer.
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "base/file.h"
#include "base/rng.h"
#include "formats/hf_folder.h"
#include "formats/safetensors.h"
#include "models/load.h"
#include "tensor/blocks.h"

namespace qw {
namespace {

constexpr std::int64_t kPiece = 1 << 16;  // values drawn at a time

// A tensor as the file has it: `p` is the first parameter that stands in it.
Status write_tensor(const models::ParameterSpec& p, const tensor::Shape& shape, std::uint64_t stream,
                    formats::SafetensorsFolderWriter& writer) {
  base::Rng rng(1, stream);
  const float norm = p.hf.numbers == models::FileForm::Numbers::kOneLess ? 0.0f : 1.0f;
  const float reach = p.init_std * std::sqrt(3.0f);  // a uniform distribution of this reach has that deviation
  std::vector<float> values;
  std::vector<std::byte> bytes;
  for (std::int64_t left = shape.elements(); left > 0; left -= static_cast<std::int64_t>(values.size())) {
    values.resize(static_cast<std::size_t>(std::min(left, kPiece)));
    for (float& v : values) v = p.is_norm ? norm : p.is_bias ? 0.0f : (2.0f * rng.next_float() - 1.0f) * reach;
    bytes.resize(2 * values.size());
    tensor::encode_row(tensor::DType::kBF16, values.data(), static_cast<std::int64_t>(values.size()), bytes.data());
    QW_TRY(writer.append(bytes));
  }
  return {};
}

Status make(const std::filesystem::path& config_path, const std::filesystem::path& out) {
  QW_ASSIGN(const json::Object config, formats::read_json_object(config_path));
  QW_ASSIGN(const auto model, models::model_from_hf_config(config));
  // Only names and shapes are asked for, so the views need no data.
  std::vector<tensor::ConstView> views;
  for (const auto& p : model->parameters()) views.push_back({tensor::DType::kBF16, p.shape});
  QW_ASSIGN(const auto file, models::file_tensors(*model, views, formats::ModelKind::kHfFolder));
  std::vector<formats::TensorInfo> infos;
  for (const auto& t : file.tensors) infos.push_back({t.name, tensor::DType::kBF16, t.shape});
  std::error_code code;
  std::filesystem::create_directories(out, code);
  if (code) return fail(ErrorKind::kFailed, out.string() + ": cannot create: " + code.message());
  QW_ASSIGN(auto writer, formats::SafetensorsFolderWriter::create(out, infos, 0));
  for (std::size_t i = 0; i < infos.size(); ++i)
    QW_TRY(write_tensor(model->parameters()[static_cast<std::size_t>(file.tensors[i].parameter)], file.tensors[i].shape, i, writer));
  QW_TRY(writer.commit());
  return base::write_file_atomically(out / "config.json", json::dump(model->hf_config(), {.indent = 2}) + "\n");
}

}  // namespace
}  // namespace qw

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: make_random_checkpoint CONFIG.json OUT\n");
    return 2;
  }
  if (const auto status = qw::make(argv[1], argv[2]); !status) {
    std::fprintf(stderr, "make_random_checkpoint: %s\n", status.error().message.c_str());
    return qw::exit_code(status.error().kind);
  }
  return 0;
}
