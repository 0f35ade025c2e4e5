#include "data/byte_reader.h"

#include <lzma.h>
#include <zlib.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string>

#include "base/file.h"

namespace qw::data {
namespace {

// xz -9e needs 65 MiB to unpack; a file that asks for much more is damaged or hostile.
constexpr std::uint64_t kDecoderMemoryLimit = std::uint64_t{256} << 20;
constexpr std::size_t kInputBlock = 1 << 16;  // one system call per 64 KiB is already noise beside unpacking
constexpr std::array<unsigned char, 3> kGzipMagic = {0x1F, 0x8B, 0x08};
constexpr int kGzipWindow = 15 + 16;  // the largest window, in gzip's frame
constexpr std::array<unsigned char, 6> kXzMagic = {0xFD, '7', 'z', 'X', 'Z', 0x00};

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
  if (state->input_size >= kXzMagic.size() && std::memcmp(state->input.data(), kXzMagic.data(), kXzMagic.size()) == 0) {
    state->xz = true;
    if (lzma_stream_decoder(&state->stream, kDecoderMemoryLimit, LZMA_CONCATENATED) != LZMA_OK)
      return fail(ErrorKind::kResource, path.string() + ": no memory to unpack");
  }
  if (state->input_size >= kGzipMagic.size() && std::memcmp(state->input.data(), kGzipMagic.data(), kGzipMagic.size()) == 0) {
    if (inflateInit2(&state->inflater, kGzipWindow) != Z_OK)
      return fail(ErrorKind::kResource, path.string() + ": no memory to unpack");
    state->gzip = true;
  }
  return ByteReader(std::move(state));
}

ByteReader::ByteReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
ByteReader::ByteReader(ByteReader&&) noexcept = default;
ByteReader& ByteReader::operator=(ByteReader&&) noexcept = default;
ByteReader::~ByteReader() = default;

Result<std::size_t> ByteReader::read(std::span<char> out) {
  QW_CHECK(!out.empty());
  return state_->xz ? state_->read_xz(out) : state_->gzip ? state_->read_gzip(out) : state_->read_plain(out);
}

}  // namespace qw::data
