#include "formats/quantise.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <vector>

#include "tensor/blocks.h"

namespace qw::formats {
namespace {

using tensor::DType;

// Elements per piece handed to the sink: 4 MiB of f32, enough to keep the threads busy and small beside a model.
constexpr std::int64_t kPieceElements = std::int64_t{1} << 20;

bool has_codec(DType type) {
  return tensor::is_quantised(type) || type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
}

// Can hold `source` as it is, or be written from its values.
bool can_become(DType source, DType type) { return has_codec(type) && (source == type || tensor::can_encode(type)); }

// Sums of one row; added up in row order so that the total does not depend on the threads.
struct RowError {
  double squares = 0, source_squares = 0, max = 0;
  bool bad = false;  // holds a value that the format cannot
};

RowError convert_row(const tensor::ConstView& source, std::int64_t row, DType type, const float* importance,
                     std::byte* out) {
  const std::int64_t n = source.shape.back();
  std::vector<float> before(static_cast<std::size_t>(n)), after(static_cast<std::size_t>(n));
  tensor::decode_row(source.dtype, source.data + row * tensor::row_bytes(source.dtype, n), n, before.data());
  RowError error;
  const auto finite = [](float v) { return std::isfinite(v); };
  // F32 and BF16 hold infinities and NaN, F16 too; a block has one scale for all its values and would be lost whole.
  error.bad = tensor::is_quantised(type) && !std::all_of(before.begin(), before.end(), finite);
  if (error.bad) return error;
  if (source.dtype == type) {  // its own bytes: nothing is lost, whatever an encoder would choose
    std::memcpy(out, source.data + row * tensor::row_bytes(type, n), static_cast<std::size_t>(tensor::row_bytes(type, n)));
  } else if (source.dtype == DType::kQ4_Z && type == DType::kQ8_0) {  // nothing is lost either
    tensor::q4_z_to_q8_0(source.data + row * tensor::row_bytes(source.dtype, n), n, out);
  } else {
    tensor::encode_row(type, before.data(), n, out, importance);
  }
  tensor::decode_row(type, out, n, after.data());
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (!finite(before[i])) continue;
    error.bad |= !finite(after[i]);
    const double d = double{after[i]} - double{before[i]};
    error.squares += d * d;
    error.source_squares += double{before[i]} * double{before[i]};
    error.max = std::max(error.max, std::abs(d));
  }
  return error;
}

// Rows that must be made are made in parallel.
tensor::ConstView made_by(base::ThreadPool& pool, const tensor::ConstView& view, tensor::Buffer& own) {
  if (view.maker == nullptr) return view;
  constexpr std::int64_t kRows = 32;
  own = tensor::Buffer(static_cast<std::size_t>(view.bytes()));
  const std::int64_t bytes = tensor::row_bytes(view.dtype, view.shape.back());
  pool.parallel_for(view.shape.rows(), kRows, [&](std::int64_t b, std::int64_t e) {
    view.maker->make_rows(view.first_row + b, e - b, own.data() + b * bytes);
  });
  return {view.dtype, view.shape, own.data()};
}

Status check_types(const tensor::ConstView& source, DType type) {
  const bool source_ok = has_codec(source.dtype) || source.dtype == DType::kF64 || source.dtype == DType::kF8_E4M3;
  if (!source_ok || !can_become(source.dtype, type)) {
    return fail(ErrorKind::kUsage, "no conversion from " + std::string(tensor::name(source.dtype)) + " to " +
                                       std::string(tensor::name(type)));
  }
  if (source.shape.back() % tensor::info(type).block_elements != 0) {
    return fail(ErrorKind::kUsage, "rows of " + std::to_string(source.shape.back()) +
                                       " elements are no whole blocks of " + std::string(tensor::name(type)));
  }
  return {};
}

}  // namespace

