// Answers as Anthropic writes them: a message of blocks, whole or as events that build it.
#pragma once

#include <memory>

#include "api/exchange.h"
#include "api/generation/writer.h"

namespace qw::api::anthropic {

std::unique_ptr<AnswerWriter> make_writer(std::shared_ptr<Exchange> exchange);

}  // namespace qw::api::anthropic
