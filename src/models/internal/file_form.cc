#include "models/internal/file_form.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>

#include "tensor/blocks.h"

namespace qw::models {
namespace {

using tensor::ConstView;

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

float here(FileForm::Numbers n, float x) {
  if (n == FileForm::Numbers::kOneLess) return x + 1;
  return n == FileForm::Numbers::kMinusExp ? std::log(-x) : x;
}

float there(FileForm::Numbers n, float x) {
  if (n == FileForm::Numbers::kOneLess) return x - 1;
  return n == FileForm::Numbers::kMinusExp ? -std::exp(x) : x;
}

// Gathers rows of views, then columns, then changes the numbers.
class Gatherer final : public tensor::RowMaker {
 public:
  struct Place {
    std::uint32_t view;
    std::int64_t row;
  };
  std::vector<ConstView> from;
  std::vector<Place> rows;             // by row; empty: the rows of the only view
  std::vector<std::int64_t> columns;   // by column; empty: as they stand
  FileForm::Numbers numbers = FileForm::Numbers::kSame;
  float (*change)(FileForm::Numbers, float) = here;
  std::int64_t width = 0;

  void make_rows(std::int64_t begin, std::int64_t count, std::byte* out) const override {
    const tensor::DType type = from[0].dtype;
    const auto row_bytes = index(tensor::row_bytes(type, width));
    const bool numbers_change = numbers != FileForm::Numbers::kSame;
    std::vector<std::byte> one(row_bytes), moved(row_bytes);
    for (std::int64_t r = begin; r < begin + count; ++r) {
      const Place p = rows.empty() ? Place{0, r} : rows[index(r)];
      const ConstView& v = from[p.view];
      if (v.maker != nullptr) v.maker->make_rows(v.first_row + p.row, 1, one.data());
      else std::memcpy(one.data(), v.data + index(p.row) * row_bytes, row_bytes);
      if (!columns.empty()) {
        const std::size_t size = row_bytes / index(width);
        for (std::int64_t c = 0; c < width; ++c)
          std::memcpy(moved.data() + index(c) * size, one.data() + index(columns[index(c)]) * size, size);
        std::swap(one, moved);
      }
      if (!numbers_change) {
        std::memcpy(out, one.data(), row_bytes);
        out += row_bytes;
        continue;
      }
      std::vector<float> x(index(width));
      tensor::decode_row(type, one.data(), width, x.data());
      for (float& value : x) value = change(numbers, value);
      std::memcpy(out, x.data(), index(width) * sizeof(float));
      out += index(width) * sizeof(float);
    }
  }
};

Status check_columns(const FileForm& form, const ConstView& view) {
  if (!form.column || tensor::info(view.dtype).block_elements == 1) return {};
  return fail(ErrorKind::kBadInput, "its columns are stored in blocks of " + std::string(tensor::name(view.dtype)) +
                                        ", which cannot be put in another order");
}

ConstView viewed(const Gatherer& g, const tensor::Shape& shape) {
  ConstView view;
  view.dtype = g.numbers == FileForm::Numbers::kSame ? g.from[0].dtype : tensor::DType::kF32;
  view.shape = shape;
  view.maker = &g;
  return view;
}

}  // namespace

Result<std::unique_ptr<tensor::RowMaker>> read_form(const FileForm& form, const ConstView& stored,
                                                    const tensor::Shape& shape, ConstView& view) {
  QW_TRY(check_columns(form, stored));
  auto g = std::make_unique<Gatherer>();
  g->from = {stored};
  g->width = shape.back();
  g->numbers = form.numbers;
  if (form.row)
    for (std::int64_t r = 0; r < shape.rows(); ++r) {
      g->rows.push_back({0, form.row(r)});
      QW_CHECK(g->rows.back().row >= 0 && g->rows.back().row < stored.shape.rows());
    }
  if (form.column)
    for (std::int64_t c = 0; c < g->width; ++c) g->columns.push_back(form.column(c));
  view = viewed(*g, shape);
  return g;
}

namespace {

class Transposer final : public tensor::RowMaker {
 public:
  ConstView stored;        // [width, columns], from the parameter's first row on
  std::int64_t first = 0;  // the parameter's first column
  std::int64_t rows = 0;
  std::size_t size = 0;  // bytes of a number

