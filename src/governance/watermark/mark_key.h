// The keys that texts are marked with, and the file they are kept in.
//
// A key has a secret: who holds it can detect marks and, as with every such scheme, can set them; the file is its
// owner's alone (mode 0600). Keys are never taken away: a key that is retired marks nothing any more and is still
// looked for. A tenant (a project) is marked with its own key if it has one, else with that of nobody in particular.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "json/value.h"

namespace qw::governance {

enum class MarkScheme : std::uint8_t {
  kSynthId,  // a tournament of layers (Dathathri et al., "Scalable watermarking for identifying large language model
             // outputs", Nature 2024); with two leaves no token becomes likelier, averaged over keys
  kGumbel,   // the token with the largest logit + Gumbel noise of the key (Aaronson 2022; Kirchenbauer et al. compare)
};
enum class MarkHash : std::uint8_t {
  kSipHash,    // SipHash-2-4
  kReference,  // SynthID: the linear congruential hash of the published code; Gumbel: Philox4x32-10 as vLLM has it
};

struct MarkKey {
  std::string id, tenant;  // tenant "": whoever has none of its own
  MarkScheme scheme = MarkScheme::kSynthId;
  MarkHash hash = MarkHash::kSipHash;
  std::int32_t context = 4;  // tokens before a token that say what its mark is
  std::int32_t layers = 30;  // SynthID
  std::int32_t leaves = 2;   // SynthID: more than 2 make the mark stronger and change the distribution
  std::array<std::uint8_t, 32> secret{};
  std::vector<std::int64_t> numbers;      // of kReference: `layers` of them, or Gumbel's one
  std::int64_t created = 0, retired = 0;  // Unix seconds; retired 0: in use
  // SynthID: of the score of a token that was not marked with this key, measured (calibrate()).
  double null_mean = 0.5, null_variance = 0;
};

inline constexpr std::int32_t kMostLayers = 32, kMostLeaves = 64, kMostContext = 16;
inline constexpr std::size_t kMostMarkKeys = 4096;

// A fresh key: secret and id are drawn, numbers derived from the secret, the null distribution measured.
MarkKey make_mark_key(MarkScheme scheme, MarkHash hash, std::int32_t leaves, std::string tenant);

class MarkKeys {
 public:
  // kBadInput naming the key and what is wrong with it.
  static Result<MarkKeys> parse(std::string_view text);
  // kRefused: others may read the file.
  static Result<MarkKeys> read(const std::filesystem::path& path);
  std::string dump() const;
  Status write(const std::filesystem::path& path) const;  // mode 0600

  // The newest key in use of this tenant, else of "", else null.
  const MarkKey* of(std::string_view tenant) const;
  const std::vector<MarkKey>& all() const { return keys_; }
  // Adds the key; others of its tenant stay in use until they are retired (of() takes the newest).
  Status add(MarkKey key);
  Status retire(std::string_view id, std::int64_t now);

 private:
  std::vector<MarkKey> keys_;  // oldest first
};

// The keys of a running service, which may be replaced. Any thread.
class MarkKeyHolder {
 public:
  explicit MarkKeyHolder(MarkKeys keys) { replace(std::move(keys)); }
  void replace(MarkKeys keys) {
    auto fresh = std::make_shared<const MarkKeys>(std::move(keys));
    std::lock_guard lock(mutex_);
    keys_ = std::move(fresh);
  }
  std::shared_ptr<const MarkKeys> now() const {
    std::lock_guard lock(mutex_);
    return keys_;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const MarkKeys> keys_;
};

const char* name_of(MarkScheme scheme);
const char* name_of(MarkHash hash);

}  // namespace qw::governance
