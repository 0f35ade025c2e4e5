#include "governance/label/visible_label.h"

#include <algorithm>
#include <cmath>

#include "governance/label/internal/carrier.h"
#include "governance/label/internal/mark_shape.h"
#include "governance/label/internal/picture.h"

namespace qw::governance {
namespace {

using internal::MarkShape;
using internal::Picture;

constexpr double kShare = 0.05;       // of the shortest side: the least height of a character in a picture
constexpr double kFewestPixels = 12;  // below that nobody reads it
constexpr double kPadding = 0.3;      // around the characters, in their heights, and from the picture's edges
constexpr double kGround = 0.65;      // how dark the ground makes what is behind it

// Where the mark of a picture is, in pixels.
struct MarkPlace {
  double height = 0;                                     // of a character
  std::size_t left = 0, top = 0, right = 0, bottom = 0;  // of the ground
  double text_left = 0, text_top = 0;
};

Result<MarkPlace> place_in(const Picture& picture, const MarkShape& shape) {
  MarkPlace out;
  const auto width = static_cast<double>(picture.width), height = static_cast<double>(picture.height);
  out.height = std::max(kFewestPixels, std::ceil(kShare * std::min(width, height)));
  const double wide = (shape.width + 2 * kPadding) * out.height, high = (1 + 2 * kPadding) * out.height;
  const double edge = kPadding * out.height;
  if (wide + edge > width || high + edge > height)
    return fail(ErrorKind::kBadInput, "the picture has no room for a mark: " + std::to_string(picture.width) + " by " +
                                          std::to_string(picture.height) + " pixels");
  out.right = static_cast<std::size_t>(width - edge);
  out.bottom = static_cast<std::size_t>(height - edge);
  out.left = static_cast<std::size_t>(width - edge - wide);
  out.top = static_cast<std::size_t>(height - edge - high);
  out.text_left = static_cast<double>(out.left) + kPadding * out.height;
  out.text_top = static_cast<double>(out.top) + kPadding * out.height;
  return out;
}

// How much of a pixel the lines cover: 0 to 1.
double covered(const MarkPlace& place, const MarkShape& shape, std::size_t x, std::size_t y) {
  const internal::MarkPoint at{(static_cast<double>(x) + 0.5 - place.text_left) / place.height,
                               (static_cast<double>(y) + 0.5 - place.text_top) / place.height};
  const double outside = (internal::distance_to(shape, at) - internal::kMarkThickness / 2) * place.height;
  return std::clamp(0.5 - outside, 0.0, 1.0);
}

template <class Visit>
void each_pixel(const MarkPlace& place, Visit visit) {
  for (std::size_t y = place.top; y < place.bottom; ++y)
    for (std::size_t x = place.left; x < place.right; ++x) visit(x, y);
}

void draw(Picture& picture, const MarkPlace& place, const MarkShape& shape) {
  each_pixel(place, [&](std::size_t x, std::size_t y) {
    const double white = covered(place, shape, x, y);
    std::uint8_t* pixel = picture.at(x, y);
    for (std::size_t c = 0; c < std::min<std::size_t>(picture.channels, 3); ++c) {
      const double ground = (1 - kGround) * pixel[c];
      pixel[c] = static_cast<std::uint8_t>(std::lround(ground + white * (255 - ground)));
    }
    if (picture.channels == 4) pixel[3] = 255;
  });
}

// Nearly all pixels inside the lines are bright, and nearly all of the ground beside them is not.
bool has_mark(const Picture& picture, MarkText text) {
  constexpr double kBright = 180, kDark = 130, kNearlyAll = 0.95;
  const MarkShape shape = internal::mark_shape(text);
  const auto place = place_in(picture, shape);
  if (!place) return false;
  std::size_t inside = 0, bright = 0, beside = 0, dark = 0;
  each_pixel(*place, [&](std::size_t x, std::size_t y) {
    const std::uint8_t* pixel = picture.at(x, y);
    const double light = picture.channels == 1 ? pixel[0] : 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
    const double white = covered(*place, shape, x, y);
    if (white == 1) {
      ++inside;
      bright += light >= kBright ? 1 : 0;
    } else if (white == 0) {
      ++beside;
      dark += light <= kDark ? 1 : 0;
    }
  });
  const auto nearly_all = [](std::size_t some, std::size_t of) {
    return of > 0 && static_cast<double>(some) >= kNearlyAll * static_cast<double>(of);
  };
  return nearly_all(bright, inside) && nearly_all(dark, beside);
}

Result<Picture> read_picture(LabelFormat format, std::string_view file) {
  if (format == LabelFormat::kPng) return internal::read_png_picture(file);
  return internal::read_jpeg_picture(file);
}

Result<std::string> with_mark(LabelFormat format, std::string_view file, MarkText text) {
  QW_ASSIGN(Picture picture, read_picture(format, file));
  if (has_mark(picture, text)) return std::string(file);
  const int turned = format == LabelFormat::kJpeg ? internal::orientation_of_jpeg(file) : 1;
  if (turned > 1)
    return fail(ErrorKind::kBadInput, "viewers turn the picture (Exif orientation " + std::to_string(turned) +
                                          "), and the mark with it: turn the pixels first");
  const MarkShape shape = internal::mark_shape(text);
  QW_ASSIGN(const MarkPlace place, place_in(picture, shape));
  draw(picture, place, shape);
  if (format == LabelFormat::kPng) return internal::write_png_picture(picture, file);
  return internal::write_jpeg_picture(picture, file);
}

tl::unexpected<Error> no_such(LabelFormat format) {
  return fail(ErrorKind::kUsage, std::string("no visible label in files of the format ") + name_of(format));
}

Result<std::string> labelled(LabelFormat format, std::string_view file, const VisibleLabel& label) {
  switch (format) {
    case LabelFormat::kOoxml:
      return internal::with_first_paragraph(file, label.notice);
    case LabelFormat::kPdf:
      return internal::with_pdf_mark(file, label);
    case LabelFormat::kPng:
    case LabelFormat::kJpeg:
      return with_mark(format, file, label.mark);
    default:
      return no_such(format);
  }
}

}  // namespace

Result<std::string> with_visible_label(LabelFormat format, std::string_view file, const VisibleLabel& label) {
  if (file.size() > kMostLabelledBytes)
    return fail(ErrorKind::kBadInput, "the file is longer than " + std::to_string(kMostLabelledBytes) + " bytes");
  QW_ASSIGN(std::string out, labelled(format, file, label));
  QW_ASSIGN(const bool there, has_visible_label(format, out));
  // A notice of the operator's own may name neither AI nor generation.
  if (!there && (format != LabelFormat::kOoxml || has_explicit_words(label.notice)))
    return fail(ErrorKind::kFailed, "the visible label could not be read back from the file");
  return out;
}

Result<bool> has_visible_label(LabelFormat format, std::string_view file) {
  if (file.size() > kMostLabelledBytes)
    return fail(ErrorKind::kBadInput, "the file is longer than " + std::to_string(kMostLabelledBytes) + " bytes");
  switch (format) {
    case LabelFormat::kOoxml: {
      QW_ASSIGN(const std::string text, internal::docx_text(file));
      return has_explicit_words(text);
    }
    case LabelFormat::kPdf:
      return internal::has_pdf_mark(file);
    case LabelFormat::kPng:
    case LabelFormat::kJpeg: {
      QW_ASSIGN(const Picture picture, read_picture(format, file));
      return has_mark(picture, MarkText::kAiGenerated) || has_mark(picture, MarkText::kAi);
    }
    default:
      return no_such(format);
  }
}

}  // namespace qw::governance
