#include "governance/label/aigc_label.h"

#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "base/trim.h"
#include "governance/pii/identifiers.h"

namespace qw::governance {
namespace {

struct Field {
  const char* name;
  std::string AigcLabel::*value;
};
constexpr Field kFields[] = {
    {"Label", &AigcLabel::label},
    {"ContentProducer", &AigcLabel::producer},
    {"ProduceID", &AigcLabel::produce_id},
    {"ReservedCode1", &AigcLabel::reserved1},
    {"ContentPropagator", &AigcLabel::propagator},
    {"PropagateID", &AigcLabel::propagate_id},
    {"ReservedCode2", &AigcLabel::reserved2},
};
constexpr std::size_t kCodeLength = 27;
constexpr std::string_view kCodeBegins = "0011";  // an organisation, bound to its credit code

}  // namespace

bool is_provider_code(std::string_view code) {
  return code.size() == kCodeLength && code.starts_with(kCodeBegins) && is_cn_credit_code(code.substr(4, 18)) &&
         (code[22] == '1' || code[22] == '2') && std::all_of(code.begin() + 23, code.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
         });
}

std::string fault_of(const AigcLabel& label) {
  if (label.label != "1" && label.label != "2" && label.label != "3") return "Label is none of \"1\", \"2\" and \"3\"";
  if (label.producer.empty()) return "ContentProducer is empty";
  if (label.produce_id.empty()) return "ProduceID is empty";
  for (const Field& field : kFields)
    for (const char c : label.*field.value)
      if (c < 0x21 || c > 0x7E) return std::string(field.name) + " has characters outside 0x21 to 0x7E";
  for (const std::string* code : {&label.producer, &label.propagator})
    if (code->size() == kCodeLength && code->starts_with(kCodeBegins) && !is_provider_code(*code))
      return "the provider's code " + *code + " does not check";
  return "";
}

json::Object to_json(const AigcLabel& label) {
  json::Object out;
  for (const Field& field : kFields) out.set(field.name, label.*field.value);
  return out;
}

std::string compact_json(const AigcLabel& label) {
  return json::dump(json::Value(to_json(label)), json::WriteStyle::compact());
}

Result<AigcLabel> read_aigc_label(const json::Value& object) {
  if (!object.is_object()) return fail(ErrorKind::kBadInput, "AIGC is no object");
  AigcLabel out;
  for (const Field& field : kFields) {
    const json::Value* value = object.find(field.name);
    if (value == nullptr || !value->is_string())
      return fail(ErrorKind::kBadInput, std::string("AIGC needs ") + field.name + ", a text");
    out.*field.value = value->as_string();
  }
  if (object.as_object().size() != std::size(kFields))
    return fail(ErrorKind::kBadInput, "AIGC has members beside its seven");
  return out;
}

std::string new_produce_id() {
  std::array<unsigned char, 16> bytes{};
  QW_CHECK(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1);
  auto ms = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count());
  for (int i = 5; i >= 0; --i, ms >>= 8) bytes[static_cast<std::size_t>(i)] = static_cast<unsigned char>(ms);
  bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0F) | 0x70);  // version 7
  bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3F) | 0x80);  // the variant of RFC 9562
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
    out += "0123456789abcdef"[bytes[i] >> 4];
    out += "0123456789abcdef"[bytes[i] & 15];
  }
  return out;
}

bool has_explicit_words(std::string_view text) {
  constexpr int kNear = 64;
  text = base::trimmed(text, " \t\r\n\v\f");
  const auto inside = [&](std::size_t at) { return at < text.size() && (text[at] & 0xC0) == 0x80; };
  std::size_t head = 0, tail = text.size();
  for (int i = 0; i < kNear && head < text.size(); ++i) do
      ++head;
    while (inside(head));
  for (int i = 0; i < kNear && tail > 0; ++i) do
      --tail;
    while (tail > 0 && inside(tail));
  const auto says = [](std::string_view part) {
    const auto has = [&](std::string_view word) { return part.find(word) != std::string_view::npos; };
    return (has("人工智能") || has("AI")) && (has("生成") || has("合成"));
  };
  return says(text.substr(0, head)) || says(text.substr(tail));
}

}  // namespace qw::governance
