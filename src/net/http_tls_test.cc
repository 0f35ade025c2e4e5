// The server through TLS: what holds in the clear holds there, certificates change while it runs, and who does not
// keep to the protocol is let go of.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <functional>
#include <future>
#include <mutex>
#include <random>
#include <thread>

#include "net/internal/test_tls.h"

namespace qw::net {
namespace {

using namespace std::chrono_literals;
using test::Client;
using test::echo;
using test::PairFolder;
using test::start;
using test::TlsClient;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

constexpr const char* kGet = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
constexpr const char* kGetAndClose = "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

template <class Condition>
bool soon(Condition condition, std::chrono::milliseconds limit = 10s) {
  for (const auto end = Clock::now() + limit; Clock::now() < end; std::this_thread::sleep_for(2ms))
    if (condition()) return true;
  return condition();
}

std::shared_ptr<ServerIdentity> identity_of(const PairFolder& folder, const std::string& name) {
  auto made = ServerIdentity::load(folder.path(name + ".pem"), folder.path(name + ".key"));
  EXPECT_TRUE(made.has_value()) << made.error().message;
  return made ? *made : nullptr;
}

std::string refusal_of(const PairFolder& folder, const std::string& certificate, const std::string& key) {
  const auto made = ServerIdentity::load(folder.path(certificate), folder.path(key));
  EXPECT_FALSE(made.has_value());
  return made ? "" : made.error().message;
}

class HttpTls : public testing::Test {
 protected:
  HttpTls() { folder_.make("pair"); }
  ServerOptions options() {
    ServerOptions out;
    out.identity = identity_of(folder_, "pair");
    return out;
  }
  PairFolder folder_;
};

TEST_F(HttpTls, AnswersOverBothVersionsAndAgreesOnTheProtocol) {
  auto server = start(echo, options());
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsClient client(server->port(), [&](SSL_CTX* context) {
      SSL_CTX_set_max_proto_version(context, version);
      SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>("\x02h2\x08http/1.1"), 12);
    });
    ASSERT_TRUE(client.connected());
    EXPECT_EQ(SSL_version(client.ssl()), version);
    EXPECT_EQ(client.protocol(), "http/1.1");
    EXPECT_EQ(client.certificate(), "first");
    for (int i = 0; i < 20; ++i) {  // over one connection
      ASSERT_TRUE(client.send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"));
      EXPECT_THAT(client.read_until("POST:abc"), HasSubstr("200 OK"));
    }
    ASSERT_TRUE(client.send(kGetAndClose));
    EXPECT_THAT(client.read_all(), HasSubstr("X-Path: /a"));
    EXPECT_TRUE(client.ended_well());
  }
  EXPECT_TRUE(soon([&] { return server->connections() == 0; }));
}

TEST_F(HttpTls, OldVersionsWeakCiphersAndOtherProtocolsAreRefused) {
  auto server = start(echo, options());
  const auto connects = [&](const TlsClient::Setup& setup) { return TlsClient(server->port(), setup).connected(); };
  EXPECT_FALSE(connects([](SSL_CTX* context) {
    SSL_CTX_set_security_level(context, 0);
    SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(context, TLS1_1_VERSION);
  }));
  const auto with_cipher = [](const char* cipher) {
    return [cipher](SSL_CTX* context) {
      SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
      ASSERT_EQ(SSL_CTX_set_cipher_list(context, cipher), 1);
    };
  };
  EXPECT_FALSE(connects(with_cipher("ECDHE-ECDSA-AES128-SHA")));
  EXPECT_TRUE(connects(with_cipher("ECDHE-ECDSA-AES128-GCM-SHA256")));
  EXPECT_FALSE(connects(
      [](SSL_CTX* context) { SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>("\x02h2"), 3); }));
  EXPECT_TRUE(connects(nullptr));
}