  void make_rows(std::int64_t begin, std::int64_t count, std::byte* out) const override {
    const auto bytes = index(stored.shape.rows()) * size;
    if (stored.maker == nullptr) return turn(stored.data, begin, count, 0, stored.shape.rows(), out);
    // Numbers that are made first: all at once, as every row here takes one of each row there, and kept until all were given.
    const std::lock_guard lock(mutex_);
    if (made_.empty()) {
      made_.resize(index(rows) * bytes);
      std::vector<std::byte> part(index(kRows * stored.shape.back()) * size);
      for (std::int64_t r = 0; r < stored.shape.rows(); r += kRows) {
        const std::int64_t n = std::min(kRows, stored.shape.rows() - r);
        stored.maker->make_rows(stored.first_row + r, n, part.data());
        turn(part.data(), 0, rows, r, n, made_.data());
      }
    }
    std::memcpy(out, made_.data() + index(begin) * bytes, index(count) * bytes);
    given_ += count;
    if (given_ < rows) return;
    made_ = {};
    given_ = 0;
  }

 private:
  static constexpr std::int64_t kRows = 32;  // at a time: their numbers share cache lines of the stored ones

  // Puts `n` stored rows, which stand at `from` and are the rows from `place` on, into rows [begin, begin + count) at `out`.
  void turn(const std::byte* from, std::int64_t begin, std::int64_t count, std::int64_t place, std::int64_t n, std::byte* out) const {
    const std::int64_t width = stored.shape.rows(), columns = stored.shape.back();
    for (std::int64_t some = 0; some < count; some += kRows)
      for (std::int64_t c = 0; c < n; ++c)
        for (std::int64_t r = some; r < std::min(some + kRows, count); ++r)
          std::memcpy(out + index(r * width + place + c) * size, from + index(c * columns + first + begin + r) * size, size);
  }

  mutable std::mutex mutex_;
  mutable std::vector<std::byte> made_;
  mutable std::int64_t given_ = 0;
};

}  // namespace

Result<std::unique_ptr<tensor::RowMaker>> read_transposed(const ConstView& stored, std::int64_t first, const tensor::Shape& shape,
                                                          ConstView& view) {
  if (tensor::info(stored.dtype).block_elements != 1)
    return fail(ErrorKind::kBadInput, "it stands transposed, and blocks of " + std::string(tensor::name(stored.dtype)) + " cannot be turned");
  auto t = std::make_unique<Transposer>();
  t->size = index(tensor::row_bytes(stored.dtype, 1));
  t->stored = stored;
  t->first = first;
  t->rows = shape.rows();
  view.dtype = stored.dtype;
  view.shape = shape;
  view.maker = t.get();
  return t;
}

Result<std::unique_ptr<tensor::RowMaker>> write_form(const std::vector<FormPart>& parts, const tensor::Shape& whole,
                                                     ConstView& view) {
  auto g = std::make_unique<Gatherer>();
  g->width = whole.back();
  g->numbers = parts[0].form->numbers;
  g->change = there;
  g->rows.assign(index(whole.rows()), {0, -1});
  for (std::size_t p = 0; p < parts.size(); ++p) {
    const FileForm& form = *parts[p].form;
    QW_TRY(check_columns(form, parts[p].view));
    if (parts[p].view.dtype != parts[0].view.dtype)
      return fail(ErrorKind::kBadInput, "its parts have different formats");
    g->from.push_back(parts[p].view);
    for (std::int64_t r = 0; r < parts[p].view.shape.rows(); ++r)
      g->rows[index(form.row ? form.row(r) : r)] = {static_cast<std::uint32_t>(p), r};
  }
  for (const auto& place : g->rows) QW_CHECK(place.row >= 0);  // the parts make up the whole
  if (parts[0].form->column) {
    g->columns.resize(index(g->width));
    for (std::int64_t c = 0; c < g->width; ++c) g->columns[index(parts[0].form->column(c))] = c;
  }
  view = viewed(*g, whole);
  return g;
}

}  // namespace qw::models
