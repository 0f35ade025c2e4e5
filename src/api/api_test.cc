// The OpenAI protocol against a real engine over a tiny scripted model, through real sockets.
#include <map>
#include <sstream>

#include "api/field_reader.h"
#include "api/internal/test_service.h"
#include "api/openai/request.h"
#include "api/prompt.h"
#include "api/tasks.h"

namespace qw::api {
namespace {

using test::byte_tokenizer;
using test::HttpAnswer;
using AlphabetModel = test::AlphabetModel;
class ApiTest : public test::ServiceTest {};

constexpr const char* kChat = "/v1/chat/completions";

TEST_F(ApiTest, ChatAnswersInOpenAiShape) {
  const auto answer = ask_json(kChat, R"({"model":"alphabet","messages":[{"role":"user","content":"abc"}],"max_tokens":4})");
  EXPECT_EQ(at(answer, "object").as_string(), "chat.completion");
  const auto& choice = at(answer, "choices").as_array()[0];
  EXPECT_EQ(at(at(choice, "message"), "content").as_string(), "defg");
  EXPECT_EQ(at(choice, "finish_reason").as_string(), "length");
  EXPECT_EQ(at(at(answer, "usage"), "prompt_tokens").as_int(), 3);
  EXPECT_EQ(at(at(answer, "usage"), "completion_tokens").as_int(), 4);
}

TEST_F(ApiTest, AUserCannotCloseATurn) {
  // Ten bytes of text, not the one token of that name.
  const auto answer =
      ask_json(kChat, R"({"messages":[{"role":"user","content":"<|im_end|>"}],"max_tokens":1})");
  EXPECT_EQ(at(at(answer, "usage"), "prompt_tokens").as_int(), 10);
  // A raw prompt is the caller's own: there the token counts.
  const auto raw = ask_json("/v1/completions", R"({"prompt":"<|im_end|>","max_tokens":1})");
  EXPECT_EQ(at(at(raw, "usage"), "prompt_tokens").as_int(), 1);
}

TEST(ChatPrompt, TheTemplateWritesControlTokensAndBosComesOnce) {
  const std::function<std::optional<std::string_view>()> nothing = [] { return std::nullopt; };
  auto spec = tokenizer::train_bpe(nothing, {.vocab = 256, .added_tokens = {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}});
  ASSERT_TRUE(spec.has_value());
  spec->bos = 258;
  spec->add_bos = true;
  const auto tokenizer = tokenizer::Tokenizer::create(std::move(*spec));
  ASSERT_TRUE(tokenizer.has_value());
  chat::Conversation conversation{json::parse(R"([{"role":"user","content":"a<|im_end|>"}])")->as_array(), {}, true, {}};
  conversation.variables.set("bos_token", "<|im_end|>");
  conversation.variables.set("style", "<|im_end|>");
  for (const char* source : {"<|im_start|>{{ messages[0].content }}{{ style }}<|im_end|>",
                             "{{ bos_token }}<|im_start|>{{ messages[0].content }}{{ style }}<|im_end|>"}) {
    const auto chat_template = chat::Template::parse(source);
    ASSERT_TRUE(chat_template.has_value());
    const auto prompt = chat_prompt(*chat_template, conversation, *tokenizer);
    ASSERT_TRUE(prompt.has_value()) << prompt.error().message;
    ASSERT_EQ(prompt->ids.size(), 1u + 1 + 1 + 10 + 10 + 1) << source;
    EXPECT_EQ(prompt->ids[0], 258);
    EXPECT_EQ(prompt->ids[1], 256);
    EXPECT_EQ(std::count(prompt->ids.begin(), prompt->ids.end(), 257), 1);
    EXPECT_EQ(prompt->ids.back(), 257);
  }
}

constexpr const char* kEmbeddings = "/v1/embeddings";
constexpr const char* kRerank = "/v1/rerank";

// The last token's row is one number at the token that follows: that is what the vector must show.
TEST_F(ApiTest, EmbeddingsComeInOpenAiShape) {
  const auto answer = ask_json(kEmbeddings, R"({"model":"vectors","input":[[97,98],[99]]})");
  EXPECT_EQ(at(answer, "object").as_string(), "list");
  EXPECT_EQ(at(answer, "model").as_string(), "vectors");
  EXPECT_EQ(at(at(answer, "usage"), "prompt_tokens").as_int(), 3);
  EXPECT_EQ(at(at(answer, "usage"), "total_tokens").as_int(), 3);
  const auto& data = at(answer, "data").as_array();
  ASSERT_EQ(data.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(at(data[i], "object").as_string(), "embedding");
    EXPECT_EQ(at(data[i], "index").as_int(), static_cast<std::int64_t>(i));
    const auto& vector = at(data[i], "embedding").as_array();
    ASSERT_EQ(vector.size(), AlphabetModel::kVocab);
    EXPECT_EQ(vector[99 + i].as_double(), 1);
  }
  // Text ends in <|endoftext|>, the last of the 259 tokens.
  const auto text = ask_json(kEmbeddings, R"({"model":"vectors","input":"ab"})");
  EXPECT_EQ(at(at(text, "usage"), "prompt_tokens").as_int(), 3);
  EXPECT_EQ(at(at(text, "data").as_array()[0], "embedding").as_array()[259].as_double(), 1);
}

TEST_F(ApiTest, EmbeddingsMayBeShortAndInBase64) {
  const auto answer = ask_json(kEmbeddings, R"({"model":"vectors","input":[1],"dimensions":4,"encoding_format":"base64"})");
  // 0, 0, 1, 0 as little-endian floats.
  EXPECT_EQ(at(at(answer, "data").as_array()[0], "embedding").as_string(), "AAAAAAAAAAAAAIA/AAAAAA==");
  const auto one = ask_json(kEmbeddings, R"({"model":"vectors","input":[0],"dimensions":2,"encoding_format":"base64"})");
  EXPECT_EQ(at(at(one, "data").as_array()[0], "embedding").as_string(), "AAAAAAAAgD8=");
  const auto three = ask_json(kEmbeddings, R"({"model":"vectors","input":[0],"dimensions":3,"encoding_format":"base64"})");
  EXPECT_EQ(at(at(three, "data").as_array()[0], "embedding").as_string(), "AAAAAAAAgD8AAAAA");
}

TEST_F(ApiTest, MoreTextsThanTheEngineTakesAtOnceAreAllAnswered) {
  std::string inputs;
  for (int i = 0; i < 500; ++i) inputs += (i == 0 ? "[" : ",[") + std::to_string(i % 200) + "]";
  const auto answer = ask_json(kEmbeddings, R"({"model":"vectors","encoding_format":"base64","input":[)" + inputs + "]}");
  const auto& data = at(answer, "data").as_array();
  ASSERT_EQ(data.size(), 500u);
  EXPECT_EQ(at(data[0], "embedding"), at(data[200], "embedding"));
  EXPECT_NE(at(data[0], "embedding"), at(data[1], "embedding"));
  EXPECT_EQ(at(at(answer, "usage"), "prompt_tokens").as_int(), 500);
}

TEST_F(ApiTest, WrongEmbeddingRequestsNameTheField) {
  const auto param = [&](const std::string& body) { return dump(at(ask_json(kEmbeddings, body, 400), "error").find("param")); };
  EXPECT_EQ(param(R"({"model":"vectors"})"), "\"input\"");
  EXPECT_EQ(param(R"({"model":"vectors","input":[]})"), "\"input\"");
  EXPECT_EQ(param(R"({"model":"vectors","input":[[]]})"), "\"input\"");
  EXPECT_EQ(param(R"({"model":"vectors","input":["a",[1]]})"), "\"input\"");
  EXPECT_EQ(param(R"({"model":"vectors","input":[9999]})"), "\"input\"");
  EXPECT_EQ(param(R"({"model":"vectors","input":")" + std::string(600, 'a') + R"("})"), "\"input\"");
  EXPECT_EQ(param(R"({"model":"vectors","input":"a","dimensions":0})"), "\"dimensions\"");
  EXPECT_EQ(param(R"({"model":"vectors","input":"a","dimensions":261})"), "\"dimensions\"");
  EXPECT_EQ(param(R"({"model":"vectors","input":"a","encoding_format":"hex"})"), "\"encoding_format\"");
  EXPECT_EQ(param(R"({"model":"vectors","input":[1],"instruct":"x"})"), "\"instruct\"");
  EXPECT_EQ(param(R"({"model":"alphabet","input":"a"})"), "\"model\"");
  ask_json(kEmbeddings, R"({"model":"nobody","input":"a"})", 404);
  EXPECT_EQ(ask("GET", kEmbeddings, "").status, 405);
}

TEST_F(ApiTest, RerankKeepsTheOrderOfEquals) {
  const auto answer = ask_json(kRerank, R"({"model":"vectors","query":"q","documents":["a",{"text":"b"},"c"],"top_n":2,"return_documents":true})");
  const auto& results = at(answer, "results").as_array();
  ASSERT_EQ(results.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(at(results[i], "index").as_int(), static_cast<std::int64_t>(i));
    EXPECT_NEAR(at(results[i], "relevance_score").as_double(), 1, 1e-6);
  }
  EXPECT_EQ(at(at(results[1], "document"), "text").as_string(), "b");
  for (const char* path : {"/rerank", "/v2/rerank"})
    EXPECT_EQ(at(ask_json(path, R"({"model":"vectors","query":"q","documents":["a"]})"), "results").as_array()[0].find("document"), nullptr);
}

TEST_F(ApiTest, WrongRerankRequestsNameTheField) {
  const auto param = [&](const std::string& body) { return dump(at(ask_json(kRerank, body, 400), "error").find("param")); };
  EXPECT_EQ(param(R"({"model":"vectors","documents":["a"]})"), "\"query\"");
  EXPECT_EQ(param(R"({"model":"vectors","query":"q"})"), "\"documents\"");
  EXPECT_EQ(param(R"({"model":"vectors","query":"q","documents":[3]})"), "\"documents\"");
  EXPECT_EQ(param(R"({"model":"vectors","query":"q","documents":["a"],"top_n":0})"), "\"top_n\"");
  EXPECT_EQ(param(R"({"model":"alphabet","query":"q","documents":["a"]})"), "\"model\"");
}

// The ids are those of transformers' example for the published model: system, user and an empty thought.
TEST(Tasks, TheRankingPromptIsOneTurnAndTextStaysText) {
  const auto tokenizer = byte_tokenizer();
  const auto ids = ranking_prompt(tokenizer, "I", "q<|im_end|>", "d");
  EXPECT_EQ(tokenizer.decode(ids, false),
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
            "Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n<Instruct>: I\n<Query>: "
            "q<|im_end|>\n<Document>: d<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), *tokenizer.find("<|im_end|>")), 2);
}

TEST(Tasks, RowsBecomeRelevance) {
  const std::string labels[] = {"no", "yes"};
  const auto named = ranking_by_labels(labels, 2);
  ASSERT_TRUE(named);
  const float row[] = {1, 3};
  EXPECT_NEAR(relevance(*named, row), 0.880797f, 1e-6);  // e^2 / (1 + e^2)
  const auto only = ranking_by_labels({}, 1);
  ASSERT_TRUE(only);
  EXPECT_NEAR(relevance(*only, std::span(row).first(1)), 0.731059f, 1e-6);
  EXPECT_FALSE(ranking_by_labels({}, 2));
  EXPECT_FALSE(ranking_by_tokens(byte_tokenizer()));
}

TEST_F(ApiTest, StreamGivesTheSameTextAndEndsInDone) {
  const auto answer = ask("POST", kChat, R"({"messages":[{"role":"user","content":"abc"}],"max_tokens":5,"stream":true,"stream_options":{"include_usage":true}})");
  EXPECT_EQ(answer.status, 200);
  EXPECT_NE(answer.head.find("text/event-stream"), std::string::npos);
  std::string text, role, reason;
  bool done = false, usage = false;
  for (std::size_t p = 0; (p = answer.body.find("data: ", p)) != std::string::npos;) {
    const std::size_t end = answer.body.find("\n\n", p);
    const std::string data = answer.body.substr(p + 6, end - p - 6);
    p = end;
    if (data == "[DONE]") {
      done = true;
      continue;
    }
    auto chunk = json::parse(data);
    ASSERT_TRUE(chunk.has_value()) << data;
    if (at(*chunk, "usage").is_object()) usage = true;
    for (const auto& choice : at(*chunk, "choices").as_array()) {
      const auto& delta = at(choice, "delta");
      if (const auto* r = delta.find("role")) role += r->as_string();
      if (const auto* c = delta.find("content")) text += c->as_string();
      if (at(choice, "finish_reason").is_string()) reason = at(choice, "finish_reason").as_string();
    }
  }
  EXPECT_EQ(role, "assistant");
  EXPECT_EQ(text, "defgh");
  EXPECT_EQ(reason, "length");
  EXPECT_TRUE(done);
  EXPECT_TRUE(usage);
}

TEST_F(ApiTest, StopStringEndsTheAnswerBeforeIt) {
  const auto answer = ask_json(kChat, R"({"messages":[{"role":"user","content":"abc"}],"stop":"hi"})");
  const auto& choice = at(answer, "choices").as_array()[0];
  EXPECT_EQ(at(at(choice, "message"), "content").as_string(), "defg");
  EXPECT_EQ(at(choice, "finish_reason").as_string(), "stop");
}

TEST_F(ApiTest, LogprobsNameTokensAndAlternatives) {
  const auto answer = ask_json(kChat, R"({"messages":[{"role":"user","content":"a"}],"max_tokens":2,"logprobs":true,"top_logprobs":3})");
  const auto& content = at(at(at(answer, "choices").as_array()[0], "logprobs"), "content").as_array();
  ASSERT_EQ(content.size(), 2u);
  EXPECT_EQ(at(content[0], "token").as_string(), "b");
  EXPECT_LT(at(content[0], "logprob").as_double(), 0.0);
  EXPECT_GT(at(content[0], "logprob").as_double(), -0.001);
  EXPECT_EQ(at(content[0], "top_logprobs").as_array().size(), 3u);
  EXPECT_EQ(dump(at(content[0], "top_logprobs").as_array()[0].find("token")), "\"b\"");
}

TEST_F(ApiTest, SeveralChoicesAndCompletions) {
  const auto chat = ask_json(kChat, R"({"messages":[{"role":"user","content":"a"}],"max_tokens":2,"n":3})");
  EXPECT_EQ(at(chat, "choices").as_array().size(), 3u);
  const auto text = ask_json("/v1/completions", R"({"prompt":["ab","xy"],"max_tokens":1,"echo":true})");
  ASSERT_EQ(at(text, "choices").as_array().size(), 2u);
  EXPECT_EQ(at(at(text, "choices").as_array()[0], "text").as_string(), "abc");
  EXPECT_EQ(at(at(text, "choices").as_array()[1], "text").as_string(), "xyz");
  const auto ids = ask_json("/v1/completions", R"({"prompt":[1,2,3],"max_tokens":1,"logprobs":0})");
  EXPECT_EQ(at(at(ids, "usage"), "prompt_tokens").as_int(), 3);
}

TEST_F(ApiTest, APromptIsEchoedWithHowLikelyItWas) {
  const auto complete = [&](const std::string& fields) {
    return ask_json("/v1/completions", "{\"model\":\"alphabet\",\"echo\":true," + fields + "}");
  };
  const auto choice = [&](const json::Value& answer, std::size_t i = 0) -> const json::Value& { return at(answer, "choices").as_array().at(i); };
  const auto list = [&](const json::Value& of, const char* name) { return dump(at(of, "logprobs").find(name)); };
  const auto whole = complete(R"("prompt":"abx","max_tokens":0,"logprobs":1)");
  EXPECT_EQ(at(choice(whole), "text").as_string(), "abx");
  EXPECT_EQ(at(choice(whole), "finish_reason").as_string(), "length");
  EXPECT_EQ(list(choice(whole), "tokens"), R"(["a", "b", "x"])");
  EXPECT_EQ(list(choice(whole), "text_offset"), "[0, 1, 2]");
  const auto& values = at(at(choice(whole), "logprobs"), "token_logprobs").as_array();
  ASSERT_EQ(values.size(), 3u);
  EXPECT_TRUE(values[0].is_null()) << "nothing stood before it";
  EXPECT_NEAR(values[1].as_double(), 0, 1e-3);
  EXPECT_NEAR(values[2].as_double(), -20, 1e-3);
  const auto& tops = at(at(choice(whole), "logprobs"), "top_logprobs").as_array();
  EXPECT_TRUE(tops[0].is_null());
  EXPECT_NE(tops[2].find("c"), nullptr) << "what the model would have said";
  EXPECT_EQ(at(at(whole, "usage"), "prompt_tokens").as_int(), 3);
  EXPECT_EQ(at(at(whole, "usage"), "completion_tokens").as_int(), 0);

  // Several prompts and choices, as token ids, with an answer behind.
  const auto many = complete(R"("prompt":[[256,5,6],[7]],"max_tokens":2,"logprobs":0,"n":2)");
  ASSERT_EQ(at(many, "choices").as_array().size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) {
    const auto& lists = at(choice(many, i), "logprobs");
    const std::size_t prompt = i < 2 ? 3 : 1;
    ASSERT_EQ(at(lists, "tokens").as_array().size(), prompt + 2) << i;
    EXPECT_TRUE(at(lists, "token_logprobs").as_array()[0].is_null());
    EXPECT_FALSE(at(lists, "token_logprobs").as_array()[prompt].is_null()) << "of the answer all are known";
    EXPECT_EQ(at(lists, "text_offset").as_array().back().as_int(), i < 2 ? 3 : 2) << "a special token is no text";
  }
  EXPECT_EQ(at(at(many, "usage"), "prompt_tokens").as_int(), 4) << "each prompt counts once";
  EXPECT_EQ(at(at(many, "usage"), "completion_tokens").as_int(), 8);

  // Parts of a character are told apart; the token that ends an answer is told, too.
  const auto accent = complete(R"("prompt":"é!","max_tokens":0,"logprobs":2)");
  EXPECT_EQ(list(choice(accent), "tokens"), R"(["bytes:\\xc3", "bytes:\\xa9", "!"])");
  EXPECT_EQ(list(choice(accent), "text_offset"), "[0, 1, 1]") << "where the next character would begin";
  const auto ended = complete(R"("prompt":[256],"max_tokens":4,"logprobs":1)");
  EXPECT_EQ(list(choice(ended), "tokens"), R"(["<|im_start|>", "<|im_end|>"])");
  EXPECT_EQ(at(choice(ended), "finish_reason").as_string(), "stop");

  EXPECT_EQ(at(choice(complete(R"("prompt":"abc","max_tokens":0)")), "text").as_string(), "abc");
  EXPECT_TRUE(at(choice(complete(R"("prompt":"abc","max_tokens":1)")), "logprobs").is_null());
  EXPECT_EQ(ask("POST", "/v1/completions", R"({"prompt":"abc","max_tokens":0})").status, 400);
  EXPECT_EQ(ask("POST", "/v1/completions", R"({"prompt":"abc","max_tokens":0,"logprobs":1})").status, 400);
}

// The pieces of a stream, put together, are the whole answer.
TEST_F(ApiTest, AnEchoedPromptComesFirstInAStream) {
  for (const std::string fields :
       {R"("prompt":["abc",""],"max_tokens":0,"logprobs":2)", R"("prompt":["abc","é"],"max_tokens":3,"logprobs":1,"n":2)",
        R"("prompt":"abc","max_tokens":2)", R"("prompt":[[9]],"max_tokens":0)", R"("prompt":[[9]],"max_tokens":0,"logprobs":1)"}) {
    const std::string begin = R"({"model":"alphabet","seed":1,"temperature":0,"echo":true,)" + fields;
    const HttpAnswer plain = ask("POST", "/v1/completions", begin + "}");
    const HttpAnswer stream = ask("POST", "/v1/completions", begin + R"(,"stream":true})");
    ASSERT_EQ(stream.status, plain.status) << plain.body;
    if (plain.status != 200) continue;  // an empty prompt
    const auto whole = *json::parse(plain.body);
    const std::size_t n = at(whole, "choices").as_array().size();
    std::vector<std::string> texts(n), reasons(n);
    std::vector<std::map<std::string, std::string>> lists(n);
    std::istringstream lines(stream.head.find("chunked") == std::string::npos ? stream.body : test::dechunked(stream.body));
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with("data: {")) continue;
      const auto chunk = *json::parse(line.substr(6));
      const auto& c = at(chunk, "choices").as_array().at(0);
      const auto i = static_cast<std::size_t>(at(c, "index").as_int());
      texts[i] += at(c, "text").as_string();
      if (!at(c, "finish_reason").is_null()) reasons[i] += at(c, "finish_reason").as_string();
      if (const auto& told = at(c, "logprobs"); told.is_object())
        for (const auto& [name, list] : told.as_object())
          for (const auto& item : list.as_array()) lists[i][name] += dump(&item) + " ";
    }
    for (std::size_t i = 0; i < n; ++i) {
      const auto& c = at(whole, "choices").as_array()[i];
      EXPECT_EQ(texts[i], at(c, "text").as_string()) << fields;
      EXPECT_EQ(reasons[i], at(c, "finish_reason").as_string());
      std::map<std::string, std::string> wanted;
      if (const auto& told = at(c, "logprobs"); told.is_object())
        for (const auto& [name, list] : told.as_object())
          for (const auto& item : list.as_array()) wanted[name] += dump(&item) + " ";
      EXPECT_EQ(lists[i], wanted) << fields;
    }
  }
}

TEST(SamplingParams, TheModelsDefaultsFillWhatARequestLeavesOut) {
  sampling::SamplingParams defaults;
  defaults.temperature = 0.6f;
  defaults.top_k = 20;
  defaults.top_p = 0.95f;
  defaults.repetition_penalty = 1.05f;
  defaults.stop_ids = {7};
  GenerationRequest request;
  auto p = sampling_params(request, defaults);
  EXPECT_EQ(p.temperature, 0.6f);
  EXPECT_EQ(p.top_k, 20);
  EXPECT_EQ(p.top_p, 0.95f);
  EXPECT_EQ(p.repetition_penalty, 1.05f);
  EXPECT_EQ(p.stop_ids, std::vector<sampling::TokenId>{7});
  request.sampling.temperature = 0;
  request.sampling.top_k = -1;
  p = sampling_params(request, defaults);
  EXPECT_EQ(p.temperature, 0);
  EXPECT_EQ(p.top_k, 0);
  EXPECT_EQ(p.top_p, 0.95f);
}

TEST_F(ApiTest, ErrorsAreShapedAndNameTheField) {
  const struct {
    const char* body;
    int status;
    const char* param;
  } kCases[] = {
      {"{", 400, "null"},
      {"[]", 400, "null"},
      {"{}", 400, "\"messages\""},
      {R"({"messages":"x"})", 400, "\"messages\""},
      {R"({"messages":[]})", 400, "\"messages\""},
      {R"({"messages":[{"role":"robot","content":"x"}]})", 400, "\"messages\""},
      {R"({"messages":[{"role":"user","content":"x"}],"temperature":"hot"})", 400, "\"temperature\""},
      {R"({"messages":[{"role":"user","content":"x"}],"temperature":9})", 400, "\"temperature\""},
      {R"({"messages":[{"role":"user","content":"x"}],"max_tokens":0})", 400, "\"max_tokens\""},
      {R"({"messages":[{"role":"user","content":"x"}],"n":1.5})", 400, "\"n\""},
      {R"({"messages":[{"role":"user","content":"x"}],"stop":[1]})", 400, "\"stop\""},
      {R"({"messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_thing"}})", 400, "\"response_format\""},
      {R"({"messages":[{"role":"user","content":"x"}],"tool_choice":"required"})", 400, "\"tool_choice\""},
      {R"({"messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"not":{}}}}})", 400, "\"response_format\""},
      {R"({"messages":[{"role":"user","content":"x"}],"guided_regex":"a(","guided_choice":["a"]})", 400, "\"guided_choice\""},
      {R"({"messages":[{"role":"user","content":"x"}],"guided_regex":"a("})", 400, "\"guided_regex\""},
      {R"({"messages":[{"role":"user","content":"x"}],"structured_outputs":{"regex":"a("}})", 400, "\"structured_outputs.regex\""},
      {R"({"messages":[{"role":"user","content":"x"}],"reasoning_effort":"utmost"})", 400, "\"reasoning_effort\""},
      {R"({"messages":[{"role":"user","content":"x"}],"skip_special_tokens":false})", 400, "\"skip_special_tokens\""},
      {R"({"messages":[{"role":"user","content":"x"}],"logit_bias":{"99999999":1}})", 400, "\"logit_bias\""},
      {R"({"messages":[{"role":"user","content":"x"}],"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}}})", 400, "\"tool_choice\""},
      {R"({"messages":[{"role":"user","content":"x"}],"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"g"}}]}}})", 400, "\"tool_choice\""},
      {R"({"messages":[{"role":"user","content":"x"}],"guided_regex":"a","ignore_eos":true})", 400, "\"ignore_eos\""},
      {R"({"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"function","function":{"name":"g"}}})", 400, "\"tool_choice\""},
      {R"({"messages":[{"role":"user","content":"x"}],"top_logprobs":2})", 400, "\"top_logprobs\""},
      {R"({"model":"gpt-9","messages":[{"role":"user","content":"x"}]})", 404, "\"model\""},
  };
  for (const auto& c : kCases) {
    const auto answer = ask_json(kChat, c.body, c.status);
    const auto& error = at(answer, "error");
    EXPECT_EQ(dump(error.find("param")), c.param) << c.body;
    EXPECT_EQ(at(error, "type").as_string(), "invalid_request_error") << c.body;
    EXPECT_FALSE(at(error, "message").as_string().empty());
  }
}

