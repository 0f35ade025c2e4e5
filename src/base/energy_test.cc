#include "base/energy.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>

namespace qw::base {
namespace {

class EnergyTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "qw_energy_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void zone(const std::string& name, const std::string& what, const std::string& uj,
            const std::string& range = "1000000000") {
    const auto at = folder_ / name;
    std::filesystem::create_directories(at);
    std::ofstream(at / "name") << what << "\n";
    std::ofstream(at / "energy_uj") << uj << "\n";
    std::ofstream(at / "max_energy_range_uj") << range << "\n";
  }
  std::filesystem::path folder_;
};

TEST_F(EnergyTest, AddsPackagesAndMemoryAndFollowsAWrap) {
  zone("intel-rapl:0", "package-0", "999000000");
  zone("intel-rapl:0:0", "core", "5");  // part of the package
  zone("intel-rapl:0:1", "dram", "1000000");
  EnergyMeter meter(folder_);
  ASSERT_TRUE(meter.works()) << meter.why_not();
  EXPECT_EQ(meter.domains(), (std::vector<std::string>{"package-0", "dram"}));
  zone("intel-rapl:0", "package-0", "2000000");  // wrapped: 1 J to the end, 2 J since
  zone("intel-rapl:0:0", "core", "500000000");
  zone("intel-rapl:0:1", "dram", "1500000");
  EXPECT_NEAR(meter.joules().value(), 3.5, 1e-9);
  EXPECT_NEAR(meter.joules().value(), 3.5, 1e-9);
}

TEST_F(EnergyTest, SaysWhyThereIsNone) {
  EXPECT_NE(EnergyMeter(folder_).why_not().find("no energy counters"), std::string::npos);
  zone("intel-rapl:0", "package-0", "no number");
  EnergyMeter meter(folder_);
  EXPECT_FALSE(meter.works());
  EXPECT_NE(meter.why_not().find("cannot be read"), std::string::npos);
  EXPECT_FALSE(meter.joules());
}

}  // namespace
}  // namespace qw::base
