#include "governance/label/internal/picture.h"

#include <csetjmp>
#include <cstdio>  // jpeglib.h needs it
#include <cstdlib>
#include <memory>

#if QW_HAVE_PICTURES
#include <jpeglib.h>
#include <png.h>
#endif

namespace qw::governance::internal {
namespace {

#if QW_HAVE_PICTURES

constexpr std::size_t kPngHead = 8, kPngChunk = 12;  // of a chunk: length, type, checksum

tl::unexpected<Error> broken(const std::string& why) {
  return fail(ErrorKind::kBadInput, "the picture cannot be read: " + why);
}

std::uint32_t number_at(std::string_view bytes, std::size_t at, std::size_t width) {
  std::uint32_t out = 0;
  for (std::size_t i = 0; i < width; ++i) out = out << 8 | static_cast<unsigned char>(bytes[at + i]);
  return out;
}

// Calls visit(type, chunk) of each chunk of a PNG as far as they are whole.
template <class Visit>
void each_chunk(std::string_view file, Visit visit) {
  for (std::size_t at = kPngHead; at + kPngChunk <= file.size();) {
    const std::size_t size = number_at(file, at, 4) + kPngChunk;
    if (size > file.size() - at) return;
    visit(file.substr(at + 4, 4), file.substr(at, size));
    at += size;
  }
}

// ---- JPEG: libjpeg reports errors by a jump, over frames that hold nothing but C

struct JpegErrors {
  jpeg_error_mgr base{};
  std::jmp_buf jump{};
  char text[JMSG_LENGTH_MAX] = {};
};

void leave(j_common_ptr common) {
  auto* errors = reinterpret_cast<JpegErrors*>(common->err);
  (*common->err->format_message)(common, errors->text);
  std::longjmp(errors->jump, 1);
}

jpeg_error_mgr* quiet(JpegErrors& errors) {
  jpeg_std_error(&errors.base);
  errors.base.error_exit = leave;
  errors.base.output_message = [](j_common_ptr) {};
  return &errors.base;
}

constexpr int kQuality = 95;
constexpr unsigned kLongestMarker = 0xFFFF;

// Size and markers, without the pixels. False after an error, as below.
bool read_head(jpeg_decompress_struct& jpeg, JpegErrors& errors, std::string_view file) {
  if (setjmp(errors.jump) != 0) return false;
  jpeg_create_decompress(&jpeg);
  jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char*>(file.data()), file.size());
  for (int i = 0; i < 16; ++i) jpeg_save_markers(&jpeg, JPEG_APP0 + i, kLongestMarker);
  jpeg_save_markers(&jpeg, JPEG_COM, kLongestMarker);
  jpeg_read_header(&jpeg, TRUE);
  return true;
}

bool decode(jpeg_decompress_struct& jpeg, JpegErrors& errors, Picture& out) {
  if (setjmp(errors.jump) != 0) return false;
  out.width = jpeg.image_width;
  out.height = jpeg.image_height;
  if (out.width * out.height > kMostPixels) return false;
  jpeg.out_color_space = jpeg.jpeg_color_space == JCS_GRAYSCALE ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_start_decompress(&jpeg);
  out.channels = static_cast<std::size_t>(jpeg.output_components);
  out.pixels.resize(out.width * out.height * out.channels);
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = out.pixels.data() + jpeg.output_scanline * out.width * out.channels;
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  return true;
}

// The markers of `from` but those that the encoder writes itself.
void copy_markers(jpeg_compress_struct& jpeg, const jpeg_decompress_struct& from) {
  for (jpeg_saved_marker_ptr one = from.marker_list; one != nullptr; one = one->next) {
    const std::string_view data(reinterpret_cast<const char*>(one->data), one->data_length);
    if (one->marker == JPEG_APP0 && data.starts_with("JFIF")) continue;
    if (one->marker == JPEG_APP0 + 14 && data.starts_with("Adobe")) continue;
    jpeg_write_marker(&jpeg, one->marker, one->data, one->data_length);
  }
}

bool encode(jpeg_compress_struct& jpeg, JpegErrors& errors, const jpeg_decompress_struct& from, const Picture& picture,
            unsigned char*& bytes, unsigned long& size) {
  if (setjmp(errors.jump) != 0) return false;
  jpeg_create_compress(&jpeg);
  jpeg_mem_dest(&jpeg, &bytes, &size);
  jpeg.image_width = static_cast<JDIMENSION>(picture.width);
  jpeg.image_height = static_cast<JDIMENSION>(picture.height);
  jpeg.input_components = static_cast<int>(picture.channels);
  jpeg.in_color_space = picture.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, kQuality, TRUE);
  jpeg.density_unit = from.density_unit;
  jpeg.X_density = from.X_density;
  jpeg.Y_density = from.Y_density;
  for (int i = 0; i < jpeg.num_components; ++i) jpeg.comp_info[i].h_samp_factor = jpeg.comp_info[i].v_samp_factor = 1;
  jpeg_start_compress(&jpeg, TRUE);
  copy_markers(jpeg, from);
  while (jpeg.next_scanline < jpeg.image_height) {
    JSAMPROW row = const_cast<JSAMPROW>(picture.pixels.data()) + jpeg.next_scanline * picture.width * picture.channels;
    jpeg_write_scanlines(&jpeg, &row, 1);  // only reads
  }
  jpeg_finish_compress(&jpeg);
  return true;
}

struct Decompression {
  JpegErrors errors;
  jpeg_decompress_struct jpeg{};
  Decompression() { jpeg.err = quiet(errors); }
  ~Decompression() { jpeg_destroy_decompress(&jpeg); }
  Decompression(const Decompression&) = delete;
  Decompression& operator=(const Decompression&) = delete;
};