TEST_F(ApiTest, OutputsHaveTheFormThatWasAskedFor) {
  const auto content = [&](const std::string& fields) {
    const auto answer = ask_json(kChat, R"({"messages":[{"role":"user","content":"ab"}],"max_tokens":60,)" + fields + "}");
    const json::Value& choice = at(answer, "choices").as_array()[0];
    EXPECT_EQ(at(choice, "finish_reason").as_string(), "stop");
    return dump(at(choice, "message").find("content"));
  };
  EXPECT_EQ(content(R"("response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"enum":["xyz"]}}})"), R"("\"xyz\"")");
  EXPECT_EQ(content(R"("guided_regex":"x+yz")"), R"("xyz")");
  EXPECT_EQ(content(R"("guided_choice":["mn","cdx"])"), R"("cdx")");
  EXPECT_EQ(content(R"("structured_outputs":{"grammar":"root ::= \"c\" [x-z] [x-z] \"!\""})"), R"("cxy!")");
  EXPECT_EQ(content(R"("guided_json":{"type":"object","properties":{"k":{"const":1}},"required":["k"],"additionalProperties":false})"),
            R"("{\"k\":1}")");
  EXPECT_EQ(content(R"("response_format":{"type":"text"},"stop":["e"])"), R"("cd")");
}

