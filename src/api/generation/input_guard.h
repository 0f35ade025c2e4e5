// What a policy makes of what is asked: the request goes on, as the rules let it be, or is refused, or answered by the
// service itself (screening.h: what the rules find in it).
#pragma once

#include <functional>
#include <memory>

#include "api/exchange.h"
#include "api/generation/answer.h"
#include "api/generation/request.h"

namespace qw::api {

// Goes on with the request as the policy of whoever asks lets it be, and an answer's beginnings: the policy, what was
// found, and whether the service answers itself. At once, or from another thread where the store is asked first. If it
// is refused the exchange is answered instead, now or when that is on record.
template <class Request>
using LetIn = std::function<void(std::shared_ptr<const Request> request, AnswerSpec spec)>;
void let_in(const ModelLease& model, std::shared_ptr<const ChatRequest> asked,
            const std::shared_ptr<Exchange>& exchange, LetIn<ChatRequest> then);
void let_in(const ModelLease& model, std::shared_ptr<const TextRequest> asked,
            const std::shared_ptr<Exchange>& exchange, LetIn<TextRequest> then);

}  // namespace qw::api
