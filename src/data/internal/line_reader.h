// Lines of a ByteReader, without their line ends.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/byte_reader.h"

namespace qw::data {

class LineReader {
 public:
  LineReader(ByteReader bytes, std::filesystem::path path, std::uint64_t max_line_bytes)
      : bytes_(std::move(bytes)), path_(std::move(path)), max_line_bytes_(max_line_bytes), buffer_(1 << 16) {}

  // The next line; false at the end. "\n", "\r\n" and "\r" end a line; a byte-order mark before line 1 is dropped.
  Result<bool> next(std::string& line) {
    line.clear();
    bool any = false;
    for (;;) {
      if (at_ == size_) {
        QW_ASSIGN(size_, bytes_.read(buffer_));
        at_ = 0;
        if (size_ == 0) break;
      }
      any = true;
      if (skip_newline_) {
        skip_newline_ = false;
        if (buffer_[at_] == '\n') {
          ++at_;
          any = !line.empty();
          continue;
        }
      }
      std::size_t end = at_;
      while (end < size_ && buffer_[end] != '\n' && buffer_[end] != '\r') ++end;
      line.append(buffer_.data() + at_, end - at_);
      if (line.size() > max_line_bytes_)
        return fail(ErrorKind::kBadInput, where(number_ + 1) + ": line longer than the limit of " +
                                              std::to_string(max_line_bytes_) + " bytes");
      at_ = end;
      if (end == size_) continue;
      skip_newline_ = buffer_[end] == '\r';
      ++at_;
      return finish(line);
    }
    if (!any) return false;
    return finish(line);
  }
  std::uint64_t number() const { return number_; }  // of the line given last, from 1
  std::string where(std::uint64_t line) const { return path_.string() + ":" + std::to_string(line); }

 private:
  bool finish(std::string& line) {
    if (++number_ == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
    return true;
  }

  ByteReader bytes_;
  std::filesystem::path path_;
  std::uint64_t max_line_bytes_, number_ = 0;
  std::vector<char> buffer_;
  std::size_t at_ = 0, size_ = 0;
  bool skip_newline_ = false;
};

}  // namespace qw::data
