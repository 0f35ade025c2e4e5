// DashScope's files: GET and POST /api/v1/files, GET and DELETE /api/v1/files/{id}. They are the files of /v1/files, of
// the same project, in another shape. They need a store.
#pragma once

#include <memory>

#include "api/background.h"
#include "api/openai/files.h"

namespace qw::api::dashscope {

class FilesApi {
 public:
  // `background` must outlive this object and what it began.
  explicit FilesApi(Background& background) : background_(background) {}
  // True if the path belongs here; the exchange is then answered, now or later.
  bool handle(const openai::SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  Background& background_;
};

}  // namespace qw::api::dashscope
