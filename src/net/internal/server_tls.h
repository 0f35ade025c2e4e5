// The OpenSSL side of a server's identity.
#pragma once

#include <boost/asio/ssl/context.hpp>

#include "net/server_identity.h"

namespace qw::net {

struct ServerIdentity::Tls {
  boost::asio::ssl::context context{boost::asio::ssl::context::tls_server};
  std::string description;
};

}  // namespace qw::net
