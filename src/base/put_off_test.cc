#include "base/put_off.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>

namespace qw::base {
namespace {

TEST(PutOff, OnlyWhereAThreadSaysHow) {
  std::string done;
  EXPECT_FALSE(put_off([&] { done += "x"; }));
  std::vector<std::function<void()>> queue;
  put_off_by([&](std::function<void()> work) { queue.push_back(std::move(work)); });
  EXPECT_TRUE(put_off([&] { done += "1"; }));
  std::thread([] { EXPECT_FALSE(put_off([] {})); }).join();
  {
    const PuttingOff until_the_end;
    EXPECT_TRUE(put_off([&] { done += "2"; }));
    EXPECT_TRUE(put_off([&] {
      done += "3";
      EXPECT_TRUE(put_off([&] { done += "5"; }));  // the thread's own way again
    }));
    EXPECT_EQ(done, "");
  }
  EXPECT_EQ(done, "23");
  EXPECT_EQ(queue.size(), 2u);
  for (const auto& work : queue) work();
  EXPECT_EQ(done, "2315");
  put_off_by({});
  EXPECT_FALSE(put_off([] {}));
}

}  // namespace
}  // namespace qw::base