TEST_F(HttpTls, StreamsComeAtOnceWithHeartbeats) {
  std::mutex mutex;
  std::shared_ptr<Reply> kept;
  ServerOptions with = options();
  with.heartbeat = 50ms;
  auto server = start(
      [&](Request, std::shared_ptr<Reply> reply) {
        reply->begin_stream({200, {}, ""}, ": beat\n");
        const std::lock_guard lock(mutex);
        kept = reply;
      },
      with);
  TlsClient client(server->port());
  ASSERT_TRUE(client.send(kGet));
  EXPECT_THAT(client.read_until(": beat\n"), HasSubstr("chunked"));
  for (int i = 0; i < 5; ++i) {
    kept->write("piece " + std::to_string(i));
    EXPECT_THAT(client.read_until("piece " + std::to_string(i)), HasSubstr("piece"));
  }
  kept->write(std::string(3'000'000, 'z') + "!");
  EXPECT_THAT(client.read_until("!"), HasSubstr("zzzz"));
  kept->finish();
  client.read_until("0\r\n\r\n");
  ASSERT_TRUE(client.send(kGet));  // and the connection goes on
  EXPECT_THAT(client.read_until("\r\n"), HasSubstr("200 OK"));
  kept = nullptr;
}

// Through TLS a request that comes early must be read early; nothing of it may be lost.
TEST_F(HttpTls, RequestsThatComeEarlyAreAnsweredInOrder) {
  std::mutex mutex;
  std::vector<std::shared_ptr<Reply>> waiting;
  auto server = start(
      [&](Request request, std::shared_ptr<Reply> reply) {
        if (request.path != "/wait") return echo(std::move(request), std::move(reply));
        const std::lock_guard lock(mutex);
        waiting.push_back(std::move(reply));
      },
      options());
  TlsClient client(server->port());
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(client.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"));
    ASSERT_TRUE(soon([&] {
      const std::lock_guard lock(mutex);
      return waiting.size() == 1;
    }));
    ASSERT_TRUE(client.send("POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nea"));
    if (i % 2 == 0) std::this_thread::sleep_for(5ms);
    {
      const std::lock_guard lock(mutex);
      waiting.back()->send({200, {}, "waited"});
      waiting.clear();
    }
    ASSERT_TRUE(client.send(std::string("rly") + kGet));
    EXPECT_THAT(client.read_until("waited"), HasSubstr("200 OK"));
    EXPECT_THAT(client.read_until("POST:early"), HasSubstr("X-Path: /b"));
    EXPECT_THAT(client.read_until("GET:"), HasSubstr("X-Path: /a"));
  }
}

TEST_F(HttpTls, WhoIsGoneIsNoticedAndWhoOnlyStopsSendingIsAnswered) {
  std::mutex mutex;
  std::shared_ptr<Reply> kept;
  std::atomic<int> gone{0};
  ServerOptions with = options();
  with.heartbeat = 50ms;
  auto server = start(
      [&](Request request, std::shared_ptr<Reply> reply) {
        reply->on_close([&] { ++gone; });
        if (request.path == "/stream") reply->begin_stream({200, {}, ""}, ": beat\n");
        const std::lock_guard lock(mutex);
        kept = reply;
      },
      with);
  const auto is_kept = [&] {
    const std::lock_guard lock(mutex);
    return kept != nullptr;
  };
  for (const char* path : {"/stream", "/whole"}) {
    for (const bool reset : {true, false}) {
      const int before = gone;
      TlsClient client(server->port());
      ASSERT_TRUE(client.send("GET " + std::string(path) + " HTTP/1.1\r\nHost: x\r\n\r\n"));
      ASSERT_TRUE(soon(is_kept));
      if (!reset) client.say_goodbye();
      reset ? client.socket().reset() : client.socket().close();
      EXPECT_TRUE(soon([&] { return gone == before + 1; })) << path << reset;
      kept = nullptr;
    }
  }
  TlsClient client(server->port());
  ASSERT_TRUE(client.send(kGet));
  ASSERT_TRUE(soon(is_kept));
  client.say_goodbye();
  std::this_thread::sleep_for(50ms);
  kept->send({200, {}, "all the same"});
  EXPECT_THAT(client.read_all(), HasSubstr("all the same"));
  EXPECT_EQ(gone, 4);
  kept = nullptr;
}

