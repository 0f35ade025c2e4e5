// Numbers about a running service, and their text in Prometheus' exposition format 0.0.4.
//
// Counters and histograms are made once by name and labels, then counted without a lock; what others know anyway (queue
// lengths, free blocks) is asked when the text is made. Threads: any.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace qw::base {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Counter {
 public:
  void add(std::int64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  std::int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> value_{0};
};

class Histogram {
 public:
  // Upper bounds, rising; values above the last are counted too.
  explicit Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}
  void observe(double value);

 private:
  friend class Metrics;
  std::vector<double> bounds_;
  std::vector<std::atomic<std::int64_t>> counts_;  // of each bucket alone; the last: above all bounds
  std::atomic<double> sum_{0};
};

// Values that are asked for when the text is made.
class Samples {
 public:
  void gauge(const std::string& name, const std::string& help, const Labels& labels, double value) {
    add(name, help, "gauge", labels, value);
  }
  void counter(const std::string& name, const std::string& help, const Labels& labels, double value) {
    add(name, help, "counter", labels, value);
  }

 private:
  friend class Metrics;
  struct Family {
    std::string help, type;
    std::vector<std::pair<std::string, double>> lines;  // name with labels
  };
  void add(const std::string& name, const std::string& help, const char* type, const Labels& labels, double value);
  std::map<std::string, Family> families_;
};

class Metrics {
 public:
  // The same object for the same name and labels, as long as this lives.
  Counter& counter(const std::string& name, const std::string& help, const Labels& labels = {});
  Histogram& histogram(const std::string& name, const std::string& help, const std::vector<double>& bounds,
                       const Labels& labels = {});
  void collect(std::function<void(Samples&)> source);
  std::string exposition() const;

 private:
  template <class T>
  struct Family {
    std::string help;
    std::map<std::string, std::unique_ptr<T>> by_labels;
  };
  mutable std::mutex mutex_;
  std::map<std::string, Family<Counter>> counters_;
  std::map<std::string, Family<Histogram>> histograms_;
  std::vector<std::function<void(Samples&)>> sources_;
};

}  // namespace qw::base
