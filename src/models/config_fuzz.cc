// Any JSON object as config.json or GGUF metadata must give a model or an error, never a crash; a model must record.
#include <string_view>

#include "models/model.h"
#include "ops/program.h"

namespace {

void use(const qw::models::Model& model) {
  if (model.traits().layers > 64) return;  // a long table proves nothing more
  std::vector<qw::tensor::Shape> shapes;
  for (const auto& p : model.parameters()) shapes.push_back(p.shape);
  qw::ops::RecordingExecutor recorder(std::move(shapes));
  model.forward(recorder);
  recorder.finish();
  (void)qw::models::model_from_hf_config(model.hf_config());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto value = qw::json::parse({reinterpret_cast<const char*>(data), size});
  if (!value || !value->is_object()) return 0;
  if (const auto model = qw::models::model_from_hf_config(value->as_object())) use(**model);
  if (const auto model = qw::models::model_from_gguf_metadata(value->as_object(), size % 2 == 0, 100)) use(**model);
  return 0;
}
