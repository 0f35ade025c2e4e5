#include "data/byte_reader.h"

#include <lzma.h>
#include <zlib.h>
#ifdef QW_HAVE_ZSTD
#include <zstd.h>
#endif

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/file.h"

namespace qw::data {
namespace {

// xz -9e needs 65 MiB to unpack; a file that asks for much more is damaged or hostile.
constexpr std::uint64_t kDecoderMemoryLimit = std::uint64_t{256} << 20;
constexpr std::size_t kInputBlock = 1 << 16;  // one system call per 64 KiB is already noise beside unpacking
using namespace std::string_view_literals;
constexpr std::string_view kGzipMagic = "\x1F\x8B\x08"sv;
constexpr int kGzipWindow = 15 + 16;  // the largest window, in gzip's frame
constexpr std::string_view kXzMagic = "\xFD" "7zXZ\0"sv, kZstdMagic = "\x28\xB5\x2F\xFD"sv;
#ifdef QW_HAVE_ZSTD
constexpr int kZstdWindowLog = 27;  // 128 MiB: what zstd itself unpacks without being asked to
#endif

// What is no text whatever its bytes are called.
struct Foreign {
  std::string_view magic, name, advice;
};
constexpr Foreign kForeign[] = {
    {"PAR1\x15"sv, "Parquet", "write its rows as JSON lines first, e.g. with pandas: read_parquet(...).to_json(..., orient='records', lines=True)"},
    {"ARROW1\0\0"sv, "Arrow", "write its rows as JSON lines first"},
    {"PK\x03\x04"sv, "zip", "unpack it first"},
    {"7z\xBC\xAF\x27\x1C"sv, "7z", "unpack it first"},
    {"BZh91AY&SY"sv, "bzip2", "unpack it first, or pack it with xz, gzip or zstd"},
#ifndef QW_HAVE_ZSTD
    {kZstdMagic, "zstd", "this build cannot unpack it (build with libzstd-dev): unpack it first, or pack it with xz or gzip"},
#endif
};

const char* lzma_message(lzma_ret code) {
  switch (code) {
    case LZMA_FORMAT_ERROR: return "not an xz stream";
    case LZMA_OPTIONS_ERROR: return "uses xz options that this build cannot read";
    case LZMA_DATA_ERROR: return "xz data is damaged";
    case LZMA_BUF_ERROR: return "xz data is cut short";
    case LZMA_MEM_ERROR: return "no memory to unpack";
    case LZMA_MEMLIMIT_ERROR: return "asks for more memory to unpack than allowed";
    default: return "cannot be unpacked";
  }
}

}  // namespace

struct ByteReader::State {
  explicit State(base::InputFile opened, std::filesystem::path where) : file(std::move(opened)), path(std::move(where)) {}
  base::InputFile file;
  std::filesystem::path path;
#ifdef QW_HAVE_ZSTD
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> zstd{nullptr, &ZSTD_freeDCtx};
  std::size_t in_frame = 0;  // not 0: more of one has to come
#endif
  bool xz = false, gzip = false, end_of_file = false, finished = false;
  lzma_stream stream = LZMA_STREAM_INIT;
  z_stream inflater{};
  std::array<char, kInputBlock> input;
  std::size_t input_begin = 0, input_size = 0;

  ~State() {
    if (xz) lzma_end(&stream);
    if (gzip) inflateEnd(&inflater);
  }

  Status fill() {
    QW_ASSIGN(input_size, file.read(input));
    input_begin = 0;
    end_of_file = input_size == 0;
    return {};
  }

  Result<std::size_t> read_plain(std::span<char> out) {
    if (input_begin == input_size && !end_of_file) QW_TRY(fill());
    const std::size_t n = std::min(out.size(), input_size - input_begin);
    std::memcpy(out.data(), input.data() + input_begin, n);
    input_begin += n;
    return n;
  }

