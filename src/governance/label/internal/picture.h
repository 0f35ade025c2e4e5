// Pictures as pixels, by libpng and libjpeg: read, and written anew with what else their files say.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace qw::governance::internal {

struct Picture {
  std::size_t width = 0, height = 0, channels = 3;  // 1: grey, 3: RGB, 4: RGB and alpha
  std::vector<std::uint8_t> pixels;                 // row by row
  std::uint8_t* at(std::size_t x, std::size_t y) { return pixels.data() + (y * width + x) * channels; }
  const std::uint8_t* at(std::size_t x, std::size_t y) const { return pixels.data() + (y * width + x) * channels; }
};
inline constexpr std::size_t kMostPixels = 100'000'000;

// kBadInput: damaged, larger than kMostPixels, an animation, CMYK; kUsage: built without the library.
Result<Picture> read_png_picture(std::string_view file);
Result<Picture> read_jpeg_picture(std::string_view file);
// `file`: the one that the picture was read from; its texts, Exif, XMP and resolution stay.
Result<std::string> write_png_picture(const Picture& picture, std::string_view file);
Result<std::string> write_jpeg_picture(const Picture& picture, std::string_view file);

// How a viewer turns the picture, by Exif: 1 (not at all) to 8.
int orientation_of_jpeg(std::string_view file);

}  // namespace qw::governance::internal
