#include "governance/watermark/mark_key.h"

#include <fcntl.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/clock.h"
#include "base/file.h"
#include "governance/audit/merkle.h"
#include "governance/watermark/detector.h"

namespace qw::governance {
namespace {

constexpr std::uint64_t kMostFileBytes = 16 << 20;
constexpr const char* kList = "watermark_keys";

std::string decimal(std::int64_t n) { return std::to_string(n); }

json::Value to_json(const MarkKey& key) {
  json::Object out{{"id", key.id},
                   {"tenant", key.tenant},
                   {"scheme", name_of(key.scheme)},
                   {"hash", name_of(key.hash)},
                   {"context", key.context}};
  if (key.scheme == MarkScheme::kSynthId) {
    out.set("layers", key.layers);
    out.set("leaves", key.leaves);
  }
  out.set("secret", to_hex(key.secret));
  if (key.hash == MarkHash::kReference) {
    json::Array numbers;
    for (const auto n : key.numbers) numbers.emplace_back(decimal(n));
    out.set("numbers", std::move(numbers));
  }
  out.set("created", key.created);
  out.set("retired", key.retired);
  if (key.scheme == MarkScheme::kSynthId)
    out.set("null", json::Object{{"mean", key.null_mean}, {"variance", key.null_variance}});
  return out;
}

// Reads members of one key; the first thing that is wrong stays.
class Reader {
 public:
  explicit Reader(const json::Value& from) : from_(from) {
    if (!from.is_object()) wrong("is no object");
  }
  std::string text(const char* name) {
    const json::Value* v = from_.find(name);
    if (v != nullptr && v->is_string()) return v->as_string();
    wrong(std::string("needs \"") + name + "\", a text");
    return "";
  }
  std::int64_t integer(const char* name, std::int64_t low, std::int64_t high) {
    const json::Value* v = from_.find(name);
    if (v != nullptr && v->is_int() && v->as_int() >= low && v->as_int() <= high) return v->as_int();
    wrong(std::string("needs \"") + name + "\", an integer from " + decimal(low) + " to " + decimal(high));
    return low;
  }
  double number(const json::Value* in, const char* name, double low, double high) {
    const json::Value* v = in == nullptr ? nullptr : in->find(name);
    const double x = v == nullptr     ? NAN
                     : v->is_int()    ? static_cast<double>(v->as_int())
                     : v->is_double() ? v->as_double()
                                      : NAN;
    if (x >= low && x <= high) return x;
    wrong(std::string("needs \"null\" with \"") + name + "\"");
    return low;
  }
  std::vector<std::int64_t> numbers(std::size_t count) {
    const json::Value* list = from_.find("numbers");
    std::vector<std::int64_t> out;
    if (list != nullptr && list->is_array() && list->as_array().size() == count)
      for (const json::Value& v : list->as_array()) {
        if (!v.is_string()) break;
        const std::string& s = v.as_string();
        std::int64_t n = 0;
        const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), n);
        if (error != std::errc() || end != s.data() + s.size()) break;
        out.push_back(n);
      }
    if (out.size() != count) wrong("needs \"numbers\", " + std::to_string(count) + " integers as texts");
    return out;
  }
  const json::Value& from() const { return from_; }
  void wrong(const std::string& what) {
    if (error_.empty()) error_ = what;
  }
  const std::string& error() const { return error_; }

 private:
  const json::Value& from_;
  std::string error_;
};

MarkKey read_key(Reader& in) {
  MarkKey key;
  key.id = in.text("id");
  if (key.id.empty() || key.id.size() > 64) in.wrong("needs an \"id\" of 1 to 64 bytes");
  key.tenant = in.text("tenant");
  const std::string scheme = in.text("scheme"), hash = in.text("hash");
  if (scheme == "gumbel")
    key.scheme = MarkScheme::kGumbel;
  else if (scheme != "synthid")
    in.wrong("has a \"scheme\" that is none of synthid, gumbel");
  if (hash == "reference")
    key.hash = MarkHash::kReference;
  else if (hash != "siphash")
    in.wrong("has a \"hash\" that is none of siphash, reference");
  key.context = static_cast<std::int32_t>(in.integer("context", 1, kMostContext));
  const bool synthid = key.scheme == MarkScheme::kSynthId;
  if (synthid) {
    key.layers = static_cast<std::int32_t>(in.integer("layers", 1, kMostLayers));
    key.leaves = static_cast<std::int32_t>(in.integer("leaves", 2, kMostLeaves));
    const json::Value* null = in.from().find("null");
    key.null_mean = in.number(null, "mean", 0.3, 0.7);
    // Of one token's score: a fair coin in each layer has 0.25 / layers; a key whose bits are all the same has 0.25.
    key.null_variance = in.number(null, "variance", 0.125 / kMostLayers, 1.0);
  }
  const auto secret = hash_from_hex(in.text("secret"));
  if (secret)
    key.secret = *secret;
  else
    in.wrong("needs \"secret\", 64 lower-case hex digits");
  if (key.hash == MarkHash::kReference) key.numbers = in.numbers(synthid ? static_cast<std::size_t>(key.layers) : 1);
  constexpr std::int64_t kLatest = std::int64_t{1} << 40;
  key.created = in.integer("created", 0, kLatest);
  key.retired = in.integer("retired", 0, kLatest);
  return key;
}

}  // namespace