  Result<std::size_t> read_gzip(std::span<char> out) {
    inflater.next_out = reinterpret_cast<Bytef*>(out.data());
    inflater.avail_out = static_cast<uInt>(std::min<std::size_t>(out.size(), 1u << 30));
    const uInt wanted = inflater.avail_out;
    while (inflater.avail_out == wanted && !finished) {
      if (input_begin == input_size && !end_of_file) QW_TRY(fill());
      if (end_of_file) return fail(ErrorKind::kBadInput, path.string() + ": gzip data is cut short");
      inflater.next_in = reinterpret_cast<Bytef*>(input.data() + input_begin);
      inflater.avail_in = static_cast<uInt>(input_size - input_begin);
      const int code = inflate(&inflater, Z_NO_FLUSH);
      input_begin = input_size - inflater.avail_in;
      if (code == Z_STREAM_END) {  // another member may follow
        if (input_begin == input_size) QW_TRY(fill());
        finished = end_of_file;
        if (!finished && inflateReset(&inflater) != Z_OK) return fail(ErrorKind::kFailed, path.string() + ": cannot be unpacked");
      } else if (code != Z_OK && code != Z_BUF_ERROR) {
        return fail(ErrorKind::kBadInput, path.string() + ": gzip data is damaged");
      }
    }
    return wanted - inflater.avail_out;
  }

#ifdef QW_HAVE_ZSTD
  // Frames follow one another; their check sums are checked.
  Result<std::size_t> read_zstd(std::span<char> out) {
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    while (to.pos == 0) {
      if (input_begin == input_size && !end_of_file) QW_TRY(fill());
      ZSTD_inBuffer from{input.data() + input_begin, input_size - input_begin, 0};
      const std::size_t had = from.size;
      if (had > 0 || in_frame > 0) in_frame = ZSTD_decompressStream(zstd.get(), &to, &from);
      input_begin += from.pos;
      if (ZSTD_isError(in_frame) != 0)
        return fail(ErrorKind::kBadInput, path.string() + ": zstd data is damaged: " + ZSTD_getErrorName(in_frame));
      if (had > 0 || to.pos > 0) continue;
      if (in_frame > 0) return fail(ErrorKind::kBadInput, path.string() + ": zstd data is cut short");
      break;
    }
    return to.pos;
  }
#endif

  Result<std::size_t> read_xz(std::span<char> out) {
    stream.next_out = reinterpret_cast<std::uint8_t*>(out.data());
    stream.avail_out = out.size();
    while (stream.avail_out == out.size() && !finished) {
      if (input_begin == input_size && !end_of_file) QW_TRY(fill());
      stream.next_in = reinterpret_cast<const std::uint8_t*>(input.data()) + input_begin;
      stream.avail_in = input_size - input_begin;
      const lzma_ret code = lzma_code(&stream, end_of_file ? LZMA_FINISH : LZMA_RUN);
      input_begin = input_size - stream.avail_in;
      if (code == LZMA_STREAM_END) finished = true;
      else if (code != LZMA_OK) return fail(ErrorKind::kBadInput, path.string() + ": " + lzma_message(code));
    }
    return out.size() - stream.avail_out;
  }
};

Result<ByteReader> ByteReader::open(const std::filesystem::path& path) {
  QW_ASSIGN(auto file, base::InputFile::open(path));
  auto state = std::make_unique<State>(std::move(file), path);
  QW_TRY(state->fill());
  const std::string_view head(state->input.data(), state->input_size);
  for (const Foreign& one : kForeign)
    if (head.starts_with(one.magic))
      return fail(ErrorKind::kBadInput, path.string() + ": a file of " + std::string(one.name) + ", which is not read: " + std::string(one.advice));
  const auto no_memory = [&] { return fail(ErrorKind::kResource, path.string() + ": no memory to unpack"); };
  if (head.starts_with(kXzMagic)) {
    state->xz = true;
    if (lzma_stream_decoder(&state->stream, kDecoderMemoryLimit, LZMA_CONCATENATED) != LZMA_OK) return no_memory();
  }
  if (head.starts_with(kGzipMagic)) {
    if (inflateInit2(&state->inflater, kGzipWindow) != Z_OK) return no_memory();
    state->gzip = true;
  }
#ifdef QW_HAVE_ZSTD
  if (head.starts_with(kZstdMagic)) {
    state->zstd.reset(ZSTD_createDCtx());
    if (state->zstd == nullptr || ZSTD_isError(ZSTD_DCtx_setParameter(state->zstd.get(), ZSTD_d_windowLogMax, kZstdWindowLog)) != 0)
      return no_memory();
  }
#endif
  return ByteReader(std::move(state));
}

ByteReader::ByteReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
ByteReader::ByteReader(ByteReader&&) noexcept = default;
ByteReader& ByteReader::operator=(ByteReader&&) noexcept = default;
ByteReader::~ByteReader() = default;

Result<std::size_t> ByteReader::read(std::span<char> out) {
  QW_CHECK(!out.empty());
#ifdef QW_HAVE_ZSTD
  if (state_->zstd != nullptr) return state_->read_zstd(out);
#endif
  return state_->xz ? state_->read_xz(out) : state_->gzip ? state_->read_gzip(out) : state_->read_plain(out);
}

}  // namespace qw::data
