// Numbers that states and banks give to people, and whether one can be true: length, dates, check digits. Each takes
// the characters alone, without blanks, letters as capitals.
//
// Sources: GB 11643 (resident identity), GB 32100 (unified social credit code), ISO/IEC 7812 annex B (Luhn), ISO 13616
// (IBAN), the Italian decrees of 23 December 1976 (codice fiscale and its omocodie) and on partite IVA, the US Social
// Security Administration's rules of 2011.
#pragma once

#include <string_view>

namespace qw::governance {

bool is_cn_resident_id(std::string_view text);  // 18 characters, the last a digit or X
bool is_cn_credit_code(std::string_view text);  // 18 characters
bool is_cn_mobile(std::string_view digits);     // 11 digits
bool is_payment_card(std::string_view digits);  // 13 to 19 digits, of a network that there is
bool is_iban(std::string_view text);            // 15 to 34 characters, of a country that there is
bool is_codice_fiscale(std::string_view text);  // 16 characters
bool is_partita_iva(std::string_view digits);   // 11 digits
bool is_us_ssn(std::string_view digits);        // 9 digits

}  // namespace qw::governance