std::string why(const Decompression& jpeg, const Picture& picture) {
  if (jpeg.errors.text[0] != '\0') return jpeg.errors.text;
  return std::to_string(picture.width) + " by " + std::to_string(picture.height) + " pixels are too many";
}

#endif

}  // namespace

#if QW_HAVE_PICTURES

Result<Picture> read_png_picture(std::string_view file) {
  bool moves = false;
  each_chunk(file, [&](std::string_view type, std::string_view) { moves = moves || type == "acTL"; });
  if (moves) return broken("it is an animation");
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  const std::unique_ptr<png_image, void (*)(png_image*)> frees(&image, png_image_free);
  if (png_image_begin_read_from_memory(&image, file.data(), file.size()) == 0) return broken(image.message);
  Picture out;
  out.width = image.width;
  out.height = image.height;
  if (out.width * out.height > kMostPixels) return broken("it has too many pixels");
  const bool alpha = (image.format & PNG_FORMAT_FLAG_ALPHA) != 0;
  out.channels = alpha ? 4 : 3;
  image.format = alpha ? PNG_FORMAT_RGBA : PNG_FORMAT_RGB;
  out.pixels.resize(out.width * out.height * out.channels);
  if (png_image_finish_read(&image, nullptr, out.pixels.data(), 0, nullptr) == 0) return broken(image.message);
  if ((PNG_IMAGE_FAILED(image)) || image.warning_or_error != 0) return broken(image.message);
  return out;
}

Result<std::string> write_png_picture(const Picture& picture, std::string_view file) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(picture.width);
  image.height = static_cast<png_uint_32>(picture.height);
  image.format = picture.channels == 4 ? PNG_FORMAT_RGBA : PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::string bytes(size, '\0');
  if (png_image_write_to_memory(&image, bytes.data(), &size, 0, picture.pixels.data(), 0, nullptr) == 0)
    return fail(ErrorKind::kFailed, std::string("the picture cannot be written: ") + image.message);
  bytes.resize(size);
  std::string kept;
  each_chunk(file, [&](std::string_view type, std::string_view chunk) {
    for (const std::string_view name : {"eXIf", "pHYs", "tIME", "tEXt", "zTXt", "iTXt"})
      if (type == name) kept += chunk;
  });
  const std::size_t behind_head = kPngHead + kPngChunk + number_at(bytes, kPngHead, 4);
  return bytes.insert(behind_head, kept);
}

Result<Picture> read_jpeg_picture(std::string_view file) {
  Decompression jpeg;
  Picture out;
  if (!read_head(jpeg.jpeg, jpeg.errors, file) || !decode(jpeg.jpeg, jpeg.errors, out)) return broken(why(jpeg, out));
  if (jpeg.errors.base.num_warnings > 0) return broken("it is damaged");
  return out;
}

Result<std::string> write_jpeg_picture(const Picture& picture, std::string_view file) {
  Decompression from;
  if (!read_head(from.jpeg, from.errors, file)) return broken(from.errors.text);
  JpegErrors errors;
  jpeg_compress_struct jpeg{};
  jpeg.err = quiet(errors);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  const bool done = encode(jpeg, errors, from.jpeg, picture, bytes, size);
  std::string out;
  if (done) out.assign(reinterpret_cast<const char*>(bytes), size);
  jpeg_destroy_compress(&jpeg);
  std::free(bytes);
  if (!done) return fail(ErrorKind::kFailed, std::string("the picture cannot be written: ") + errors.text);
  return out;
}

#else

namespace {
tl::unexpected<Error> missing() {
  return fail(ErrorKind::kUsage, "marks in pictures need libpng and libjpeg, which this program was built without");
}
}  // namespace

Result<Picture> read_png_picture(std::string_view) { return missing(); }
Result<Picture> read_jpeg_picture(std::string_view) { return missing(); }
Result<std::string> write_png_picture(const Picture&, std::string_view) { return missing(); }
Result<std::string> write_jpeg_picture(const Picture&, std::string_view) { return missing(); }

#endif

// Exif (CIPA DC-008): a TIFF in the segment APP1, whose first directory may have the tag 0x0112.
int orientation_of_jpeg(std::string_view file) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned>(static_cast<unsigned char>(file[i])); };
  for (std::size_t at = 2; at + 4 <= file.size() && byte(at) == 0xFF && byte(at + 1) != 0xDA;) {
    const std::size_t size = byte(at + 2) << 8 | byte(at + 3), end = at + 2 + size;
    if (size < 2 || end > file.size()) return 1;
    const std::string_view tiff = file.substr(at + 4, size - 2);
    if (byte(at + 1) == 0xE1 && tiff.starts_with(std::string_view("Exif\0\0", 6)) && tiff.size() >= 14) {
      const std::string_view t = tiff.substr(6);
      const bool little = t[0] == 'I';
      const auto number = [&](std::size_t where, std::size_t width) {
        std::size_t out = 0;
        for (std::size_t i = 0; i < width && where + width <= t.size(); ++i)
          out |= static_cast<std::size_t>(static_cast<unsigned char>(t[where + i])) << 8 * (little ? i : width - 1 - i);
        return out;
      };
      const std::size_t directory = number(4, 4), entries = number(directory, 2);
      for (std::size_t i = 0; i < entries && directory + 14 + 12 * i <= t.size(); ++i)
        if (number(directory + 2 + 12 * i, 2) == 0x0112) return static_cast<int>(number(directory + 10 + 12 * i, 2));
    }
    at = end;
  }
  return 1;
}

}  // namespace qw::governance::internal
