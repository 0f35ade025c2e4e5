// Signed statements about labelled content (EU code of practice on marking, measure 1.1.1: metadata that is signed and
// says when): who holds a key says that this content, made by that model, left him at that time under that label. They
// travel in the label, wherever a kind of file has it (label_file.h): the producer's in ReservedCode1, in ReservedCode2
// that of who passes the file on. Whoever has the public key verifies one without asking anybody.
//
//   {"Provenance":{"Version":1,"Content":"<SHA-256>","Model":"...","Time":"...","Key":"<public>","Signature":"..."}}
//
// Content is the hash of the file with a label that says nothing in place of its own. Signed (Ed25519) is "qianwen
// provenance statement\n" and canonical JSON of Content, Model, Time and the label's fields: Label, ContentProducer and
// ProduceID; by who passes it on also ReservedCode1, ContentPropagator and PropagateID.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "governance/audit/signing_key.h"
#include "governance/label/label_file.h"

namespace qw::governance {

struct ProvenanceStatement {
  Hash content{};
  std::string model, time;  // model: "" if it is not said; time: UTC, 2026-01-31T23:59:59Z
  PublicKey key;
  Signature signature{};

  std::string text() const;  // as a label holds it
  // Nothing: it is no statement but other security data. kBadInput: it is one, and broken.
  static Result<std::optional<ProvenanceStatement>> read(std::string_view reserved);
};

// As with_label(), and with a statement. kUsage too: the model's name has characters that no label has.
Result<std::string> with_signed_label(LabelFormat format, std::string_view file, const AigcLabel& label,
                                      const std::string& model, const SigningKey& key);

struct StatementCheck {
  bool producers = true;  // false: of who passed it on
  ProvenanceStatement statement;
  std::string fault;  // what is wrong with it; "": it was signed by one of the keys, of this content and label
};
// Of each statement of a file; none: it has none. kBadInput: its label is not in order.
Result<std::vector<StatementCheck>> check_statements(LabelFormat format, std::string_view file,
                                                     std::span<const PublicKey> keys);

}  // namespace qw::governance
