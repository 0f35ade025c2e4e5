// A service that follows a policy, and what a client of each protocol is told by it, for the tests of guards.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "api/internal/test_service.h"
#include "base/file.h"

namespace qw::api::test {

inline constexpr const char* kGuardWords = "[arms]\nbomb\n[mild]\ndarn\n";

inline std::unique_ptr<const governance::Policy> policy_of(const std::string& guard,
                                                           const std::filesystem::path& folder,
                                                           const char* packs = R"([{"file": "words", "action": "block",
                                                                "categories": {"mild": "flag"}}])") {
  EXPECT_TRUE(base::write_file_atomically(folder / "words", kGuardWords));
  auto profile = governance::Profile::parse(R"({"profile": "p", "version": 1, "date": "2026-11-29", "guard": )" +
                                            guard + R"(, "keyword_packs": )" + packs + "}");
  EXPECT_TRUE(profile) << profile.error().message;
  auto policy = governance::Policy::load(std::move(*profile), folder);
  EXPECT_TRUE(policy) << policy.error().message;
  return std::move(*policy);
}

// What a client of a protocol that honours retractions ends up with.
struct Told {
  std::string content, reasoning, reason, arguments, head;
  std::int64_t output_tokens = 0, prompt_tokens = 0;
  int retractions = 0, status = 0;
};

