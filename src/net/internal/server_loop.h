// What the server's connections run on: one thread's io_context, by name. (Asio's executors of any kind cost an
// indirection and a copy at each step of a coroutine.)
#pragma once

#include <boost/asio.hpp>
#include <chrono>

namespace qw::net::internal {

using Executor = boost::asio::io_context::executor_type;
using Socket = boost::asio::basic_stream_socket<boost::asio::ip::tcp, Executor>;
using Timer = boost::asio::basic_waitable_timer<std::chrono::steady_clock,
                                                boost::asio::wait_traits<std::chrono::steady_clock>, Executor>;
template <class T>
using Task = boost::asio::awaitable<T, Executor>;
inline constexpr boost::asio::use_awaitable_t<Executor> kAwaitTask;
// Gives the error beside what came, rather than throwing it.
inline constexpr auto kAwait = boost::asio::as_tuple(kAwaitTask);

}  // namespace qw::net::internal
