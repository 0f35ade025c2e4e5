#include "governance/audit/verify.h"

#include <cstring>

#include "base/file.h"

namespace qw::governance {
namespace {

namespace fs = std::filesystem;

class Check {
 public:
  Check(const fs::path& folder, const PublicKey& key, const std::optional<Head>& anchor)
      : folder_(folder), key_(key), anchor_(anchor) {}

  Result<AuditReport> run() {
    QW_TRY(read_heads());
    if (anchor_ && !key_.verifies(anchor_->signed_text(), anchor_->signature))
      found("the head that was put by: its signature is not the key's");
    QW_ASSIGN(const base::MappedFile leaves, base::MappedFile::open(folder_ / kLeavesFile));
    leaves_ = leaves.bytes();
    QW_TRY(read_records());
    finish();
    return std::move(report_);
  }

 private:
  void found(const std::string& what) {
    if (report_.findings.size() < kMaxFindings) report_.findings.push_back(what);
  }

  Status read_heads() {
    QW_ASSIGN(LineReader reader, LineReader::open(folder_ / kHeadsFile));
    std::string line;
    bool whole = false;
    Hash before{};
    while (true) {
      QW_ASSIGN(const bool more, reader.next(line, whole));
      if (!more) break;
      const std::string where = std::string(kHeadsFile) + " line " + std::to_string(++report_.heads) + ": ";
      if (!whole) found(where + "has no end");
      const auto head = Head::parse(line);
      if (!head) {
        found(where + head.error().message);
        continue;
      }
      if (head->key != key_.id())
        found(where + "is signed by the key " + head->key + ", not by " + key_.id());
      else if (!key_.verifies(head->signed_text(), head->signature))
        found(where + "its signature is not the key's");
      if (head->previous != before) found(where + "does not follow the head before it");
      if (head->size <= (heads_.empty() ? 0 : heads_.back().size))
        found(where + "signs no more than the head before it");
      before = sha256(line);
      heads_.push_back(*head);
    }
    return {};
  }

  Status read_records() {
    QW_ASSIGN(LineReader reader, LineReader::open(folder_ / kRecordsFile));
    std::string line;
    bool whole = false;
    while (true) {
      QW_ASSIGN(const bool more, reader.next(line, whole));
      if (!more) break;
      const std::string where = std::string(kRecordsFile) + " line " + std::to_string(tree_.size() + 1) + ": ";
      if (!whole) found(where + "has no end");
      record(line, where);
      reached();
    }
    return {};
  }

  void record(const std::string& line, const std::string& where) {
    const auto value = json::parse(line);
    const json::Value* seq = value ? value->find("seq") : nullptr;
    if (!value || !value->is_object() || seq == nullptr || !seq->is_int())
      found(where + "is no record");
    else if (static_cast<std::uint64_t>(seq->as_int()) != tree_.size())
      found(where + "has the number " + std::to_string(seq->as_int()));
    const Hash leaf = leaf_hash(line);
    const std::uint64_t at = tree_.size() * sizeof(Hash);
    if (at + sizeof(Hash) > leaves_.size() || std::memcmp(leaves_.data() + at, leaf.data(), sizeof(Hash)) != 0)
      found(where + "is not the record whose leaf was kept");
    tree_.add(leaf);
  }

  // Heads that sign as many records as were read.
  void reached() {
    for (; next_ < heads_.size() && heads_[next_].size <= tree_.size(); ++next_)
      if (heads_[next_].size == tree_.size() && heads_[next_].root != tree_.root())
        found("records up to " + std::to_string(tree_.size()) + ": are not those that line " +
              std::to_string(next_ + 1) + " of " + kHeadsFile + " signs");
    if (anchor_ && anchor_->size == tree_.size() && anchor_->root != tree_.root())
      found("records up to " + std::to_string(tree_.size()) + ": are not those that the head put by signs");
  }

