// What a training graph must hold, from the program and the options alone.
#pragma once

#include <vector>

#include "ops/gemm.h"
#include "ops/head.h"
#include "ops/internal/training_plan.h"
#include "ops/program.h"
#include "ops/training_graph.h"

namespace qw::ops {

// Shapes of the model's parameters, then of the adapters' (Adapter).
std::vector<tensor::Shape> with_adapters(std::vector<tensor::Shape> shapes, const std::vector<Adapter>& adapters);
// Of those that are kept in ParameterBuffers; [0]: stored.
std::vector<tensor::Shape> held(std::vector<tensor::Shape> shapes, const TrainingOptions& options);
bool stored_in(const TrainingOptions& options, Weight w);
// Is it held packed once for products, in place of its file's pages?
bool packed_once_in(Weight w, const tensor::Shape& shape, const TrainingOptions& options, const Machine& machine);
// Room for the largest product of a program. `shapes`: with adapters.
void plan_products(const Program& program, const std::vector<tensor::Shape>& shapes, const TrainingOptions& options,
                   const TrainingPlan& plan, const Machine& machine, GemmWorkspace& workspace);
// How the head of a language model is made; of `options.stored` it looks at the head's weights alone.
HeadSpec head_spec(const Weight& w, const std::vector<tensor::Shape>& shapes, const TrainingOptions& options,
                   const Machine& machine);

}  // namespace qw::ops
