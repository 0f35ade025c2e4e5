#include "json/value.h"

#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace qw::json {
namespace {

// SipHash-2-4 (Aumasson and Bernstein, 2012) with a key drawn once per process: whoever writes the document cannot
// choose keys that fall into one bucket. Nothing that leaves the process depends on the hash.
struct SipKey {
  std::uint64_t k0 = 0x0706050403020100u, k1 = 0x0f0e0d0c0b0a0908u;  // used only where the system has no randomness
};

SipKey draw_key() {
  SipKey key;
  std::uint64_t words[2];
  if (::getrandom(words, sizeof(words), GRND_NONBLOCK) == static_cast<ssize_t>(sizeof(words)))
    key = {words[0], words[1]};
  return key;
}

struct SipState {
  std::uint64_t v0, v1, v2, v3;
  void round() {
    v0 += v1, v1 = std::rotl(v1, 13) ^ v0, v0 = std::rotl(v0, 32);
    v2 += v3, v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3, v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1, v1 = std::rotl(v1, 17) ^ v2, v2 = std::rotl(v2, 32);
  }
  void absorb(std::uint64_t word) {
    v3 ^= word;
    round(), round();
    v0 ^= word;
  }
};

std::uint64_t hash_key(std::string_view text) {
  static const SipKey key = draw_key();
  SipState s{key.k0 ^ 0x736f6d6570736575u, key.k1 ^ 0x646f72616e646f6du, key.k0 ^ 0x6c7967656e657261u,
             key.k1 ^ 0x7465646279746573u};
  std::size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    std::uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    s.absorb(word);
  }
  std::uint64_t last = static_cast<std::uint64_t>(text.size()) << 56;
  for (int shift = 0; i < text.size(); ++i, shift += 8) {
    last |= std::uint64_t{static_cast<unsigned char>(text[i])} << shift;
  }
  s.absorb(last);
  s.v2 ^= 0xff;
  for (int i2 = 0; i2 < 4; ++i2) s.round();
  return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

constexpr std::size_t kNotFound = std::numeric_limits<std::size_t>::max();
// Up to this many keys a linear scan beats hashing (measured in the header's contract: "linear up to 16 keys").
constexpr std::size_t kLinearKeys = 16;
// Room that the first member makes: growing from one by doubling would allocate three times on the way there.
constexpr std::size_t kUsualMembers = 4;

}  // namespace

struct Object::Impl {
  std::vector<Member> members;
  // Open addressing, linear probing, at most half full; 0 is free, otherwise member index + 1. Empty while members are
  // few. Built at 17 keys and kept up by append.
  std::vector<std::uint32_t> slots;

  std::size_t position(std::string_view key) const {
    if (slots.empty()) {
      for (std::size_t i = 0; i < members.size(); ++i) {
        if (members[i].first == key) return i;
      }
      return kNotFound;
    }
    const std::size_t mask = slots.size() - 1;
    for (std::size_t s = hash_key(key) & mask; slots[s] != 0; s = (s + 1) & mask) {
      if (members[slots[s] - 1].first == key) return slots[s] - 1;
    }
    return kNotFound;
  }

  void insert_slot(std::size_t index) {
    const std::size_t mask = slots.size() - 1;
    std::size_t s = hash_key(members[index].first) & mask;
    while (slots[s] != 0) s = (s + 1) & mask;
    slots[s] = static_cast<std::uint32_t>(index + 1);
  }

  void rebuild() {
    slots.clear();
    if (members.size() <= kLinearKeys) return;
    slots.assign(std::bit_ceil(members.size() * 4), 0);
    for (std::size_t i = 0; i < members.size(); ++i) insert_slot(i);
  }

  void append(std::string&& key, Value&& value) {
    QW_CHECK(members.size() < std::numeric_limits<std::uint32_t>::max());
    if (members.capacity() == 0) members.reserve(kUsualMembers);
    members.emplace_back(std::move(key), std::move(value));
    if (members.size() <= kLinearKeys) return;
    if (members.size() * 2 > slots.size()) {
      rebuild();
    } else {
      insert_slot(members.size() - 1);
    }
  }
};