class GuardTest : public test::ServiceTest {
 protected:
  GuardTest() {
    folder_ = std::filesystem::temp_directory_path() / ("qw-guard-" + std::to_string(::getpid()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~GuardTest() override {
    service_.reset();
    engine_->stop();
    std::filesystem::remove_all(folder_);
  }
  void SetUp() override {}  // follow() starts it
  void follow(const std::string& guard) {
    service_.reset();
    held_.push_back(std::make_unique<governance::PolicySet>());
    held_.back()->add("", policy_of(guard, folder_));
    policies_ = held_.back().get();
    start_service(nullptr);
  }
  void says(const std::string& text, std::int32_t prompt = 3) {
    model_.prompt_tokens = prompt;
    model_.script = tokenizer_.encode(text);
    model_.script.push_back(*tokenizer_.find("<|im_end|>"));
  }
  static std::string text_of(const json::Value* v, std::string_view key) {
    const json::Value* text = v == nullptr ? nullptr : v->find(key);
    return text != nullptr && text->is_string() ? text->as_string() : "";
  }
  static std::int64_t number_of(const json::Value* v, std::string_view key) {
    const json::Value* n = v == nullptr ? nullptr : v->find(key);
    return n != nullptr && n->is_int() ? n->as_int() : 0;
  }
  std::vector<json::Value> lines(const std::string& path, const std::string& body, const std::string& headers,
                                 Told& out) {
    const auto answer = ask("POST", path, body, headers);
    out.status = answer.status;
    out.head = answer.head;
    if (answer.head.find("chunked") != std::string::npos) return test::json_of_lines(test::dechunked(answer.body));
    std::vector<json::Value> whole;
    if (auto value = json::parse(answer.body)) whole.push_back(std::move(*value));
    return whole;
  }
  static void take_back(Told& out) {
    ++out.retractions;
    out.content.clear();
    out.reasoning.clear();
    out.arguments.clear();
  }
  static void add_openai(const json::Value& message, Told& out) {
    out.content += text_of(&message, "content");
    out.reasoning += text_of(&message, "reasoning_content");
    if (const json::Value* calls = message.find("tool_calls"))
      for (const json::Value& call : calls->as_array()) out.arguments += text_of(call.find("function"), "arguments");
  }
  static constexpr const char* kMessages = R"("model":"alphabet","messages":[{"role":"user","content":")";

  Told openai(bool stream, const std::string& prompt = "abc", const std::string& more = "") {
    Told out;
    for (const json::Value& v :
         lines("/v1/chat/completions",
               std::string("{") + kMessages + prompt + R"("}],"stream":)" +
                   (stream ? R"(true,"stream_options":{"include_usage":true})" : "false") + more + "}",
               "", out)) {
      if (const json::Value* error = v.find("error")) out.reason = text_of(error, "code");
      if (const json::Value* usage = v.find("usage"); usage != nullptr && usage->is_object()) {
        out.output_tokens = number_of(usage, "completion_tokens");
        out.prompt_tokens = number_of(usage, "prompt_tokens");
      }
      const json::Value* choices = v.find("choices");
      if (choices == nullptr || choices->as_array().empty()) continue;
      const json::Value& choice = choices->as_array()[0];
      if (choice.find("retract") != nullptr) take_back(out);
      add_openai(*choice.find(stream ? "delta" : "message"), out);
      if (const std::string reason = text_of(&choice, "finish_reason"); !reason.empty()) out.reason = reason;
    }
    return out;
  }
  Told responses(bool stream, const std::string& prompt = "abc", const std::string& more = "") {
    Told out;
    const json::Value* final = nullptr;
    const auto all = lines("/v1/responses",
                           R"({"model":"alphabet","store":false,"input":")" + prompt + R"(","stream":)" +
                               (stream ? "true" : "false") + more + "}",
                           "", out);
    for (const json::Value& v : all) {
      const std::string type = text_of(&v, "type");
      if (type == "response.retract") take_back(out);
      if (type == "response.output_text.delta") out.content += text_of(&v, "delta");
      if (type == "response.reasoning_text.delta") out.reasoning += text_of(&v, "delta");
      if (type == "response.function_call_arguments.delta") out.arguments += text_of(&v, "delta");
      if (const json::Value* error = v.find("error"); error != nullptr && error->is_object())
        out.reason = text_of(error, "code");
      if (type == "response.completed" || type == "response.incomplete") final = v.find("response");
      if (!stream && v.find("output") != nullptr) final = &v;
    }
    if (final == nullptr) return out;
    std::string content;
    for (const json::Value& item : final->find("output")->as_array()) {
      if (!stream && text_of(&item, "type") == "function_call") out.arguments += text_of(&item, "arguments");
      if (text_of(&item, "type") == "message") content += text_of(&item.find("content")->as_array()[0], "text");
      if (!stream && text_of(&item, "type") == "reasoning")
        out.reasoning += text_of(&item.find("content")->as_array()[0], "text");
    }
    if (stream) {
      EXPECT_EQ(content, out.content);
    }
    out.content = content;
    out.reason = text_of(final->find("incomplete_details"), "reason");
    if (out.reason.empty()) out.reason = text_of(final, "status");
    out.output_tokens = number_of(final->find("usage"), "output_tokens");
    out.prompt_tokens = number_of(final->find("usage"), "input_tokens");
    return out;
  }
  Told anthropic(bool stream, const std::string& prompt = "abc", const std::string& more = "") {
    Told out;
    for (const json::Value& v : lines("/v1/messages",
                                      std::string("{") + kMessages + prompt + R"("}],"max_tokens":90,"stream":)" +
                                          (stream ? "true" : "false") + more + "}",
                                      "anthropic-version: 2023-06-01\r\n", out)) {
      const std::string type = text_of(&v, "type");
      if (type == "error") out.reason = text_of(v.find("error"), "type");
      if (type == "retract") take_back(out);
      const json::Value* delta = v.find("delta");
      out.content += text_of(delta, "text");
      out.reasoning += text_of(delta, "thinking");
      out.arguments += text_of(delta, "partial_json");
      if (const json::Value* content = v.find("content"); content != nullptr && type == "message")
        for (const json::Value& block : content->as_array()) {
          out.content += text_of(&block, "text");
          out.reasoning += text_of(&block, "thinking");
          if (const json::Value* input = block.find("input")) out.arguments += json::dump(*input);
        }
      const json::Value* at_end = type == "message" ? &v : delta;
      if (const std::string reason = text_of(at_end, "stop_reason"); !reason.empty()) out.reason = reason;
      if (const json::Value* usage = v.find("usage"); usage != nullptr) {
        out.output_tokens = number_of(usage, "output_tokens");
        out.prompt_tokens = number_of(usage, "input_tokens") + number_of(usage, "cache_read_input_tokens");
      }
    }
    return out;
  }
  Told dashscope(bool stream, const std::string& prompt = "abc", const std::string& more = "") {
    Told out;
    for (const json::Value& v :
         lines("/api/v1/services/aigc/text-generation/generation",
               R"({"model":"alphabet","input":{"messages":[{"role":"user","content":")" + prompt +
                   R"("}]},"parameters":{"result_format":"message","incremental_output":true)" + more + "}}",
               stream ? "X-DashScope-SSE: enable\r\n" : "", out)) {
      if (const std::string code = text_of(&v, "code"); !code.empty()) out.reason = code;
      if (const json::Value* usage = v.find("usage")) {
        out.output_tokens = number_of(usage, "output_tokens");
        out.prompt_tokens = number_of(usage, "input_tokens");
      }
      if (v.find("output") == nullptr) continue;
      const json::Value& choice = v.find("output")->find("choices")->as_array()[0];
      if (choice.find("retract") != nullptr) take_back(out);
      add_openai(*choice.find("message"), out);
      if (const std::string reason = text_of(&choice, "finish_reason"); reason != "null") out.reason = reason;
    }
    return out;
  }
  Told ollama(bool stream, const std::string& prompt = "abc", const std::string& more = "") {
    Told out;
    for (const json::Value& v :
         lines("/api/chat",
               std::string("{") + kMessages + prompt + R"("}],"stream":)" + (stream ? "true" : "false") + more + "}",
               "", out)) {
      if (v.find("error") != nullptr) out.reason = "error";
      if (v.find("retract") != nullptr) take_back(out);
      out.content += text_of(v.find("message"), "content");
      out.reasoning += text_of(v.find("message"), "thinking");
      if (const std::string reason = text_of(&v, "done_reason"); !reason.empty()) out.reason = reason;
      out.output_tokens = number_of(&v, "eval_count");
      out.prompt_tokens = number_of(&v, "prompt_eval_count");
    }
    return out;
  }
  using Ask = Told (GuardTest::*)(bool, const std::string&, const std::string&);
  struct Protocol {
    const char* name;
    Ask ask;
    const char *blocked, *replied, *refused;  // how an answer ends: blocked, with a reply; and a request's error
  };
  static constexpr Protocol kProtocols[] = {
      {"openai", &GuardTest::openai, "content_filter", "content_filter", "content_filter"},
      {"responses", &GuardTest::responses, "content_filter", "content_filter", "content_filter"},
      {"anthropic", &GuardTest::anthropic, "refusal", "refusal", "invalid_request_error"},
      {"dashscope", &GuardTest::dashscope, "DataInspectionFailed", "content_filter", "DataInspectionFailed"},
      {"ollama", &GuardTest::ollama, "content_filter", "content_filter", "error"}};

  std::filesystem::path folder_;
  std::vector<std::unique_ptr<governance::PolicySet>> held_;
};

}  // namespace qw::api::test
