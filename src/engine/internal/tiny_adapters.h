// Adapters packed for a tiny model, for tests that hand them about and read nothing from them.
#pragma once

#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "engine/internal/tiny_model.h"
#include "kernels/kernels.h"
#include "ops/program.h"
#include "ops/running_executor.h"

namespace qw::engine {

inline std::vector<ops::PreparedAdapter> tiny_adapters(const std::string& type, int count) {
  const auto model = tiny_model(type);
  const Weights weights = random_weights(*model, tensor::DType::kF32);
  std::vector<tensor::Shape> shapes;
  for (const models::ParameterSpec& p : model->parameters()) shapes.push_back(p.shape);
  ops::RecordingExecutor recorder(std::move(shapes));
  model->forward(recorder);
  base::ThreadPool threads(1);
  const auto executor = ops::RunningExecutor::create(recorder.finish(), weights.views, {1, 1},
                                                     kernels::kernels_for(base::Isa::kPortable), threads);
  EXPECT_TRUE(executor) << executor.error().message;
  std::vector<ops::PreparedAdapter> out;
  for (int a = 0; a < count; ++a)
    out.push_back(*(*executor)->prepare_adapter(random_adapter(*model, static_cast<std::uint64_t>(a), 1)));
  return out;
}

}  // namespace qw::engine
