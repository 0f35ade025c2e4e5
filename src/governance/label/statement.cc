#include "governance/label/statement.h"

#include <algorithm>

#include "base/clock.h"
#include "governance/audit/log_files.h"
#include "governance/internal/signature_text.h"
#include "governance/label/internal/carrier.h"

namespace qw::governance {
namespace {

constexpr const char* kStatementSignedAs = "qianwen provenance statement\n";
constexpr std::size_t kMostStatement = 4096;  // bytes
constexpr std::size_t kMostModel = 200;

// The file as every label of it leaves it.
Result<Hash> content_hash(LabelFormat format, std::string_view file) {
  AigcLabel nothing;
  nothing.producer = nothing.produce_id = "-";
  QW_ASSIGN(const std::string bare, internal::relabelled(format, file, nothing));
  return sha256(bare);
}

std::string signed_text(const ProvenanceStatement& statement, const AigcLabel& label, bool producers) {
  json::Object said{{"Content", to_hex(statement.content)},
                    {"Model", statement.model},
                    {"Time", statement.time},
                    {"Label", label.label},
                    {"ContentProducer", label.producer},
                    {"ProduceID", label.produce_id}};
  if (!producers) {
    said.set("ReservedCode1", label.reserved1);
    said.set("ContentPropagator", label.propagator);
    said.set("PropagateID", label.propagate_id);
  }
  return kStatementSignedAs + canonical(said);
}

bool shows_in_labels(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x21 && c <= 0x7E; });
}

}  // namespace

std::string ProvenanceStatement::text() const {
  return json::dump(json::Object{{"Provenance", json::Object{{"Version", 1},
                                                             {"Content", to_hex(content)},
                                                             {"Model", model},
                                                             {"Time", time},
                                                             {"Key", to_hex(key.bytes)},
                                                             {"Signature", to_hex(signature)}}}},
                    json::WriteStyle::compact());
}

Result<std::optional<ProvenanceStatement>> ProvenanceStatement::read(std::string_view reserved) {
  const auto document = json::parse(reserved, {.max_bytes = kMostStatement, .max_depth = 4});
  const json::Value* said = document && document->is_object() ? document->find("Provenance") : nullptr;
  if (said == nullptr) return std::nullopt;
  const auto wrong = [](const char* what) {
    return fail(ErrorKind::kBadInput, std::string("the statement of provenance: ") + what);
  };
  if (!said->is_object() || document->as_object().size() != 1) return wrong("it is no object by itself");
  const json::Value* version = said->find("Version");
  if (version == nullptr || !version->is_int() || version->as_int() != 1) return wrong("its version is not 1");
  const auto text = [&](const char* name) {
    const json::Value* value = said->find(name);
    return value != nullptr && value->is_string() ? value->as_string() : std::string("\n");
  };
  ProvenanceStatement out;
  out.model = text("Model");
  out.time = text("Time");
  const auto content = hash_from_hex(text("Content")), key = hash_from_hex(text("Key"));
  const auto signature = signature_from_hex(text("Signature"));
  if (!content || !key || !signature) return wrong("Content, Key and Signature are texts in hexadecimal");
  if (!shows_in_labels(out.model) || !shows_in_labels(out.time)) return wrong("Model and Time are texts");
  out.content = *content;
  out.key.bytes = *key;
  out.signature = *signature;
  if (out.text() != reserved) return wrong("it is not written as this program writes it");
  return out;
}

Result<std::string> with_signed_label(LabelFormat format, std::string_view file, const AigcLabel& label,
                                      const std::string& model, const SigningKey& key) {
  if (!shows_in_labels(model) || model.size() > kMostModel)
    return fail(ErrorKind::kUsage, "the model's name has more than " + std::to_string(kMostModel) +
                                       " characters, or some outside 0x21 to 0x7E");
  QW_ASSIGN(const std::string labelled, with_label(format, file, label));
  AigcLabel fresh = read_labels(format, labelled).labels[0];
  const bool producers = fresh.propagator.empty();
  ProvenanceStatement statement;
  QW_ASSIGN(statement.content, content_hash(format, labelled));
  statement.model = model;
  statement.time = timestamp(base::unix_us()).substr(0, 19) + "Z";
  statement.key = key.public_key();
  statement.signature = key.sign(signed_text(statement, fresh, producers));
  (producers ? fresh.reserved1 : fresh.reserved2) = statement.text();
  QW_ASSIGN(std::string out, internal::relabelled(format, labelled, fresh));
  // Nothing is said to be signed that was not read back and verified.
  QW_ASSIGN(const auto checks, check_statements(format, out, {&statement.key, 1}));
  const auto verified = [&](const StatementCheck& one) { return one.producers == producers && one.fault.empty(); };
  if (std::none_of(checks.begin(), checks.end(), verified))
    return fail(ErrorKind::kFailed, "the statement could not be verified after it was written");
  return out;
}

Result<std::vector<StatementCheck>> check_statements(LabelFormat format, std::string_view file,
                                                     std::span<const PublicKey> keys) {
  const LabelReport report = read_labels(format, file);
  if (report.verdict != LabelVerdict::kCompliant)
    return fail(ErrorKind::kBadInput,
                report.finding.empty() ? "the file has no label" : "its label is not in order: " + report.finding);
  const AigcLabel& label = report.labels[0];
  QW_ASSIGN(const Hash content, content_hash(format, file));
  std::vector<StatementCheck> out;
  for (const bool producers : {true, false}) {
    const std::string& reserved = producers ? label.reserved1 : label.reserved2;
    QW_ASSIGN(const auto statement, ProvenanceStatement::read(reserved));
    if (!statement) continue;
    StatementCheck& check = out.emplace_back(StatementCheck{producers, *statement, ""});
    const auto same = [&](const PublicKey& key) { return key.bytes == statement->key.bytes; };
    if (!statement->key.verifies(signed_text(*statement, label, producers), statement->signature))
      check.fault = "its signature is not of what it and the label say";
    else if (statement->content != content)
      check.fault = "the content was changed since";
    else if (std::none_of(keys.begin(), keys.end(), same))
      check.fault = "its key " + statement->key.id() + " is none of those given";
  }
  return out;
}

}  // namespace qw::governance
