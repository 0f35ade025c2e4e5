// Clients that are slow, hostile or gone: each is told what can be told, and nothing of it stays behind.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <mutex>
#include <random>
#include <thread>

#include "net/internal/test_client.h"

namespace qw::net {
namespace {

using namespace std::chrono_literals;
using test::Client;
using test::echo;
using test::start;
using Clock = std::chrono::steady_clock;

// Waits for what other threads bring about; sanitizers make them slow.
template <class Condition>
bool soon(Condition condition, std::chrono::milliseconds limit = 10s) {
  for (const auto end = Clock::now() + limit; Clock::now() < end; std::this_thread::sleep_for(2ms))
    if (condition()) return true;
  return condition();
}

std::string status_line(Client& client) { return client.read_until("\r\n"); }

void expect_serving(HttpServer& server) {
  Client client(server.port());
  client.send("GET /still HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_NE(client.read_all().find("X-Path: /still"), std::string::npos);
}

// Sends `text` byte by byte until the server stops it.
Clock::duration drip(Client& client, std::string_view text) {
  const auto begin = Clock::now();
  for (std::size_t i = 0; Clock::now() - begin < 8s; ++i) {
    if (!client.try_send(text.substr(i % text.size(), 1))) break;
    std::this_thread::sleep_for(10ms);
  }
  return Clock::now() - begin;
}

TEST(HttpAbuse, ADripFedHeadIsCutAtItsDeadline) {
  ServerOptions options;
  options.head_timeout = 300ms;
  auto server = start(echo, options);
  const auto begin = Clock::now();  // before the deadline is set
  Client client(server->port());
  client.send("GET / HTTP/1.1\r\nX: ");
  auto dripping = std::async(std::launch::async, [&] { return drip(client, "a"); });
  EXPECT_EQ(status_line(client), "HTTP/1.1 408 Request Timeout\r\n");
  EXPECT_GE(Clock::now() - begin, 200ms);
  EXPECT_LT(Clock::now() - begin, 4s);
  EXPECT_LT(dripping.get(), 6s);   // and it is not listened to for long
  EXPECT_TRUE(soon([&] { return server->connections() == 0; }));
  expect_serving(*server);
}

TEST(HttpAbuse, ADripFedBodyIsCutAtItsDeadline) {
  ServerOptions options;
  options.body_timeout = 300ms;
  auto server = start(echo, options);
  Client client(server->port());
  client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
  auto dripping = std::async(std::launch::async, [&] { return drip(client, "a"); });
  EXPECT_EQ(status_line(client), "HTTP/1.1 408 Request Timeout\r\n");
  EXPECT_LT(dripping.get(), 6s);
  EXPECT_TRUE(soon([&] { return server->connections() == 0; }));
}

TEST(HttpAbuse, SilentConnectionsEndWithoutAWord) {
  ServerOptions options;
  options.head_timeout = 100ms;
  auto server = start(echo, options);
  std::vector<std::unique_ptr<Client>> silent;
  for (int i = 0; i < 20; ++i) silent.push_back(std::make_unique<Client>(server->port()));
  for (auto& client : silent) EXPECT_EQ(client->read_all(), "");
  EXPECT_TRUE(soon([&] { return server->connections() == 0; }));
}

// The client is still sending when it is refused, and must be able to read why.
TEST(HttpAbuse, AFloodOfHeadersIsRefused) {
  ServerOptions options;
  options.max_header_bytes = 16 * 1024;
  auto server = start(echo, options);
  for (const std::string& line : {std::string("A: b\r\n"), "X-" + std::string(3000, 'n') + ": v\r\n", std::string(100, 'v')}) {
    Client client(server->port());
    client.send("GET / HTTP/1.1\r\n");
    std::string flood;
    while (flood.size() < (1 << 20)) flood += line;
    auto sending = std::async(std::launch::async, [&] { return client.try_send(flood); });
    EXPECT_EQ(status_line(client), "HTTP/1.1 431 Request Header Fields Too Large\r\n") << line;
    client.shut_sending();
    sending.get();
  }
  EXPECT_TRUE(soon([&] { return server->connections() == 0; }));
  expect_serving(*server);
}

TEST(HttpAbuse, ABodyOverTheLimitIsRefusedWhileItComes) {
  ServerOptions options;
  options.max_body_bytes = 100'000;
  auto server = start(echo, options);
  const std::string body(8 << 20, 'b');
  for (const bool chunked : {false, true}) {
    Client client(server->port());
    client.send(chunked ? "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n800000\r\n"
                        : "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8388608\r\n\r\n");
    EXPECT_TRUE(client.try_send(body));   // many clients do not read before they have sent all
    EXPECT_EQ(status_line(client), "HTTP/1.1 413 Payload Too Large\r\n");
    EXPECT_NE(client.read_until("larger than").find("larger than"), std::string::npos);
  }
  // Many chunks that are too much together.
  Client client(server->port());
  client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  auto sending = std::async(std::launch::async, [&] {
    for (int i = 0; i < 2000 && client.try_send("64\r\n" + std::string(100, 'c') + "\r\n"); ++i) {
    }
  });
  EXPECT_EQ(status_line(client), "HTTP/1.1 413 Payload Too Large\r\n");
  sending.get();
  expect_serving(*server);
}

// What stands around the pieces of a body is not part of it, and is limited too.
TEST(HttpAbuse, EndlessChunkHeadsAndTrailersAreRefused) {
  ServerOptions options;
  options.max_body_bytes = 1000;
  options.max_header_bytes = 10'000;
  auto server = start(echo, options);
  for (const char* begin : {"5;x=", "0\r\nX: "}) {
    Client client(server->port());
    client.send(std::string("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n") + begin);
    const std::string flood(4 << 20, 'e');
    auto sending = std::async(std::launch::async, [&] { return client.try_send(flood); });
    EXPECT_EQ(status_line(client), "HTTP/1.1 431 Request Header Fields Too Large\r\n") << begin;
    client.shut_sending();
    sending.get();
  }
  expect_serving(*server);
}

// Two readers of such a request would not agree where it ends.
TEST(HttpAbuse, AmbiguousFramingIsRefused) {
  std::atomic<int> served{0};
  auto server = start([&](Request request, std::shared_ptr<Reply> reply) {
    ++served;
    echo(std::move(request), std::move(reply));
  });
  for (const char* fields :
       {"Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6", "Content-Length: -1", "Content-Length: 99999999999999999999",
        "Content-Length: 5x", "Content-Length: +5", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "X : y", "Content-Length: 5\n X: y", "X\r\n", "Folded: a\r\n\x01: b"}) {
    Client client(server->port());
    client.send(std::string("POST / HTTP/1.1\r\nHost: x\r\n") + fields + "\r\n\r\n0\r\n\r\nhello");
    EXPECT_EQ(status_line(client), "HTTP/1.1 400 Bad Request\r\n") << fields;
  }
  EXPECT_EQ(served.load(), 0);
}

TEST(HttpAbuse, AHundredPipelinedRequestsAreAnsweredInOrder) {
  auto server = start(echo);
  Client client(server->port());
  std::string all;
  for (int i = 0; i < 100; ++i)
    all += "POST /" + std::to_string(i) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
  client.send(all + "no request\r\n\r\n");
  for (int i = 0; i < 100; ++i) {
    const std::string answer = client.read_until("POST:{}");
    EXPECT_NE(answer.find("X-Path: /" + std::to_string(i) + "\r\n"), std::string::npos) << answer;
  }
  EXPECT_EQ(status_line(client), "HTTP/1.1 400 Bad Request\r\n");
}

// Handlers that answer later, from their own threads, and remember who went away.
class Slow {
 public:
  ~Slow() {
    for (auto& thread : threads_) thread.join();
  }
  Handler handler(std::chrono::milliseconds wait, bool stream, std::string heartbeat = "") {
    return [=, this](Request request, std::shared_ptr<Reply> reply) {
      ++begun;
      ++alive;
      reply->on_close([this] { ++closed; });
      std::lock_guard lock(mutex_);
      threads_.emplace_back([=, this, reply = std::move(reply)]() mutable {
        if (stream) reply->begin_stream({200, {}, ""}, heartbeat);
        for (auto end = Clock::now() + wait; Clock::now() < end && !reply->closed(); std::this_thread::sleep_for(1ms))
          if (stream && request.path == "/pieces") reply->write("piece\n");
        if (stream) {
          reply->write("the end\n");
          reply->finish();
        } else {
          reply->send({200, {}, "the end\n"});
        }
        reply.reset();
        --alive;
      });
    };
  }
  std::atomic<int> begun{0}, closed{0}, alive{0};

 private:
  std::mutex mutex_;
  std::vector<std::thread> threads_;
};

TEST(HttpAbuse, AHalfClosedClientGetsItsAnswer) {
  for (const bool stream : {false, true}) {
    Slow slow;
    auto server = start(slow.handler(100ms, stream, ": alive\n"));
    Client client(server->port());
    client.send("GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n");
    client.shut_sending();
    const std::string all = client.read_all();
    EXPECT_NE(all.find("HTTP/1.1 200 OK"), std::string::npos) << all;
    EXPECT_NE(all.find("the end"), std::string::npos) << all;
    EXPECT_EQ(slow.closed.load(), 0);
    EXPECT_TRUE(soon([&] { return server->connections() == 0; }));
  }
}

TEST(HttpAbuse, AClosedClientIsNoticedBeforeTheAnswer) {
  for (const bool stream : {false, true}) {
    for (const bool pieces : {false, true}) {
      Slow slow;
      auto server = start(slow.handler(20s, stream, ": alive\n"));
      Client client(server->port());
      client.send(pieces ? "GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n" : "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
      EXPECT_TRUE(soon([&] { return slow.begun == 1; }));
      const auto begin = Clock::now();
      client.close();
      EXPECT_TRUE(soon([&] { return slow.closed == 1 && slow.alive == 0; })) << stream << pieces;
      EXPECT_LT(Clock::now() - begin, 5s);
    }
  }
}

TEST(HttpAbuse, AHundredClientsGoAwayAtAnyMoment) {
  Slow slow;
  ServerOptions options;
  options.threads = 2;
  options.heartbeat = 20ms;
  auto server = start(slow.handler(5s, true, ": alive\n"), options);
  const std::string request = "POST /pieces HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + std::string(1000, 'b');
  std::atomic<int> whole{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::minstd_rand random(static_cast<unsigned>(t) + 1);
      for (int i = 0; i < 25; ++i) {
        Client client(server->port());
        const bool partly = i % 5 == 4;   // some go before they have asked
        client.send(std::string_view(request).substr(0, partly ? random() % request.size() : request.size()));
        whole += !partly;
        if (i % 5 < 3) client.read_until("piece");
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 4000));
        if (random() % 2 == 0) client.reset();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(soon([&] { return server->connections() == 0 && slow.alive == 0; }, 30s))
      << server->connections() << " connections, " << slow.alive << " requests";
  EXPECT_LE(slow.begun.load(), whole.load());
  EXPECT_EQ(slow.closed.load(), slow.begun.load());
  Client client(server->port());
  client.send("GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(client.read_until("piece").find("200 OK"), std::string::npos);
}

TEST(HttpAbuse, AClientThatDoesNotReadIsDropped) {
  ServerOptions options;
  options.write_timeout = 200ms;
  options.max_pending_bytes = 1 << 20;
  std::promise<bool> dropped;
  std::thread worker;
  auto server = start(
      [&](Request, std::shared_ptr<Reply> reply) {
        worker = std::thread([&, reply] {
          reply->begin_stream({200, {}, ""}, "");
          const std::string piece(100'000, 'p');
          const auto end = Clock::now() + 10s;
          while (!reply->closed() && Clock::now() < end) {
            reply->write(piece);   // far faster than anybody reads
            std::this_thread::sleep_for(1ms);
          }
          dropped.set_value(reply->closed());
        });
      },
      options);
  Client client(server->port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(dropped.get_future().get());
  worker.join();
  EXPECT_TRUE(soon([&] { return server->connections() == 0; }));
}

TEST(HttpAbuse, ConnectionsOverTheLimitAreTurnedAway) {
  ServerOptions options;
  options.max_connections = 4;
  auto server = start(echo, options);
  std::vector<std::unique_ptr<Client>> open;
  for (int i = 0; i < 4; ++i) {
    open.push_back(std::make_unique<Client>(server->port()));
    open.back()->send("GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: x\r\n\r\n");
    open.back()->read_until("GET:");
  }
  for (int i = 0; i < 50; ++i) {
    Client further(server->port());
    further.try_send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_EQ(status_line(further), "HTTP/1.1 503 Service Unavailable\r\n");
  }
  EXPECT_EQ(server->connections(), 4u);
  open[0]->send("GET /again HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(open[0]->read_until("GET:").find("/again"), std::string::npos);
  open.clear();
  EXPECT_TRUE(soon([&] { return server->connections() == 0; }));
  expect_serving(*server);
}

}  // namespace
}  // namespace qw::net