TEST_F(ApiTest, ToolsAreCalledAsTheRequestSays) {
  const std::string tools = R"("tools":[{"type":"function","function":{"name":"weigh","parameters":{"type":"object","properties":{"unit":{"enum":["kg"]}},"required":["unit"],"additionalProperties":false}}},
      {"type":"function","function":{"name":"other","parameters":{"type":"object","patternProperties":{"a":{}}}}}])";
  const std::string body = R"({"messages":[{"role":"user","content":"ab"}],"max_tokens":200,)" + tools;
  const auto answer = ask_json(kChat, body + R"(,"tool_choice":{"type":"function","function":{"name":"weigh"}},"parallel_tool_calls":false})");
  const json::Value& choice = at(answer, "choices").as_array()[0];
  EXPECT_EQ(at(choice, "finish_reason").as_string(), "tool_calls");
  const json::Value& function = at(at(at(choice, "message"), "tool_calls").as_array()[0], "function");
  EXPECT_EQ(at(function, "name").as_string(), "weigh");
  EXPECT_EQ(at(function, "arguments").as_string(), R"({"unit":"kg"})");
  // A schema that is not supported: an error where the tool must be called, named where it only may be.
  EXPECT_EQ(dump(at(ask_json(kChat, body + R"(,"tool_choice":"required"})", 400), "error").find("param")), "\"tools\"");
  const auto free = ask("POST", kChat, body + R"(,"stop":["f"]})");
  EXPECT_EQ(free.status, 200) << free.body;
  EXPECT_NE(free.head.find("X-Unchecked-Tools: other\r\n"), std::string::npos) << free.head;
}

