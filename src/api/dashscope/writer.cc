#include "api/dashscope/writer.h"

#include <utility>

#include "api/dashscope/api.h"
#include "api/openai/writer.h"

namespace qw::api::dashscope {
namespace {

using Kind = chat::OutputEvent::Kind;

json::Value usage(const store::Tokens& t) {
  return json::Object{{"input_tokens", t.prompt},
                      {"output_tokens", t.output},
                      {"total_tokens", t.prompt + t.output},
                      {"prompt_tokens_details", json::Object{{"cached_tokens", t.cached}}},
                      {"output_tokens_details", json::Object{{"reasoning_tokens", t.reasoning}}}};
}

json::Value call_of(std::size_t index, std::string id, json::Object function) {
  return json::Object{{"index", static_cast<std::int64_t>(index)},
                      {"id", std::move(id)},
                      {"type", "function"},
                      {"function", std::move(function)}};
}

class Writer final : public AnswerWriter {
 public:
  Writer(std::shared_ptr<Exchange> exchange, WriterOptions options)
      : exchange_(std::move(exchange)), options_(options) {}

  void begin(const AnswerRecord&) override {
    streams_ = true;
    exchange_->begin_events(":\n\n");
  }

  void event(const AnswerRecord& record, std::size_t choice, const chat::OutputEvent& event,
             std::span<const TokenDetail> tokens) override {
    if (event.kind == Kind::kToolCallEnd) return;
    const ChoiceResult& c = record.choices[choice];
    Piece piece;
    if (!options_.incremental) piece = whole(c);
    if (options_.incremental && event.kind == Kind::kContent) piece.content = event.text;
    if (options_.incremental && event.kind == Kind::kReasoning) piece.reasoning = event.text;
    if (options_.incremental && event.kind == Kind::kToolCallBegin)
      piece.calls.push_back(call_of(c.calls.size() - 1, c.calls.back().id, {{"name", event.text}, {"arguments", ""}}));
    if (options_.incremental && event.kind == Kind::kToolCallArguments)
      piece.calls.push_back(call_of(c.calls.size() - 1, "", {{"arguments", event.text}}));
    piece.tokens = tokens;
    frame(record, choice, std::move(piece), "null");
  }
  void held(const AnswerRecord& record, std::size_t choice, std::span<const TokenDetail> tokens) override {
    Piece piece = options_.incremental ? Piece() : whole(record.choices[choice]);
    piece.tokens = tokens;
    frame(record, choice, std::move(piece), "null");
  }
  // Streams that are not incremental say it by themselves: each frame is all that is to be shown.
  void retract(const AnswerRecord& record, std::size_t choice) override {
    retracts_ = true;
    frame(record, choice, {}, "null");
    retracts_ = false;
  }
  void choice_ended(const AnswerRecord&, std::size_t) override {}  // its frame has the final counts: finish

  void finish(const AnswerRecord& record) override {
    if (is_refusal(record)) {
      ApiError error{400, "invalid_request_error", "The answer was ended by the policy of this service.", "", ""};
      error.code = kContentFilter;
      return fail(error, streams_);
    }
    if (streams_) {
      for (std::size_t i = 0; i < record.choices.size(); ++i)
        frame(record, i, options_.incremental ? Piece() : whole(record.choices[i]),
              openai::reason_name(record.choices[i].reason));
      return exchange_->end_events();
    }
    json::Array choices;
    json::Object output;
    for (std::size_t i = 0; i < record.choices.size(); ++i) {
      const ChoiceResult& c = record.choices[i];
      Piece piece = whole(c);
      piece.tokens = c.tokens;
      if (!options_.message_format && i == 0) output = text_output(record, piece, openai::reason_name(c.reason));
      choices.push_back(choice_of(record, i, std::move(piece), openai::reason_name(c.reason)));
    }
    if (options_.message_format || choices.size() > 1) output.set("choices", std::move(choices));
    exchange_->send_json(200, json::Object{{"output", std::move(output)},
                                           {"usage", usage(record.tokens)},
                                           {"request_id", exchange_->request_id()}});
  }

