#include "governance/audit/merkle.h"

#include <openssl/evp.h>

#include <bit>
#include <memory>

#include "base/result.h"

namespace qw::governance {
namespace {

// Looking SHA-256 up and making a context for it takes longer than hashing a node does, so each thread keeps one.
Hash digest(std::string_view a, std::string_view b = {}, std::string_view c = {}) {
  using Handle = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;
  static const EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  thread_local const Handle context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  Hash out;
  QW_CHECK(context != nullptr && EVP_DigestInit_ex(context.get(), sha256, nullptr) == 1);
  for (const std::string_view part : {a, b, c})
    QW_CHECK(EVP_DigestUpdate(context.get(), part.data(), part.size()) == 1);
  QW_CHECK(EVP_DigestFinal_ex(context.get(), out.data(), nullptr) == 1);
  return out;
}

std::string_view bytes(const Hash& h) { return {reinterpret_cast<const char*>(h.data()), h.size()}; }

// The largest power of two below n; n > 1.
std::uint64_t cut(std::uint64_t n) { return std::bit_floor(n - 1); }

// RFC 9162, 2.1.4.1. `whole`: the first `size` leaves are one subtree of the tree that is proved.
void subproof(std::span<const Hash> leaves, std::uint64_t size, bool whole, std::vector<Hash>& out) {
  if (size == leaves.size()) {
    if (!whole) out.push_back(root_of(leaves));
    return;
  }
  const std::uint64_t k = cut(leaves.size());
  if (size <= k) {
    subproof(leaves.first(k), size, whole, out);
    out.push_back(root_of(leaves.subspan(k)));
  } else {
    subproof(leaves.subspan(k), size - k, false, out);
    out.push_back(root_of(leaves.first(k)));
  }
}

}  // namespace

Hash sha256(std::string_view data) { return digest(data); }
Hash sha256(std::string_view first, std::string_view second, std::string_view third) {
  return digest(first, second, third);
}
Hash leaf_hash(std::string_view record) { return digest(std::string_view("\0", 1), record); }
Hash node_hash(const Hash& left, const Hash& right) { return digest("\1", bytes(left), bytes(right)); }
Hash empty_root() { return digest({}); }

std::string to_hex(std::span<const std::uint8_t> data) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const std::uint8_t b : data) {
    out += kDigits[b >> 4];
    out += kDigits[b & 15];
  }
  return out;
}

std::optional<Hash> hash_from_hex(std::string_view hex) {
  Hash out;
  if (hex.size() != 2 * out.size()) return std::nullopt;
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int high = digit(hex[2 * i]), low = digit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    out[i] = static_cast<std::uint8_t>(16 * high + low);
  }
  return out;
}

void Frontier::add(const Hash& leaf) {
  Hash node = leaf;
  for (std::uint64_t n = size_; n & 1; n >>= 1) {
    node = node_hash(subtrees_.back(), node);
    subtrees_.pop_back();
  }
  subtrees_.push_back(node);
  ++size_;
}

Hash Frontier::root() const {
  if (subtrees_.empty()) return empty_root();
  Hash node = subtrees_.back();
  for (std::size_t i = subtrees_.size() - 1; i-- > 0;) node = node_hash(subtrees_[i], node);
  return node;
}

Hash root_of(std::span<const Hash> leaves) {
  Frontier f;
  for (const Hash& leaf : leaves) f.add(leaf);
  return f.root();
}

std::vector<Hash> inclusion_proof(std::span<const Hash> leaves, std::uint64_t index) {
  QW_CHECK(index < leaves.size());
  if (leaves.size() == 1) return {};
  const std::uint64_t k = cut(leaves.size());
  const bool left = index < k;
  std::vector<Hash> out =
      left ? inclusion_proof(leaves.first(k), index) : inclusion_proof(leaves.subspan(k), index - k);
  out.push_back(root_of(left ? leaves.subspan(k) : leaves.first(k)));
  return out;
}

std::vector<Hash> consistency_proof(std::span<const Hash> leaves, std::uint64_t size) {
  QW_CHECK(size > 0 && size <= leaves.size());
  std::vector<Hash> out;
  subproof(leaves, size, true, out);
  return out;
}

bool verify_inclusion(const Hash& leaf, std::uint64_t index, std::uint64_t size, std::span<const Hash> proof,
                      const Hash& root) {
  if (index >= size) return false;
  std::uint64_t fn = index, sn = size - 1;
  Hash r = leaf;
  for (const Hash& node : proof) {
    if (sn == 0) return false;
    if ((fn & 1) != 0 || fn == sn) {
      r = node_hash(node, r);
      while ((fn & 1) == 0 && fn != 0) fn >>= 1, sn >>= 1;
    } else {
      r = node_hash(r, node);
    }
    fn >>= 1, sn >>= 1;
  }
  return sn == 0 && r == root;
}

bool verify_consistency(std::uint64_t first, const Hash& first_root, std::uint64_t second, const Hash& second_root,
                        std::span<const Hash> proof) {
  if (first == 0 || first > second) return false;
  if (first == second) return proof.empty() && first_root == second_root;
  std::vector<Hash> nodes;
  if (std::has_single_bit(first)) nodes.push_back(first_root);
  nodes.insert(nodes.end(), proof.begin(), proof.end());
  if (nodes.empty()) return false;
  std::uint64_t fn = first - 1, sn = second - 1;
  while ((fn & 1) != 0) fn >>= 1, sn >>= 1;
  Hash fr = nodes[0], sr = nodes[0];
  for (const Hash& node : std::span(nodes).subspan(1)) {
    if (sn == 0) return false;
    if ((fn & 1) != 0 || fn == sn) {
      fr = node_hash(node, fr);
      sr = node_hash(node, sr);
      while ((fn & 1) == 0 && fn != 0) fn >>= 1, sn >>= 1;
    } else {
      sr = node_hash(sr, node);
    }
    fn >>= 1, sn >>= 1;
  }
  return sn == 0 && fr == first_root && sr == second_root;
}

}  // namespace qw::governance
