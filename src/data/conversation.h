// Lines of fine-tuning corpora as conversations: the forms that other tools write, each as the variables of a chat
// template.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "json/value.h"

namespace qw::data {

enum class ConversationForm : std::uint8_t {
  kShareGpt,          // {"conversations": [{"from": "human", "value": T}, ...]}, also "system"
  kAlpaca,            // {"instruction": T, "input": T, "output": T}, also "system" and "history" [[T, T], ...]
  kPromptCompletion,  // {"prompt": P, "completion": P}; P: a text or messages
  kPreference,  // {"prompt": P, "chosen": P, "rejected": P}; without a prompt it is what both begin with. Or OpenAI's
                // {"input": {"messages"}, "preferred_output": messages, "non_preferred_output": messages}
  kRated,       // {"prompt": P, "completion": P, "label": true | false}
  kClassified,  // {"text": P, "label": L} or {"messages": messages, "label": L}; L: a name or a number
  kVerified,    // {"prompt": P, "answer": T}; T: a text or a number that an answer is judged by, "" if it is not there
  kRetrieval,   // {"query": T, "positive": T, "negatives": [T, ...]}: a document that answers the query, others that do not
  kRanking,     // the same line, each document beside the query
};

struct Conversation {
  json::Object chat;        // "messages", and "tools" if the line has some
  json::Object rejected;    // kPreference: the same up to `context`, then the answer that was not preferred
  std::size_t context = 0;  // so many messages at the beginning are not learnt from, whoever says them
  float value = 0;          // kRated: 1 if the answer was liked; kPreference: "margin"
  json::Value label;        // kClassified: a text or a whole number
  std::vector<std::string> texts;  // kRetrieval, kRanking: the query, the one that answers it, the others
};

// kBadInput: a member is missing or is not what the form says.
Result<Conversation> conversation_of(const json::Value& line, ConversationForm form);

}  // namespace qw::data
