#include "formats/npy.h"

#include <charconv>
#include <cstring>
#include <optional>
#include <string>

#include "formats/internal/byte_reader.h"
#include "formats/internal/text.h"

namespace qw::formats {
namespace {

using internal::quote;
using tensor::DType;

struct DescrRow {
  std::string_view descr;
  DType dtype;
};
constexpr DescrRow kDescrs[] = {{"<f4", DType::kF32}, {"<f8", DType::kF64}, {"<f2", DType::kF16},
                                {"<i8", DType::kI64}, {"<i4", DType::kI32}, {"<i2", DType::kI16},
                                {"|i1", DType::kI8},  {"|u1", DType::kU8},  {"|b1", DType::kBool}};
// The header is a short dictionary; numpy itself refuses more than 10 kB of it by default.
constexpr std::uint64_t kMaxHeaderBytes = 10000;

// Reads the literal {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } that numpy writes.
class HeaderReader {
 public:
  explicit HeaderReader(std::string_view text) : text_(text) {}

  struct Fields {
    std::optional<std::string> descr;
    std::optional<bool> fortran_order;
    std::optional<std::vector<std::int64_t>> shape;
  };

  Result<Fields> read() {
    Fields fields;
    if (!accept('{')) return wrong();
    while (!accept('}')) {
      QW_ASSIGN(const std::string key, read_string());
      if (!accept(':')) return wrong();
      QW_TRY(read_value(key, fields));
      if (!accept(',') && !peek('}')) return wrong();
    }
    skip_blanks();
    if (at_ != text_.size()) return wrong();
    if (!fields.descr || !fields.fortran_order || !fields.shape) return wrong();
    return fields;
  }

