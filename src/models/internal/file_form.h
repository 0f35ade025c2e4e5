// Parameters between the forms files hold them in and the form of this house.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "models/model.h"
#include "tensor/tensor.h"

namespace qw::models {

// Rows of a parameter of `shape`, made from the file's tensor. kBadInput: columns move and are stored in blocks.
// `stored` must outlive the maker, and its shape be that of the form.
Result<std::unique_ptr<tensor::RowMaker>> read_form(const FileForm& form, const tensor::ConstView& stored,
                                                    const tensor::Shape& shape, tensor::ConstView& view);

// Rows of a parameter [out, in] that stands in columns [first, first + out) of `stored` [in, columns]. kBadInput: stored in blocks.
// `stored` must outlive the maker's use; of numbers that are made themselves (FP8) the maker holds the turned rows from the first row
// asked for until as many were given as there are.
Result<std::unique_ptr<tensor::RowMaker>> read_transposed(const tensor::ConstView& stored, std::int64_t first,
                                                          const tensor::Shape& shape, tensor::ConstView& view);

// The way back: a tensor of a file, made from the parameters that stand in it.
struct FormPart {
  const FileForm* form;
  tensor::ConstView view;
};
// kBadInput as above, or if the parts differ in format.
Result<std::unique_ptr<tensor::RowMaker>> write_form(const std::vector<FormPart>& parts, const tensor::Shape& whole,
                                                     tensor::ConstView& view);

}  // namespace qw::models
