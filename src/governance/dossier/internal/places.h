// What the documents share: where a fact stands in the evidence, or that it stands nowhere.
#pragma once

#include <string>
#include <utility>

#include "governance/dossier/documents.h"

namespace qw::governance {

class Places {
 public:
  explicit Places(const DossierInput& input) : in_(input) {}
  Cell stated(const char* key) const { return at(in_.operator_facts, key); }
  Cell profile(std::string_view place) const { return at(in_.profile, place); }
  Cell audit(std::string_view place) const { return at(in_.audit, place); }
  Cell complaints(std::string_view place) const { return at(in_.complaints, place); }
  Cell model(const ModelEvidence& m, std::string_view place) const { return at(m.facts, place); }
  // Of the record of compute; what was only written anew (quantised, say) has the training of what it is made of.
  Cell compute(const ModelEvidence& m, std::string_view place) const {
    Cell own = at(m.compute, place);
    return own.recorded ? std::move(own) : at(m.compute, "parent.record." + std::string(place), is_derived(m));
  }
  Cell data(const ModelEvidence& m, std::string_view place) const { return at(m.data, place); }
  Cell compute_rounded(const ModelEvidence& m, std::string_view place, const char* unit) const {
    if (!m.compute) return not_recorded();
    Cell own = in_.evidence.rounded(*m.compute, place, unit);
    if (own.recorded || !is_derived(m)) return own;
    return in_.evidence.rounded(*m.compute, "parent.record." + std::string(place), unit);
  }

 private:
  Cell at(std::optional<std::size_t> evidence, std::string_view place, bool wanted = true) const {
    return evidence && wanted ? in_.evidence.at(*evidence, place) : not_recorded();
  }
  bool is_derived(const ModelEvidence& m) const {
    return m.compute && in_.evidence.at(*m.compute, "format").text == "qianwen-compute-derived-1";
  }
  const DossierInput& in_;
};

// The sources of a model's data ledger, those fields that a regime asks for.
Section data_table(const DossierInput& input, const ModelEvidence& model, std::string title, unsigned regime,
                   bool chinese = false);

}  // namespace qw::governance
