// Threads for what blocks (the store, files on disk), so that the threads of connections never wait.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace qw::api {

class Background {
 public:
  // `most_waiting`: work beyond that is refused; what waits would only be late.
  explicit Background(int threads, std::size_t most_waiting = 1024);
  ~Background();  // stop()
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  // False: too much waits, or it was stopped; the work is then dropped, and whatever it holds is let go here.
  bool post(std::function<void()> work);
  // Returns when what runs has ended; what waits is dropped.
  void stop();

 private:
  void run();
  const std::size_t most_waiting_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> waiting_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace qw::api
