#include "governance/label/internal/mark_shape.h"

#include <algorithm>
#include <cmath>

namespace qw::governance::internal {
namespace {

struct Character {
  double width;
  std::vector<MarkLine> lines;
};

const std::vector<Character>& characters() {
  static const std::vector<Character> all = {
      // A
      {0.95, {{{0.05, 1}, {0.42, 0}, {0.79, 1}}, {{0.18, 0.65}, {0.66, 0.65}}}},
      // I
      {0.4, {{{0.15, 0}, {0.15, 1}}}},
      // 生: the stroke to the left, three across, one down
      {1.1,
       {{{0.28, 0.03}, {0.12, 0.42}},
        {{0.2, 0.27}, {0.88, 0.27}},
        {{0.18, 0.6}, {0.84, 0.6}},
        {{0.53, 0}, {0.53, 0.96}},
        {{0.05, 0.96}, {0.98, 0.96}}}},
      // 成
      {1.0,
       {{{0.15, 0.25}, {0.95, 0.25}},
        {{0.17, 0.25}, {0.17, 0.62}, {0.05, 0.97}},
        {{0.17, 0.52}, {0.45, 0.52}, {0.43, 0.82}, {0.33, 0.8}},
        {{0.58, 0.02}, {0.62, 0.45}, {0.78, 0.85}, {0.93, 0.96}, {0.96, 0.76}},
        {{0.85, 0.42}, {0.68, 0.72}, {0.48, 0.95}},
        {{0.74, 0.03}, {0.85, 0.14}}}},
  };
  return all;
}

double distance_to_part(MarkPoint p, MarkPoint a, MarkPoint b) {
  const double dx = b.x - a.x, dy = b.y - a.y;
  const double along = std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / (dx * dx + dy * dy), 0.0, 1.0);
  return std::hypot(p.x - a.x - along * dx, p.y - a.y - along * dy);
}

}  // namespace

MarkShape mark_shape(MarkText text) {
  MarkShape out;
  const std::size_t count = text == MarkText::kAi ? 2 : characters().size();
  for (std::size_t i = 0; i < count; ++i) {
    for (MarkLine line : characters()[i].lines) {
      for (MarkPoint& point : line) point.x += out.width;
      out.lines.push_back(std::move(line));
    }
    out.width += characters()[i].width;
  }
  return out;
}

double distance_to(const MarkShape& shape, MarkPoint point) {
  double out = shape.width;
  for (const MarkLine& line : shape.lines)
    for (std::size_t i = 1; i < line.size(); ++i) out = std::min(out, distance_to_part(point, line[i - 1], line[i]));
  return out;
}

}  // namespace qw::governance::internal
