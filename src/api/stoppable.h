// What runs and can be ended, from any thread.
#pragma once

#include "api/error.h"

namespace qw::api {

class Stoppable {
 public:
  virtual ~Stoppable() = default;
  // Cancels what runs and answers with the error; what has ended already stays as it is.
  virtual void abandon(const ApiError& error) = 0;
};

}  // namespace qw::api