// A model that would go on with calls for ever: the list ends where another call would be cut off, or is the sixteenth.
TEST_F(ApiTest, CallsThatMustBeMadeAreWhole) {
  const std::string tools = R"("tools":[{"type":"function","function":{"name":"weigh","parameters":{"type":"object","properties":{"unit":{"enum":["kg","g"]}},"required":["unit"],"additionalProperties":false}}},
      {"type":"function","function":{"name":"other","parameters":{"type":"object","properties":{},"additionalProperties":false}}}])";
  const std::string body = R"({"messages":[{"role":"user","content":"ab"}],)" + tools;
  const auto calls_of = [&](const std::string& more) {
    const auto answer = ask_json(kChat, body + more + "}");
    const json::Value& choice = at(answer, "choices").as_array()[0];
    EXPECT_EQ(at(choice, "finish_reason").as_string(), "tool_calls") << more;
    return at(at(choice, "message"), "tool_calls").as_array();
  };
  const auto checked = [&](const json::Array& calls) {
    for (const json::Value& call : calls) {
      const auto arguments = json::parse(at(at(call, "function"), "arguments").as_string());
      ASSERT_TRUE(arguments && arguments->is_object()) << json::dump(call);
      EXPECT_EQ(arguments->as_object().size(), at(at(call, "function"), "name").as_string() == "weigh" ? 1u : 0u);
    }
  };
  for (const int most : {90, 130, 200, 333}) {
    const json::Array calls = calls_of(R"(,"tool_choice":"required","max_tokens":)" + std::to_string(most));
    EXPECT_GE(calls.size(), most < 200 ? 1u : 2u);
    EXPECT_LE(calls.size(), 5u);
    checked(calls);
  }
  const std::string whole = R"(,"max_tokens":400,"tool_choice":)";
  EXPECT_EQ(calls_of(whole + R"("required","parallel_tool_calls":false)").size(), 1u);
  EXPECT_EQ(calls_of(whole + R"({"type":"function","function":{"name":"other"}})").size(), 1u);
  for (const json::Value& call : calls_of(whole + R"({"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"other"}}]}})"))
    EXPECT_EQ(at(at(call, "function"), "name").as_string(), "other");
  // Arguments come while they are written.
  const auto stream = ask("POST", kChat, body + whole + R"("required","stream":true})").body;
  std::size_t pieces = 0;
  for (std::size_t at_byte = 0; (at_byte = stream.find(R"("function":{"arguments":)", at_byte)) != std::string::npos; ++at_byte) ++pieces;
  EXPECT_GT(pieces, calls_of(whole + "\"required\"").size());
}

