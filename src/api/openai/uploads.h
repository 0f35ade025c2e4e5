// POST /v1/uploads, /v1/uploads/{id}/parts, /complete and /cancel: a file that is larger than one request may be.
//
// The upload is a document of the store, each part a file that is never completed, which the store sweeps away after a
// day; so what was begun and left behind goes by itself.
#pragma once

#include "api/openai/files.h"

namespace qw::api::openai {

struct UploadRequest {
  std::string filename, purpose, mime_type;
  std::int64_t bytes = 0;
  std::vector<std::string> ignored;
};
ApiResult<UploadRequest> read_upload_request(const json::Object& body);

struct UploadCompletion {
  std::vector<std::string> parts;
  std::string md5;  // "": not checked
};
ApiResult<UploadCompletion> read_upload_completion(const json::Object& body);

// True if the path belongs here.
bool handle_upload(Background& background, const SharedRequest& request, const std::shared_ptr<Exchange>& exchange);

// The purposes that clients may leave files for.
ApiResult<void> check_purpose(const std::string& purpose);

}  // namespace qw::api::openai
