// The lines of a stored file, one part of it in memory: batches and training data are such.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "store/files.h"

namespace qw::api {

class FileLines {
 public:
  // `files` must outlive this object.
  FileLines(store::Files& files, std::string id) : files_(files), id_(std::move(id)) {}
  // The next line that is not blank; nothing at the end. kBadInput: a line is longer than kMostLineBytes.
  Result<std::optional<std::string>> next();
  std::int64_t number() const { return number_; }  // of the line that next() gave, from 1

  static constexpr std::size_t kMostLineBytes = 8u << 20;  // of one request; far above what any context holds

 private:
  store::Files& files_;
  const std::string id_;
  std::string pending_;
  std::size_t at_ = 0;
  std::int64_t offset_ = 0, number_ = 0;
  bool ended_ = false;
};

}  // namespace qw::api
