#include "api/feedback/kept_answers.h"

#include "api/accounts.h"
#include "api/field_reader.h"
#include "base/clock.h"
#include "base/log.h"

namespace qw::api {
namespace {

constexpr std::int64_t kDayUs = std::int64_t{86'400} * base::kSecondUs;

tl::unexpected<Error> not_kept(const std::string& id) {
  return fail(ErrorKind::kBadInput, "no answer " + id +
                                        " is kept: answers are if the service was started with --keep-answers, "
                                        "responses if they were asked with store, and not beyond their time");
}

Result<KeptAnswer> of_chat(const json::Value& body, const std::string& id, std::size_t choice) {
  const json::Value *messages = body.find("messages"), *choices = body.find("choices");
  if (messages == nullptr || !messages->is_array() || choices == nullptr || !choices->is_array())
    return fail(ErrorKind::kFailed, "the answer " + id + " cannot be read");
  if (choice >= choices->as_array().size())
    return fail(ErrorKind::kBadInput, "the answer " + id + " has no choice " + std::to_string(choice));
  return KeptAnswer{messages->as_array(), text_member(choices->as_array()[choice], "content"),
                    text_member(body, "model")};
}

// The last message of the conversation is what was answered.
Result<KeptAnswer> of_response(const json::Value& body, const std::string& id) {
  const json::Value *messages = body.find("messages"), *response = body.find("response");
  if (messages == nullptr || !messages->is_array() || response == nullptr || messages->as_array().empty())
    return fail(ErrorKind::kFailed, "the response " + id + " cannot be read");
  KeptAnswer out{messages->as_array(), "", text_member(*response, "model")};
  out.answer = text_member(out.messages.back(), "content");
  const bool answered = text_member(out.messages.back(), "role") == "assistant";
  out.messages.pop_back();
  if (!answered || out.answer.empty())
    return fail(ErrorKind::kBadInput, "the response " + id + " has no text that could be judged");
  return out;
}

}  // namespace

void keep_answer(Background& background, const std::shared_ptr<Exchange>& exchange, const std::string& id,
                 const json::Array& messages, const AnswerRecord& record, std::int64_t days,
                 std::function<void()> then) {
  json::Array choices;
  for (const ChoiceResult& choice : record.choices) {
    // What a policy blocked is kept nowhere.
    const bool blocked = choice.reason == EndReason::kFiltered;
    choices.push_back(json::Object{{"content", blocked ? std::string() : choice.content}});
  }
  store::Document document;
  document.id = id;
  document.project_id = exchange->who()->key.project_id;
  document.kind = kKeptAnswer;
  document.expires_us = base::unix_seconds() * base::kSecondUs + days * kDayUs;
  document.body =
      json::dump(json::Object{{"model", record.model->id}, {"messages", messages}, {"choices", std::move(choices)}},
                 json::WriteStyle::compact());
  auto& documents = exchange->accounts()->store().documents();
  auto keep = [&documents, document = std::move(document), then]() mutable {
    if (const auto kept = documents.add(std::move(document)); !kept)
      base::log_error("an answer was not kept: " + kept.error().message);
    then();
  };
  if (background.post(std::move(keep))) return;
  base::log_warning("an answer was not kept: too many requests wait for the store");
  then();
}

Result<KeptAnswer> kept_answer(store::Store& store, const std::string& project, const std::string& id,
                               std::size_t choice) {
  const bool response = id.starts_with("resp_");
  const auto document = store.documents().find(project, response ? "response" : kKeptAnswer, id);
  if (!document && document.error().kind == ErrorKind::kBadInput) return not_kept(id);
  if (!document) return tl::unexpected(document.error());
  const auto body = json::parse(document->body);
  if (!body || !body->is_object()) return fail(ErrorKind::kFailed, "the answer " + id + " cannot be read");
  auto out = response ? of_response(*body, id) : of_chat(*body, id, choice);
  if (out && out->answer.empty())
    return fail(ErrorKind::kBadInput, "the answer " + id + " has no text that could be judged");
  return out;
}

}  // namespace qw::api
