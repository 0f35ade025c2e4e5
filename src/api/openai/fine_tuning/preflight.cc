#include "api/openai/fine_tuning/preflight.h"

#include "api/field_reader.h"

namespace qw::api::openai {

Result<FileCheck> check_files(store::Store& store, const FineTuneRunner* runner, const FineTuneAsk& ask,
                              const std::function<Status()>& alive) {
  FileCheck out;
  std::unique_ptr<ExampleMeasure> held_out;
  for (auto* measure : {&out.measure, &held_out}) {
    if (runner == nullptr) break;
    auto made = runner->measure(ask);
    if (!made) return fail(ErrorKind::kUsage, made.error().message);
    *measure = std::move(*made);
  }
  ExampleDigests trained, other;
  QW_ASSIGN(
      out.training,
      validate_file({store.files(), ask.project_id, ask.training_file, ask.pairs, out.measure.get(), nullptr, alive}, trained));
  if (ask.validation_file.empty()) return out;
  QW_ASSIGN(
      out.validation,
      validate_file({store.files(), ask.project_id, ask.validation_file, ask.pairs, held_out.get(), &trained, alive}, other));
  return out;
}

json::Object to_json(const FileCheck& check) {
  return {{"valid", check.fine()},
          {"training_file", to_json(check.training)},
          {"validation_file", check.validation ? json::Value(to_json(*check.validation)) : json::Value()}};
}

json::Value check_summary(const json::Value* check) {
  const json::Value* training = check == nullptr ? nullptr : check->find("training_file");
  if (training == nullptr) return nullptr;
  const json::Value* valid = check->find("valid");
  json::Object out{{"valid", valid == nullptr ? json::Value() : *valid}};
  for (const char* member : {"examples", "wrong_lines", "duplicates"})
    out.set(member, integer_member(*training, member));
  const json::Value* tokens = training->find("tokens");
  out.set("tokens",
          tokens == nullptr || !tokens->is_object() ? json::Value() : json::Value(integer_member(*tokens, "total")));
  return out;
}

Result<json::Object> estimate_object(store::Store& store, const FineTuneAsk& ask, const FineTuneEstimate& e) {
  const auto or_null = [](const std::optional<double>& x) { return x ? json::Value(*x) : json::Value(); };
  json::Object out{
      {"n_epochs", e.epochs},
      {"batch_size", e.batch_size},
      {"steps", e.steps},
      {"sequences", e.sequences},
      {"trained_tokens", e.trained_tokens},
      {"most_trained_tokens", e.most_trained_tokens},
      {"memory_bytes", e.memory_bytes},
      {"memory", e.memory},
      {"available_bytes", e.available_bytes},
      {"fits", e.fits()},
      {"checkpoint_bytes", e.checkpoint_bytes},
      {"seconds_a_step", or_null(e.seconds_a_step)},
      {"seconds", or_null(e.seconds)},
      {"calibrated_steps", e.calibrated_steps},
      {"measured_peak_bytes", e.measured_peak_bytes > 0 ? json::Value(e.measured_peak_bytes) : json::Value()},
      {"busy", e.busy}};
  QW_ASSIGN(const auto prices, store.ledger().prices());
  const store::Price* found = nullptr;
  for (const store::Price& price : prices)
    if (price.model == ask.base || (price.model == "*" && found == nullptr)) found = &price;
  const auto cost = [&](std::int64_t tokens) {
    store::Tokens t;
    t.trained = tokens;
    return static_cast<double>(store::cost_of(*found, t)) / 1e9;
  };
  if (found == nullptr)
    out.set("cost", nullptr);
  else
    out.set("cost", json::Object{{"currency", found->currency},
                                 {"expected", cost(e.trained_tokens)},
                                 {"most", cost(e.most_trained_tokens)}});
  return out;
}

}  // namespace qw::api::openai