TEST_F(HttpTls, PlainHttpOnTheTlsPortIsTold) {
  auto server = start(echo, options());
  Client client(server->port());
  client.send(kGet);
  const std::string answer = client.read_all();
  EXPECT_THAT(answer, HasSubstr("400 Bad Request"));
  EXPECT_THAT(answer, HasSubstr("https"));
  client.close();
  EXPECT_TRUE(soon([&] { return server->connections() == 0; }));
}

TEST_F(HttpTls, HandshakesThatDoNotComeToAnEndAreCut) {
  ServerOptions with = options();
  with.handshake_timeout = 300ms;
  auto server = start(echo, with);
  const std::string hello_head("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
  std::vector<std::unique_ptr<Client>> silent;
  for (int i = 0; i < 20; ++i) silent.push_back(std::make_unique<Client>(server->port()));
  for (std::size_t i = 0; i < silent.size(); i += 2) silent[i]->send(hello_head);
  Client slow(server->port());
  slow.send(hello_head);
  const auto began = Clock::now();
  while (Clock::now() - began < 8s && slow.try_send("a")) std::this_thread::sleep_for(10ms);
  EXPECT_LT(Clock::now() - began, 4s);
  for (auto& client : silent) client->read_all();
  EXPECT_TRUE(soon([&] { return server->connections() == 0; }));
  TlsClient client(server->port());
  ASSERT_TRUE(client.send(kGetAndClose));
  EXPECT_THAT(client.read_all(), HasSubstr("X-Path: /a"));
}

// Bytes of a real handshake and request, cut off and changed at random: nothing stays behind.
TEST_F(HttpTls, GarbageIsLetGo) {
  ServerOptions with = options();
  with.handshake_timeout = with.head_timeout = 200ms;
  auto server = start(echo, with);
  std::string hello;
  {
    SSL_CTX* context = SSL_CTX_new(TLS_client_method());
    SSL* ssl = SSL_new(context);
    BIO* out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
    SSL_connect(ssl);
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(out, &bytes);
    hello.assign(bytes, static_cast<std::size_t>(size));
    SSL_free(ssl);
    SSL_CTX_free(context);
  }
  ASSERT_GT(hello.size(), 100u);
  std::mt19937 dice(7);
  for (int i = 0; i < 300; ++i) {
    Client client(server->port());
    std::string text = i % 3 == 0 ? std::string(dice() % 2000, '\0') : hello;
    for (char& c : text)
      if (i % 3 == 0 || dice() % 64 == 0) c = static_cast<char>(dice());
    if (i % 3 == 1) text.resize(dice() % text.size());
    client.try_send(text);
    if (i % 2 == 0) client.reset();
  }
  // After the handshake, too: a record that is none.
  for (int i = 0; i < 20; ++i) {
    TlsClient client(server->port());
    ASSERT_TRUE(client.connected());
    if (i % 2 == 0) client.send("GET / HT");
    client.socket().try_send("\x17\x03\x03\x00\x20" + std::string(32, 'x'));
    EXPECT_EQ(client.read_all(), "");
  }
  EXPECT_TRUE(soon([&] { return server->connections() == 0; }));
  TlsClient client(server->port());
  ASSERT_TRUE(client.send(kGetAndClose));
  EXPECT_THAT(client.read_all(), HasSubstr("X-Path: /a"));
}

TEST_F(HttpTls, LimitsAreToldThroughTls) {
  ServerOptions with = options();
  with.max_body_bytes = 100'000;
  with.head_timeout = 300ms;
  with.max_connections = 3;
  auto server = start(echo, with);
  {
    TlsClient client(server->port());
    ASSERT_TRUE(client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"));
    auto sending = std::async(std::launch::async, [&] {  // on the wire, not with SSL_write: one thread may use it
      return client.socket().try_send(std::string(100, 'x'));
    });
    EXPECT_THAT(client.read_until("\r\n"), HasSubstr("413"));
    sending.get();
  }
  {
    TlsClient client(server->port());
    ASSERT_TRUE(client.send("GET / HTTP/1.1\r\nX: "));
    EXPECT_THAT(client.read_all(), HasSubstr("408"));
    EXPECT_TRUE(client.ended_well());
  }
  ASSERT_TRUE(soon([&] { return server->connections() == 0; }));
  std::vector<std::unique_ptr<Client>> others;
  for (int i = 0; i < 3; ++i) others.push_back(std::make_unique<Client>(server->port()));  // half handshakes count
  ASSERT_TRUE(soon([&] { return server->connections() == 3; }));
  TlsClient client(server->port());
  EXPECT_THAT(client.read_all(), HasSubstr("503"));
}

TEST_F(HttpTls, DrainsIdleConnectionsAtOnceAndLetsRunningAnswersEnd) {
  std::mutex mutex;
  std::shared_ptr<Reply> kept;
  auto server = start(
      [&](Request request, std::shared_ptr<Reply> reply) {
        if (request.path == "/a") return echo(std::move(request), std::move(reply));
        const std::lock_guard lock(mutex);
        kept = std::move(reply);
        kept->begin_stream({200, {}, ""}, "");
      },
      options());
  TlsClient idle(server->port()), busy(server->port());
  ASSERT_TRUE(idle.send(kGet));
  idle.read_until("GET:");
  ASSERT_TRUE(busy.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"));
  busy.read_until("\r\n\r\n");
  auto draining = std::async(std::launch::async, [&] { return server->drain(10s); });
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_TRUE(idle.ended_well());
  kept->write("the rest");
  kept->finish();
  EXPECT_THAT(busy.read_until("0\r\n\r\n"), HasSubstr("the rest"));
  kept = nullptr;
  EXPECT_TRUE(draining.get());
}

TEST_F(HttpTls, ANewPairIsForNewConnectionsAndABrokenOneForNone) {
  ServerOptions with = options();
  auto server = start(echo, with);
  TlsClient before(server->port());
  EXPECT_EQ(before.certificate(), "first");
  EXPECT_FALSE(with.identity->reload_if_changed().value());

  folder_.make("pair", {.name = "second"});
  EXPECT_TRUE(with.identity->reload_if_changed().value());
  EXPECT_FALSE(with.identity->reload_if_changed().value());
  EXPECT_THAT(with.identity->describe(), HasSubstr("CN=second, until 2"));
  EXPECT_EQ(TlsClient(server->port()).certificate(), "second");
  ASSERT_TRUE(before.send(kGetAndClose));  // the old one goes on
  EXPECT_THAT(before.read_all(), HasSubstr("X-Path: /a"));

  std::ofstream(folder_.path("pair.pem")) << "-----BEGIN CERTIFICATE-----\nno\n";
  EXPECT_FALSE(with.identity->reload_if_changed().value());  // it may be half of a new pair
  const auto broken = with.identity->reload_if_changed();
  ASSERT_FALSE(broken.has_value());
  EXPECT_THAT(broken.error().message, HasSubstr("pair.pem"));
  EXPECT_FALSE(with.identity->reload_if_changed().value());  // told once
  EXPECT_FALSE(with.identity->reload().has_value());         // but whenever it is asked for
  EXPECT_EQ(TlsClient(server->port()).certificate(), "second");

  folder_.make("pair", {.name = "third"});
  EXPECT_TRUE(with.identity->reload().has_value());
  EXPECT_EQ(TlsClient(server->port()).certificate(), "third");
}

// Whoever renews a pair puts one file in its place after the other.
TEST_F(HttpTls, ALookBetweenTheTwoFilesOfANewPairIsNoError) {
  const auto identity = identity_of(folder_, "pair");
  folder_.make("next", {.name = "second"});
  std::filesystem::rename(folder_.path("next.pem"), folder_.path("pair.pem"));
  const auto between = identity->reload_if_changed();
  ASSERT_TRUE(between.has_value()) << between.error().message;
  EXPECT_FALSE(*between);
  EXPECT_THAT(identity->describe(), HasSubstr("CN=first"));
  std::filesystem::rename(folder_.path("next.key"), folder_.path("pair.key"));
  EXPECT_TRUE(identity->reload_if_changed().value());
  EXPECT_THAT(identity->describe(), HasSubstr("CN=second"));
  // A key that never comes is told of.
  folder_.make("other", {.name = "third"});
  std::filesystem::rename(folder_.path("other.pem"), folder_.path("pair.pem"));
  EXPECT_FALSE(identity->reload_if_changed().value());
  EXPECT_THAT(identity->reload_if_changed().error().message, HasSubstr("is not that of the certificate"));
  EXPECT_THAT(identity->describe(), HasSubstr("CN=second"));
}

// Clients come without pause while the pair changes all the time: none is turned away.
TEST_F(HttpTls, ReloadingUnderLoadLosesNobody) {
  ServerOptions with = options();
  with.threads = 2;
  auto server = start(echo, with);
  std::atomic<bool> stop{false};
  std::atomic<int> failed{0}, served{0};
  std::vector<std::thread> clients;
  for (int t = 0; t < 3; ++t) {
    clients.emplace_back([&] {
      while (!stop) {
        TlsClient client(server->port());
        const bool fine = client.send(kGetAndClose) && client.read_all().find("X-Path: /a") != std::string::npos;
        ++(fine ? served : failed);
      }
    });
  }
  int reloads = 0;
  for (const auto end = Clock::now() + 700ms; Clock::now() < end || served <= 20 || reloads <= 10; ++reloads) {
    folder_.make("pair", {.name = reloads % 2 ? "first" : "second"});
    EXPECT_TRUE(with.identity->reload().has_value());
  }
  stop = true;
  for (auto& thread : clients) thread.join();
  EXPECT_EQ(failed, 0);
  EXPECT_GT(served, 20);
  EXPECT_GT(reloads, 10);
}

TEST_F(HttpTls, BadPairsAreNamed) {
  folder_.make("other");
  folder_.make("over", {.valid_s = -3600});
  folder_.make("closed", {.passphrase = "secret"});
  std::ofstream(folder_.path("text")) << "hello\n";
  EXPECT_THAT(refusal_of(folder_, "nowhere", "pair.key"), HasSubstr("nowhere"));
  EXPECT_THAT(refusal_of(folder_, "pair.pem", "nowhere"), HasSubstr("nowhere"));
  EXPECT_THAT(refusal_of(folder_, "text", "pair.key"), HasSubstr("text: no certificate in PEM form"));
  EXPECT_THAT(refusal_of(folder_, "pair.key", "pair.key"), HasSubstr("no certificate in PEM form"));
  EXPECT_THAT(refusal_of(folder_, "pair.pem", "text"), HasSubstr("text: no private key in PEM form"));
  EXPECT_THAT(refusal_of(folder_, "pair.pem", "other.key"), HasSubstr("other.key: the key is not that of"));
  EXPECT_THAT(refusal_of(folder_, "closed.pem", "closed.key"), HasSubstr("without a passphrase"));
  EXPECT_THAT(refusal_of(folder_, "over.pem", "over.key"), HasSubstr("time is over (CN=first, until "));
}

}  // namespace
}  // namespace qw::net
