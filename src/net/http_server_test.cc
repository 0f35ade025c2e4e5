#include "net/http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <thread>

namespace qw::net {
namespace {

using namespace std::chrono_literals;

// A raw socket, so that the tests see exactly the bytes on the wire.
class Client {
 public:
  explicit Client(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
    timeval limit{10, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  }
  ~Client() { close(); }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  bool connected() const { return connected_; }
  void send(std::string_view text) { ASSERT_EQ(::send(fd_, text.data(), text.size(), MSG_NOSIGNAL), ssize_t(text.size())); }
  // Reads until `text` has come, or the end.
  std::string read_until(std::string_view text) {
    char buffer[4096];
    while (received_.find(text) == std::string::npos) {
      const ssize_t n = ::recv(fd_, buffer, sizeof(buffer), 0);
      if (n <= 0) break;
      received_.append(buffer, static_cast<std::size_t>(n));
    }
    const std::size_t at = received_.find(text);
    const std::size_t take = at == std::string::npos ? received_.size() : at + text.size();
    std::string out = received_.substr(0, take);
    received_.erase(0, take);
    return out;
  }
  std::string read_all() { return read_until("\x01never"); }

 private:
  int fd_;
  bool connected_ = false;
  std::string received_;
};

std::unique_ptr<HttpServer> start(Handler handler, ServerOptions options = {}) {
  options.port = 0;
  auto server = HttpServer::start(options, std::move(handler));
  EXPECT_TRUE(server.has_value()) << server.error().message;
  return std::move(*server);
}

void echo(Request request, std::shared_ptr<Reply> reply) {
  reply->send({200, {{"X-Path", request.path}, {"X-Query", request.query}}, request.method + ":" + request.body});
}

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
  std::this_thread::sleep_for(50ms);
  EXPECT_FALSE(Client(port).connected());
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
