// Hashes of passwords, to be kept where the passwords may not be. Slow and hungry for memory on purpose (about 0.1 s
// and 64 MB each), so that whoever steals them cannot try many.
//
// Argon2id where the program was built with libsodium, else scrypt; a hash says which it is and with what parameters.
// Threads: any.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace qw::base {

// kResource: no memory for it.
Result<std::string> hash_password(std::string_view password);

// Whether `hash` is of `password`. With hash "" (there is no such user, or he has none) it takes as long as with any
// other, and is false. kUsage: the hash is Argon2id and this build has no libsodium; kBadInput: it is no hash.
Result<bool> password_matches(std::string_view password, const std::string& hash);

// Whether both are the same, in a time that depends on their lengths alone.
bool same_secret(std::string_view a, std::string_view b);

// scrypt alone, which every build has.
namespace scrypt {
Result<std::string> hash(std::string_view password);
Result<bool> matches(std::string_view password, const std::string& hash);
}  // namespace scrypt

}  // namespace qw::base
