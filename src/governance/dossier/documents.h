// The documents of a dossier, from what a running system has left on record. Nothing here states that a law is kept.
//
// Sources of what each asks for: AI Act, Annex XI (model card, technical documentation); the Commission's template of
// the summary of training content; the Chinese interim measures, deep-synthesis and labelling rules as filing practice
// has them. Their words were read in secondary sources; who hands a document in checks it against the text.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "governance/dossier/document.h"
#include "governance/incident/incident_register.h"
#include "governance/ledger/compute_ledger.h"
#include "governance/ledger/dataset_ledger.h"
#include "governance/policy/profile.h"

namespace qw::governance {

// What the operator states in a file of its own: texts by name. Which there are, in order.
struct OperatorField {
  const char *key, *title, *title_zh;
};
const std::vector<OperatorField>& operator_fields();
// kBadInput: not an object of texts, or a name that is none of these.
Result<json::Object> parse_operator_facts(std::string_view file);

// Places in the evidence of one model.
struct ModelEvidence {
  std::string name;
  std::optional<std::size_t> facts, compute, data;  // what the program reads in its files; the ledgers beside it
};

struct DossierInput {
  EvidenceSet evidence;
  std::vector<ModelEvidence> models;
  std::optional<std::size_t> operator_facts, profile, audit, complaints;  // audit: a summary of the log, with its head
  std::vector<std::size_t> assessments;
  const Profile* policy = nullptr;
  std::optional<std::size_t> incident_log;  // the evidence that `incidents` rest on
  std::vector<Incident> incidents;
  std::int64_t now = 0;  // Unix seconds
};

std::vector<Document> make_documents(const DossierInput& input);

// One each.
Document model_card(const DossierInput& input);
Document technical_documentation(const DossierInput& input);
Document training_summary(const DossierInput& input);
Document filing_outline(const DossierInput& input);  // in Chinese
Document transparency_page(const DossierInput& input);
Document incident_document(const DossierInput& input);
Document evidence_index(const DossierInput& input);

}  // namespace qw::governance