Result<ConversionError> convert(const tensor::ConstView& source, DType type, base::ThreadPool& pool, RowSink sink,
                                std::span<const float> importance) {
  QW_TRY(check_types(source, type));
  if (!importance.empty() && static_cast<std::int64_t>(importance.size()) != source.shape.back()) {
    return fail(ErrorKind::kBadInput, "importance of " + std::to_string(importance.size()) + " inputs for rows of " +
                                          std::to_string(source.shape.back()));
  }
  const std::int64_t n = source.shape.back(), rows = source.shape.rows();
  const std::int64_t piece_rows = std::max<std::int64_t>(1, kPieceElements / std::max<std::int64_t>(1, n));
  const std::int64_t out_row_bytes = tensor::row_bytes(type, n);
  tensor::Buffer piece(static_cast<std::size_t>(std::min(rows, piece_rows) * out_row_bytes));
  std::vector<RowError> errors(static_cast<std::size_t>(std::min(rows, piece_rows)));
  RowError total;
  for (std::int64_t begin = 0; begin < rows; begin += piece_rows) {
    const std::int64_t count = std::min(piece_rows, rows - begin);
    tensor::Buffer own;
    const tensor::ConstView here = made_by(pool, tensor::rows_of(source, begin, count), own);
    pool.parallel_for(count, std::max<std::int64_t>(1, (std::int64_t{1} << 14) / std::max<std::int64_t>(1, n)),
                      [&](std::int64_t b, std::int64_t e) {
                        for (std::int64_t r = b; r < e; ++r) {
                          errors[static_cast<std::size_t>(r)] =
                              convert_row(here, r, type, importance.empty() ? nullptr : importance.data(),
                                          piece.data() + r * out_row_bytes);
                        }
                      });
    for (std::int64_t r = 0; r < count; ++r) {
      const RowError& row = errors[static_cast<std::size_t>(r)];
      if (row.bad) {
        return fail(ErrorKind::kBadInput, "row " + std::to_string(begin + r) + " holds a value that " +
                                              std::string(tensor::name(type)) + " cannot hold");
      }
      total.squares += row.squares;
      total.source_squares += row.source_squares;
      total.max = std::max(total.max, row.max);
    }
    QW_TRY(sink(std::span<const std::byte>(piece.data(), static_cast<std::size_t>(count * out_row_bytes))));
  }
  ConversionError error;
  const double elements = static_cast<double>(std::max<std::int64_t>(1, rows * n));
  error.rms = std::sqrt(total.squares / elements);
  error.max = total.max;
  error.relative = total.source_squares > 0 ? std::sqrt(total.squares / total.source_squares) : 0;
  return error;
}

Result<tensor::Tensor> convert(const tensor::ConstView& source, DType type, base::ThreadPool& pool,
                               ConversionError* error) {
  QW_TRY(check_types(source, type));
  tensor::Tensor out(type, source.shape);
  std::byte* at = out.view().data;
  QW_ASSIGN(const ConversionError lost, convert(source, type, pool, [&](std::span<const std::byte> bytes) -> Status {
              std::memcpy(at, bytes.data(), bytes.size());
              at += bytes.size();
              return {};
            }));
  if (error != nullptr) *error = lost;
  return out;
}

tensor::DType file_type(tensor::DType type) { return type == DType::kQ4_Z ? DType::kQ8_0 : type; }

tensor::DType storage_type(std::string_view gguf_name, const tensor::Shape& shape, DType wanted) {
  const auto contains = [&](std::string_view part) { return gguf_name.find(part) != std::string_view::npos; };
  if (shape.rank() < 2 || gguf_name.ends_with("_norm.weight") || contains("ffn_gate_inp") || contains("ssm_conv1d")) {
    return DType::kF32;
  }
  const bool table = gguf_name == "token_embd.weight" || gguf_name == "output.weight";
  const DType type = table && wanted == DType::kQ4_0 ? DType::kQ8_0 : wanted;
  return shape.back() % tensor::info(type).block_elements == 0 ? type : DType::kF16;
}

}  // namespace qw::formats
