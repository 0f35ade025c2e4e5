// The words of an audited request, as the store has them, encrypted: found by the record that names them, checked
// against the hash that it has of them, and opened with the keys that the store has not.
#pragma once

#include <string>

#include "base/result.h"
#include "json/value.h"
#include "store/store.h"

namespace qw::governance {
class ContentKeys;
}

namespace qw::api {

// Why something of the past cannot be had: a word, and a sentence.
struct Obstacle {
  std::string reason, message;
};
template <class T>
using Found = tl::expected<T, Obstacle>;
tl::unexpected<Obstacle> obstacle(std::string reason, std::string message);

// Null: there is no store here, or there are no keys. Blocks for the store.
Found<json::Value> open_content(const json::Value& record, store::Store* store, const governance::ContentKeys* keys);

}  // namespace qw::api