  void fail(const ApiError& error, bool begun) override {
    if (!begun) return exchange_->send_error(error);
    send("error", error.status, error_body(error, exchange_->request_id()));
    exchange_->end_events();
  }

 private:
  // One choice, and nothing to say instead of it: clients know that as an error.
  static bool is_refusal(const AnswerRecord& record) {
    const ChoiceResult& c = record.choices[0];
    return record.choices.size() == 1 && c.reason == EndReason::kFiltered && c.content.empty();
  }
  struct Piece {
    std::string content, reasoning;
    json::Array calls;
    std::span<const TokenDetail> tokens;
  };
  static Piece whole(const ChoiceResult& c) {
    Piece piece;
    piece.content = c.content;
    piece.reasoning = c.reasoning;
    for (std::size_t i = 0; i < c.calls.size(); ++i)
      piece.calls.push_back(
          call_of(i, c.calls[i].id, {{"name", c.calls[i].name}, {"arguments", c.calls[i].arguments}}));
    return piece;
  }

  json::Object text_output(const AnswerRecord& record, const Piece& piece, const char* reason) const {
    json::Object out{{"text", piece.content}, {"finish_reason", reason}};
    if (retracts_) out.set(kRetract, true);
    if (record.choices[0].repeats) out.set(kCutBy, kRepetition);
    if (!piece.reasoning.empty()) out.set("reasoning_content", piece.reasoning);
    return out;
  }
  json::Value choice_of(const AnswerRecord& record, std::size_t index, Piece piece, const char* reason) const {
    json::Value content(piece.content);
    if (options_.parts)
      content = piece.content.empty() ? json::Array{} : json::Array{json::Object{{"text", piece.content}}};
    json::Object message{{"role", "assistant"}, {"content", std::move(content)}};
    if (!piece.reasoning.empty()) message.set("reasoning_content", piece.reasoning);
    if (!piece.calls.empty()) message.set("tool_calls", std::move(piece.calls));
    json::Object choice{
        {"index", static_cast<std::int64_t>(index)}, {"finish_reason", reason}, {"message", std::move(message)}};
    if (record.choices[index].repeats) choice.set(kCutBy, kRepetition);
    if (retracts_) choice.set(kRetract, true);
    if (options_.logprobs)
      choice.set("logprobs", json::Object{{"content", openai::chat_logprobs(*record.model->tokenizer, piece.tokens)}});
    return choice;
  }
  void frame(const AnswerRecord& record, std::size_t index, Piece piece, const char* reason) {
    json::Object output;
    if (options_.message_format || record.choices.size() > 1) {
      output.set("choices", json::Array{choice_of(record, index, std::move(piece), reason)});
    } else {
      output = text_output(record, piece, reason);
    }
    send("result", 200,
         json::Object{
             {"output", std::move(output)}, {"usage", usage(record.tokens)}, {"request_id", exchange_->request_id()}});
  }
  void send(const char* event, int status, const json::Value& data) {
    exchange_->reply().write(frame_text(++frames_, event, status, data));
  }

  const std::shared_ptr<Exchange> exchange_;
  const WriterOptions options_;
  bool streams_ = false, retracts_ = false;
  std::int64_t frames_ = 0;
};

}  // namespace

std::string frame_text(std::int64_t number, const char* event, int status, const json::Value& data) {
  return "id:" + std::to_string(number) + "\nevent:" + event + "\n:HTTP_STATUS/" + std::to_string(status) +
         "\ndata:" + json::dump(data, json::WriteStyle::compact()) + "\n\n";
}

std::unique_ptr<AnswerWriter> make_writer(std::shared_ptr<Exchange> exchange, WriterOptions options) {
  return std::make_unique<Writer>(std::move(exchange), options);
}

}  // namespace qw::api::dashscope
