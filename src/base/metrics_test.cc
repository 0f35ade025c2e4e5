#include "base/metrics.h"

#include <gtest/gtest.h>

#include <thread>

namespace qw::base {
namespace {

TEST(Metrics, TextIsPrometheus) {
  Metrics metrics;
  metrics.counter("requests_total", "Requests.", {{"code", "200"}}).add(3);
  metrics.counter("requests_total", "Requests.", {{"code", "200"}}).add();
  metrics.counter("requests_total", "Requests.", {{"code", "4\"\\\n"}}).add();
  auto& seconds = metrics.histogram("wait_seconds", "Waiting.", {0.5, 2}, {{"model", "m"}});
  for (const double v : {0.25, 0.5, 1.0, 9.0}) seconds.observe(v);
  metrics.collect([](Samples& s) {
    s.gauge("queue", "Length.", {{"model", "a"}}, 2);
    s.gauge("queue", "Length.", {{"model", "b"}}, 0.5);
  });
  EXPECT_EQ(metrics.exposition(),
            "# HELP requests_total Requests.\n# TYPE requests_total counter\n"
            "requests_total{code=\"200\"} 4\nrequests_total{code=\"4\\\"\\\\\\n\"} 1\n"
            "# HELP wait_seconds Waiting.\n# TYPE wait_seconds histogram\n"
            "wait_seconds_bucket{model=\"m\",le=\"0.5\"} 2\nwait_seconds_bucket{model=\"m\",le=\"2\"} 3\n"
            "wait_seconds_bucket{model=\"m\",le=\"+Inf\"} 4\nwait_seconds_sum{model=\"m\"} "
            "10.75\nwait_seconds_count{model=\"m\"} 4\n"
            "# HELP queue Length.\n# TYPE queue gauge\nqueue{model=\"a\"} 2\nqueue{model=\"b\"} 0.5\n");
}

TEST(Metrics, ThreadsLoseNothing) {
  Metrics metrics;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        metrics.counter("n", "N.").add();
        metrics.histogram("h", "H.", {1}).observe(0.5);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const std::string text = metrics.exposition();
  EXPECT_NE(text.find("\nn 4000\n"), std::string::npos);
  EXPECT_NE(text.find("h_count 4000\n"), std::string::npos);
  EXPECT_NE(text.find("h_sum 2000\n"), std::string::npos);
}

}  // namespace
}  // namespace qw::base
