// For tests: a real engine over a tiny scripted model behind a real server, and a client that speaks raw sockets.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "api/server.h"
#include "governance/policy/policy.h"
#include "governance/watermark/mark_key.h"
#include "json/value.h"
#include "sampling/constraint.h"
#include "tokenizer/tokenizer.h"

namespace qw::api::test {

// After token t comes token t + 1, most likely: "abc" is continued by "defg...". Byte tokens only, then <|im_end|>.
class AlphabetModel final : public engine::StepExecutor {
 public:
  std::atomic<bool> held{false};     // no step ends meanwhile
  std::atomic<bool> waiting{false};  // one has begun
  std::atomic<int> step_us{0};       // what each takes at least
  std::vector<std::int32_t> script;  // what it says after a prompt of `prompt_tokens`, then the alphabet again
  std::int32_t prompt_tokens = 0;
  Status run(const ops::StepBatch& batch) override {
    for (; held; std::this_thread::sleep_for(std::chrono::milliseconds(1))) waiting = true;
    waiting = false;
    if (step_us > 0) std::this_thread::sleep_for(std::chrono::microseconds(step_us));
    last_ = batch;
    return compute_logits(batch.logit_rows);
  }
  Status compute_logits(std::span<const std::int32_t> wanted) override {
    const ops::StepBatch& batch = last_;
    rows_.assign(wanted.size() * kVocab, 0.0f);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const auto row = static_cast<std::size_t>(wanted[i]);
      const auto said = static_cast<std::size_t>(batch.positions[row] + 1 - prompt_tokens);
      const auto next = said < script.size() ? static_cast<std::size_t>(script[said])
                                             : static_cast<std::size_t>(batch.tokens[row] + 1) % kVocab;
      rows_[i * kVocab + next] = 20.0f;
    }
    return {};
  }
  std::span<float> logits(std::int64_t i) override {
    return std::span(rows_).subspan(static_cast<std::size_t>(i) * kVocab, kVocab);
  }
  std::int64_t vocab() const override { return kVocab; }
  std::int64_t max_rows() const override { return 64; }
  std::int64_t max_logit_rows() const override { return 64; }
  static constexpr std::size_t kVocab = 260;

 private:
  std::vector<float> rows_;
  ops::StepBatch last_;
};

inline tokenizer::Tokenizer byte_tokenizer() {
  const std::function<std::optional<std::string_view>()> nothing = [] { return std::nullopt; };
  auto spec =
      tokenizer::train_bpe(nothing, {.vocab = 256, .added_tokens = {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}});
  EXPECT_TRUE(spec.has_value()) << spec.error().message;
  return std::move(*tokenizer::Tokenizer::create(std::move(*spec)));
}

struct HttpAnswer {
  int status = 0;
  std::string head, body;
};

// A body in chunks, as one.
inline std::string dechunked(const std::string& body) {
  std::string out;
  for (std::size_t at = 0; at < body.size();) {
    const auto end = body.find("\r\n", at);
    const auto size = std::stoul(body.substr(at, end - at), nullptr, 16);
    if (size == 0) break;
    out += body.substr(end + 2, size);
    at = end + 2 + size + 2;
  }
  return out;
}

// The JSON of each line that has some: of events behind "data:".
inline std::vector<json::Value> json_of_lines(const std::string& text) {
  std::vector<json::Value> out;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const auto begin = std::min(text.find('{', at), end);
    if (begin < end)
      if (auto value = json::parse(text.substr(begin, end - begin))) out.push_back(std::move(*value));
    at = end + 1;
  }
  return out;
}

