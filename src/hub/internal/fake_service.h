// A server for tests that speaks both services' addresses and, on request, does everything a network does wrong. It
// writes to sockets itself, since a proper server cannot cut an answer in the middle.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/sha256.h"
#include "json/value.h"
#include "net/http.h"

namespace qw::hub::internal {

class FakeService {
 public:
  struct Faults {
    std::atomic<int> cut{0};              // so many answers with a file end in the middle
    std::atomic<int> corrupt{0};          // so many have a wrong byte
    std::atomic<int> wrong_range{0};      // so many say they are another range
    std::atomic<int> busy{0};             // so many requests for files are answered `busy_status`
    std::atomic<int> busy_status{429};
    std::atomic<int> list_busy{0};        // the same for lists, with 503
    std::atomic<bool> no_ranges{false};   // always the whole file, status 200
    std::atomic<bool> longer{false};      // more bytes than there are
    std::atomic<bool> wrong_size{false};  // the list states another size
    std::atomic<bool> no_hashes{false};
    std::atomic<int> pause_us{0};         // between pieces of 16 KB
    std::atomic<std::uint64_t> holds_at{~std::uint64_t{0}};  // no piece is sent while so many bytes were
  };
  Faults faults;
  std::string token;                      // if set, needed
  std::map<std::string, std::string> files;
  std::atomic<std::uint64_t> sent{0};     // bytes of files
  std::atomic<int> requests{0};

  FakeService() : listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 || ::listen(listener_, 64) != 0) std::abort();
    socklen_t size = sizeof(address);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] {
      for (int peer; (peer = ::accept(listener_, nullptr, nullptr)) >= 0;) {
        const std::lock_guard lock(mutex_);
        peers_.push_back(std::thread([this, peer] {
          serve(peer);
          ::shutdown(peer, SHUT_RDWR);
          ::close(peer);
        }));
      }
    });
  }
  ~FakeService() {
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    for (std::thread& t : peers_) t.join();
    ::close(listener_);
  }
  // Ordered before every later connection, of other processes too.
  void set_files(std::map<std::string, std::string> now) {
    const std::lock_guard lock(mutex_);
    files = std::move(now);
  }
  // Nobody is held any more, and what was under way to clients that are gone has ended.
  void let_go() {
    faults.pause_us = 0;
    faults.holds_at = ~std::uint64_t{0};
    while (giving_ > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::string endpoint() const { return "http://127.0.0.1:" + std::to_string(port_); }

 private:
  static bool take(std::atomic<int>& count) {
    int n = count;
    while (n > 0 && !count.compare_exchange_weak(n, n - 1)) {
    }
    return n > 0;
  }

  static bool send(int fd, std::string_view text) {
    while (!text.empty()) {
      const ssize_t n = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }

  void answer(int fd, int status, const std::string& headers, const std::string& body) {
    send(fd, "HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + headers + "\r\n" + body);
  }

  static std::string header(const std::string& head, const std::string& name) {
    const std::size_t at = head.find("\r\n" + name + ": ");
    if (at == std::string::npos) return "";
    const std::size_t from = at + name.size() + 4;
    return head.substr(from, head.find("\r\n", from) - from);
  }

  void serve(int fd) {
    std::string head;
    for (char c; head.find("\r\n\r\n") == std::string::npos && ::recv(fd, &c, 1, 0) == 1;) head += c;
    ++requests;
    const std::size_t from = head.find(' ') + 1;
    std::string target;
    if (!net::percent_decode(head.substr(from, head.find(' ', from) - from), target)) return answer(fd, 400, "", "");
    if (!token.empty() && header(head, "Authorization") != "Bearer " + token) return answer(fd, 401, "", "who?");
    if (target.starts_with("/api/models/Qwen/Tiny/tree/main")) return list(fd, huggingface());
    if (target.starts_with("/api/v1/models/Qwen/Tiny/repo/files?Revision=master")) return list(fd, modelscope());
    for (const char* prefix : {"/Qwen/Tiny/resolve/main/", "/api/v1/models/Qwen/Tiny/repo?Revision=master&FilePath="}) {
      if (!target.starts_with(prefix)) continue;
      const auto file = files.find(target.substr(std::string(prefix).size()));
      if (file != files.end()) return give(fd, file->second, header(head, "Range"));
    }
    answer(fd, 404, "", "{\"error\":\"not found\"}");
  }

  void list(int fd, const json::Value& value) {
    if (take(faults.list_busy)) return answer(fd, 503, "", "");
    answer(fd, 200, "", json::dump(value));
  }

  json::Value huggingface() const {
    json::Array out{json::Object{{"type", "directory"}, {"path", "1_Pooling"}, {"size", 0}}};
    for (const auto& [path, bytes] : files) {
      const auto size = static_cast<std::int64_t>(bytes.size()) + (faults.wrong_size ? 1 : 0);
      json::Object entry{{"type", "file"}, {"oid", "0"}, {"size", size}, {"path", path}};
      if (!faults.no_hashes) entry.set("lfs", json::Object{{"oid", base::sha256_hex(bytes)}, {"size", size}, {"pointerSize", 130}});
      out.push_back(std::move(entry));
    }
    return out;
  }

  json::Value modelscope() const {
    json::Array out;
    for (const auto& [path, bytes] : files)
      out.push_back(json::Object{{"Path", path}, {"Type", "blob"}, {"Size", static_cast<std::int64_t>(bytes.size())}, {"Sha256", base::sha256_hex(bytes)}});
    return json::Object{{"Code", 200}, {"Data", json::Object{{"Files", std::move(out)}}}, {"Success", true}};
  }

  void give(int fd, const std::string& file, const std::string& range) {
    ++giving_;
    give_whole(fd, file, range);
    --giving_;
  }
  void give_whole(int fd, const std::string& file, const std::string& range) {
    if (take(faults.busy)) return answer(fd, faults.busy_status, "Retry-After: 0\r\n", "");
    std::size_t begin = 0, end = file.size();
    const bool partial = !range.empty() && !faults.no_ranges;
    if (partial) {
      begin = std::strtoull(range.c_str() + 6, nullptr, 10);
      end = std::strtoull(range.c_str() + range.find('-') + 1, nullptr, 10) + 1;
    }
    std::string body = file.substr(begin, end - begin);
    if (take(faults.corrupt) && !body.empty()) body[body.size() / 2] ^= 1;
    if (faults.longer) body += "more";
    const std::size_t stated = begin + (take(faults.wrong_range) && partial ? 1 : 0);
    std::string head = "HTTP/1.1 " + std::to_string(partial ? 206 : 200) + " X\r\n";
    // A server that sends more than it should does not say how much.
    if (!faults.longer) head += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    if (partial) head += "Content-Range: bytes " + std::to_string(stated) + "-" + std::to_string(end - 1) + "/" + std::to_string(file.size()) + "\r\n";
    if (take(faults.cut)) body.resize(body.size() / 2);
    if (!send(fd, head + "\r\n")) return;
    for (std::size_t at = 0; at < body.size(); at += 16384) {
      while (sent >= faults.holds_at) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      const std::string_view piece = std::string_view(body).substr(at, 16384);
      if (!send(fd, piece)) return;
      sent += piece.size();
      if (faults.pause_us > 0) std::this_thread::sleep_for(std::chrono::microseconds(faults.pause_us));
    }
  }

  std::atomic<int> giving_{0};
  int listener_;
  std::uint16_t port_ = 0;
  std::thread acceptor_;
  std::mutex mutex_;
  std::vector<std::thread> peers_;
};

}  // namespace qw::hub::internal
