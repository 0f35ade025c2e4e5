// Personal data: published numbers and their neighbours, and the same finds however a text is cut.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "governance/pii/identifiers.h"
#include "governance/pii/pii_finder.h"

namespace qw::governance {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Identifiers, CheckDigitsHoldAndNeighboursDoNot) {
  EXPECT_TRUE(is_cn_resident_id("11010519491231002X"));
  EXPECT_FALSE(is_cn_resident_id("110105194912310021"));
  EXPECT_FALSE(is_cn_resident_id("11010519490231002X"));  // 31 February
  EXPECT_TRUE(is_cn_credit_code("91350100M000100Y43"));
  EXPECT_FALSE(is_cn_credit_code("91350100M000100Y44"));
  EXPECT_TRUE(is_cn_mobile("13800138000"));
  EXPECT_FALSE(is_cn_mobile("12800138000"));
  EXPECT_TRUE(is_payment_card("6222020200000000006"));
  EXPECT_TRUE(is_payment_card("4111111111111111"));
  EXPECT_FALSE(is_payment_card("4111111111111112"));
  EXPECT_FALSE(is_payment_card("0000000000000000"));
  EXPECT_TRUE(is_iban("IT60X0542811101000000123456"));
  EXPECT_TRUE(is_iban("GB82WEST12345698765432"));
  EXPECT_FALSE(is_iban("IT60X0542811101000000123457"));
  EXPECT_FALSE(is_iban("ZZ82WEST12345698765432"));
  EXPECT_TRUE(is_codice_fiscale("RSSMRA85T10A562S"));
  EXPECT_TRUE(is_codice_fiscale("MRTMTT25D09F205Z"));
  EXPECT_TRUE(is_codice_fiscale("RSSMRA85T10A56NH"));  // a letter for a digit
  EXPECT_FALSE(is_codice_fiscale("RSSMRA85T10A562T"));
  EXPECT_TRUE(is_partita_iva("07643520567"));
  EXPECT_FALSE(is_partita_iva("07643520568"));
  EXPECT_TRUE(is_us_ssn("219099999"));
  EXPECT_FALSE(is_us_ssn("666099999"));
  EXPECT_FALSE(is_us_ssn("219009999"));
}

TEST(Identifiers, OneWrongDigitIsFound) {
  for (std::size_t place = 0; place < 16; ++place)
    for (char digit = '0'; digit <= '9'; ++digit) {
      std::string card = "4111111111111111";
      if (card[place] == digit) continue;
      card[place] = digit;
      EXPECT_FALSE(is_payment_card(card)) << card;
      std::string id = "11010519491231002X";
      if (id[place] == digit) continue;
      id[place] = digit;
      EXPECT_FALSE(is_cn_resident_id(id)) << id;
    }
}

std::vector<PiiHit> hits_in(std::string_view text, std::string_view kinds = "all") {
  PiiFinder finder(*PiiSet::parse(kinds));
  std::vector<PiiHit> out;
  finder.push(text, out);
  finder.finish(out);
  return out;
}
std::vector<std::string> found(std::string_view text, std::string_view kinds = "all") {
  std::vector<std::string> out;
  for (const PiiHit& hit : hits_in(text, kinds))
    out.push_back(std::string(name_of(hit.kind)) + " " + std::string(text.substr(hit.begin, hit.end - hit.begin)));
  return out;
}

TEST(Pii, IsFoundAsPeopleWriteIt) {
  EXPECT_THAT(found("身份证11010519491231002x，手机138-0013-8000。"),
              ElementsAre("cn_resident_id 11010519491231002x", "cn_mobile 138-0013-8000"));
  EXPECT_THAT(found("call +86 138 0013 8000 or 8613800138000 now"),
              ElementsAre("cn_mobile +86 138 0013 8000", "cn_mobile 8613800138000"));
  EXPECT_THAT(found("Card 4111 1111 1111 1111 exp 12/30"), ElementsAre("payment_card 4111 1111 1111 1111"));
  EXPECT_THAT(found("IBAN IT60 X054 2811 1010 0000 0123 456."), ElementsAre("iban IT60 X054 2811 1010 0000 0123 456"));
  EXPECT_THAT(found("mail a.b+c@mail.example.org, or me@x"), ElementsAre("email a.b+c@mail.example.org"));
  EXPECT_THAT(found("from 192.168.1.10 and 2001:db8::1 via ::1, std::add 1.2.3.400"),
              ElementsAre("ip_address 192.168.1.10", "ip_address 2001:db8::1", "ip_address ::1"));
  EXPECT_THAT(found("cf rssmra85t10a562s"), ElementsAre("codice_fiscale rssmra85t10a562s"));
  EXPECT_THAT(found("SSN 219-09-9999, ssn: 219099999"), ElementsAre("us_ssn 219-09-9999", "us_ssn 219099999"));
  EXPECT_THAT(found("P. IVA 07643520567; IT07643520567"),
              ElementsAre("partita_iva 07643520567", "partita_iva IT07643520567"));
  EXPECT_THAT(found("护照 E12345678"), ElementsAre("cn_passport E12345678"));
}

TEST(Pii, WhatLooksLikeItIsNone) {
  for (const char* text : {"order 138001380001", "x13800138000", "07643520567", "219099999", "E12345678",
                           "1-800-555-0199", "4111 1111 1111 1112", "550e8400-e29b-41d4-a716-446655440000",
                           "version 1.2.3", "at 12:30:45", "a@b", "@name", "3.14159265358979", "2026-11-29"})
    EXPECT_THAT(found(text), IsEmpty()) << text;
  EXPECT_THAT(found("13800138000 a@b.org", "eu"), ElementsAre("email a@b.org"));  // only what is asked for
  EXPECT_EQ(PiiSet::parse("eu,names").error().kind, ErrorKind::kUsage);
}

TEST(Pii, IsTheSameWhereverTheTextIsCutAndNothingIsLetGoTooEarly) {
  const std::string text =
      "身份证11010519491231002x，手机138-0013-8000。 Card 4111 1111 1111 1111 to a.b@example.org, P. IVA 07643520567 "
      "(IT60 X054 "
      "2811 1010 0000 0123 456) from 10.0.0.1 or ::1 END 219-09-9999";
  const auto whole = hits_in(text);
  ASSERT_EQ(whole.size(), 9u);
  for (std::size_t first = 0; first <= text.size(); ++first) {
    const std::size_t second = std::min(text.size(), first + 7);
    PiiFinder finder(*PiiSet::parse("all"));
    std::vector<PiiHit> pieces;
    finder.push(text.substr(0, first), pieces);
    std::uint64_t settled = finder.settled();
    for (const auto& [from, to] : {std::pair(first, second), std::pair(second, text.size())}) {
      const std::size_t before = pieces.size();
      finder.push(text.substr(from, to - from), pieces);
      for (std::size_t i = before; i < pieces.size(); ++i) ASSERT_GE(pieces[i].begin, settled);
      settled = finder.settled();
    }
    finder.finish(pieces);
    ASSERT_EQ(pieces, whole) << "cut at " << first;
  }
}

TEST(Pii, IsMaskedButItsEnd) {
  const std::string text = "card 4111 1111 1111 1111, mail a.b@example.org";
  EXPECT_EQ(masked(text, hits_in(text)), "card **** **** **** 1111, mail ***@example.org");
}

}  // namespace
}  // namespace qw::governance
