// One request and its answer on a connection of its own: no redirects, no choice of proxy.
#pragma once

#include <atomic>
#include <boost/asio/ssl/context.hpp>
#include <optional>

#include "net/http_client.h"

namespace qw::net::internal {

struct Exchange {
  const ClientOptions& options;
  boost::asio::ssl::context& tls;
  const ClientRequest& request;   // its url is not looked at
  const Url& url;
  std::optional<Url> proxy;
  // Told of the head; false in the value: the body is not wanted (a redirect).
  std::function<Result<bool>(const ResponseHead&)> on_head;
  const HttpClient::BodySink& on_body;
  const std::atomic<bool>* cancel;
};

Status run_exchange(const Exchange& exchange);

}  // namespace qw::net::internal
