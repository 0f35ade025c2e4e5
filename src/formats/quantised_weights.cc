#include "formats/quantised_weights.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "formats/internal/row_makers.h"
#include "formats/internal/text.h"

namespace qw::formats {
namespace {

using internal::Fp8Layout;
using internal::GroupedLayout;
using internal::quote;
using tensor::ConstView;
using tensor::DType;

constexpr std::string_view kQweight = ".qweight", kWeight = ".weight", kScaleInv = "_scale_inv";
constexpr std::int64_t kBlock = 32;

tl::unexpected<Error> wrong(std::string_view name, const std::string& why) {
  return fail(ErrorKind::kBadInput, "tensor " + quote(name) + ": " + why);
}

bool is_float(DType t) { return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16; }

// Names to types and shapes of what the files hold, and which of it found a use.
struct Stored {
  std::map<std::string_view, const TensorInfo*> by_name;
  std::set<std::string_view> used;
  const QuantisedWeights::Lookup& lookup;

  const TensorInfo* find(const std::string& name) const {
    const auto it = by_name.find(name);
    return it == by_name.end() ? nullptr : it->second;
  }
  // A part that must be there, in integers of 32 bits or in floats, and have this shape (rank 0: any).
  Result<ConstView> take(const std::string& name, bool floats, const tensor::Shape& shape) {
    const TensorInfo* info = find(name);
    if (info == nullptr) {
      QW_TRY(lookup(name).map([](const ConstView&) {}));  // says why, where it stands there in a format we cannot hold
      return wrong(name, "is missing");
    }
    if (floats ? !is_float(info->dtype) : info->dtype != DType::kI32)
      return wrong(name, "is of type " + std::string(tensor::name(info->dtype)));
    if (shape.rank() != 0 && info->shape != shape)
      return wrong(name, "has shape " + info->shape.to_string() + ", should be " + shape.to_string());
    used.insert(info->name);
    return lookup(name);
  }
};

Status check_scales(const std::string& name, const ConstView& scales) {
  for (std::int64_t i = 0; i < scales.shape.elements(); ++i)
    if (!std::isfinite(internal::float_at(scales, i)))
      return wrong(name, "scale " + std::to_string(i) + " is not finite");
  return {};
}

// Group of each input; empty where they stand in order.
Status read_group_index(const std::string& name, const ConstView& view, GroupedLayout& w) {
  const auto* index = reinterpret_cast<const std::int32_t*>(view.data);
  bool in_order = true;
  for (std::int64_t i = 0; i < w.in; ++i) {
    if (index[i] < 0 || index[i] >= w.groups)
      return wrong(name, "input " + std::to_string(i) + " is in group " + std::to_string(index[i]) + " of " +
                             std::to_string(w.groups));
    in_order &= index[i] == i / w.group;
  }
  if (!in_order) w.group_of.assign(index, index + w.in);
  return {};
}

// The smallest format that holds every value exactly, else the scales' own.
DType best_type(const GroupedLayout& w) {
  bool middle = true, halves = true;
  float largest = 0;
  for (std::int64_t g = 0; g < w.groups; ++g)
    for (std::int64_t o = 0; o < w.out; ++o) {
      const float s = w.scale(g, o);
      largest = std::max(largest, std::fabs(s));
      halves &= tensor::f16_to_f32(tensor::f32_to_f16(s)) == s;
      middle &= w.zero(g, o) == 1 << (w.bits - 1);
    }
  const bool blocks = w.group_of.empty() && w.in % kBlock == 0 && (w.group % kBlock == 0 || w.groups == 1);
  if (blocks && halves && middle) return w.bits == 4 ? DType::kQ4_0 : DType::kQ8_0;
  if (blocks && halves && w.bits == 4) return DType::kQ4_Z;
  constexpr float kLargestHalf = 65504;
  if (w.scales.dtype == DType::kF16 && largest * static_cast<float>(1 << w.bits) > kLargestHalf) return DType::kF32;
  return w.scales.dtype;
}

struct Made {
  TensorInfo info;
  std::unique_ptr<tensor::RowMaker> maker;
};

Result<int> bits_of(const QuantConfig& c, const std::string& base, const TensorInfo& zeros, std::int64_t out) {
  if (!c.dynamic) return c.bits;
  for (const int bits : {4, 8})
    if (zeros.shape.rank() == 2 && out % (32 / bits) == 0 && zeros.shape[1] == out / (32 / bits)) return bits;
  return wrong(base + ".qzeros", "shape " + zeros.shape.to_string() + " is none of 4 or 8 bits");
}

Result<Made> grouped(const QuantConfig& c, Stored& stored, const std::string& base) {
  const std::string qweight = base + std::string(kQweight), zeros = base + ".qzeros", scales = base + ".scales",
                    index = base + ".g_idx";
  QW_ASSIGN(const ConstView packed, stored.take(qweight, false, {}));
  if (packed.shape.rank() != 2 || packed.shape.elements() == 0)
    return wrong(qweight, "has shape " + packed.shape.to_string());
  const TensorInfo* stored_zeros = stored.find(zeros);
  if (stored_zeros == nullptr) return wrong(zeros, "is missing");
  GroupedLayout w;
  w.awq = c.method == QuantMethod::kAwq;
  w.zeros_less_one = c.zeros_less_one;
  w.out = packed.shape[1] * (w.awq ? 8 : 1);
  QW_ASSIGN(w.bits, bits_of(c, base, *stored_zeros, w.out));
  const std::int64_t per_word = 32 / w.bits;
  w.in = packed.shape[0] * (w.awq ? 1 : per_word);
  if (w.out % per_word != 0) return wrong(qweight, std::to_string(w.out) + " outputs are no whole words of zero points");
  w.group = c.group < 0 ? w.in : c.group;
  if (c.dynamic && stored_zeros->shape[0] > 0) w.group = (w.in + stored_zeros->shape[0] - 1) / stored_zeros->shape[0];
  w.groups = (w.in + w.group - 1) / w.group;
  QW_ASSIGN(const ConstView z, stored.take(zeros, false, {w.groups, w.out / per_word}));
  QW_ASSIGN(w.scales, stored.take(scales, true, {w.groups, w.out}));
  w.qweight = reinterpret_cast<const std::uint32_t*>(packed.data);
  w.qzeros = reinterpret_cast<const std::uint32_t*>(z.data);
  QW_TRY(check_scales(scales, w.scales));
  if (!w.awq && stored.find(index) != nullptr) {
    QW_ASSIGN(const ConstView order, stored.take(index, false, {w.in}));
    QW_TRY(read_group_index(index, order, w));
  }
  const DType type = best_type(w);
  TensorInfo info{base + std::string(kWeight), type, {w.out, w.in}};
  return Made{std::move(info), std::make_unique<internal::GroupedMaker>(std::move(w), type)};
}

Result<Made> fp8(const QuantConfig& c, Stored& stored, const TensorInfo& info) {
  const std::string scales = info.name + std::string(kScaleInv);
  const int rank = info.shape.rank();
  if (rank < 2 || rank > 3 || info.shape.elements() == 0) return wrong(info.name, "has shape " + info.shape.to_string());
  Fp8Layout w;
  w.rows = info.shape[rank - 2];
  w.columns = info.shape[rank - 1];
  w.block_rows = c.block_rows == 0 ? w.rows : c.block_rows;
  w.block_columns = c.block_columns == 0 ? w.columns : c.block_columns;
  const std::int64_t down = (w.rows + w.block_rows - 1) / w.block_rows;
  const std::int64_t across = (w.columns + w.block_columns - 1) / w.block_columns;
  const tensor::Shape grid = rank == 2 ? tensor::Shape{down, across} : tensor::Shape{info.shape[0], down, across};
  const TensorInfo* found = stored.find(scales);
  const bool single = found != nullptr && found->shape.rank() <= 1 && found->shape.elements() == 1;
  QW_ASSIGN(w.scales, stored.take(scales, true, single && grid.elements() == 1 ? tensor::Shape() : grid));
  QW_TRY(check_scales(scales, w.scales));
  QW_ASSIGN(const ConstView packed, stored.lookup(info.name));
  stored.used.insert(info.name);
  w.weight = reinterpret_cast<const std::uint8_t*>(packed.data);
  return Made{{info.name, c.float_type, info.shape}, std::make_unique<internal::Fp8Maker>(w, c.float_type)};
}

// Scales for products in FP8, which are not computed here: the weights alone say what they are worth.
bool set_aside(const QuantConfig& c, std::string_view name) {
  return c.method == QuantMethod::kFp8 && (name.ends_with(".activation_scale") || name.ends_with(".input_scale"));
}

bool is_part(std::string_view name) {
  for (const std::string_view end : {std::string_view(".qzeros"), std::string_view(".g_idx"), kQweight, kScaleInv})
    if (name.ends_with(end)) return true;
  return name.ends_with(".scales");
}

}  // namespace

Status QuantisedWeights::add(TensorInfo info, std::unique_ptr<tensor::RowMaker> maker) {
  if (!by_name_.emplace(info.name, tensors_.size()).second)
    return wrong(info.name, "stands in the files both as it is and quantised");
  if (maker != nullptr) makers_.emplace(info.name, std::move(maker));
  tensors_.push_back(std::move(info));
  return {};
}

Result<QuantisedWeights> QuantisedWeights::create(const QuantConfig& config, const std::vector<TensorInfo>& stored,
                                                  const Lookup& lookup) {
  QuantisedWeights out;
  out.config_ = config;
  Stored files{{}, {}, lookup};
  for (const TensorInfo& t : stored) files.by_name.emplace(t.name, &t);
  for (const TensorInfo& t : stored) {
    const bool integers = config.method != QuantMethod::kFp8 && t.name.ends_with(kQweight);
    const bool floats = config.method == QuantMethod::kFp8 && t.dtype == DType::kF8_E4M3;
    if (!integers && !floats) continue;
    QW_ASSIGN(Made made, integers ? grouped(config, files, t.name.substr(0, t.name.size() - kQweight.size()))
                                  : fp8(config, files, t));
    QW_TRY(out.add(std::move(made.info), std::move(made.maker)));
  }
  for (const TensorInfo& t : stored) {
    if (files.used.contains(t.name) || set_aside(config, t.name)) continue;
    if (is_part(t.name)) return wrong(t.name, "belongs to no quantised weight");
    QW_TRY(out.add(t, nullptr));
  }
  return out;
}

const TensorInfo* QuantisedWeights::find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

std::optional<tensor::ConstView> QuantisedWeights::made(std::string_view name) const {
  const auto it = makers_.find(name);
  if (it == makers_.end()) return std::nullopt;
  const TensorInfo& info = tensors_[by_name_.find(name)->second];
  return ConstView{info.dtype, info.shape, nullptr, it->second.get(), 0};
}

}  // namespace qw::formats
