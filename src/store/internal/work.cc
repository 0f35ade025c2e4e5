#include "store/internal/work.h"

#include <sys/random.h>

#include <chrono>
#include <thread>

namespace qw::store {

std::string random_hex(std::size_t bytes) {
  std::string raw(bytes, '\0'), out;
  for (std::size_t done = 0; done < bytes;) {
    const auto n = ::getrandom(raw.data() + done, bytes - done, 0);
    if (n > 0) done += static_cast<std::size_t>(n);
  }
  for (const char c : raw) {
    out += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
    out += "0123456789abcdef"[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

std::string fresh_id(std::string_view prefix) { return std::string(prefix) + random_hex(12); }

std::string join(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ",") + word;
  return out;
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const auto comma = text.find(',');
    if (comma != 0) out.emplace_back(text.substr(0, comma));
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
  }
  return out;
}

Work::Work(std::unique_ptr<Database> database, std::function<std::int64_t()> now)
    : database_(std::move(database)), now_(std::move(now)) {}

Result<Work::Lease> Work::take() {
  std::unique_lock lock(mutex_);
  returned_.wait(lock, [&] { return !idle_.empty() || made_ < database_->most_connections(); });
  if (!idle_.empty()) {
    auto connection = std::move(idle_.back());
    idle_.pop_back();
    return Lease(this, std::move(connection));
  }
  ++made_;
  lock.unlock();
  auto connection = database_->connect();
  if (connection) return Lease(this, std::move(*connection));
  lock.lock();
  --made_;
  returned_.notify_one();
  return tl::unexpected(connection.error());
}

void Work::keep(std::unique_ptr<Connection> connection) {
  {
    const std::lock_guard lock(mutex_);
    ++made_;
  }
  give_back(std::move(connection));
}

void Work::give_back(std::unique_ptr<Connection> connection) {
  {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(connection));
  }
  returned_.notify_one();
}

void Work::pause(int attempt) { std::this_thread::sleep_for(std::chrono::milliseconds(5 << attempt)); }

}  // namespace qw::store