// A service with the models "alphabet" and "vectors" over one engine. `accounts` may be set before start_service().
class ServiceTest : public testing::Test {
 protected:
  explicit ServiceTest(bool caches_prefixes = false)
      : tokenizer_(byte_tokenizer()),
        template_(*chat::Template::parse("{{ messages[-1].content }}")),
        constraints_(tokenizer_) {
    auto pool = kvcache::BlockPool::create({.layers = 1, .kv_heads = 1, .head_dim = 1}, 64);
    pool_.emplace(std::move(*pool));
    engine::EngineConfig config;
    config.context = 512;
    config.max_rows = 64;
    if (caches_prefixes)
      config.prefixes = &prefixes_.emplace(*pool_, kvcache::PrefixCacheOptions{.attention_depth = 100});
    auto made = engine::Engine::create(model_, *pool_, config);
    EXPECT_TRUE(made.has_value()) << made.error().message;
    engine_ = std::move(*made);
    engine_->start();
    ServedModel served;
    served.id = "alphabet";
    served.created = 1;
    served.engine = engine_.get();
    served.tokenizer = &tokenizer_;
    served.chat_template = &template_;
    served.constraints = &constraints_;
    served.defaults.temperature = 0;
    served.defaults.stop_ids = {*tokenizer_.find("<|im_end|>")};
    EXPECT_TRUE(models_.add(served));
    served.id = "vectors";
    served.embedding = EmbeddingTask{static_cast<std::int64_t>(AlphabetModel::kVocab), true};
    served.ranking = RankTask{*tokenizer_.find("\n") + 1, 0};  // what comes after a prompt's last newline
    EXPECT_TRUE(models_.add(std::move(served)));
  }
  void SetUp() override { start_service(nullptr); }
  void start_service(Accounts* accounts, openai::BatchOptions batches = {}, Moderator* moderator = nullptr,
                     openai::FineTuneOptions fine_tuning = {}) {
    ServiceOptions options;
    options.fine_tuning = fine_tuning;
    options.gates = gates_;
    options.keep_answer_days = keep_days_;
    options.mcp = mcp_;
    options.deferred.poll = std::chrono::milliseconds(20);
    options.moderator = moderator;
    options.marks = marks_;
    options.label_producer = label_producer_;
    options.policies = policies_;
    options.audit = audit_;
    options.stops = stops_;
    options.batches = batches;
    options.accounts = accounts;
    options.http.port = 0;
    options.http.max_body_bytes = max_body_;
    if (admin_apart_) options.admin_http = options.http;
    options.page = [](std::string_view name) -> std::string_view {
      return name == "index.html" ? "<!doctype html>page" : "";
    };
    service_ = std::move(*Service::start(models_, std::move(options)));
  }

  ~ServiceTest() override { engine_->stop(); }  // while the models it answers for are still there

  // Connects and sends a request; the socket is the caller's. `headers`: lines with their ends.
  int send_request(const std::string& method, const std::string& path, const std::string& body,
                   const std::string& headers = "") {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_ == 0 ? service_->port() : port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    const std::string text = method + " " + path + " HTTP/1.1\r\nHost: x\r\n" + headers +
                             "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    EXPECT_EQ(::send(fd, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
    return fd;
  }
  // A client that goes away as soon as its answer begins.
  void leave_early(const std::string& path, const std::string& body, const std::string& headers = "") {
    const int fd = send_request("POST", path, body, headers);
    char first;
    ASSERT_EQ(::recv(fd, &first, 1, 0), 1);
    ::close(fd);
  }

  HttpAnswer ask(const std::string& method, const std::string& path, const std::string& body,
                 const std::string& headers = "") {
    const int fd = send_request(method, path, body, "Connection: close\r\n" + headers);
    std::string all;
    char buffer[4096];
    for (ssize_t n; (n = ::recv(fd, buffer, sizeof(buffer), 0)) > 0;) all.append(buffer, static_cast<std::size_t>(n));
    ::close(fd);
    HttpAnswer answer;
    const std::size_t split = all.find("\r\n\r\n");
    answer.head = all.substr(0, split);
    answer.body = split == std::string::npos ? "" : all.substr(split + 4);
    if (all.size() > 12) answer.status = std::atoi(all.c_str() + 9);
    return answer;
  }
  json::Value ask_json(const std::string& path, const std::string& body, int status = 200,
                       const std::string& headers = "") {
    const HttpAnswer answer = ask("POST", path, body, headers);
    EXPECT_EQ(answer.status, status) << answer.body;
    auto value = json::parse(answer.body);
    EXPECT_TRUE(value.has_value()) << answer.body;
    return value ? std::move(*value) : json::Value();
  }
  static std::string dump(const json::Value* v) { return v == nullptr ? "(absent)" : json::dump(*v); }
  static const json::Value& at(const json::Value& v, std::string_view key) {
    const json::Value* found = v.find(key);
    EXPECT_NE(found, nullptr) << key << " in " << json::dump(v);
    return *found;
  }

  GateRunner* gates_ = nullptr;      // of the next start
  std::int64_t keep_days_ = 0;       // too
  AlphabetModel model_;
  tokenizer::Tokenizer tokenizer_;
  chat::Template template_;
  sampling::ConstraintCompiler constraints_;
  std::optional<kvcache::BlockPool> pool_;
  std::optional<kvcache::PrefixCache> prefixes_;
  std::unique_ptr<engine::Engine> engine_;
  ModelList models_;
  McpOptions mcp_;                                      // of the next start
  const governance::MarkKeyHolder* marks_ = nullptr;  // of the next start
  std::string label_producer_;                        // of the next start
  const governance::PolicySet* policies_ = nullptr;   // of the next start
  governance::AuditLog* audit_ = nullptr;             // of the next start
  StopSwitch* stops_ = nullptr;                       // of the next start
  std::unique_ptr<Service> service_;
  std::size_t max_body_ = 10'000;  // of the next start
  bool admin_apart_ = false;  // of the next start
  std::uint16_t port_ = 0;    // that requests go to; 0: the service's
};

}  // namespace qw::api::test
