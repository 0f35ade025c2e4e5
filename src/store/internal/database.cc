#include "store/internal/database.h"

namespace qw::store {

std::int64_t Row::integer(std::size_t column) const {
  const Value& value = values_.at(column);
  if (std::holds_alternative<std::monostate>(value)) return 0;
  QW_CHECK(std::holds_alternative<std::int64_t>(value));
  return std::get<std::int64_t>(value);
}

std::string Row::text(std::size_t column) const {
  const Value& value = values_.at(column);
  if (std::holds_alternative<std::monostate>(value)) return "";
  QW_CHECK(std::holds_alternative<std::string>(value));
  return std::get<std::string>(value);
}

std::string Row::bytes(std::size_t column) const {
  const Value& value = values_.at(column);
  if (std::holds_alternative<std::monostate>(value)) return "";
  QW_CHECK(std::holds_alternative<Bytes>(value));
  return std::get<Bytes>(value).data;
}

}  // namespace qw::store