  void finish() {
    report_.records = tree_.size();
    report_.root = tree_.root();
    if (!heads_.empty()) {
      report_.first_ts = heads_.front().ts;
      report_.last_ts = heads_.back().ts;
    }
    const std::uint64_t signed_size = heads_.empty() ? 0 : heads_.back().size;
    const std::string have = "; there are " + std::to_string(tree_.size());
    if (signed_size > tree_.size()) found("the last head signs " + std::to_string(signed_size) + " records" + have);
    if (signed_size < tree_.size())
      found("the last head signs " + std::to_string(signed_size) + " records" + have +
            " (a service that was killed signs them at its next start)");
    if (leaves_.size() != tree_.size() * sizeof(Hash))
      found(std::string(kLeavesFile) + ": " + std::to_string(leaves_.size()) + " bytes for " +
            std::to_string(tree_.size()) + " records");
    if (anchor_ && anchor_->size > tree_.size())
      found("the head that was put by signs " + std::to_string(anchor_->size) + " records" + have);
  }

  fs::path folder_;
  const PublicKey& key_;
  const std::optional<Head>& anchor_;
  AuditReport report_;
  std::vector<Head> heads_;
  std::span<const std::byte> leaves_;
  Frontier tree_;
  std::size_t next_ = 0;
};

Result<std::string> text_of(const json::Value& proof, const char* name) {
  const json::Value* v = proof.find(name);
  if (v == nullptr || !v->is_string())
    return fail(ErrorKind::kBadInput, std::string("proof: \"") + name + "\" must be a string");
  return v->as_string();
}

}  // namespace

Result<AuditReport> verify_log(const fs::path& folder, const PublicKey& key, const std::optional<Head>& anchor) {
  return Check(folder, key, anchor).run();
}

Result<json::Object> prove_record(const fs::path& folder, std::uint64_t seq) {
  QW_ASSIGN(LineReader heads, LineReader::open(folder / kHeadsFile));
  std::string line, head_line;
  bool whole = false;
  while (true) {
    QW_ASSIGN(const bool more, heads.next(line, whole));
    if (!more || !whole) break;
    head_line = line;
  }
  const auto head = Head::parse(head_line);
  if (!head || seq >= head->size) return fail(ErrorKind::kUsage, "no head signs a record " + std::to_string(seq));
  QW_ASSIGN(LineReader records, LineReader::open(folder / kRecordsFile));
  std::vector<Hash> leaves;
  std::string record;
  while (leaves.size() < head->size) {
    QW_ASSIGN(const bool more, records.next(line, whole));
    if (!more || !whole)
      return fail(ErrorKind::kBadInput, (folder / kRecordsFile).string() + ": holds " + std::to_string(leaves.size()) +
                                            " records of " + std::to_string(head->size));
    if (leaves.size() == seq) record = line;
    leaves.push_back(leaf_hash(line));
  }
  json::Array path;
  for (const Hash& node : inclusion_proof(leaves, seq)) path.emplace_back(to_hex(node));
  return json::Object{{"record", record}, {"path", std::move(path)}, {"head", head_line}};
}

Result<json::Value> check_proof(const json::Value& proof, const PublicKey& key) {
  QW_ASSIGN(const std::string record, text_of(proof, "record"));
  QW_ASSIGN(const std::string head_line, text_of(proof, "head"));
  const auto head = Head::parse(head_line);
  if (!head) return fail(ErrorKind::kBadInput, "proof: \"head\" " + head.error().message);
  if (!key.verifies(head->signed_text(), head->signature))
    return fail(ErrorKind::kBadInput, "proof: the head's signature is not the key's");
  const json::Value* nodes = proof.find("path");
  std::vector<Hash> path;
  if (nodes == nullptr || !nodes->is_array() || nodes->as_array().size() > 64)
    return fail(ErrorKind::kBadInput, "proof: \"path\" must be a list of hashes");
  for (const json::Value& node : nodes->as_array()) {
    const auto hash = node.is_string() ? hash_from_hex(node.as_string()) : std::nullopt;
    if (!hash) return fail(ErrorKind::kBadInput, "proof: \"path\" must be a list of hashes");
    path.push_back(*hash);
  }
  auto value = json::parse(record);
  const json::Value* seq = value ? value->find("seq") : nullptr;
  if (seq == nullptr || !seq->is_int() || seq->as_int() < 0)
    return fail(ErrorKind::kBadInput, "proof: \"record\" is no record");
  if (!verify_inclusion(leaf_hash(record), static_cast<std::uint64_t>(seq->as_int()), head->size, path, head->root))
    return fail(ErrorKind::kBadInput, "proof: the record is not under the head");
  return std::move(*value);
}

}  // namespace qw::governance