 private:
  tl::unexpected<Error> wrong() const { return fail(ErrorKind::kBadInput, "malformed npy header " + quote(text_)); }
  void skip_blanks() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool peek(char c) {
    skip_blanks();
    return at_ < text_.size() && text_[at_] == c;
  }
  bool accept(char c) {
    if (!peek(c)) return false;
    ++at_;
    return true;
  }
  bool accept_word(std::string_view word) {
    skip_blanks();
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  Result<std::string> read_string() {
    const char mark = peek('"') ? '"' : '\'';
    if (!accept(mark)) return wrong();
    const std::size_t end = text_.find(mark, at_);
    if (end == std::string_view::npos) return wrong();
    std::string out(text_.substr(at_, end - at_));
    at_ = end + 1;
    return out;
  }

  Status read_value(const std::string& key, Fields& fields) {
    if (key == "descr") {
      QW_ASSIGN(fields.descr, read_string());
    } else if (key == "fortran_order") {
      const bool yes = accept_word("True");
      if (!yes && !accept_word("False")) return wrong();
      fields.fortran_order = yes;
    } else if (key == "shape") {
      QW_ASSIGN(fields.shape, read_shape());
    } else {
      return wrong();
    }
    return {};
  }

  Result<std::vector<std::int64_t>> read_shape() {
    std::vector<std::int64_t> dims;
    if (!accept('(')) return wrong();
    while (!accept(')')) {
      skip_blanks();
      std::int64_t n = 0;
      const char* begin = text_.data() + at_;
      const auto [end, code] = std::from_chars(begin, text_.data() + text_.size(), n);
      if (code != std::errc{} || n < 0) return wrong();
      at_ += static_cast<std::size_t>(end - begin);
      dims.push_back(n);
      if (!accept(',') && !peek(')')) return wrong();
    }
    return dims;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

Result<std::string_view> find_header(internal::ByteReader& in) {
  QW_ASSIGN(const auto magic, in.take(6, "the magic number"));
  if (std::memcmp(magic.data(), "\x93NUMPY", 6) != 0) return fail(ErrorKind::kBadInput, "byte 0: not a npy file");
  QW_ASSIGN(const auto major, in.read<std::uint8_t>("the version"));
  QW_ASSIGN(const auto minor, in.read<std::uint8_t>("the version"));
  if (major < 1 || major > 3 || minor != 0) return fail(ErrorKind::kBadInput, "byte 6: unknown npy version");
  std::uint64_t length = 0;
  if (major == 1) {
    QW_ASSIGN(length, in.read<std::uint16_t>("the header length"));
  } else {
    QW_ASSIGN(length, in.read<std::uint32_t>("the header length"));
  }
  if (length > kMaxHeaderBytes)
    return fail(ErrorKind::kBadInput, "byte 8: header of " + std::to_string(length) + " bytes");
  QW_ASSIGN(const auto header, in.take(length, "the header"));
  return std::string_view(reinterpret_cast<const char*>(header.data()), header.size());
}

std::string_view descr_of(DType dtype) {
  for (const DescrRow& row : kDescrs) {
    if (row.dtype == dtype) return row.descr;
  }
  return {};
}

std::string make_header(std::string_view descr, const tensor::Shape& shape) {
  std::string text = "{'descr': '" + std::string(descr) + "', 'fortran_order': False, 'shape': (";
  for (int i = 0; i < shape.rank(); ++i)
    text += std::to_string(shape[i]) + (shape.rank() == 1 ? "," : i + 1 < shape.rank() ? ", " : "");
  text += "), }";
  constexpr std::size_t kPrefix = 10, kAlignment = 64;  // numpy aligns the data so that it can be mapped
  text.resize((kPrefix + text.size() + 1 + kAlignment - 1) / kAlignment * kAlignment - kPrefix - 1, ' ');
  text += '\n';
  const auto length = static_cast<std::uint16_t>(text.size());
  std::string header("\x93NUMPY\x01\x00", 8);
  header.append(reinterpret_cast<const char*>(&length), sizeof(length));
  return header + text;
}

}  // namespace

Result<tensor::Tensor> parse_npy(std::span<const std::byte> bytes) {
  internal::ByteReader in(bytes);
  QW_ASSIGN(const std::string_view text, find_header(in));
  QW_ASSIGN(const auto fields, HeaderReader(text).read());
  std::optional<DType> dtype;
  for (const DescrRow& row : kDescrs) {
    if (row.descr == *fields.descr) dtype = row.dtype;
  }
  if (!dtype) return fail(ErrorKind::kBadInput, "npy dtype " + quote(*fields.descr) + " is not supported");
  if (*fields.fortran_order) return fail(ErrorKind::kBadInput, "npy arrays in Fortran order are not supported");
  if (fields.shape->size() > tensor::Shape::kMaxRank) {
    return fail(ErrorKind::kBadInput,
                "npy arrays of " + std::to_string(fields.shape->size()) + " dimensions are not supported");
  }
  QW_ASSIGN(const std::int64_t elements, tensor::checked_elements(*fields.shape));
  const auto data_bytes = static_cast<std::uint64_t>(tensor::row_bytes(*dtype, elements));
  if (data_bytes != in.remaining()) {
    return fail(ErrorKind::kBadInput, "npy data has " + std::to_string(in.remaining()) + " bytes, its shape needs " +
                                          std::to_string(data_bytes));
  }
  tensor::Tensor out(*dtype, tensor::Shape(*fields.shape));
  if (data_bytes > 0) std::memcpy(out.view().data, bytes.data() + in.position(), data_bytes);
  return out;
}

Result<tensor::Tensor> read_npy(const std::filesystem::path& path) {
  QW_ASSIGN(const auto file, base::MappedFile::open(path));
  auto array = parse_npy(file.bytes());
  if (!array) return in_context(path.string(), std::move(array).error());
  return array;
}

Result<NpyWriter> NpyWriter::create(const std::filesystem::path& path, DType dtype, tensor::Shape shape) {
  const std::string_view descr = descr_of(dtype);
  if (descr.empty()) {
    return fail(ErrorKind::kUsage, path.string() + ": numpy has no dtype for " + std::string(tensor::name(dtype)));
  }
  QW_ASSIGN(auto file, base::AtomicFile::create(path));
  QW_TRY(file.write(make_header(descr, shape)));
  return NpyWriter(std::move(file), tensor::row_bytes(dtype, shape.elements()));
}

Status NpyWriter::append(std::span<const std::byte> bytes) {
  missing_bytes_ -= static_cast<std::int64_t>(bytes.size());
  QW_CHECK(missing_bytes_ >= 0);
  return file_.write(bytes);
}

Status NpyWriter::commit() {
  if (missing_bytes_ != 0)
    return fail(ErrorKind::kFailed, "npy file not finished: " + std::to_string(missing_bytes_) + " bytes missing");
  return file_.commit();
}

Status write_npy(const std::filesystem::path& path, const tensor::ConstView& view) {
  QW_ASSIGN(auto writer, NpyWriter::create(path, view.dtype, view.shape));
  QW_TRY(writer.append(std::span(view.data, static_cast<std::size_t>(view.bytes()))));
  return writer.commit();
}

}  // namespace qw::formats
