// The published vectors of certificate transparency's trees, and every proof of every small tree.
#include "governance/audit/merkle.h"

#include <gtest/gtest.h>

namespace qw::governance {
namespace {

std::string unhex(std::string_view hex) {
  std::string out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    out += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  return out;
}

std::vector<Hash> published_leaves() {
  std::vector<Hash> out;
  for (const char* data :
       {"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"})
    out.push_back(leaf_hash(unhex(data)));
  return out;
}

std::vector<std::string> hexes(const std::vector<Hash>& hashes) {
  std::vector<std::string> out;
  for (const Hash& h : hashes) out.push_back(to_hex(h));
  return out;
}

TEST(Merkle, RootsAreThePublishedOnes) {
  const auto leaves = published_leaves();
  const char* roots[] = {"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                         "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                         "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
                         "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
                         "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                         "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
                         "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
                         "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
                         "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};
  Frontier f;
  EXPECT_EQ(to_hex(f.root()), roots[0]);
  for (std::size_t n = 1; n <= leaves.size(); ++n) {
    f.add(leaves[n - 1]);
    EXPECT_EQ(to_hex(f.root()), roots[n]) << n;
    EXPECT_EQ(f.size(), n);
  }
}

TEST(Merkle, ProofsAreThePublishedOnes) {
  const auto leaves = published_leaves();
  const std::span<const Hash> all(leaves);
  EXPECT_EQ(hexes(inclusion_proof(all, 5)),
            (std::vector<std::string>{"bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                                      "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                                      to_hex(root_of(all.first(4)))}));
  EXPECT_EQ(hexes(consistency_proof(all.first(7), 3)),
            (std::vector<std::string>{"0298d122906dcfc10892cb53a73992fc5b9f493ea4c9badb27b791b4127a7fe7",
                                      "07506a85fd9dd2f120eb694f86011e5bb4662e5c415a62917033d4a9624487e7",
                                      to_hex(root_of(all.first(2))),
                                      "837dbb152e9b079010717e84e865da4ebc0fa198a806d59d31bf15accef22d0e"}));
}

TEST(Merkle, EveryProofHoldsAndNoAlteredOne) {
  std::vector<Hash> leaves;
  for (std::uint64_t n = 1; n < 70; ++n) {
    leaves.push_back(leaf_hash(std::to_string(n)));
    const std::span<const Hash> all(leaves);
    const Hash root = root_of(all);
    for (std::uint64_t i = 0; i < n; ++i) {
      auto proof = inclusion_proof(all, i);
      EXPECT_TRUE(verify_inclusion(leaves[i], i, n, proof, root));
      EXPECT_FALSE(verify_inclusion(leaves[i], i + 1, n, proof, root) && n > 1) << i << " of " << n;
      EXPECT_FALSE(verify_inclusion(leaf_hash("other"), i, n, proof, root));
      for (Hash& node : proof) {
        node[7] ^= 1;
        EXPECT_FALSE(verify_inclusion(leaves[i], i, n, proof, root));
        node[7] ^= 1;
      }
      proof.push_back(root);
      EXPECT_FALSE(verify_inclusion(leaves[i], i, n, proof, root));
    }
    for (std::uint64_t m = 1; m <= n; ++m) {
      auto proof = consistency_proof(all, m);
      const Hash before = root_of(all.first(m));
      EXPECT_TRUE(verify_consistency(m, before, n, root, proof)) << m << " of " << n;
      EXPECT_FALSE(verify_consistency(m, leaf_hash("other"), n, root, proof));
      for (Hash& node : proof) {
        node[31] ^= 128;
        EXPECT_FALSE(verify_consistency(m, before, n, root, proof));
        node[31] ^= 128;
      }
    }
  }
  EXPECT_FALSE(verify_consistency(0, empty_root(), 3, root_of(std::span<const Hash>(leaves).first(3)), {}));
}

TEST(Merkle, HexIsLowerCaseAndWhole) {
  const Hash h = empty_root();
  EXPECT_EQ(hash_from_hex(to_hex(h)), h);
  std::string hex = to_hex(h);
  EXPECT_FALSE(hash_from_hex(hex.substr(1)));
  hex[0] = 'E';
  EXPECT_FALSE(hash_from_hex(hex));
}

}  // namespace
}  // namespace qw::governance