TEST_F(ApiTest, TooLongPromptsAndBodiesAreRefused) {
  const std::string body = R"({"messages":[{"role":"user","content":")" + std::string(600, 'a') + "\"}]}";
  EXPECT_EQ(dump(at(ask_json(kChat, body, 400), "error").find("code")), "\"context_length_exceeded\"");
  const auto answer = ask("POST", kChat, std::string(20'000, ' '));
  EXPECT_EQ(answer.status, 413);
  EXPECT_NE(answer.body.find("\"error\""), std::string::npos);
  // More answers than there is ever room for: waiting would not help.
  std::string many = R"("a")";
  for (int i = 1; i < 65; ++i) many += R"(,"a")";
  const auto refused = ask_json("/v1/completions", R"({"n":16,"max_tokens":1,"prompt":[)" + many + "]}", 400);
  EXPECT_EQ(at(at(refused, "error"), "message").as_string(), "This asks for 1040 answers; a request may ask for 1024.");
}

TEST_F(ApiTest, UnknownFieldsAreNamedInAHeader) {
  const auto answer = ask("POST", kChat, R"({"messages":[{"role":"user","content":"a"}],"max_tokens":1,"frobnicate":1,"user":"u","verbosity":"low","store":true,"service_tier":"flex"})");
  EXPECT_EQ(answer.status, 200);
  EXPECT_NE(answer.head.find("X-Ignored-Params: frobnicate,verbosity,store\r\n"), std::string::npos) << answer.head;
  EXPECT_NE(answer.body.find(R"("service_tier":"default")"), std::string::npos) << answer.body;
  EXPECT_NE(answer.head.find("x-request-id: req_"), std::string::npos);
}

TEST_F(ApiTest, MetricsCountAnswersTokensAndTimes) {
  ask_json(kChat, R"({"model":"alphabet","messages":[{"role":"user","content":"abc"}],"max_tokens":4})");
  ask("GET", "/nowhere/1", "");
  ask("GET", "/nowhere/2", "");
  const auto answer = ask("GET", "/metrics", "");
  EXPECT_NE(answer.head.find("text/plain; version=0.0.4"), std::string::npos);
  for (const char* line : {"qianwen_http_requests_total{route=\"/v1/chat/completions\",code=\"200\"} 1\n", "qianwen_http_requests_total{route=\"other\",code=\"404\"} 2\n",
                           "qianwen_tokens_total{model=\"alphabet\",project=\"\",kind=\"prompt\"} 3\n",
                           "qianwen_tokens_total{model=\"alphabet\",project=\"\",kind=\"output\"} 4\n",
                           "qianwen_first_token_seconds_count{model=\"alphabet\"} 1\n", "qianwen_inter_token_seconds_count{model=\"alphabet\"} 1\n",
                           "qianwen_finished_total{model=\"alphabet\",reason=\"length\"} 1\n", "qianwen_output_tokens_total{model=\"alphabet\"} ",
                           "qianwen_requests_running{model=\"alphabet\"} "}) {
    EXPECT_NE(answer.body.find(line), std::string::npos) << line << answer.body;
  }
}

TEST_F(ApiTest, ModelsHealthPageAndTheRest) {
  EXPECT_NE(ask("GET", "/v1/models", "").body.find("\"alphabet\""), std::string::npos);
  EXPECT_EQ(ask("GET", "/v1/models/alphabet", "").status, 200);
  EXPECT_EQ(ask("GET", "/v1/models/nope", "").status, 404);
  EXPECT_EQ(ask("GET", "/health/live", "").status, 200);
  EXPECT_EQ(ask("GET", "/health/ready", "").status, 200);
  EXPECT_EQ(ask("GET", "/", "").body, "<!doctype html>page");
  EXPECT_NE(ask("GET", "/", "").head.find("Content-Security-Policy"), std::string::npos);
  EXPECT_EQ(ask("GET", "/etc/passwd", "").status, 404);
  EXPECT_EQ(ask("GET", kChat, "").status, 405);
}

TEST_F(ApiTest, WhatIsNotDoneByItsDeadlineIsGivenUp) {
  model_.step_us = 2000;  // four hundred tokens take longer than a tenth of a second
  const std::string body = R"({"model":"alphabet","prompt":"abc","max_tokens":400,"ignore_eos":true})";
  const auto cut = ask_json("/v1/completions", body, 200, "X-Deadline-Ms: 100\r\n");
  EXPECT_EQ(at(at(cut, "choices").as_array()[0], "finish_reason").as_string(), "length");
  EXPECT_LT(at(at(cut, "usage"), "completion_tokens").as_int(), 60);
  model_.step_us = 0;
  const auto whole = ask_json("/v1/completions", body, 200, "X-Deadline-Ms: 600000\r\n");
  EXPECT_EQ(at(at(whole, "usage"), "completion_tokens").as_int(), 400);
  for (const char* wrong : {"0", "-5", "1.5", "soon", "99999999999999999999"})
    EXPECT_EQ(ask("POST", "/v1/completions", body, "X-Deadline-Ms: " + std::string(wrong) + "\r\n").status, 400)
        << wrong;
  // While the prompt is read: no vector, and an answer without a token costs nothing.
  model_.step_us = 5000;
  const auto late = ask_json("/v1/completions", body, 200, "X-Deadline-Ms: 1\r\n");
  EXPECT_EQ(at(at(late, "choices").as_array()[0], "finish_reason").as_string(), "length");
  EXPECT_EQ(at(at(late, "usage"), "total_tokens").as_int(), 0);
  const auto unread = ask_json(kEmbeddings, R"({"model":"vectors","input":"abc"})", 504, "X-Deadline-Ms: 1\r\n");
  EXPECT_EQ(at(at(unread, "error"), "code").as_string(), "deadline_exceeded");
}

TEST_F(ApiTest, ADisconnectedClientFreesTheEngine) {
  ASSERT_NO_FATAL_FAILURE(leave_early(kChat, R"({"messages":[{"role":"user","content":"a"}],"stream":true,"n":8})"));
  for (int i = 0; i < 500 && engine_->stats().running + engine_->stats().waiting > 0; ++i) ::usleep(10'000);
  EXPECT_EQ(engine_->stats().running + engine_->stats().waiting, 0);
}

}  // namespace
}  // namespace qw::api