const char* name_of(MarkScheme scheme) { return scheme == MarkScheme::kSynthId ? "synthid" : "gumbel"; }
const char* name_of(MarkHash hash) { return hash == MarkHash::kSipHash ? "siphash" : "reference"; }

MarkKey make_mark_key(MarkScheme scheme, MarkHash hash, std::int32_t leaves, std::string tenant) {
  MarkKey key;
  key.scheme = scheme;
  key.hash = hash;
  key.leaves = leaves;
  key.tenant = std::move(tenant);
  std::array<std::uint8_t, 6> name{};
  QW_CHECK(RAND_bytes(key.secret.data(), static_cast<int>(key.secret.size())) == 1);
  QW_CHECK(RAND_bytes(name.data(), static_cast<int>(name.size())) == 1);
  key.id = "wm-" + to_hex(name);
  key.created = base::unix_seconds();
  if (hash == MarkHash::kReference) {
    const std::int32_t count = scheme == MarkScheme::kSynthId ? key.layers : 1;
    for (std::int32_t i = 0; i < count; ++i) {
      const Hash h = sha256(std::string(key.secret.begin(), key.secret.end()) + static_cast<char>(i));
      std::uint64_t n = 0;
      for (std::size_t b = 0; b < 8; ++b) n = n << 8 | h[b];
      key.numbers.push_back(static_cast<std::int64_t>(n));
    }
  }
  calibrate(key);
  return key;
}

Result<MarkKeys> MarkKeys::parse(std::string_view text) {
  auto file = json::parse(text);
  if (!file) return tl::unexpected(std::move(file).error());
  const json::Value* list = file->is_object() ? file->find(kList) : nullptr;
  if (list == nullptr || !list->is_array())
    return fail(ErrorKind::kBadInput, std::string("needs \"") + kList + "\", a list of keys");
  MarkKeys out;
  for (const json::Value& one : list->as_array()) {
    Reader in(one);
    MarkKey key = read_key(in);
    if (!in.error().empty())
      return fail(ErrorKind::kBadInput, "key " + std::to_string(out.keys_.size() + 1) + " " + in.error());
    if (auto added = out.add(std::move(key)); !added) return tl::unexpected(std::move(added).error());
  }
  return out;
}

Result<MarkKeys> MarkKeys::read(const std::filesystem::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && (info.st_mode & 077) != 0)
    return fail(ErrorKind::kRefused, path.string() + ": others than its owner may read these secret keys (chmod 600)");
  QW_ASSIGN(const std::string text, base::read_file(path, kMostFileBytes));
  auto keys = parse(text);
  if (!keys) return in_context(path.string(), std::move(keys).error());
  return keys;
}

std::string MarkKeys::dump() const {
  json::Array list;
  for (const MarkKey& key : keys_) list.push_back(to_json(key));
  return json::dump(json::Object{{kList, std::move(list)}}) + "\n";
}

Status MarkKeys::write(const std::filesystem::path& path) const {
  return base::write_file_atomically(path, dump(), base::Readers::kOwner);
}

const MarkKey* MarkKeys::of(std::string_view tenant) const {
  const auto newest = [&](std::string_view of) -> const MarkKey* {
    const auto at =
        std::find_if(keys_.rbegin(), keys_.rend(), [&](const MarkKey& k) { return k.retired == 0 && k.tenant == of; });
    return at == keys_.rend() ? nullptr : &*at;
  };
  const MarkKey* own = tenant.empty() ? nullptr : newest(tenant);
  return own != nullptr ? own : newest("");
}

Status MarkKeys::add(MarkKey key) {
  if (keys_.size() == kMostMarkKeys) return fail(ErrorKind::kResource, "there are at most 4096 watermark keys");
  for (const MarkKey& other : keys_)
    if (other.id == key.id) return fail(ErrorKind::kBadInput, "the key " + key.id + " is there twice");
  keys_.push_back(std::move(key));
  return {};
}

Status MarkKeys::retire(std::string_view id, std::int64_t now) {
  for (MarkKey& key : keys_) {
    if (key.id != id) continue;
    if (key.retired == 0) key.retired = now;
    return {};
  }
  return fail(ErrorKind::kUsage, "there is no watermark key " + std::string(id));
}

}  // namespace qw::governance
