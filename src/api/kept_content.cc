#include "api/kept_content.h"

#include <utility>

#include "api/field_reader.h"
#include "governance/audit/content_keys.h"
#include "governance/audit/log_files.h"

namespace qw::api {

tl::unexpected<Obstacle> obstacle(std::string reason, std::string message) {
  return tl::unexpected(Obstacle{std::move(reason), std::move(message)});
}

Found<json::Value> open_content(const json::Value& record, store::Store* store, const governance::ContentKeys* keys) {
  const json::Value* kept = record.find("content");
  if (kept == nullptr)
    return obstacle("content_hashed", "The policy kept hashes of what was asked and answered, and not the words.");
  if (*kept == json::Value("dropped"))
    return obstacle("content_dropped", "The policy kept nothing of what was asked and answered.");
  const std::string id = text_member(*kept, "id");
  if (store == nullptr) return obstacle("no_store", "Contents are in a store, and there is none here (--store).");
  if (keys == nullptr)
    return obstacle("no_content_key", "Contents are encrypted, and their keys are not here (--content-keys).");
  const auto found = store->contents().find(id);
  if (!found && found.error().kind != ErrorKind::kBadInput) return obstacle("store_unavailable", found.error().message);
  if (!found) return obstacle("content_missing", "The store has no content " + id + ".");
  if (found->erased_us > 0) {
    const bool expired = found->expires_us > 0 && found->expires_us <= found->erased_us;
    return obstacle(expired ? "content_expired" : "content_erased", "The content was erased at " +
                                                                        governance::timestamp(found->erased_us) +
                                                                        (expired ? ", when its time was over." : "."));
  }
  if (governance::to_hex(governance::sha256(found->body)) != text_member(*kept, "sha256"))
    return obstacle("content_changed", "The content in the store is not the one that the log has the hash of.");
  const auto opened = keys->open(id, {found->key_id, found->wrapped, found->body});
  if (!opened)
    return obstacle(opened.error().kind == ErrorKind::kRefused ? "no_content_key" : "content_changed",
                    "The content cannot be decrypted: " + opened.error().message + ".");
  auto value = json::parse(*opened);
  if (!value) return obstacle("content_unknown", value.error().message);
  return std::move(*value);
}

}  // namespace qw::api
