#include <zlib.h>

#include <cstdint>
#include <optional>

#include "governance/label/internal/xmp.h"
#include "governance/label/label_file.h"

namespace qw::governance::internal {
namespace {

// Big-endian.
std::uint32_t number_at(std::string_view bytes, std::size_t at, std::size_t width) {
  std::uint32_t out = 0;
  for (std::size_t i = 0; i < width; ++i) out = out << 8 | static_cast<unsigned char>(bytes[at + i]);
  return out;
}

std::string number(std::uint32_t value, int width) {
  std::string out;
  for (int shift = 8 * (width - 1); shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
  return out;
}

// A piece of an image and the XMP packet in it, if it has one.
struct Piece {
  std::size_t begin = 0, end = 0;
  std::optional<std::string> packet;
};
struct Image {
  std::vector<Piece> packets;
  std::size_t insert_at = 0;  // where a first packet goes
};

Result<Carriers> carriers_of(const Image& image) {
  Carriers out;
  for (const Piece& piece : image.packets) {
    QW_ASSIGN(const Carriers more, read_xmp(*piece.packet));
    out.insert(out.end(), more.begin(), more.end());
  }
  return out;
}

// The packet that gets the label: what has one already, otherwise the first.
Result<Piece> chosen(const Image& image) {
  for (const Piece& piece : image.packets) {
    QW_ASSIGN(const Carriers carriers, read_xmp(*piece.packet));
    if (!carriers.empty()) return piece;
  }
  if (!image.packets.empty()) return image.packets[0];
  return Piece{image.insert_at, image.insert_at, ""};
}

// ---- PNG (ISO/IEC 15948): chunks of length, type, data, checksum
// ------------------------------------------------------

constexpr std::size_t kPngHead = 8;
constexpr std::string_view kPngXmp("XML:com.adobe.xmp\0", 18);

std::uint32_t checksum(std::string_view bytes) {
  return static_cast<std::uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
}

Result<std::string> inflated(std::string_view packed) {
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) return fail(ErrorKind::kFailed, "zlib has no memory");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));  // zlib's interface; it only reads
  stream.avail_in = static_cast<uInt>(packed.size());
  std::string out;
  int state = Z_OK;
  while (state == Z_OK && out.size() < kMostLabelledBytes) {
    char piece[1 << 14];
    stream.next_out = reinterpret_cast<Bytef*>(piece);
    stream.avail_out = sizeof(piece);
    state = inflate(&stream, Z_NO_FLUSH);
    out.append(piece, sizeof(piece) - stream.avail_out);
  }
  inflateEnd(&stream);
  if (state != Z_STREAM_END) return fail(ErrorKind::kBadInput, "a compressed text cannot be unpacked");
  return out;
}

// What an iTXt chunk of the right name holds.
Result<std::string> text_of(std::string_view data) {
  data.remove_prefix(kPngXmp.size());
  if (data.size() < 2) return fail(ErrorKind::kBadInput, "a text chunk is cut off");
  const bool packed = data[0] != 0;
  data.remove_prefix(2);
  for (int i = 0; i < 2; ++i) {  // language, translated name
    const auto end = data.find('\0');
    if (end == std::string_view::npos) return fail(ErrorKind::kBadInput, "a text chunk is cut off");
    data.remove_prefix(end + 1);
  }
  if (packed) return inflated(data);
  return std::string(data);
}

Result<Image> look_at_png(std::string_view file) {
  Image out;
  std::string_view type;
  for (std::size_t at = kPngHead; type != "IEND";) {
    if (file.size() < at + 12) return fail(ErrorKind::kBadInput, "the image is cut off");
    const std::uint32_t size = number_at(file, at, 4);
    if (size > file.size() - at - 12) return fail(ErrorKind::kBadInput, "the image is cut off");
    type = file.substr(at + 4, 4);
    const std::string_view data = file.substr(at + 8, size);
    if (number_at(file, at + 8 + size, 4) != checksum(file.substr(at + 4, 4 + size)))
      return fail(ErrorKind::kBadInput, "the checksum of a chunk of the image is wrong");
    const std::size_t end = at + 12 + size;
    if (at == kPngHead && type != "IHDR") return fail(ErrorKind::kBadInput, "this is no PNG");
    if (type == "IHDR") out.insert_at = end;
    if (type == "iTXt" && data.starts_with(kPngXmp)) {
      QW_ASSIGN(std::string packet, text_of(data));
      out.packets.push_back({at, end, std::move(packet)});
    }
    at = end;
  }
  return out;
}

