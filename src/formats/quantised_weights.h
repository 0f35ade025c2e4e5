// Quantised weights of Hugging Face folders, seen as ordinary tensors: FP8 in blocks, GPTQ, AWQ.
//
//   in the file                                             here
//   X (F8_E4M3 [out, in]), X_scale_inv                      X in bf16 (f32 where config.json says float32)
//   X.qweight, X.qzeros, X.scales (, X.g_idx)               X.weight [out, in]
// A GPTQ or AWQ weight becomes a block format when that holds every value exactly: Q4_0 where all zero points are the
// middle (the usual symmetric GPTQ), Q4_Z with other zero points of 4 bits (AWQ), Q8_0 with 8 symmetric bits. This needs
// groups of whole blocks of 32 in the order of the inputs and scales that are f16 numbers. Otherwise (act-order, other
// groups) it becomes its value in the format of its scales, rounded as the reference implementations round it.
// Nothing is computed before somebody wants the values; what could be wrong is checked before. docs/formats/quantised.md
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/tensor_info.h"
#include "json/value.h"
#include "tensor/tensor.h"

namespace qw::formats {

enum class QuantMethod : std::uint8_t { kFp8, kGptq, kAwq };

// What quantization_config says.
struct QuantConfig {
  QuantMethod method = QuantMethod::kGptq;
  int bits = 4;                   // GPTQ 4 or 8; AWQ 4
  std::int64_t group = -1;        // inputs that share a scale; -1: all
  bool zeros_less_one = true;     // GPTQ: files store zero points less one ("gptq_v2": as they are)
  bool dynamic = false;           // GPTQ: modules may differ in bits and group; their shapes say how
  std::int64_t block_rows = 0, block_columns = 0;     // FP8; 0: one scale for a whole weight
  tensor::DType float_type = tensor::DType::kBF16;    // FP8 weights become this
  std::string describe() const;   // "gptq, 4 bits, groups of 128"
};

// Of config.json; nullopt: plain weights. kBadInput naming the key: a method or a variant that is not read, numbers that
// make no sense.
Result<std::optional<QuantConfig>> read_quant_config(const json::Object& config);

class QuantisedWeights {
 public:
  using Lookup = std::function<Result<tensor::ConstView>(std::string_view name)>;

  // `stored` are the tensors of the files, which `lookup` gives; their memory must outlive this object. Which weights are
  // quantised is what the files say (modules_to_not_convert only says so again). kBadInput naming the tensor: parts that
  // are missing, too many or of another size, indices of groups out of range, scales that are not finite.
  static Result<QuantisedWeights> create(const QuantConfig& config, const std::vector<TensorInfo>& stored,
                                         const Lookup& lookup);

  const QuantConfig& config() const { return config_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* find(std::string_view name) const;                 // nullptr if absent
  // The view of a quantised weight; nullopt for tensors that stand in the file as they are.
  std::optional<tensor::ConstView> made(std::string_view name) const;

 private:
  Status add(TensorInfo info, std::unique_ptr<tensor::RowMaker> maker);

  QuantConfig config_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_name_;  // index in tensors_
  std::map<std::string, std::unique_ptr<tensor::RowMaker>, std::less<>> makers_;
};

}  // namespace qw::formats
