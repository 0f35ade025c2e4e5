#include "net/ip_range.h"

#include <gtest/gtest.h>

namespace qw::net {
namespace {

bool inside(const char* range, const char* address) { return IpRange::parse(range)->contains(address); }

TEST(IpRange, HoldsWhatItsMaskSays) {
  EXPECT_TRUE(inside("10.0.0.0/8", "10.255.1.2"));
  EXPECT_FALSE(inside("10.0.0.0/8", "11.0.0.0"));
  EXPECT_TRUE(inside("192.168.1.128/25", "192.168.1.129"));
  EXPECT_FALSE(inside("192.168.1.128/25", "192.168.1.127"));
  EXPECT_TRUE(inside("127.0.0.1", "127.0.0.1"));
  EXPECT_FALSE(inside("127.0.0.1", "127.0.0.2"));
  EXPECT_TRUE(inside("0.0.0.0/0", "8.8.8.8"));
  EXPECT_FALSE(inside("0.0.0.0/0", "2001:db8::1"));
  EXPECT_TRUE(inside("2001:db8::/32", "2001:db8:1::7"));
  EXPECT_FALSE(inside("2001:db8::/32", "2001:db9::"));
  EXPECT_TRUE(inside("::/0", "8.8.8.8"));
  EXPECT_TRUE(inside("10.0.0.0/8", "::ffff:10.1.2.3"));
  EXPECT_FALSE(inside("10.0.0.0/8", "unknown"));
  EXPECT_FALSE(inside("10.0.0.0/8", ""));
}

TEST(IpRange, OtherTextsAreNone) {
  for (const char* text : {"", "10", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x", "10.0.0.1/8", "::1/129",
                           "a.b.c.d", "10.0.0.0 /8"})
    EXPECT_FALSE(IpRange::parse(text)) << text;
}

TEST(IpRange, TellsThePublicInternetFromTheRest) {
  for (const char* address : {"8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"})
    EXPECT_TRUE(is_public_address(address)) << address;
  for (const char* address : {"127.0.0.1",        "10.1.2.3",        "172.16.0.1",  "172.31.255.255",
                              "192.168.1.1",      "169.254.169.254", "100.64.0.1",  "0.0.0.0",
                              "224.0.0.1",        "255.255.255.255", "::1",         "::",
                              "fe80::1",          "fc00::1",         "fd12::1",     "ff02::1",
                              "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
                              "2002:7f00:1::",    "2001:db8::1",     "localhost",   "",
                              "8.8.8.8:80"})
    EXPECT_FALSE(is_public_address(address)) << address;
}

TEST(IpRange, TellsThisMachineFromNamesThatLookLikeIt) {
  for (const char* host : {"localhost", "::1", "127.0.0.1", "127.255.0.3"}) EXPECT_TRUE(is_loopback_host(host)) << host;
  for (const char* host :
       {"127.example.org", "127.0.0.1.example.org", "127.", "128.0.0.1", "0.0.0.0", "::", "localhost.org", ""})
    EXPECT_FALSE(is_loopback_host(host)) << host;
}

TEST(IpRange, APortIsCutOff) {
  EXPECT_EQ(address_of("127.0.0.1:80"), "127.0.0.1");
  EXPECT_EQ(address_of("::1:52114"), "::1");
}

}  // namespace
}  // namespace qw::net