Object::Object() : impl_(nullptr) {}
Object::Object(std::initializer_list<Member> members) : impl_(nullptr) {
  if (members.size() == 0) return;
  impl_ = new Impl;
  impl_->members.reserve(members.size());
  for (const Member& m : members) set(m.first, m.second);
}
Object::Object(const Object& other) : impl_(other.impl_ ? new Impl(*other.impl_) : nullptr) {}
Object::Object(Object&& other) noexcept : impl_(std::exchange(other.impl_, nullptr)) {}
Object& Object::operator=(const Object& other) {
  Object copy(other);
  std::swap(impl_, copy.impl_);
  return *this;
}
Object& Object::operator=(Object&& other) noexcept {
  std::swap(impl_, other.impl_);
  return *this;
}
Object::~Object() { delete impl_; }

const Value* Object::find(std::string_view key) const {
  const std::size_t i = impl_ ? impl_->position(key) : kNotFound;
  return i == kNotFound ? nullptr : &impl_->members[i].second;
}
const Value* Object::find_set(std::string_view key) const {
  const Value* value = find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

Value* Object::find(std::string_view key) { return const_cast<Value*>(std::as_const(*this).find(key)); }

Value& Object::set(std::string key, Value value) {
  if (!impl_) impl_ = new Impl;
  const std::size_t i = impl_->position(key);
  if (i != kNotFound) return impl_->members[i].second = std::move(value);
  impl_->append(std::move(key), std::move(value));
  return impl_->members.back().second;
}

bool Object::erase(std::string_view key) {
  const std::size_t i = impl_ ? impl_->position(key) : kNotFound;
  if (i == kNotFound) return false;
  impl_->members.erase(impl_->members.begin() + static_cast<std::ptrdiff_t>(i));
  impl_->rebuild();
  return true;
}

std::size_t Object::size() const { return impl_ ? impl_->members.size() : 0; }
const Member* Object::begin() const { return impl_ ? impl_->members.data() : nullptr; }
const Member* Object::end() const { return impl_ ? impl_->members.data() + impl_->members.size() : nullptr; }
Member* Object::begin() { return impl_ ? impl_->members.data() : nullptr; }
Member* Object::end() { return impl_ ? impl_->members.data() + impl_->members.size() : nullptr; }

Value::Value(std::uint64_t u) {
  if (u <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    data_ = static_cast<std::int64_t>(u);
  } else {
    data_ = static_cast<double>(u);
  }
}

const char* Value::type_name() const {
  static constexpr const char* kNames[] = {"null", "boolean", "integer", "number", "string", "array", "object"};
  return kNames[data_.index()];
}

namespace {

bool equal_number(std::int64_t i, double d) {
  // 2^63 is exact in double; inside the range a double without fraction converts to int64 without loss.
  return d >= -0x1.0p63 && d < 0x1.0p63 && d == std::trunc(d) && static_cast<std::int64_t>(d) == i;
}

bool equal_objects(const Object& a, const Object& b) {
  return a.size() == b.size() && std::all_of(a.begin(), a.end(), [&](const Member& m) {
           const Value* other = b.find(m.first);
           return other != nullptr && *other == m.second;
         });
}

}  // namespace

bool operator==(const Value& a, const Value& b) {
  if (a.is_int() && b.is_double()) return equal_number(a.as_int(), b.as_double());
  if (a.is_double() && b.is_int()) return equal_number(b.as_int(), a.as_double());
  if (a.is_object() && b.is_object()) return equal_objects(a.as_object(), b.as_object());
  if (a.data_.index() != b.data_.index()) return false;
  if (a.is_bool()) return a.as_bool() == b.as_bool();
  if (a.is_int()) return a.as_int() == b.as_int();
  if (a.is_double()) return a.as_double() == b.as_double();
  if (a.is_string()) return a.as_string() == b.as_string();
  if (a.is_array()) return a.as_array() == b.as_array();
  return true;  // both null
}

}  // namespace qw::json
