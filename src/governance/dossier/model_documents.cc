// Model card and technical documentation.
#include "governance/dossier/documents.h"
#include "governance/dossier/internal/places.h"

namespace qw::governance {
namespace {

Section identity(const DossierInput& in, const ModelEvidence& m) {
  const Places at(in);
  Section out{"Model " + m.name, "", {}, {}};
  out.lines = {{"Architecture", at.model(m, "architecture")},
               {"Parameters", at.model(m, "parameters")},
               {"Layers", at.model(m, "layers")},
               {"Width", at.model(m, "width")},
               {"Context, tokens", at.model(m, "context")},
               {"Vocabulary", at.model(m, "vocab")},
               {"File format", at.model(m, "format")},
               {"Licence", at.model(m, "licence")},
               {"Weights (SHA-256)", at.compute(m, "outputs.0.weights_sha256")},
               {"Modality", at.model(m, "head")}};
  return out;
}

Section training(const DossierInput& in, const ModelEvidence& m) {
  const Places at(in);
  Section out{"Training of " + m.name, "", {}, {}};
  out.lines = {{"Method", at.compute(m, "method")},
               {"State of the run", at.compute(m, "state")},
               {"Optimizer steps", at.compute(m, "steps")},
               {"Tokens", at.compute(m, "tokens")},
               {"Parameters trained", at.compute(m, "model.trained_parameters")},
               {"Precision", at.compute(m, "model.precision")},
               {"Recipe (SHA-256)", at.compute(m, "recipe_sha256")},
               {"Data ledger (SHA-256)", at.compute(m, "data.ledger_sha256")},
               {"Data set", at.compute(m, "data.id")},
               {"Version of the data set", at.compute(m, "data.version")},
               {"Trained from", at.compute(m, "parent.name")},
               {"Its weights (SHA-256)", at.compute(m, "parent.weights_sha256")}};
  return out;
}

Section costs(const DossierInput& in, const ModelEvidence& m) {
  const Places at(in);
  Section out{"Compute and energy of " + m.name, "", {}, {}};
  out.lines = {{"Operations of its own training", at.compute_rounded(m, "flops.learning", "FLOP")},
               {"Operations of evaluation", at.compute_rounded(m, "flops.evaluation", "FLOP")},
               {"Operations with all that it comes from", at.compute_rounded(m, "cumulative_flops", "FLOP")},
               {"How they are counted", at.compute(m, "flops.method")},
               {"Device hours", at.compute_rounded(m, "device_hours", "h")},
               {"Energy", at.compute_rounded(m, "energy.kwh", "kWh")},
               {"Energy is", at.compute(m, "energy.basis")},
               {"How energy is reckoned", at.compute(m, "sessions.0.energy.method")},
               {"Processor", at.compute(m, "sessions.0.cpu")}};
  return out;
}

// Where the compute stands beside the amounts at which laws ask for more.
std::optional<Section> amounts(const DossierInput& in, const ModelEvidence& m) {
  if (!m.compute) return std::nullopt;
  const auto lineage = lineage_of(in.evidence.all()[*m.compute].content);
  if (!lineage) return std::nullopt;
  Section out{"Amounts of compute that laws name, and " + m.name,
              "Read in secondary sources; counsel decides what applies.",
              {},
              {}};
  Table table{{"Amount", "Reached", "Where", "Meaning", "Assumed"}, {}};
  for (const ThresholdReading& r : read_thresholds(*lineage))
    table.rows.push_back(
        {plain(r.threshold->flops == 0 ? "a third of the original" : std::string(r.threshold->id) + " FLOP"),
         in.evidence.about(*m.compute, "/cumulative_flops", level_name(r.level)), plain(r.threshold->where),
         plain(r.threshold->meaning), plain(r.note)});
  out.tables.push_back(std::move(table));
  return out;
}

Section assessments(const DossierInput& in) {
  Section out{"Assessments", in.assessments.empty() ? "" : "The reports are part of this dossier.", {}, {}};
  Table table{{"Report", "Verdict", "Policy", "Made"}, {}};
  for (const std::size_t e : in.assessments)
    table.rows.push_back({in.evidence.about(e, "", in.evidence.all()[e].what), in.evidence.at(e, "verdict"),
                          in.evidence.at(e, "policy"), in.evidence.at(e, "made")});
  out.tables.push_back(std::move(table));
  return out;
}

}  // namespace

Document model_card(const DossierInput& in) {
  const Places at(in);
  Document out{
      "model_card", "en", "Model card", "Made from the files of the system; every figure names what it rests on.", {}};
  out.sections.push_back({"Purpose and limits",
                          "",
                          {{"Provider", at.stated("provider")},
                           {"Purpose", at.stated("purpose")},
                           {"Limits", at.stated("limits")},
                           {"Not to be used for", at.stated("acceptable_use")},
                           {"Contact", at.stated("contact")}},
                          {}});
  for (const ModelEvidence& m : in.models) {
    out.sections.push_back(identity(in, m));
    out.sections.push_back(training(in, m));
    out.sections.push_back(costs(in, m));
  }
  out.sections.push_back(assessments(in));
  return out;
}

Document technical_documentation(const DossierInput& in) {
  const Places at(in);
  Document out{"technical_documentation",
               "en",
               "Technical documentation (AI Act, Annex XI)",
               "The points of Annex XI, section 1, as far as this system has them on record. It is a beginning for the "
               "provider's own documentation and no statement of conformity.",
               {}};
  out.sections.push_back({"1. General description",
                          "",
                          {{"(a) Tasks, and systems it may be built into", at.stated("tasks")},
                           {"(a) Kind of systems", at.stated("integration")},
                           {"(b) Acceptable use policy", at.stated("acceptable_use")},
                           {"(c) Date of release", at.stated("release_date")},
                           {"(c) Ways of distribution", at.stated("distribution")}},
                          {}});
  for (const ModelEvidence& m : in.models) {
    Section general = identity(in, m);
    general.title = "1 (d) to (f). Architecture, format and licence of " + m.name;
    out.sections.push_back(std::move(general));
    Section process = training(in, m);
    process.title = "2 (b). Training process of " + m.name;
    process.lines.push_back({"Key choices and assumptions", at.stated("design_choices")});
    out.sections.push_back(std::move(process));
    out.sections.push_back(data_table(in, m, "2 (c). Data of " + m.name, kAnnexXi));
    Section spent = costs(in, m);
    spent.title = "2 (d) and (e). Compute and energy of " + m.name;
    out.sections.push_back(std::move(spent));
    if (auto table = amounts(in, m)) out.sections.push_back(std::move(*table));
  }
  out.sections.push_back({"2 (a). Technical means of integration",
                          "",
                          {{"Instructions and infrastructure", at.stated("integration_means")}},
                          {}});
  out.sections.push_back(
      {"2 (c). Measures against unsuitable sources and biases", "", {{"Measures", at.stated("bias_measures")}}, {}});
  out.sections.push_back(assessments(in));
  return out;
}

}  // namespace qw::governance
