// Log-probabilities as the older completions form has them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "api/text_sink.h"
#include "base/utf8.h"
#include "json/value.h"
#include "tokenizer/tokenizer.h"

namespace qw::api::openai {

// Parallel arrays, alternatives as an object per token. `offset`: characters of the text so
// far (code points, as clients count them), which goes on.
class CompletionLogprobs {
 public:
  CompletionLogprobs(const tokenizer::Tokenizer& tokenizer, std::int64_t& offset)
      : tokenizer_(tokenizer), offset_(offset) {}

  // Of a prompt: nothing is known of how likely its first token was.
  void add_first(engine::TokenId id) { add(id, nullptr, nullptr); }
  void add(std::span<const TokenDetail> tokens) {
    for (const TokenDetail& t : tokens) {
      json::Object top;
      for (const auto& other : t.top) top.set(name_of(other.id), static_cast<double>(other.logprob));
      add(t.id, static_cast<double>(t.logprob), std::move(top));
    }
  }
  json::Value take() {
    json::Object out;
    out.set("tokens", std::move(names_));
    out.set("token_logprobs", std::move(values_));
    out.set("top_logprobs", std::move(tops_));
    out.set("text_offset", std::move(offsets_));
    return out;
  }

 private:
  void add(engine::TokenId id, json::Value logprob, json::Value top) {
    names_.emplace_back(name_of(id));
    values_.push_back(std::move(logprob));
    tops_.push_back(std::move(top));
    offsets_.emplace_back(offset_);
    if (tokenizer_.is_special(id)) return;  // it is no part of the text
    const std::string_view bytes = tokenizer_.token_bytes(id);
    offset_ += std::count_if(bytes.begin(), bytes.end(), [](char c) { return (c & 0xC0) != 0x80; });
  }
  // A token that is a part of a character has no text of its own; tokens must be told apart all the same.
  std::string name_of(engine::TokenId id) const {
    const std::string_view bytes = tokenizer_.token_bytes(id);
    if (base::is_valid_utf8(bytes)) return tokenizer_.decode(std::span(&id, 1), false);
    std::string out = "bytes:";
    for (const char c : bytes) {
      char hex[5];
      std::snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned char>(c));
      out += hex;
    }
    return out;
  }

  const tokenizer::Tokenizer& tokenizer_;
  std::int64_t& offset_;
  json::Array names_, values_, tops_, offsets_;
};

}  // namespace qw::api::openai
