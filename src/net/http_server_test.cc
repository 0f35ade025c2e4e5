#include "net/http_server.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <thread>

#include "net/internal/test_client.h"

namespace qw::net {
namespace {

using namespace std::chrono_literals;
using test::Client;
using test::echo;
using test::start;

TEST(HttpServer, AnswersAndKeepsAlive) {
  auto server = start(echo);
  Client client(server->port());
  for (int i = 0; i < 3; ++i) {
    client.send("POST /a%20b?q=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
    const std::string answer = client.read_until("POST:hello");
    EXPECT_NE(answer.find("HTTP/1.1 200 OK"), std::string::npos);
    EXPECT_NE(answer.find("X-Path: /a b\r\n"), std::string::npos) << answer;
    EXPECT_NE(answer.find("X-Query: q=1"), std::string::npos);
  }
}

TEST(HttpServer, SaysWhereItCanListen) {
  for (const char* host : {"127.0.0.1", "0.0.0.0", "localhost"}) EXPECT_TRUE(HttpServer::can_listen(host).has_value()) << host;
  const auto elsewhere = HttpServer::can_listen("192.0.2.1");  // RFC 5737: nobody's
  ASSERT_FALSE(elsewhere.has_value());
  EXPECT_TRUE(elsewhere.error().message.starts_with("cannot listen on 192.0.2.1: ")) << elsewhere.error().message;
  EXPECT_FALSE(HttpServer::can_listen("300.1.1.1").has_value());
}

TEST(HttpServer, PipelinedRequestsAreAnsweredInOrder) {
  auto server = start(echo);
  Client client(server->port());
  client.send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string all = client.read_all();
  const std::size_t one = all.find("X-Path: /1"), two = all.find("X-Path: /2");
  ASSERT_NE(one, std::string::npos);
  ASSERT_NE(two, std::string::npos);
  EXPECT_LT(one, two);
}

// Writes the next piece when the last one is out, and holds the reply meanwhile.
void write_pieces(const std::shared_ptr<Reply>& reply, int left, std::atomic<int>& told) {
  ++told;
  if (left == 0 || reply->closed()) return reply->finish();
  reply->write(std::string(64 * 1024, static_cast<char>('a' + left % 26)));
  reply->when_sent([reply, left, &told] { write_pieces(reply, left - 1, told); });
}

TEST(HttpServer, AnAnswerOfAnyLengthNeedsTheMemoryOfAPiece) {
  std::atomic<int> told{0};
  ServerOptions options;
  options.max_pending_bytes = 100'000;
  auto server = start([&](Request, std::shared_ptr<Reply> reply) {
    reply->begin_stream({200, {}, ""}, "");
    write_pieces(reply, 200, told);
  }, options);
  Client client(server->port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  std::this_thread::sleep_for(50ms);  // a reader that is slow fills the socket's buffers, and no more is written
  EXPECT_LT(told.load(), 200);
  const std::string all = client.read_all();
  EXPECT_EQ(told.load(), 201);
  EXPECT_EQ(std::count(all.begin(), all.end(), 'z'), 7 * 64 * 1024);
  EXPECT_NE(all.find("\r\n0\r\n\r\n"), std::string::npos);
}

TEST(HttpServer, WhoWaitsForAPieceToBeSentIsToldWhenTheClientLeaves) {
  std::promise<bool> closed;
  auto server = start([&](Request, std::shared_ptr<Reply> reply) {
    reply->begin_stream({200, {}, ""}, "");
    reply->write(std::string(8 << 20, 'a'));
    reply->when_sent([reply, &closed] { closed.set_value(reply->closed()); });
  });
  {
    Client client(server->port());
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client.read_until("aaaa");
  }
  auto told = closed.get_future();
  ASSERT_EQ(told.wait_for(10s), std::future_status::ready);
  EXPECT_TRUE(told.get());
}

TEST(HttpServer, StreamsPiecesFromAnotherThread) {
  std::thread worker;
  auto server = start([&](Request, std::shared_ptr<Reply> reply) {
    worker = std::thread([reply] {
      reply->begin_stream({200, {{"Content-Type", "text/event-stream"}}, ""}, "");
      for (int i = 0; i < 5; ++i) {
        reply->write("piece" + std::to_string(i) + "\n");
        std::this_thread::sleep_for(2ms);
      }
      reply->finish();
    });
  });
  Client client(server->port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string all = client.read_until("0\r\n\r\n");
  for (int i = 0; i < 5; ++i) EXPECT_NE(all.find("piece" + std::to_string(i)), std::string::npos) << all;
  worker.join();
}

TEST(HttpServer, TellsWhenTheClientGoesAway) {
  std::promise<void> gone;
  std::shared_ptr<Reply> kept;
  auto server = start([&](Request, std::shared_ptr<Reply> reply) {
    kept = reply;
    reply->on_close([&] { gone.set_value(); });
    reply->begin_stream({200, {}, ""}, "");
    reply->write("x");
  });
  Client client(server->port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  client.read_until("x");
  client.close();
  EXPECT_EQ(gone.get_future().wait_for(5s), std::future_status::ready);
  EXPECT_TRUE(kept->closed());
  kept->write("to nobody");
  kept->finish();
}

TEST(HttpServer, SendsHeartbeatsWhileNothingIsWritten) {
  ServerOptions options;
  options.heartbeat = 20ms;
  std::shared_ptr<Reply> kept;
  auto server = start(
      [&](Request, std::shared_ptr<Reply> reply) {
        kept = reply;
        reply->begin_stream({200, {}, ""}, ": alive\n\n");
      },
      options);
  Client client(server->port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(client.read_until(": alive").find(": alive"), std::string::npos);
  EXPECT_NE(client.read_until(": alive").find(": alive"), std::string::npos);
  kept->finish();
}

TEST(HttpServer, RefusesWhatIsTooLargeOrMalformed) {
  ServerOptions options;
  options.max_body_bytes = 10;
  options.max_header_bytes = 500;
  auto server = start(echo, options);
  const auto answer = [&](std::string_view text) {
    Client client(server->port());
    client.send(text);
    return client.read_until("\r\n");
  };
  EXPECT_EQ(answer("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello hello"), "HTTP/1.1 413 Payload Too Large\r\n");
  EXPECT_EQ(answer("GET / HTTP/1.1\r\nX: " + std::string(1000, 'a') + "\r\n\r\n"),
            "HTTP/1.1 431 Request Header Fields Too Large\r\n");
  EXPECT_EQ(answer("this is not http\r\n\r\n"), "HTTP/1.1 400 Bad Request\r\n");
  EXPECT_EQ(answer("GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 400 Bad Request\r\n");
  EXPECT_EQ(answer("GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 400 Bad Request\r\n");
}

TEST(HttpServer, AnUnansweredRequestIsAnError) {
  auto server = start([](Request, std::shared_ptr<Reply>) {});
  Client client(server->port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n"), "HTTP/1.1 500 Internal Server Error\r\n");
}

TEST(HttpServer, HeaderValuesCannotBreakOutOfTheirLine) {
  auto server = start([](Request, std::shared_ptr<Reply> reply) {
    reply->send({200, {{"X-Evil", "a\r\nSet-Cookie: b"}, {"X-Good", "c"}}, "ok"});
  });
  Client client(server->port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string all = client.read_all();
  EXPECT_EQ(all.find("Set-Cookie"), std::string::npos);
  EXPECT_NE(all.find("X-Good: c"), std::string::npos);
}

TEST(HttpServer, DrainLetsARunningAnswerFinishAndRefusesNewOnes) {
  std::promise<std::shared_ptr<Reply>> arrived;
  auto server = start([&](Request, std::shared_ptr<Reply> reply) {
    reply->begin_stream({200, {}, ""}, "");
    arrived.set_value(std::move(reply));
  });
  const std::uint16_t port = server->port();
  Client client(port);
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  auto reply = arrived.get_future().get();
  auto drained = std::async(std::launch::async, [&] { return server->drain(5s); });
  bool refuses = false;  // once the draining has begun
  for (int i = 0; i < 1000 && !refuses; ++i, std::this_thread::sleep_for(2ms)) refuses = !Client(port).connected();
  EXPECT_TRUE(refuses);
  reply->write("last words");
  reply->finish();
  reply.reset();
  EXPECT_NE(client.read_until("last words").find("last words"), std::string::npos);
  EXPECT_TRUE(drained.get());
}

TEST(HttpServer, StopEndsEvenUnfinishedAnswers) {
  std::shared_ptr<Reply> kept;
  std::promise<void> arrived;
  auto server = start([&](Request, std::shared_ptr<Reply> reply) {
    reply->begin_stream({200, {}, ""}, "");
    kept = reply;
    arrived.set_value();
  });
  Client client(server->port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  arrived.get_future().get();
  server->stop();
  EXPECT_TRUE(kept->closed());
}

TEST(HttpServer, ASecondServerOnTheSamePortSaysWhy) {
  auto server = start(echo);
  ServerOptions options;
  options.port = server->port();
  auto second = HttpServer::start(options, echo);
  ASSERT_FALSE(second.has_value());
  EXPECT_NE(second.error().message.find("in use"), std::string::npos) << second.error().message;
}

TEST(HttpServer, ManyClientsAtOnce) {
  std::atomic<int> served{0};
  auto server = start([&](Request request, std::shared_ptr<Reply> reply) {
    ++served;
    reply->send({200, {}, request.body});
  });
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      Client client(server->port());
      for (int i = 0; i < 50; ++i) {
        const std::string body = "b" + std::to_string(t) + "-" + std::to_string(i) + ";";
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
        right += client.read_until(body).ends_with(body);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right.load(), 400);
  EXPECT_EQ(served.load(), 400);
}

}  // namespace
}  // namespace qw::net
