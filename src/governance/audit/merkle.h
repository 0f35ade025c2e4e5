// Merkle trees over the records of a log, and their proofs. Source: RFC 9162 (Certificate Transparency 2.0),
// section 2.1: a leaf is SHA-256(0x00 || data), a node SHA-256(0x01 || left || right), and a tree of n > 1 leaves is
// cut at the largest power of two below n. Values; no state shared between threads.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qw::governance {

using Hash = std::array<std::uint8_t, 32>;

Hash sha256(std::string_view bytes);
Hash sha256(std::string_view first, std::string_view second, std::string_view third);  // one behind the other
Hash leaf_hash(std::string_view record);
Hash node_hash(const Hash& left, const Hash& right);
Hash empty_root();  // of a tree of no leaves

std::string to_hex(std::span<const std::uint8_t> bytes);  // lower case
std::optional<Hash> hash_from_hex(std::string_view hex);  // 64 digits, lower case only

// What is needed of a tree to make it grow: the roots of its complete subtrees, largest first.
class Frontier {
 public:
  void add(const Hash& leaf);
  std::uint64_t size() const { return size_; }
  Hash root() const;

 private:
  std::vector<Hash> subtrees_;  // one for each bit that is set in size_
  std::uint64_t size_ = 0;
};

Hash root_of(std::span<const Hash> leaves);
// The nodes that make a leaf's way to the root, from its sibling upwards. index < leaves.size().
std::vector<Hash> inclusion_proof(std::span<const Hash> leaves, std::uint64_t index);
// The nodes that show that the tree of the first `size` leaves is the beginning of this one. 0 < size <= leaves.size().
std::vector<Hash> consistency_proof(std::span<const Hash> leaves, std::uint64_t size);

// Is `leaf` the one at `index` of the tree of `size` leaves with this root? (RFC 9162, 2.1.3.2)
bool verify_inclusion(const Hash& leaf, std::uint64_t index, std::uint64_t size, std::span<const Hash> proof,
                      const Hash& root);
// Is the tree of `first` leaves the beginning of that of `second`? (RFC 9162, 2.1.4.2) 0 < first <= second.
bool verify_consistency(std::uint64_t first, const Hash& first_root, std::uint64_t second, const Hash& second_root,
                        std::span<const Hash> proof);

}  // namespace qw::governance
