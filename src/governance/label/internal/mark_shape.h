// The mark "AI生成" or "AI" as lines, so that it can be drawn at any size without a font.
#pragma once

#include <span>
#include <vector>

#include "governance/label/visible_label.h"

namespace qw::governance::internal {

// In heights of a character, from the top left corner of the mark.
struct MarkPoint {
  double x, y;
};
using MarkLine = std::vector<MarkPoint>;

struct MarkShape {
  std::vector<MarkLine> lines;
  double width = 0;  // the height is 1
};
inline constexpr double kMarkThickness = 0.1;  // of lines

MarkShape mark_shape(MarkText text);

// How far a point is from the nearest line.
double distance_to(const MarkShape& shape, MarkPoint point);

}  // namespace qw::governance::internal
