#include "sampling/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace qw::sampling {
namespace {

// Bytes at the end of `text` which begin a UTF-8 character but do not finish it (0..3).
std::size_t unfinished_tail(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if (byte < 0x80) return 0;
    if (byte < 0xC0) continue;  // a continuation byte: its lead is further back
    const std::size_t need = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2;
    return byte <= 0xF4 && need > back ? back : 0;
  }
  return 0;
}

}  // namespace

StopMatcher::StopMatcher(const std::vector<std::string>& stops) : nodes_(1) {
  for (std::size_t index = 0; index < stops.size(); ++index) {
    lengths_.push_back(stops[index].size());
    if (stops[index].empty()) continue;
    starts_[static_cast<unsigned char>(stops[index][0])] = true;
    std::int32_t node = 0;
    for (const char c : stops[index]) {
      const auto byte = static_cast<unsigned char>(c);
      std::int32_t to = child(node, byte);
      if (to < 0) {
        to = static_cast<std::int32_t>(nodes_.size());
        nodes_.push_back({});
        nodes_.back().depth = nodes_[static_cast<std::size_t>(node)].depth + 1;
        nodes_[static_cast<std::size_t>(node)].next.emplace_back(byte, to);
      }
      node = to;
    }
    Node& end = nodes_[static_cast<std::size_t>(node)];
    if (end.stop < 0) end.stop = static_cast<std::int32_t>(index);
  }
  link();
}

// Failure links in order of depth; a node without a stop string of its own takes the one its failure node ends with.
void StopMatcher::link() {
  std::vector<std::int32_t> queue;
  for (const auto& [byte, to] : nodes_[0].next) queue.push_back(to);
  for (std::size_t i = 0; i < queue.size(); ++i) {
    const std::int32_t node = queue[i];
    for (const auto& [byte, to] : nodes_[static_cast<std::size_t>(node)].next) {
      Node& target = nodes_[static_cast<std::size_t>(to)];
      target.failure = advance(nodes_[static_cast<std::size_t>(node)].failure, byte);
      if (target.stop < 0) target.stop = nodes_[static_cast<std::size_t>(target.failure)].stop;
      queue.push_back(to);
    }
  }
}

std::int32_t StopMatcher::child(std::int32_t node, unsigned char byte) const {
  for (const auto& [edge, to] : nodes_[static_cast<std::size_t>(node)].next)
    if (edge == byte) return to;
  return -1;
}

std::int32_t StopMatcher::advance(std::int32_t node, unsigned char byte) const {
  for (;;) {
    if (node == 0 && !starts_[byte]) return 0;
    const std::int32_t to = child(node, byte);
    if (to >= 0) return to;
    if (node == 0) return 0;
    node = nodes_[static_cast<std::size_t>(node)].failure;
  }
}

std::string StopMatcher::push(std::string_view text) {
  if (stopped()) return {};
  for (const char c : text) {
    held_.push_back(c);
    state_ = advance(state_, static_cast<unsigned char>(c));
    const std::int32_t stop = nodes_[static_cast<std::size_t>(state_)].stop;
    if (stop < 0) continue;
    matched_ = stop;
    held_.resize(held_.size() - lengths_[static_cast<std::size_t>(stop)]);
    return std::exchange(held_, {});
  }
  const auto depth = static_cast<std::size_t>(nodes_[static_cast<std::size_t>(state_)].depth);
  const std::size_t keep = std::max(depth, unfinished_tail(held_));
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  // Where a stop string begins inside a character (possible only if it is not valid UTF-8 itself), that character waits.
  const std::size_t cut = unfinished_tail(out);
  held_.insert(0, out, out.size() - cut, cut);
  out.resize(out.size() - cut);
  return out;
}

std::string StopMatcher::finish() {
  state_ = 0;
  return std::exchange(held_, {});
}

}  // namespace qw::sampling