// ---- JPEG (ITU-T T.81): segments up to the picture
// --------------------------------------------------------------------

constexpr std::string_view kJpegXmp("http://ns.adobe.com/xap/1.0/\0", 29);
constexpr std::size_t kLongestSegment = 0xFFFF;  // its length counts itself, not the marker

Result<Image> look_at_jpeg(std::string_view file) {
  Image out;
  if (!file.starts_with("\xFF\xD8")) return fail(ErrorKind::kBadInput, "this is no JPEG");
  out.insert_at = 2;
  for (std::size_t at = 2;;) {
    while (at + 1 < file.size() && file[at] == '\xFF' && file[at + 1] == '\xFF') ++at;  // fill bytes
    if (file.size() < at + 4 || file[at] != '\xFF') return fail(ErrorKind::kBadInput, "the image is cut off");
    const auto marker = static_cast<unsigned char>(file[at + 1]);
    if (marker == 0xDA) return out;  // the picture
    const std::uint32_t size = number_at(file, at + 2, 2);
    if (size < 2 || size > file.size() - at - 2) return fail(ErrorKind::kBadInput, "the image is cut off");
    const std::size_t end = at + 2 + size;
    const std::string_view data = file.substr(at + 4, size - 2);
    const bool application = marker == 0xE0 || marker == 0xE1;
    if (marker == 0xE1 && data.starts_with(kJpegXmp))
      out.packets.push_back({at, end, std::string(data.substr(kJpegXmp.size()))});
    else if (application && out.insert_at == at)
      out.insert_at = end;  // JFIF's and Exif's come first
    at = end;
  }
}

}  // namespace

Result<Carriers> read_png(std::string_view file) {
  QW_ASSIGN(const Image image, look_at_png(file));
  return carriers_of(image);
}

Result<std::string> write_png(std::string_view file, const AigcLabel& label) {
  QW_ASSIGN(const Image image, look_at_png(file));
  QW_ASSIGN(const Piece piece, chosen(image));
  QW_ASSIGN(const std::string packet, write_xmp(*piece.packet, label));
  std::string chunk = "iTXt";
  chunk += kPngXmp;
  chunk.append(4, '\0');  // not compressed, method 0, no language, no translated name
  chunk += packet;
  return std::string(file.substr(0, piece.begin)) + number(static_cast<std::uint32_t>(chunk.size() - 4), 4) + chunk +
         number(checksum(chunk), 4) + std::string(file.substr(piece.end));
}

Result<Carriers> read_jpeg(std::string_view file) {
  QW_ASSIGN(const Image image, look_at_jpeg(file));
  return carriers_of(image);
}

Result<std::string> write_jpeg(std::string_view file, const AigcLabel& label) {
  QW_ASSIGN(const Image image, look_at_jpeg(file));
  QW_ASSIGN(const Piece piece, chosen(image));
  QW_ASSIGN(const std::string packet, write_xmp(*piece.packet, label));
  const std::size_t size = 2 + kJpegXmp.size() + packet.size();
  if (size > kLongestSegment)
    return fail(ErrorKind::kBadInput, "the image's XMP packet has no room for a label in its segment");
  return std::string(file.substr(0, piece.begin)) + "\xFF\xE1" + number(static_cast<std::uint32_t>(size), 2) +
         std::string(kJpegXmp) + packet + std::string(file.substr(piece.end));
}

}  // namespace qw::governance::internal
